"""The way back: a line serves the predecessor of its release again."""

from __future__ import annotations

import structlog

from daemon.cycle import serve_what_is_recorded
from daemon.wiring import Parts
from store import cycles
from store.errors import Conflict, Rejected
from store.records import MAIN, Release

log = structlog.get_logger()


def roll_back(parts: Parts, *, reason: str, actor: str, line: str = MAIN) -> Release:
    """Puts the predecessor of a line's release back into service; returns what was taken out.

    Other lines serve on what they did. People are served first and the record is made second, so
    that a command that was killed in between can be given again and goes back no further. Raises
    Rejected where the untouched base serves, and Conflict where the line changes at this moment.
    """
    release = cycles.current_release(parts.store, parts.target.name, line)
    if release is None:
        raise Rejected(
            f"The untouched base serves on the line {line}: there is nothing to go back to.",
            hint="`bhavana status` shows what serves on each line.",
        )
    parts.target.activate(release.previous, line)
    try:
        cycles.roll_back(parts.store, release, reason=reason, actor=actor)
    except Conflict:
        serve_what_is_recorded(parts, line)
        raise
    log.info("rolled_back", line=line, release=release.id, serves=release.previous)
    return release
