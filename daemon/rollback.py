"""The way back: a line serves the predecessor of its release again."""

from __future__ import annotations

import structlog

from daemon.serving import put_back, restore, sole
from daemon.wiring import Parts
from store import cycles
from store.errors import Conflict, NotFound, Rejected
from store.records import MAIN, Release
from trainer.targets.place import Tell

log = structlog.get_logger()


def roll_back(parts: Parts, *, reason: str, actor: str, line: str = MAIN) -> Release:
    """Puts the predecessor of a line's release back into service; returns what was taken out.

    Other lines serve on what they did. People are served first and the record is made second, so
    that a command that was killed in between can be given again and goes back no further. Raises
    Rejected where the untouched base serves, Busy where somebody else changes the line at this
    moment, and Conflict where somebody did.
    """
    with sole(parts, line) as held:
        release = _serving(held, line)
        restore(held, release, line)
        try:
            cycles.roll_back(held.store, release, reason=reason, actor=actor)
        except Conflict:
            put_back(held, line)
            raise
    log.info("rolled_back", line=line, release=release.id, serves=release.previous)
    return release


def foretell(parts: Parts, tell: Tell, *, line: str = MAIN) -> None:
    """Tells what that would do; `parts` are of a dry run and change nothing. Raises Rejected."""
    release = _serving(parts, line)
    tell("restore:")
    try:
        parts.target.restore(release.previous, line)
    except NotFound:
        tell(f"publish {release.previous} again, from {parts.archive.folder}, and serve it")
    tell(f"record: {release.previous or 'the base'} serves on {line}, not {release.id}")


def _serving(parts: Parts, line: str) -> Release:
    release = cycles.current_release(parts.store, parts.target.name, line)
    if release is None:
        raise Rejected(
            f"The untouched base serves on the line {line}: there is nothing to go back to.",
            hint="`bhavana status` shows what serves on each line.",
        )
    return release
