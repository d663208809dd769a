"""What serves on a line, by the store's word and by the target's: one at a time changes it.

The store's word stands. Whatever a kill left at the target is put back to it: by the next that
changes the line, at the end of a cycle, and by the running daemon once a minute.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
from msgspec.structs import replace
from sqlalchemy import Connection

from daemon.wiring import Parts, releases_folder
from store import cycles, journal, schedule
from store.errors import BhavanaError, Busy, NotFound
from store.events import StoreReader
from store.records import MAIN, Release
from trainer.base import locate
from trainer.targets.target import Delivery, Target, Traffic, traffic_of

LOCK_SECONDS = 2.0
LOCK_POLL_SECONDS = 0.02
log = structlog.get_logger()


@contextmanager
def sole(parts: Parts, line: str) -> Iterator[Parts]:
    """The parts with a fence, while nobody else changes what serves on this line. Raises Busy.

    A lock of the data folder's between processes of this machine, which a kill gives back at once;
    a lease in the store between machines.
    """
    lease, busy = f"{parts.target.name}/{line}", f"Somebody else changes the line {line} just now."
    with (
        locked(parts, line, busy),
        schedule.keeping(parts.store, parts.holder, lease) as fence,
    ):
        yield replace(parts, fence=_both(parts.fence, fence.check))


@contextmanager
def locked(parts: Parts, name: str, busy: str) -> Iterator[None]:
    """Holds a lock of the data folder's; a kill gives it back at once. Raises Busy."""
    folder = releases_folder(parts.settings)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{name}.lock").open("w") as lock:
        deadline = time.monotonic() + LOCK_SECONDS
        while not _taken(lock.fileno()):
            if time.monotonic() > deadline:
                raise Busy(busy, hint="Look at `bhavana status`, then give the command again.")
            time.sleep(LOCK_POLL_SECONDS)
        yield


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _both(
    first: Callable[[Connection], None] | None, second: Callable[[Connection], None]
) -> Callable[[Connection], None]:
    def check(connection: Connection) -> None:
        if first is not None:
            first(connection)
        second(connection)

    return check


def recorded_traffic(store: StoreReader, target: Target, line: str = MAIN) -> Traffic:
    """Who answers on a line, by the store's word."""
    last = cycles.activation(store, target.name, line)
    release = cycles.current_release(store, target.name, line)
    return traffic_of(release, 1.0 if last is None else last.share, shares=target.shares)


def serve_what_is_recorded(parts: Parts, line: str = MAIN) -> None:
    """Puts the target back to the store's word: a kill may have left an unproven release there.

    Raises Unavailable, Busy where somebody changes the line just now.
    """
    if parts.target.active(line) != recorded_traffic(parts.store, parts.target, line):
        with sole(parts, line) as held:
            put_back(held, line)


def put_back(parts: Parts, line: str) -> None:
    """The same for who holds the line already."""
    found, wanted = parts.target.active(line), recorded_traffic(parts.store, parts.target, line)
    if found == wanted:
        return
    log.warning("target_put_back", line=line, found=found.release, recorded=wanted.release)
    gone = found.canary or found.release or wanted.canary or wanted.release
    assert gone is not None  # they differ
    with parts.journal.taking(gone, line, "restore"):
        _activate(parts, wanted, line)


def restore(parts: Parts, release: Release, line: str) -> None:
    """Serves the release's predecessor, alone; for who holds the line."""
    with parts.journal.taking(release.id, line, "restore") as facts:
        facts["serves"] = release.previous or "base"
        _activate(parts, Traffic(release=release.previous), line)


def _activate(parts: Parts, traffic: Traffic, line: str) -> None:
    """A release that the target has no more is published there again, from the archive."""
    try:
        parts.target.activate(traffic, line)
    except NotFound:
        for name in (traffic.release, traffic.canary):
            release = None if name is None else cycles.by_id(parts.store, Release, name)
            if release is not None:
                parts.target.publish(_delivery(parts, release))
        parts.target.activate(traffic, line)


def _delivery(parts: Parts, release: Release) -> Delivery:
    return Delivery(
        release=release.id,
        line=release.line,
        adapter=str(parts.archive.adapter(release.id)),
        adapter_hash=release.adapter_hash,
        base=locate(release.base),
    )


def settle(parts: Parts, line: str, begun: str) -> None:
    """After a promotion of `begun`, or the end of one that did not happen: serves what is recorded
    and takes what nobody needs from the target. What cannot be done now is told; the daemon's
    clock and the next promotion do it.
    """
    try:
        parts.archive.sweep()
        serve_what_is_recorded(parts, line)
        if journal.of_release(parts.store, begun):
            _retire(parts, line, begun)
    except BhavanaError as fault:
        log.warning("target_not_settled", target=parts.target.name, line=line, error=str(fault))


def _retire(parts: Parts, line: str, begun: str) -> None:
    release = cycles.current_release(parts.store, parts.target.name, line)
    keep = () if release is None else (release.id, release.previous)
    with sole(parts, line) as held, held.journal.taking(begun, line, "retire") as facts:
        gone = parts.target.retire([name for name in keep if name is not None], line)
        facts["gone"] = " ".join(gone)
