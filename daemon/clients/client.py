"""Sends experiences and feedback to Bhavana so that each is stored exactly once.

One file that needs only httpx: copy it into a frontend if that is easier. `record` and `feedback`
queue an item and return its id; a background thread sends what is queued in lists, and again
until the daemon has answered for every item. Ids are made here, so sending again doubles nothing.
"""

from __future__ import annotations

import asyncio
import atexit
import errno
import json
import logging
import os
import random
import sys
import threading
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count, islice
from pathlib import Path
from ssl import SSLContext
from typing import Any, NamedTuple

import httpx

if sys.platform != "win32":
    import fcntl

BATCH = 100
BATCH_BYTES = 900_000  # the daemon takes 1,000,000
LINGER_SECONDS = 0.2  # how long a first item waits for company
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 60.0
LONGEST_RETRY_AFTER_SECONDS = 600.0
SEGMENT_BYTES = 1_000_000
KINDS = {
    "experience": ("/v1/experiences", "exp", "occurred_at"),
    "feedback": ("/v1/feedback", "fb", "given_at"),
}
"""Path, prefix of ids and name of the moment for each kind of item."""
KEPT = ("recorded", "duplicate")
ITEM_FAULTS = {400: "invalid", 409: "conflict", 413: "invalid", 422: "invalid"}
"""Answers that may be the fault of a single item. Any other 3xx or 4xx is wrong for all items."""
TEMPORARY = (408, 425, 429)
PROBLEM = "urn:bhavana:problem:"
"""So begins the type of what the daemon itself says is wrong; a proxy's 400 drops no item."""

log = logging.getLogger("bhavana.client")

Item = dict[str, Any]
OnRejected = Callable[[Item, Mapping[str, Any]], None]


class QueueFull(Exception):
    """As many items wait as may; this one was not taken."""


class Stopped(Exception):
    """The daemon refused the key or the address, and no spool would hold the item."""


class _Entry(NamedTuple):
    """An item that waits, in the bytes that will be sent however often it takes."""

    kind: str
    id: str
    body: bytes


@dataclass(eq=False)
class _Segment:
    """A file of the spool, locked by an open descriptor for as long as its process lives."""

    path: Path
    descriptor: int
    waiting: int = 0


@dataclass(eq=False)
class _Lane:
    """What waits for one path, oldest first, and why nothing is sent there any more."""

    path: str
    waiting: deque[tuple[_Entry, _Segment | None]] = field(default_factory=deque)
    fault: str | None = None

    def head(self) -> list[_Entry]:
        """The oldest items, as many as fit into one request."""
        taken: list[_Entry] = []
        size = 2
        for entry, _ in islice(self.waiting, BATCH):
            size += len(entry.body) + 1
            if taken and size > BATCH_BYTES:
                break
            taken.append(entry)
        return taken


class _Sender:
    """The queue, the spool and the thread behind both clients.

    With a `spool` folder an item is on disk before it is taken, and leaves the disk after the
    daemon's answer; whoever opens the folder next sends what a killed process left. Several
    processes may share the folder. `capacity` bounds what waits, with a spool or without; a full
    queue raises QueueFull, or blocks where `block` is set. Refused items go to
    `on_rejected(item, result)`, in the sending thread. After fork() the child starts empty.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        spool: str | Path | None = None,
        capacity: int = 10_000,
        block: bool = False,
        timeout: float = 30.0,
        on_rejected: OnRejected | None = None,
        verify: SSLContext | bool = True,
    ) -> None:
        if httpx.URL(url).scheme not in ("http", "https"):
            raise ValueError("url needs to begin with http:// or https://.")
        key.strip().encode("ascii")
        self._url = url.rstrip("/")
        self._headers = {
            "Authorization": f"Bearer {key.strip()}",
            "Content-Type": "application/json",
        }
        self._capacity, self._block, self._timeout, self._verify = capacity, block, timeout, verify
        self._on_rejected = on_rejected or _warn
        self._spool = None if spool is None else _Spool(Path(spool))
        self._closing = False
        self._begin_empty()
        for entry, segment in () if self._spool is None else self._spool.left_over():
            self._lanes[entry.kind].waiting.append((entry, segment))
        if self.unsent:
            self._start()
        atexit.register(self._close, 5.0)
        _living.add(self)

    def _begin_empty(self) -> None:
        self._changed = threading.Condition()
        self._halt = threading.Event()
        self._thread: threading.Thread | None = None
        self._lanes = {kind: _Lane(path) for kind, (path, _, _) in KINDS.items()}
        self._turn = 0

    def _after_fork(self) -> None:
        """In the child: what waits belongs to the parent, and so do its locks and its thread."""
        self._begin_empty()
        if self._spool is not None:
            self._spool.let_go()

    @property
    def stopped(self) -> str | None:
        """Why nothing, or nothing of one kind, is sent any more; None while all is well."""
        return next((lane.fault for lane in self._lanes.values() if lane.fault), None)

    @property
    def unsent(self) -> int:
        """How many items still wait for the daemon's answer."""
        with self._changed:
            return sum(len(lane.waiting) for lane in self._lanes.values())

    # --- taking items -------------------------------------------------------------------------

    def _put(self, entry: _Entry, *, block: bool) -> str:
        lane = self._lanes[entry.kind]
        with self._changed:
            if block:
                self._changed.wait_for(
                    lambda: self.unsent < self._capacity or self._closing or lane.fault
                )
            if self._closing:
                raise RuntimeError("This client is closed.")
            if lane.fault and self._spool is None:
                raise Stopped(lane.fault)
            if self.unsent >= self._capacity:
                raise QueueFull(f"{self._capacity} items wait to be sent.")
            self._start()
            segment = None if self._spool is None else self._spool.write(entry)
            lane.waiting.append((entry, segment))
            self._changed.notify_all()
        return entry.id

    def _start(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        # Made here, not in the thread: httpx imports lazily, and a fork would leave it half done.
        # trust_env=False: a proxy from the environment must not see what people said.
        http = httpx.Client(
            headers=self._headers, timeout=self._timeout, trust_env=False, verify=self._verify
        )
        self._thread = threading.Thread(
            target=self._send, args=(http,), name="bhavana-client", daemon=True
        )
        self._thread.start()

    # --- sending them -------------------------------------------------------------------------

    def _send(self, http: httpx.Client) -> None:
        with http:
            while lane := self._next():
                self._deliver(http, lane, lane.head())
        self._release()

    def _next(self) -> _Lane | None:
        """The lane whose turn it is, once it has a batch; None when the thread should end."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready() or self._closing)
            lane = self._ready()
            if lane is None or self._halt.is_set():
                return None
            self._turn += 1
            waiting = lane.waiting
            self._changed.wait_for(lambda: len(waiting) >= BATCH or self._closing, LINGER_SECONDS)
            return lane

    def _ready(self) -> _Lane | None:
        ready = [lane for lane in self._lanes.values() if lane.waiting and not lane.fault]
        return ready[self._turn % len(ready)] if ready else None

    def _deliver(self, http: httpx.Client, lane: _Lane, batch: Sequence[_Entry]) -> None:
        """Sends until every item is answered for, the lane stops or the client is closed."""
        body = b"[" + b",".join(entry.body for entry in batch) + b"]"
        for attempt in count():
            if self._halt.is_set() or lane.fault:
                return
            try:
                answer = http.post(self._url + lane.path, content=body)
            except httpx.HTTPError as error:
                self._pause(attempt, 0.0, type(error).__name__)
                continue
            status = answer.status_code
            results = _results_of(answer, batch)
            if results is not None:
                self._settle(lane, batch, results)
                return
            if status not in ITEM_FAULTS or len(batch) == 1:
                if 300 <= status < 500 and status not in (*TEMPORARY, *ITEM_FAULTS):
                    code = _problem(answer).get("code")
                    self._stop(lane, f"{lane.path} answered {status} {code}")
                    return
                self._pause(attempt, _retry_after(answer), str(status))
            if len(batch) > 1 and (status in ITEM_FAULTS or (status == 429 and attempt)):
                # The fault is somewhere in this list, or so many will never be let in at once.
                middle = len(batch) // 2
                self._deliver(http, lane, batch[:middle])
                self._deliver(http, lane, batch[middle:])
                return

    def _pause(self, attempt: int, least: float, reason: str) -> None:
        """Backs off with full jitter, so that many clients do not come back at once."""
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(attempt, 30))
        seconds = least + random.uniform(0, longest)  # noqa: S311  # spreads load, hides nothing
        log.warning("%s: sending again in %.1f s; %d unsent", reason, seconds, self.unsent)
        self._halt.wait(seconds)

    def _stop(self, lane: _Lane, fault: str) -> None:
        with self._changed:
            lane.fault = fault
            self._changed.notify_all()
        kept = "are in the spool" if self._spool else "wait in memory"
        log.error("%s: sending stopped; %d items %s", fault, len(lane.waiting), kept)

    def _settle(self, lane: _Lane, batch: Sequence[_Entry], results: Sequence[Item]) -> None:
        for entry, result in zip(batch, results, strict=True):
            if result["status"] not in KEPT:
                try:
                    self._on_rejected(json.loads(entry.body), result)
                except Exception as error:  # noqa: BLE001  # somebody else's code must not stop us
                    log.error("on_rejected raised %s for %s", type(error).__name__, entry.id)  # noqa: TRY400  # a traceback may quote people
        with self._changed:
            for _ in batch:
                _, segment = lane.waiting.popleft()
                if self._spool is not None and segment is not None:
                    self._spool.settle(segment)
            self._changed.notify_all()

    # --- the end ------------------------------------------------------------------------------

    def _flush(self, timeout: float | None) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: not self._ready(), timeout)
            return not self.unsent

    def _close(self, timeout: float) -> bool:
        with self._changed:
            first, self._closing = not self._closing, True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout)
        self._halt.set()
        if self._thread is None or not self._thread.is_alive():
            self._release()  # else the thread does, after its last request
        if (left := self.unsent) and first:
            fate = "wait in the spool" if self._spool else "are lost: there is no spool"
            log.error("closed with %d items unsent, which %s", left, fate)
        atexit.unregister(self._close)
        return not left

    def _release(self) -> None:
        with self._changed:
            if self._spool is not None:
                self._spool.release()


class Client(_Sender):
    """For threads. `with Client(url, key) as client: client.record(...)`."""

    def record(self, experience: Mapping[str, Any] | None = None, /, **fields: Any) -> str:
        """Takes an experience and returns its id; `id` and `occurred_at` are filled in.

        Costs no network; with a spool one fsync. Raises QueueFull, Stopped, TypeError or
        ValueError for what is not JSON, and OSError when the spool cannot hold it.
        """
        return self._put(_entry("experience", experience, fields), block=self._block)

    def feedback(self, feedback: Mapping[str, Any] | None = None, /, **fields: Any) -> str:
        """Takes feedback and returns its id, like `record`; `given_at` is filled in."""
        return self._put(_entry("feedback", feedback, fields), block=self._block)

    def flush(self, timeout: float | None = 30.0) -> bool:
        """Waits for answers; whether there is one for every item. False at once when stopped."""
        return self._flush(timeout)

    def close(self, timeout: float = 5.0) -> bool:
        """Sends what it can in this time and ends; whether every item was answered for."""
        return self._close(timeout)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(_Sender):
    """For asyncio: the same verbs to be awaited, and none of them holds up the event loop.

    The sending is still the thread's: it goes on while the loop is busy, and at exit.
    """

    async def record(self, experience: Mapping[str, Any] | None = None, /, **fields: Any) -> str:
        """As `Client.record`."""
        return await self._take(_entry("experience", experience, fields))

    async def feedback(self, feedback: Mapping[str, Any] | None = None, /, **fields: Any) -> str:
        """As `Client.feedback`."""
        return await self._take(_entry("feedback", feedback, fields))

    async def _take(self, entry: _Entry) -> str:
        while True:
            try:
                if self._spool is None:
                    return self._put(entry, block=False)
                return await asyncio.to_thread(self._put, entry, block=False)
            except QueueFull:
                if not self._block:
                    raise
            await asyncio.sleep(0.05)

    async def flush(self, timeout: float | None = 30.0) -> bool:
        """As `Client.flush`."""
        return await asyncio.to_thread(self._flush, timeout)

    async def close(self, timeout: float = 5.0) -> bool:
        """As `Client.close`."""
        return await asyncio.to_thread(self._close, timeout)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class _Spool:
    """A folder of JSONL files. A line is on disk before `write` returns.

    A file goes when all its items are answered for, so a restart may send some again.
    """

    def __init__(self, folder: Path) -> None:
        if sys.platform == "win32":
            raise RuntimeError("A spool needs the file locks of a POSIX system.")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._current: _Segment | None = None
        self._open: set[_Segment] = set()

    def left_over(self) -> Iterator[tuple[_Entry, _Segment]]:
        """What processes that no longer live have left here; it is this process's from now on."""
        for path in sorted(self._folder.glob("*.jsonl")):
            segment = self._adopt(path)
            if segment is None:
                continue
            entries = list(_entries_in(path))
            segment.waiting = len(entries)
            if not entries:
                self._drop(segment)
            yield from ((entry, segment) for entry in entries)

    def _adopt(self, path: Path) -> _Segment | None:
        try:
            descriptor = os.open(path, os.O_WRONLY)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            gone = not os.fstat(descriptor).st_nlink
        except BlockingIOError:  # its process lives
            gone = True
        if gone:
            os.close(descriptor)
            return None
        segment = _Segment(path, descriptor)
        self._open.add(segment)
        return segment

    def write(self, entry: _Entry) -> _Segment:
        """Appends an item to a file of this process. Raises OSError; then it is not kept."""
        line = b'{"kind":"%s","item":%s}\n' % (entry.kind.encode(), entry.body)
        segment = self._current
        if segment is None or os.fstat(segment.descriptor).st_size >= SEGMENT_BYTES:
            segment = self._current = self._create()
        before = os.fstat(segment.descriptor).st_size
        try:
            if os.write(segment.descriptor, line) < len(line):
                raise OSError(errno.ENOSPC, "No space left for the spool")
            os.fsync(segment.descriptor)
        except OSError:
            self._current = None  # nothing is ever written behind a torn line
            with suppress(OSError):
                if segment.waiting:
                    os.ftruncate(segment.descriptor, before)
                else:
                    self._drop(segment)
            raise
        segment.waiting += 1
        return segment

    def _create(self) -> _Segment:
        while True:
            path = self._folder / f"{new_id('spool')}.jsonl"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
            descriptor = os.open(path, flags, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:  # else a neighbour took it for a leftover
                break
            os.close(descriptor)
        folder = os.open(self._folder, os.O_RDONLY)
        os.fsync(folder)  # the file's name must survive a power cut, too
        os.close(folder)
        segment = _Segment(path, descriptor)
        self._open.add(segment)
        return segment

    def settle(self, segment: _Segment) -> None:
        """One item of this file was answered for."""
        segment.waiting -= 1
        if segment.waiting:
            return
        with suppress(OSError):  # what cannot be removed is sent again, which doubles nothing
            if segment is self._current:
                os.ftruncate(segment.descriptor, 0)
            else:
                self._drop(segment)

    def _drop(self, segment: _Segment) -> None:
        self._open.discard(segment)
        try:
            segment.path.unlink(missing_ok=True)
        finally:
            os.close(segment.descriptor)

    def release(self) -> None:
        """Unlocks the files, so that another process may send what is left."""
        if self._current is not None and not self._current.waiting:
            self._drop(self._current)
        self.let_go()

    def let_go(self) -> None:
        """Closes the files and leaves them as they are: after fork() they are the parent's."""
        for segment in self._open:
            os.close(segment.descriptor)
        self._open.clear()
        self._current = None


def new_id(prefix: str) -> str:
    """A fresh id such as `exp-0198c2…`: time-ordered, unique without coordination (UUIDv7)."""
    milliseconds = int(datetime.now(UTC).timestamp() * 1000)
    return f"{prefix}-{milliseconds:012x}7{uuid.uuid4().hex[13:]}"


def _entry(kind: str, item: Mapping[str, Any] | None, fields: Mapping[str, Any]) -> _Entry:
    _, prefix, moment = KINDS[kind]
    filled = {"id": new_id(prefix), moment: datetime.now(UTC), **(item or {}), **fields}
    if not isinstance(filled["id"], str):
        raise TypeError("An id is a string.")
    text = json.dumps(filled, ensure_ascii=False, allow_nan=False, default=_in_json)
    return _Entry(kind, filled["id"], text.encode())


def _in_json(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"A {type(value).__name__} has no form in JSON.")


def _entries_in(path: Path) -> Iterator[_Entry]:
    """The whole lines of a spool file; a torn one was never taken from anybody."""
    for line in path.read_bytes().splitlines():
        try:
            found = json.loads(line)
            yield _entry(found["kind"], found["item"], {})
        except (ValueError, KeyError, TypeError):
            log.warning("a torn line in %s was skipped", path.name)


def _results_of(answer: httpx.Response, batch: Sequence[_Entry]) -> list[Item] | None:
    """What became of each item, or None where the answer does not say so."""
    status = answer.status_code
    if not (200 <= status < 300 or status in ITEM_FAULTS):
        return None
    document = _problem(answer)
    results = document.get("results")
    given: list[Item] = results if isinstance(results, list) else []
    if len(given) == len(batch) and all(map(_fits, given, batch)):
        return given
    ours = str(document.get("type")).startswith(PROBLEM)
    if status in ITEM_FAULTS and len(batch) == 1 and ours:
        return [{**document, "id": batch[0].id, "status": ITEM_FAULTS[status]}]
    return None


def _fits(result: Any, entry: _Entry) -> bool:
    """Whether a result is about this item: a proxy's 200 must not count as kept."""
    if not isinstance(result, dict) or not isinstance(result.get("status"), str):
        return False
    return result["status"] not in KEPT or result.get("id") == entry.id


def _problem(answer: httpx.Response) -> Item:
    try:
        document = answer.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _retry_after(answer: httpx.Response) -> float:
    text = answer.headers.get("Retry-After", "")
    return min(float(text), LONGEST_RETRY_AFTER_SECONDS) if text.isdecimal() else 0.0


def _warn(item: Item, result: Mapping[str, Any]) -> None:
    log.warning("%s was not kept: %s", item["id"], result.get("code") or result["status"])


_living: weakref.WeakSet[_Sender] = weakref.WeakSet()


def _forget_parents() -> None:
    for sender in list(_living):
        sender._after_fork()  # noqa: SLF001  # the same module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents)
