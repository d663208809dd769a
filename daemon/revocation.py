"""Revocation: which releases learned from what is gone or is poison, and what is done about it.

It follows the log from a cursor in the store, which moves after the act, so that a kill at any
point only repeats it. What words were erased for their age leaves no mark: nobody wished it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec
import structlog
from msgspec.structs import replace

from daemon.rollback import roll_back
from daemon.serving import recorded_traffic
from daemon.wiring import Parts
from store import cursors, cycles, privacy, schedule, taints
from store.errors import BhavanaError
from store.events import Store
from store.records import (
    Dataset,
    Erasure,
    Event,
    Poison,
    Release,
    Remedy,
    Taint,
    new_id,
    now,
)
from store.redaction import redact_text

NAME = "revocation"
SEEN = ("experience.erased", "poison.found", "release.published")
FAR = 1_000
"""Events that are read in vain before the cursor is moved past them."""
log = structlog.get_logger()


def follow(parts: Parts) -> None:
    """For the daemon's clock: `catch_up`, as often as you like.

    Never raises: what fails is logged, and tried again at the next call.
    """
    try:
        catch_up(parts)
    except (BhavanaError, OSError) as error:
        if not parts.stop.is_set():
            log.warning("revocation_failed", error=str(error))


def catch_up(parts: Parts) -> tuple[Taint, ...]:
    """Marks the releases that what happened since the last call reaches, and does what the policy
    says; returns the new marks. Safe to repeat, also beside another process.

    Raises what a rollback raises.
    """
    store, marked = parts.store, list[Taint]()
    end, after = store.position(), cursors.at(store, NAME) or 0
    for event in store.follow(after, types=SEEN):
        found = list(_found(parts, event))
        marked += (new := taints.mark(store, found))
        for taint in new:
            log.warning("release_tainted", release=taint.release, cause=taint.cause, of=taint.of)
        _act(parts, found)
        cursors.advance(store, NAME, event.position)
    if end > after + FAR:
        cursors.advance(store, NAME, end)
    return tuple(marked)


def tell_poison(
    parts: Parts, scope: Literal["source", "key"], name: str, *, reason: str, actor: str
) -> tuple[Taint, ...]:
    """Records that what came from a source, or with a key, is poison; returns what it marked.

    Raises what `catch_up` raises: the record stands then, and the daemon does the rest.
    """
    poison = Poison(
        id=new_id("poison"),
        scope=scope,
        name=name,
        reason=redact_text(reason).value,  # kept for ever, where no erasure reaches
        found_at=now(),
    )
    taints.tell_poison(parts.store, poison, actor=actor)
    return catch_up(parts)


def _found(parts: Parts, event: Event) -> Iterator[Taint]:
    """The taints that follow from an event, also where they are noted already."""
    store, policy = parts.store, parts.settings.revocation
    if event.type == "experience.erased":
        erasure = msgspec.json.decode(event.body, type=Erasure)
        if erasure.scope != "age":
            yield from _of(store, erasure.positions, _made(erasure, policy.on_erasure))
    elif event.type == "poison.found":
        poison = msgspec.json.decode(event.body, type=Poison)
        positions = taints.of_poison(store, poison)
        yield from _of(store, positions, _made(poison, policy.on_poison))
    else:
        yield from _of_new(parts, msgspec.json.decode(event.body, type=Release))


def _made(cause: Erasure | Poison, policy: Remedy) -> Taint:
    """A taint by this cause, of no release yet."""
    erased = isinstance(cause, Erasure)
    return Taint(
        release="none",
        cause="erasure" if erased else "poison",
        of=cause.id,
        policy=policy,
        tainted_at=now(),
    )


def _of(store: Store, positions: Sequence[int], taint: Taint) -> Iterator[Taint]:
    """The same of each release that learned from what stands there, or from one that did."""
    went = set(privacy.where_it_went(store, positions).releases)
    for release in cycles.every(store, Release):
        if release.id in went:
            parent = release.parent if release.parent in went else None
            yield replace(taint, release=release.id, through=parent)


def _of_new(parts: Parts, release: Release) -> Iterator[Taint]:
    """Of a release that came into service when what it learned from was spoken of already."""
    store = parts.store
    for taint in taints.every(store).get(release.parent or "", ()):
        yield replace(taint, release=release.id, through=release.parent, tainted_at=now())
    dataset = cycles.of_cycle(store, Dataset, release.cycle_id)
    if dataset is None:
        return
    members = set(dataset.members)
    if gone := privacy.erased_among(store, dataset.members):
        for event in store.follow(types=["experience.erased"]):
            erasure = msgspec.json.decode(event.body, type=Erasure)
            if erasure.scope != "age" and not gone.isdisjoint(erasure.positions):
                policy = parts.settings.revocation.on_erasure
                yield replace(_made(erasure, policy), release=release.id)
    for event in store.follow(types=["poison.found"]):
        poison = msgspec.json.decode(event.body, type=Poison)
        if not members.isdisjoint(taints.of_poison(store, poison)):
            policy = parts.settings.revocation.on_poison
            yield replace(_made(poison, policy), release=release.id)


def _act(parts: Parts, found: Sequence[Taint]) -> None:
    """Does what the policy says on each line where one of these releases answers."""
    by_release = {taint.release: taint for taint in found}
    for line in parts.settings.line_names:
        serving = cycles.current_release(parts.store, parts.target.name, line)
        if serving is None:
            continue
        traffic = recorded_traffic(parts.store, parts.target, line)
        answering = (traffic.canary, traffic.release)  # beside a trial the one before it, too
        taint = next((by_release[name] for name in answering if name in by_release), None)
        if taint is None:
            continue
        if taint.policy == "retrain":
            schedule.due_at(parts.store, now(), schedule.of_line(line))
        elif taint.policy == "roll_back":
            reason = f"it learned from what is {_gone(taint)}"
            roll_back(parts, reason=reason, actor=NAME, line=line, only=serving.id)


def _gone(taint: Taint) -> str:
    return f"erased ({taint.of})" if taint.cause == "erasure" else f"poison ({taint.of})"
