"""How often a job was started and how each time ended: attempts.json, and what to do next.

A child that dies is started again, since it goes on from its last checkpoint. What counts is not
how often it was started but how often in a row without getting further: a week of training may
be interrupted twenty times, and a step that always kills it is given up soon.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from store.errors import BhavanaError, ChildFailed, EthicsHalt, Unavailable
from store.orphans import EXIT_RETRYABLE
from store.records import Noun, now
from trainer.job import read_heartbeat, read_record, write_record

NAME = "attempts.json"
MOST_ATTEMPTS = 7
"""In a row without getting further; then a person should look. So many it takes where memory runs
out, to halve a micro-batch of 32 down to one and then to compute activations twice."""
FIRST_BACKOFF_SECONDS = 5.0
LONGEST_BACKOFF_SECONDS = 300.0
LOG_LINES = 12
OUT_OF_MEMORY = ("MemoryError", "can't allocate memory", "Cannot allocate memory", "bad_alloc")
"""What Python, torch, the C library and C++ say when an allocation was refused."""
QUARANTINED = ".quarantined"
STOPPING = "Stopping; the step will be repeated at the next start."
EXIT_CRASHED, EXIT_CONFIG, EXIT_CAPACITY, EXIT_INTEGRITY, EXIT_ETHICS = 1, 2, 5, 6, 7

MEANINGS = {
    0: "exit code 0, but without a manifest",
    EXIT_CRASHED: "exit code 1 (an unforeseen fault)",
    EXIT_CONFIG: "exit code 2 (its orders, its data or the configuration are wrong)",
    EXIT_CAPACITY: "exit code 5 (it does not fit this machine)",
    EXIT_INTEGRITY: "exit code 6 (bytes are not those that were recorded)",
    EXIT_ETHICS: "exit code 7 (the model in training did harm)",
    EXIT_RETRYABLE: "exit code 75 (it asks to be started again)",
}
NEXT_STEPS = {
    EXIT_CRASHED: "Its log has the traceback: a fault of the program, a library or this machine.",
    EXIT_CAPACITY: "The line above names the knob. Or choose a smaller base or a larger machine.",
    EXIT_INTEGRITY: "`bhavana doctor` looks at the disk; what is named above must be made anew.",
    EXIT_ETHICS: "Read its transcript before anything is trained again.",
    -signal.SIGKILL: "Most likely memory ran out: lower trainer.recipe.max_length or "
    "trainer.recipe.micro_batch_size, or give it more (trainer.limits.memory_mb, the machine).",
    -signal.SIGSEGV: "A native library crashed: look at the versions of torch and of its driver.",
}
HUNG = "A disk, a network or a driver that does not answer: look at the machine, then at its log."

Outcome = Literal[
    "running", "done", "again", "crashed", "stalled", "orphaned", "stopped", "failed", "harmed"
]
STARTED_AGAIN = frozenset({"again", "crashed", "stalled"})
"""After these a job is started again. What was orphaned or stopped goes on by itself, when the
daemon does; after the rest it is over."""


class Attempt(Noun, frozen=True, kw_only=True):
    """One time that the child was started."""

    began_at: datetime
    isolation: str
    """What held it: systemd, cgroup, rlimit, or none."""
    outcome: Outcome = "running"
    code: int | None = None
    """Its exit code; negative: the signal that ended it."""
    ended_at: datetime | None = None
    reached: int = 0
    """The furthest step that it told of."""
    said: str = ""
    """How it ended, in words."""
    ran_out: bool = False
    """Whether the kernel killed it for want of memory, as far as that is known: the next attempt
    would do well to take smaller steps."""


class Attempts(Noun, frozen=True, kw_only=True):
    """attempts.json: all of them, in order."""

    attempts: tuple[Attempt, ...] = ()

    @property
    def last(self) -> Attempt | None:
        """The newest."""
        return self.attempts[-1] if self.attempts else None


def read_attempts(folder: Path) -> Attempts:
    """The record of a job's folder; an empty one where it was never started."""
    path = folder / NAME
    return read_record(path, Attempts) if path.is_file() else Attempts()


def note(folder: Path, attempt: Attempt) -> Attempts:
    """Adds an attempt to the folder's record, or replaces the same one; returns the record."""
    earlier = [a for a in read_attempts(folder).attempts if a.began_at != attempt.began_at]
    noted = Attempts(attempts=(*earlier, attempt))
    write_record(folder / NAME, noted)
    return noted


def begin(folder: Path, isolation: str) -> tuple[Attempt, int]:
    """A new attempt and its number; one that was left running has lost its daemon."""
    last, beat = read_attempts(folder).last, read_heartbeat(folder)
    if last is not None and last.outcome == "running":
        reached = 0 if beat is None else beat.done
        said = "The process that watched it was gone."
        note(folder, replace(last, outcome="orphaned", reached=reached, said=said))
    attempt = Attempt(began_at=now(), isolation=isolation)
    return attempt, len(note(folder, attempt).attempts)


def killed_for_memory(folder: Path) -> bool:
    """Whether the attempt before the one that runs was ended by the kernel for want of memory.

    Asked by the child that runs, which can then take smaller steps.
    """
    record = read_attempts(folder).attempts
    return len(record) > 1 and record[-1].outcome == "running" and record[-2].ran_out


def outcome_of(code: int, *, whole: bool) -> Outcome:
    """What an exit code means for the job; `whole`: whether its manifest is there."""
    if code == 0:
        return "done" if whole else "failed"
    if code == EXIT_RETRYABLE:
        return "again"
    if code == EXIT_ETHICS:
        return "harmed"
    return "crashed" if code < 0 or code == EXIT_CRASHED else "failed"


def meaning(code: int) -> str:
    """The exit code or signal in words, to follow "The child ended with"."""
    if code < 0:
        return f"signal {-code} ({signal.strsignal(-code) or 'of no name'})"
    return MEANINGS.get(code, f"exit code {code}")


def in_vain(attempts: Sequence[Attempt]) -> int:
    """How many of the last attempts in a row got no further than what was reached by the first.

    Those that somebody stopped do not count.
    """
    furthest, count = -1, 0
    for attempt in attempts:
        if attempt.outcome == "stopped":
            continue
        count = 1 if attempt.reached > furthest else count + 1
        furthest = max(furthest, attempt.reached)
    return count


def backoff_seconds(count: int) -> float:
    """How long to wait after so many attempts in vain: twice as long each time, up to a limit."""
    return float(min(FIRST_BACKOFF_SECONDS * 2 ** (count - 1), LONGEST_BACKOFF_SECONDS))


class Ended(Struct, frozen=True, kw_only=True):
    """An attempt that ended, and what is needed to tell why."""

    attempt: Attempt
    log: list[str]
    """The lines that it printed."""
    in_vain: int = 1
    """How many attempts in a row got no further."""


def fault_of(ended: Ended, folder: Path, memory_mb: int, *, more: bool) -> BhavanaError:
    """The error that says how the last attempt ended and what to do.

    `more`: whether it had more attempts than one. If not, a child that asks for another is not
    failed, only Unavailable.
    """
    attempt, said = ended.attempt, ended.attempt.said
    hint = HUNG if attempt.outcome == "stalled" else NEXT_STEPS.get(attempt.code or 0)
    if memory_mb and (attempt.ran_out or _mentions(ended.log, OUT_OF_MEMORY)):
        said += f" It needed more than the {memory_mb} MB of trainer.limits.memory_mb."
        hint = "Raise that, or lower trainer.recipe.micro_batch_size or max_length."
    if ended.in_vain > 1:
        said = f"{ended.in_vain} attempts in a row got no further. {said}"
    errors = [line for line in ended.log if line.startswith("error: ")]
    shown = errors[-1:] or ended.log[-LOG_LINES:]
    if shown:
        said += f" Its log {folder / 'log.txt'} ends:\n" + "\n".join(shown)
    if attempt.outcome == "harmed":
        return EthicsHalt(said, hint=hint)
    if attempt.outcome == "again" and not more:
        return Unavailable(said)
    return ChildFailed(said, hint=hint)


def _mentions(log: Sequence[str], signs: Sequence[str]) -> bool:
    return any(sign in line for line in log for sign in signs)


def put_aside(folder: Path) -> Path:
    """Renames a job's folder, so that nothing goes on from it and nothing of it is lost."""
    aside = folder.with_name(folder.name + QUARANTINED)
    number = 1
    while aside.exists():
        number += 1
        aside = folder.with_name(f"{folder.name}{QUARANTINED}-{number}")
    folder.rename(aside)
    return aside
