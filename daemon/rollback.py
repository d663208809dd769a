"""The way back: a line serves the predecessor of its release again."""

from __future__ import annotations

import structlog
from msgspec.structs import replace

from daemon.serving import put_back, restore, sole
from daemon.wiring import Parts
from store import canaries, cycles, taints
from store.errors import Conflict, NotFound, Rejected
from store.events import Store
from store.log import Fact
from store.records import MAIN, Canary, Release, now
from trainer.targets.place import Tell

log = structlog.get_logger()


def roll_back(
    parts: Parts,
    *,
    reason: str,
    actor: str,
    line: str = MAIN,
    only: str | None = None,
    canary: Canary | None = None,
) -> Release:
    """Puts the predecessor of a line's release back into service; returns what was taken out, with
    what serves now as its `previous`: a tainted predecessor is passed over.

    Other lines serve on what they did. People are served first and the record is made second, so
    that a command that was killed in between can be given again and goes back no further. A trial
    that the line is in ends with it; `canary`: as it was seen when that was decided. Raises
    Rejected where the untouched base serves, Busy where somebody else changes the line at this
    moment, and Conflict where somebody did, or another release serves than `only`.
    """
    with sole(parts, line) as held:
        release = _serving(held, line, only)
        ended = _ended(held.store, release, reason, canary)
        restore(held, release, line)
        try:
            cycles.roll_back(held.store, release, reason=reason, actor=actor, also=ended)
        except Conflict:
            put_back(held, line)
            raise
    log.info("rolled_back", line=line, release=release.id, serves=release.previous)
    return release


def untainted(store: Store, name: str | None) -> str | None:
    """This release, or the newest before it that is not tainted; None: the untouched base."""
    marked = taints.every(store)
    while name is not None and name in marked:
        release = cycles.by_id(store, Release, name)
        name = None if release is None else release.previous
    return name


def _ended(store: Store, release: Release, reason: str, seen: Canary | None) -> list[Fact]:
    canary = seen or canaries.open_on(store, release.target, release.line)
    if canary is None or canary.release != release.id:
        return []
    failed = replace(canary, state="failed", detail=reason, changed_at=now())
    return [canaries.changed(failed)]


def foretell(parts: Parts, tell: Tell, *, line: str = MAIN) -> None:
    """Tells what that would do; `parts` are of a dry run and change nothing. Raises Rejected."""
    release = _serving(parts, line)
    tell("restore:")
    try:
        parts.target.restore(release.previous, line)
    except NotFound:
        tell(f"publish {release.previous} again, from {parts.archive.folder}, and serve it")
    tell(f"record: {release.previous or 'the base'} serves on {line}, not {release.id}")


def _serving(parts: Parts, line: str, only: str | None = None) -> Release:
    """The line's release, with what it would go back to as its `previous`."""
    release = cycles.current_release(parts.store, parts.target.name, line)
    if only is not None and (release is None or release.id != only):
        raise Conflict(f"{only} does not serve on the line {line} any more.")
    if release is None:
        raise Rejected(
            f"The untouched base serves on the line {line}: there is nothing to go back to.",
            hint="`bhavana status` shows what serves on each line.",
        )
    return replace(release, previous=untainted(parts.store, release.previous))
