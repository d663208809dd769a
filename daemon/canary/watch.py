"""The watch: looks at each release on trial, and does what follows by itself.

    begun      the trial that a new release begins with
    look       for the daemon's clock: at every trial, as often as you like
    settled    the end of a trial for better: the release gets all of the traffic
    roll_back  (daemon/rollback.py) the end for worse

Who serves is changed before it is recorded, by one process at a time; a kill in between leaves a
trial open, and the next look finds the same and does it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import structlog
from msgspec.structs import replace

from daemon.canary.judgement import judged
from daemon.rollback import roll_back
from daemon.serving import sole
from daemon.wiring import LONGEST_HOLDER, Parts, vouch_for_panel
from scorers.assess import assess_pending
from scorers.panel import panel_id
from store import canaries, cycles
from store.errors import BhavanaError, Conflict, NotFound, Rejected
from store.live import live
from store.records import MAIN, Canary, Release, now
from trainer.targets.target import Traffic

ACTOR = "watch"
log = structlog.get_logger()


def begun(parts: Parts, release: Release) -> Canary | None:
    """The trial that this release begins with; None where the settings ask for none."""
    on, moment = parts.settings.canary, now()
    if not on.hours:
        return None
    return Canary(
        id=f"canary-{release.id.removeprefix('release-')}",
        release=release.id,
        previous=release.previous,
        predecessor=release.previous or release.base,
        target=release.target,
        line=release.line,
        share=on.first_share(shares=parts.target.shares),
        since=parts.store.position(),
        began_at=moment,
        until=moment + timedelta(hours=on.hours),
        changed_at=moment,
    )


def look(parts: Parts) -> None:
    """Looks at every trial at this target, and does what follows.

    Never raises: what fails is logged, and looked at again the next time.
    """
    for canary in canaries.undecided(parts.store):
        if canary.target != parts.target.name or parts.stop.is_set():
            continue
        with _told(canary, "canary_not_assessed"):
            _assess(parts, canary)
        with _told(canary, "canary_not_looked_at"):
            _follow(parts, canary, seen(parts, canary))


def seen(parts: Parts, canary: Canary) -> Canary:
    """The trial as it stands now, by what is assessed; nothing is changed."""
    panel = panel_id(parts.settings.panel)
    on, harmful = parts.settings.canary, parts.settings.policy.max_harm
    each = on.most_per_person
    new = live(parts.store, canary.release, panel, after=canary.since, most_per_person=each)
    # Where both answer at once they are compared with each other, else with what was before.
    when = {"after": canary.since} if canary.share < 1 else {"until": canary.since}
    old = live(parts.store, canary.predecessor, panel, most_per_person=each, **when)
    return judged(canary, new, old, harmful=harmful, on=on, moment=now())


def settled(parts: Parts, canary: Canary, *, actor: str = ACTOR) -> None:
    """Gives a release that passed all of its line's traffic.

    Raises Conflict where it does not serve there any more, Busy where somebody changes the line at
    this moment, and Unavailable.
    """
    with sole(parts, canary.line) as held:
        serving = cycles.current_release(held.store, canary.target, canary.line)
        if serving is None or serving.id != canary.release:
            raise Conflict(f"{canary.release} does not serve on the line {canary.line} any more.")
        if canary.share < 1:
            with held.journal.taking(canary.release, canary.line, "activate"):
                held.target.activate(Traffic(release=canary.release), canary.line)
        cycles.settle(held.store, serving, canaries.changed(canary), actor=actor, fence=held.fence)
    log.info("canary_passed", release=canary.release, line=canary.line, detail=canary.detail)


def accept(parts: Parts, *, reason: str, actor: str, line: str = MAIN) -> Canary:
    """A person takes the release on trial on a line as it is. Raises NotFound, and as `settled`."""
    canary = on_trial(parts, line)
    detail = f"accepted by {actor}: {reason}"
    passed = replace(seen(parts, canary), state="passed", detail=detail, changed_at=now())
    settled(parts, passed, actor=actor)
    return passed


def on_trial(parts: Parts, line: str = MAIN) -> Canary:
    """The trial that a line is in. Raises NotFound."""
    canary = canaries.open_on(parts.store, parts.target.name, line)
    if canary is None:
        raise NotFound(
            f"No release is on trial on the line {line}.",
            hint="`bhavana status` shows what serves on each line.",
        )
    return canary


def require_no_trial(parts: Parts, line: str) -> None:
    """Raises Rejected while a release is on trial on a line: nothing new is put beside it."""
    canary = canaries.open_on(parts.store, parts.target.name, line)
    if canary is not None:
        raise Rejected(
            f"{canary.release} is on trial on the line {line}, until {canary.until:%Y-%m-%d %H:%M} "
            "UTC at least.",
            hint="`bhavana canary show` tells how it does; accept it, or roll it back.",
        )


def _assess(parts: Parts, canary: Canary) -> None:
    """Has the panel assess what both said, beside a cycle that does the same."""
    vouch_for_panel(parts.settings, parts.stop)
    assess_pending(
        parts.store,
        parts.settings.panel,
        as_of=parts.store.position(),
        stop=parts.stop,
        holder=f"{ACTOR}:{parts.holder}"[:LONGEST_HOLDER],
        models=(canary.release, canary.predecessor),
    )


def _follow(parts: Parts, was: Canary, canary: Canary) -> None:
    if canary.state == was.state and canary.extensions == was.extensions:
        return
    if canary.state == "failed":
        roll_back(
            parts,
            reason=canary.detail,
            actor=ACTOR,
            line=canary.line,
            only=canary.release,
            canary=canary,
        )
    elif canary.state == "passed":
        settled(parts, canary)
    else:
        canaries.change(parts.store, canary, was=was)
    log.warning("canary_changed", release=canary.release, state=canary.state, detail=canary.detail)


@contextmanager
def _told(canary: Canary, event: str) -> Iterator[None]:
    try:
        yield
    except (BhavanaError, OSError) as error:
        log.warning(event, release=canary.release, error=str(error))
