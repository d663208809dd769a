"""Where a job is, for people: its pace, what is left, how each attempt went. Loads no torch.

Read from the folder alone, so that it works beside a daemon, on another machine that shares the
disk, and long after the job ended.
"""

from __future__ import annotations

import fcntl
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
from msgspec import field

from store.records import Noun, now
from trainer.attempts import read_attempts
from trainer.job import PROGRESS, Heartbeat, read_heartbeat

OVER = frozenset({"failed", "harmed", "again", "crashed", "stalled"})
"""How the last attempt ended where no other follows, unless somebody holds the folder still."""
TAIL_BYTES = 1 << 16
PACE_STEPS = 50
"""The pace is that of so many last steps: the first ones are slower."""


class Progress(Noun, frozen=True, kw_only=True):
    """Where a job is."""

    job: str
    """Its folder's name."""
    path: str
    at_work: bool
    """Whether a process holds it now; between two attempts the one that watches does."""
    phase: str = ""
    done: int = 0
    total: int = 0
    numbers: dict[str, float] = field(default_factory=dict)
    at: datetime | None = None
    """When it last said something."""
    seconds_left: float | None = None
    """By the pace of the last steps; None where no pace is known yet."""
    attempts: int = 0
    outcome: str = ""
    """Of the last attempt."""
    said: str = ""
    isolation: str = ""
    finished: bool = False
    """Whether its manifest is there."""

    @property
    def is_over(self) -> bool:
        """Whether nobody will start it again; a failure unless it is finished."""
        return self.finished or (not self.at_work and self.outcome in OVER)

    def line(self, moment: datetime) -> str:
        """In one line: `training 120/400, loss 2.310, 1,240 tokens/s, 2,412 MB, 12 min left`."""
        parts = [f"{self.phase} {self.done}/{self.total}" if self.total > 1 else self.phase]
        for name, form in (
            ("loss", "loss {:.3f}"),
            ("tokens_per_second", "{:,.0f} tokens/s"),
            ("memory_mb", "{:,.0f} MB"),
        ):
            if name in self.numbers:
                parts.append(form.format(self.numbers[name]))
        if self.seconds_left is not None:
            ends = moment + timedelta(seconds=self.seconds_left)
            parts.append(f"{in_words(self.seconds_left)} left (until {ends:%H:%M} UTC)")
        if self.attempts > 1:
            parts.append(f"attempt {self.attempts}")
        return ", ".join(part for part in parts if part)


def progress_of(folder: Path) -> Progress:
    """Where the job in this folder is."""
    record, beat = read_attempts(folder), read_heartbeat(folder)
    last, finished = record.last, (folder / "manifest.json").is_file()
    found = Progress(
        job=folder.name,
        path=str(folder),
        at_work=not finished and is_at_work(folder),
        attempts=len(record.attempts),
        outcome="" if last is None else last.outcome,
        said="" if last is None else last.said,
        isolation="" if last is None else last.isolation,
        finished=finished,
    )
    if beat is None:
        return msgspec.structs.replace(found, phase="starting" if found.at_work else "")
    left = seconds_left(latest(folder), beat) if found.at_work else None
    return msgspec.structs.replace(
        found,
        phase=beat.phase,
        done=beat.done,
        total=beat.total,
        numbers=beat.numbers,
        at=beat.at,
        seconds_left=left,
    )


def steps(folder: Path) -> list[Heartbeat]:
    """The heartbeats with numbers, in the order in which they came.

    A line that a killed process left half is skipped.
    """
    path = folder / PROGRESS
    return _beats(path.read_bytes()) if path.is_file() else []


def latest(folder: Path) -> list[Heartbeat]:
    """The last of them, enough to tell the pace, however long the training has been."""
    path = folder / PROGRESS
    if not path.is_file():
        return []
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return _beats(log.read())


def _beats(lines: bytes) -> list[Heartbeat]:
    found = []
    for line in lines.splitlines():
        try:
            found.append(msgspec.json.decode(line, type=Heartbeat))
        except msgspec.DecodeError:
            continue
    return found


def curves(folder: Path) -> dict[str, dict[int, float]]:
    """By name of the number, its value at each step; of a step that was repeated the last one."""
    found: dict[str, dict[int, float]] = {}
    for beat in steps(folder):
        for name, value in beat.numbers.items():
            found.setdefault(name, {})[beat.done] = value
    return {name: dict(sorted(points.items())) for name, points in found.items()}


def seconds_left(told: list[Heartbeat], beat: Heartbeat) -> float | None:
    """By the pace of this process in this phase; None before its second step."""
    same = [b for b in told if (b.pid, b.phase) == (beat.pid, beat.phase)][-PACE_STEPS:]
    if len(same) < 2 or same[-1].done <= same[0].done:
        return None
    pace = (same[-1].at - same[0].at).total_seconds() / (same[-1].done - same[0].done)
    since = (now() - same[-1].at).total_seconds()
    return max(0.0, pace * (beat.total - same[-1].done) - since)


def is_at_work(folder: Path) -> bool:
    """Whether a process holds the folder: the job's own, or the one that watches it."""
    return any(_is_held(folder / name) for name in ("lock", "watcher.lock"))


def _is_held(path: Path) -> bool:
    try:
        with path.open() as lock:
            fcntl.flock(lock.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def in_words(seconds: float) -> str:
    """A duration for people: `40 s`, `12 min`, `3 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
