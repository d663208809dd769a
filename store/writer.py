"""The writer: one thread and one writing connection, which alone checkpoints.

What waits is committed together, so one sync serves many callers. A caller hears of its lines
only after the commit. When the disk fails, nothing more is acknowledged.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import structlog
from sqlalchemy import Connection, Engine, update

from store import log, tables
from store.engine import checkpoint, in_our_words, wal_of
from store.errors import BhavanaError, QueueFull, StorageFault, Unavailable
from store.high_water import HighWater
from store.log import Appended, Line
from store.rewrite import rewrite

MOST_QUEUED = 20_000
"""Lines that may wait; beyond it, callers that cannot wait hear QueueFull."""
MOST_GROUPED = 1_000
"""Lines a commit holds."""
GATHER_SECONDS = 0.005
"""How long at most lines are gathered for one commit; it ends sooner when nothing waits."""
WAL_BYTES = 16_000_000
"""A write-ahead log of this size is checkpointed."""
PROBE_SECONDS = 1.0
"""How often a store that could not be written is tried again."""

log_line = structlog.get_logger()
Outcome = list[Appended] | Exception
Work = Callable[[Connection], object]
T = TypeVar("T")


class _Append(NamedTuple):
    lines: Sequence[Line]
    done: Callable[[Outcome], None]


class _Run(NamedTuple):
    work: Work | None
    """None: to rewrite the database, and to empty its log."""
    done: Future[object]


class Writer:
    """Queues lines and other writes; see `append` and `run`. Safe to call from any thread."""

    def __init__(
        self,
        engine: Engine,
        high_water: HighWater | None,
        *,
        after: int = 0,
        database: Path | None = None,
        on_storage_fault: Callable[[StorageFault], None] = lambda _: None,
    ) -> None:
        """`after`: positions are given above it. `database`: SQLite's, to look after its files."""
        self.fault: Unavailable | None = None
        """Why the last write failed; None when it did not. Tried again while it lasts."""
        self.on_storage_fault = on_storage_fault
        self._engine = engine
        self._high_water = high_water
        self._after = after
        self._database = database
        self._wal = database and wal_of(database)
        self._waiting: deque[_Append | _Run] = deque()
        self._queued = 0
        self._mark_behind = False
        self._recorded = 0
        """The last position that the other write under way recorded."""
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._serve, name="writer", daemon=True)
        self._thread.start()

    def append(self, lines: Sequence[Line], done: Callable[[Outcome], None]) -> None:
        """Queues lines that are committed together; `done` is told in the writer's thread.

        Raises QueueFull at once, and StorageFault after the disk failed.
        """
        with self._changed:
            self._refuse_when_closed()
            if self._queued and self._queued + len(lines) > MOST_QUEUED:
                raise QueueFull
            self._put(_Append(lines, done), len(lines))

    def append_and_wait(self, lines: Sequence[Line]) -> list[Appended]:
        """Appends and waits, for room in the queue as well as for the commit."""
        future: Future[list[Appended]] = Future()

        def done(outcome: Outcome) -> None:
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        with self._changed:
            while self._queued and self._queued + len(lines) > MOST_QUEUED and not self._closing:
                self._changed.wait()
            self._refuse_when_closed()
            self._put(_Append(lines, done), len(lines))
        return future.result()

    def append_within(self, connection: Connection, lines: Sequence[Line]) -> list[Appended]:
        """Appends inside a transaction that `run` opened."""
        appended = log.append(connection, lines, after=self._after)
        self._recorded = _last(appended)
        return appended

    def run(self, work: Callable[[Connection], T]) -> T:
        """Runs other writes in a transaction of their own, in the writer's thread, and waits."""
        future: Future[T] = Future()
        with self._changed:
            self._refuse_when_closed()
            self._put(_Run(work, future), 1)  # type: ignore[arg-type]
        return future.result()

    def scrub(self) -> bool:
        """Rewrites the database and empties its log, in the writer's thread; True when done.

        What is appended meanwhile waits. False while a reader needs the log, when another process
        wrote meanwhile, and where the disk has no room.
        """
        if self._database is None:
            return True
        future: Future[object] = Future()
        with self._changed:
            self._refuse_when_closed()
            self._put(_Run(None, future), 1)
        return bool(future.result())

    def alive(self) -> bool:
        """Whether the thread runs and its disk has not failed."""
        return self._thread.is_alive() and not isinstance(self.fault, StorageFault)

    def close(self) -> None:
        """Commits what waits, checkpoints, and ends the thread. Safe to repeat."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        if self._high_water is not None:
            self._high_water.close()

    # --- the thread -----------------------------------------------------------------------

    def _refuse_when_closed(self) -> None:
        if isinstance(self.fault, StorageFault):
            raise StorageFault(self.fault.message, hint=self.fault.hint)
        if self._closing:
            raise Unavailable("The store is closed.")

    def _put(self, job: _Append | _Run, count: int) -> None:
        self._waiting.append(job)
        self._queued += count
        self._changed.notify_all()

    def _serve(self) -> None:
        try:
            self._work()
        finally:
            self._refuse_what_waits()

    def _refuse_what_waits(self) -> None:
        """However the thread ends, nobody waits for it for ever."""
        closed = Unavailable("The store is closed.")
        with self._changed:
            if not self._closing:
                self.fault = self.fault or Unavailable("The writer has ended by itself.")
            self._closing = True
            left = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for job in left:
            if isinstance(job, _Append):
                _tell(job, closed)
            else:
                job.done.set_exception(closed)

    def _work(self) -> None:
        while (jobs := self._next()) is not None:
            if not jobs:
                self._probe()
            elif isinstance(jobs[0], _Run):
                self._do(jobs[0])
            else:
                self._commit([job for job in jobs if isinstance(job, _Append)])
            self._checkpoint_when_due()
        if not isinstance(self.fault, StorageFault):
            self._checkpoint(wait=True)

    def _next(self) -> list[_Append | _Run] | None:
        """What to do next: lines for one commit, or one other write. [] to probe, None to end."""
        with self._changed:
            while not self._waiting:
                if self._closing:
                    return None
                waited = self._changed.wait(PROBE_SECONDS if self.fault else None)
                if not waited and self.fault:
                    return []
            jobs = [self._waiting.popleft()]
            count = _size(jobs[0])
            deadline = time.monotonic() + GATHER_SECONDS
            while (
                isinstance(jobs[0], _Append)
                and self._waiting
                and isinstance(self._waiting[0], _Append)
                and count + _size(self._waiting[0]) <= MOST_GROUPED
                and time.monotonic() < deadline
            ):
                jobs.append(self._waiting.popleft())
                count += _size(jobs[-1])
            self._queued -= count
            self._changed.notify_all()
            return jobs

    def _commit(self, jobs: Sequence[_Append]) -> None:
        """One transaction for all; when it fails for a reason in the data, one for each."""
        lines = [entry for job in jobs for entry in job.lines]
        outcome: list[Appended] | Exception
        try:
            outcome = self._transaction(lambda c: log.append(c, lines, after=self._after))
        except BhavanaError as error:
            outcome = error
        except Exception as error:  # noqa: BLE001  # the caller hears it, the thread lives on
            if len(jobs) > 1:
                for job in jobs:
                    self._commit([job])
                return
            outcome = error
        if isinstance(outcome, list):
            self._rise(_last(outcome))
        start = 0
        for job in jobs:
            end = start + len(job.lines)
            _tell(job, outcome[start:end] if isinstance(outcome, list) else outcome)
            start = end

    def _do(self, job: _Run) -> None:
        try:
            if job.work is None:
                result: object = self._scrub()
            else:
                result = self._transaction(job.work)
        except Exception as error:  # noqa: BLE001  # the caller hears it, the thread lives on
            job.done.set_exception(error)
        else:
            self._rise(self._recorded)
            job.done.set_result(result)
        self._recorded = 0

    def _rise(self, position: int) -> None:
        """The mark is a second net: where it cannot be written, the commits go on."""
        if not position or self._high_water is None:
            return
        try:
            self._high_water.rise(position)
        except OSError as error:
            if not self._mark_behind:
                log_line.warning("high_water_mark_not_written", error=str(error))
            self._mark_behind = True
        else:
            self._mark_behind = False

    def _transaction(self, work: Callable[[Connection], T]) -> T:
        if isinstance(self.fault, StorageFault):
            raise self.fault
        try:
            with in_our_words(), self._engine.begin() as connection:
                result = work(connection)
        except StorageFault as error:
            self.fault = error
            self.on_storage_fault(error)
            raise
        except Unavailable as error:
            self.fault = error
            raise
        self.fault = None
        return result

    def _probe(self) -> None:
        """Tries a write that changes nothing, to notice that the store can be written again."""
        heads = tables.heads
        with contextlib.suppress(BhavanaError):
            self._transaction(lambda c: c.execute(update(heads).values(position=heads.c.position)))

    def _scrub(self) -> bool:
        if self._database is None:
            return True
        rewritten = self._upkeep(partial(rewrite, self._engine, self._database))
        return self._checkpoint(wait=True) and rewritten

    def _checkpoint_when_due(self) -> None:
        if self._wal is None:
            return
        try:
            size = self._wal.stat().st_size  # a stat drops no lock, an open would
        except OSError:
            return
        if size > WAL_BYTES and not self.fault:
            self._checkpoint(wait=False)

    def _checkpoint(self, *, wait: bool) -> bool:
        return self._wal is None or self._upkeep(partial(checkpoint, self._engine, wait=wait))

    def _upkeep(self, work: Callable[[], bool]) -> bool:
        """Does what can be done again the next time; only a failed disk is the store's fault."""
        try:
            return work()
        except StorageFault as error:
            self.fault = error
            self.on_storage_fault(error)
        except BhavanaError as error:  # somebody else holds the lock, or there is no room
            log_line.info("upkeep_put_off", error=str(error))
        return False


def _tell(job: _Append, outcome: Outcome) -> None:
    """A caller that can no longer be told must not keep the others waiting."""
    try:
        job.done(outcome)
    except Exception as error:  # noqa: BLE001  # somebody else's code must not end the thread
        log_line.warning("caller_not_told", error=type(error).__name__)


def _size(job: _Append | _Run) -> int:
    return len(job.lines) if isinstance(job, _Append) else 1


def _last(appended: Sequence[Appended]) -> int:
    """The last position that was recorded; 0 when none was."""
    return max((a.position for a in appended if a.status == "recorded"), default=0)
