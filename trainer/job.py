"""A job folder: one run of one child process, which a person can rerun by hand.

    job.json         what to do, written by whoever starts it
    lock             held by the process that works here; two can never work on one folder
    heartbeat.json   where it is, rewritten as it goes
    progress.jsonl   each heartbeat that came with numbers: the curves
    attempts.json    how often it was started, and how each time ended; written by who starts it
    log.txt          what it printed
    ethics.jsonl     what a training's probes were answered, by step; step 0 is the base
    checkpoints/     from where a training goes on when it is started again
    thrift.json      what running out of memory has taught a training
    manifest.json    what came out, written last: its presence means the job is whole

The folder is all that parent and child share. The child ends by itself when its parent is
gone, so that a killed daemon leaves no orphan that trains on.
"""

from __future__ import annotations

import argparse
import fcntl
import math
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from store.errors import (
    BhavanaError,
    Busy,
    DoesNotFit,
    EthicsHalt,
    IntegrityError,
    Misconfigured,
    Unavailable,
)
from store.orphans import EXIT_RETRYABLE, end_without_parent
from store.records import Noun, now, to_json

LOCK_WAIT_SECONDS = 30.0
CHECK_SECONDS = 0.5
OOM_SCORE = Path("/proc/self/oom_score_adj")
OOM_SCORE_ADJUSTMENT = "500"
"""If memory runs out, a job dies before the daemon does."""
NICENESS = 10
"""People who post come before training, at the disk, too: the kernel derives one from the other."""
PROGRESS = "progress.jsonl"
PAGE_BYTES = resource.getpagesize()
MIB = 1 << 20


EXIT_CODES: tuple[tuple[type[BhavanaError], int], ...] = (
    (Unavailable, EXIT_RETRYABLE),
    (DoesNotFit, 5),
    (IntegrityError, 6),
    (EthicsHalt, 7),
    (BhavanaError, 2),
)
"""How a child ends after an error: as the first says that it is one of. 3 and 4 are a gate's
verdicts in the field's numbering; nothing here ends so."""


def exit_code(error: BhavanaError) -> int:
    """How a child ends after this error: retryable when nothing is wrong with the job."""
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


def run_as_command(module: str, about: str | None, work: Callable[[Path], object]) -> int:
    """Does the job of the folder that the command line names; returns the exit code.

    One of our errors is the last line printed.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    parser.add_argument("folder", type=Path, metavar="DIR", help="job folder with job.json")
    arguments = parser.parse_args()
    try:
        work(arguments.folder)
    except BhavanaError as error:
        print(f"error: {error}", file=sys.stderr)
        return exit_code(error)
    return 0


class Heartbeat(Noun, frozen=True, kw_only=True):
    """Where a job is."""

    pid: int
    phase: str
    done: int
    total: int
    at: datetime
    numbers: dict[str, float] = msgspec.field(default_factory=dict)

    @classmethod
    def now(cls, phase: str, done: int, total: int, **numbers: float) -> Heartbeat:
        """A beat of this process at this moment."""
        return cls(pid=os.getpid(), phase=phase, done=done, total=total, at=now(), numbers=numbers)


Record = TypeVar("Record", bound=Noun)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """The name to write a file under that becomes `path` at the end: whole or not there."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        _sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)  # gone already when all went well
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes and syncs the file under another name, then renames it: whole or not there."""
    with whole(path) as partial:
        partial.write_bytes(content)


def write_record(path: Path, record: Noun) -> None:
    """Writes a noun as indented JSON, atomically."""
    write_atomically(path, msgspec.json.format(to_json(record), indent=2) + b"\n")


def read_record(path: Path, kind: type[Record]) -> Record:
    """Reads a noun. Raises Misconfigured naming the file and the fault."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError as error:
        raise Misconfigured(f"There is no {path}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{path} is not a valid {kind.__name__}: {error}.") from error


def is_first() -> bool:
    """Whether this process holds and writes the folder: of several ranks the first one does."""
    return os.environ.get("RANK", "0") == "0"


def ranks() -> int:
    """How many processes share this job, each with its part of every effective batch."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def read_heartbeat(folder: Path) -> Heartbeat | None:
    """The job's last heartbeat, or None when it has none yet."""
    path = folder / "heartbeat.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Heartbeat)
    except FileNotFoundError:
        return None


class Job:
    """The folder from the child's side."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def working(self) -> Iterator[None]:
        """Holds the folder's lock and ends the process when the parent that started it is gone."""
        self.folder.mkdir(parents=True, exist_ok=True)
        end_without_parent()
        with (self.folder / "lock").open("w") as lock:
            if is_first():
                wait_for_lock(lock.fileno(), self.folder)
            os.nice(NICENESS)
            OOM_SCORE.write_text(OOM_SCORE_ADJUSTMENT)
            yield

    def beat(self, phase: str, done: int, total: int, **numbers: float) -> None:
        """Says where the job is. Numbers are kept for the curves, with the memory in use.

        A number that is not finite is left out: JSON has no word for it. Of several ranks the
        first one speaks.
        """
        if not is_first():
            return
        kept = {name: float(n) for name, n in numbers.items() if math.isfinite(n)}
        if kept:
            kept |= {"memory_mb": _resident_mb()}
        beat = Heartbeat.now(phase, done, total, **kept)
        write_record(self.folder / "heartbeat.json", beat)
        if kept:
            with (self.folder / PROGRESS).open("ab") as log:
                log.write(to_json(beat) + b"\n")


def _resident_mb() -> float:
    """Memory of this process that lies in RAM now, in MiB."""
    resident = int(Path("/proc/self/statm").read_text().split()[1])
    return round(resident * PAGE_BYTES / MIB, 1)


def wait_for_lock(descriptor: int, folder: Path) -> None:
    """Takes the lock for this process alone. Raises Busy when another keeps it for too long."""
    # A killed daemon's child needs a moment to notice; the next one waits for it.
    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Busy(f"Another process works on {folder}.") from None
            time.sleep(CHECK_SECONDS)
