"""Starts a job's child process, watches it, starts it again, and says plainly how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from store.errors import Unavailable
from store.records import Noun, now
from trainer import isolation
from trainer.attempts import (
    STARTED_AGAIN,
    STOPPING,
    Attempt,
    Ended,
    Outcome,
    backoff_seconds,
    begin,
    fault_of,
    in_vain,
    meaning,
    note,
    outcome_of,
    put_aside,
)
from trainer.isolation import NO_LIMITS, Cell, ResourceLimits
from trainer.job import PROGRESS, Heartbeat, read_heartbeat, wait_for_lock, write_record
from trainer.launchers.launcher import ROOT, command
from trainer.progress import latest

POLL_SECONDS = 0.2
STALL_SECONDS = 900.0
"""A child that beats no more for this long is taken for hung."""
TERMINATE_SECONDS = 20.0
"""So long a child has to end its step and keep a checkpoint; a service has 30 in all."""
DRAW_SECONDS = 120.0

Watch = Callable[[Heartbeat], None]
Told = Callable[[Attempt], None]


class Start(Struct, frozen=True, kw_only=True):
    """How a job's child is started."""

    attempts: int = 1
    """How often in a row without getting further."""
    limits: ResourceLimits = NO_LIMITS
    processes: int = 1
    """More than one go through `accelerate launch`."""
    variables: tuple[str, ...] = ()
    """Prefixes of environment variables that this job needs beyond the usual."""


ONCE = Start()


def run_job(
    module: str,
    folder: Path,
    job: Noun,
    *,
    stop: threading.Event,
    watch: Watch = lambda _: None,
    how: Start = ONCE,
    told: Told = lambda _: None,
) -> None:
    """Runs `python -m module folder` to its end; returns when its manifest is there.

    A folder whose manifest is there already is not run again. A child that asks for it, crashes or
    stalls is started again, as often as `how` says; `told` hears of each attempt that ended.
    Raises ChildFailed with the end of its log, EthicsHalt after its folder was put aside, Busy when
    another process runs this job, and Unavailable when `stop` was set or the only attempt
    asks for another.
    """
    if (folder / "manifest.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "watcher.lock").open("w") as lock:
        wait_for_lock(lock.fileno(), folder)
        write_record(folder / "job.json", job)
        ended = _attempts(module, folder, stop, watch, how, told)
        if ended.attempt.outcome == "stopped":
            raise Unavailable(ended.attempt.said)
        _draw(folder)
        if ended.attempt.outcome == "done":
            return
        if ended.attempt.outcome == "harmed":
            folder = put_aside(folder)
    raise fault_of(ended, folder, how.limits.memory_mb, more=how.attempts > 1)


def _attempts(
    module: str, folder: Path, stop: threading.Event, watch: Watch, how: Start, told: Told
) -> Ended:
    """The last of as many attempts as it takes, or as are allowed."""
    while True:
        ended = _attempt(module, folder, stop, watch, how)
        attempt = ended.attempt
        count = in_vain(note(folder, attempt).attempts)
        told(attempt)
        if attempt.outcome not in STARTED_AGAIN or count >= how.attempts:
            return replace(ended, in_vain=count)
        pause = backoff_seconds(count)
        watch(Heartbeat.now(f"again in {pause:.0f} s", attempt.reached, 0))
        if stop.wait(pause):
            return replace(ended, attempt=replace(attempt, outcome="stopped", said=STOPPING))


def start(
    module: str,
    *arguments: str,
    stdout: int | object = None,
    how: Start = ONCE,
    cell: Cell | None = None,
) -> subprocess.Popen[bytes]:
    """Starts one of our modules as a child that ends when this process does.

    It leads a process group, so that whatever it starts ends with it.
    """
    cell = cell or Cell(how.limits)
    child = subprocess.Popen(
        cell.command(command(module, *arguments, processes=how.processes)),
        cwd=ROOT,
        env=isolation.environment(how.limits, os.environ, also=how.variables),
        stdin=subprocess.DEVNULL,
        stdout=stdout,  # type: ignore[arg-type]
        stderr=subprocess.STDOUT if stdout is not None else None,
        start_new_session=True,
    )
    with suppress(ProcessLookupError):  # it has ended already
        cell.hold(child.pid)
    return child


def end(child: subprocess.Popen[bytes], seconds: float | None = None) -> None:
    """Ends the child if it still runs, and its process group where it leads one; reaps it.

    Kindly first, and after so many seconds (TERMINATE_SECONDS) by force.
    """
    if child.poll() is not None:
        return
    group = os.getpgid(child.pid)
    send = partial(os.killpg, group) if group == child.pid else child.send_signal
    send(signal.SIGTERM)
    try:
        child.wait(TERMINATE_SECONDS if seconds is None else seconds)
    except subprocess.TimeoutExpired:
        send(signal.SIGKILL)
        child.wait()


def _attempt(module: str, folder: Path, stop: threading.Event, watch: Watch, how: Start) -> Ended:
    with isolation.cell(how.limits, folder.name) as cell, (folder / "log.txt").open("ab") as log:
        attempt, number = begin(folder, cell.level)
        log.write(f"--- attempt {number}, {attempt.began_at:%F %T}Z, {cell.said()}\n".encode())
        log.flush()
        begun = log.tell()
        furthest = Furthest(watch)
        child = start(module, str(folder), stdout=log, how=how, cell=cell)
        try:
            outcome = _wait(child, folder, stop, furthest)
        except BaseException:
            note(folder, replace(attempt, outcome="stopped", ended_at=now(), said=STOPPING))
            raise
        finally:
            end(child)
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # whatever it started and left behind
        code = child.returncode
        if outcome is None:
            outcome = outcome_of(code, whole=(folder / "manifest.json").is_file())
        ended = replace(
            attempt,
            outcome=outcome,
            code=code,
            ended_at=now(),
            reached=_furthest(folder, attempt, furthest.done),
            said=_said(outcome, code),
            ran_out=cell.ran_out(),
        )
        return Ended(attempt=ended, log=_log_since(folder, begun))


def _furthest(folder: Path, attempt: Attempt, seen: int) -> int:
    """The furthest step, also where a later phase wrote over its heartbeat before we looked."""
    return max([seen, *(b.done for b in latest(folder) if b.at >= attempt.began_at)])


class Furthest:
    """Passes heartbeats on and keeps the furthest step that was seen."""

    def __init__(self, watch: Watch) -> None:
        self.done = 0
        self._watch = watch

    def __call__(self, beat: Heartbeat) -> None:
        """Takes a heartbeat."""
        self.done = max(self.done, beat.done)
        self._watch(beat)


def _wait(
    child: subprocess.Popen[bytes], folder: Path, stop: threading.Event, watch: Watch
) -> Outcome | None:
    """Waits for the child's end; says why we do not wait on where it has not ended."""
    seen = read_heartbeat(folder)  # of the attempt before
    changed = time.monotonic()
    while True:
        is_over = child.poll() is not None  # before the last look, or its last beat is missed
        beat = read_heartbeat(folder)
        if beat is not None and beat != seen:
            seen, changed = beat, time.monotonic()
            watch(beat)
        if is_over:
            return None
        if time.monotonic() - changed > STALL_SECONDS:
            return "stalled"
        if stop.wait(POLL_SECONDS):
            return "stopped"


def _said(outcome: Outcome, code: int) -> str:
    if outcome == "done":
        return "Done."
    if outcome == "stopped":
        return STOPPING
    if outcome == "stalled":
        return f"The child gave no sign of life for {STALL_SECONDS:.0f} s."
    return f"The child ended with {meaning(code)}."


def _log_since(folder: Path, begun: int) -> list[str]:
    """What this attempt printed, without what earlier ones did."""
    return (folder / "log.txt").read_bytes()[begun:].decode(errors="replace").splitlines()


def _draw(folder: Path) -> None:
    """Draws the job's curves, where it left any, outside this process: matplotlib is large."""
    if (folder / PROGRESS).is_file():
        child = start("trainer.curves", str(folder), stdout=subprocess.DEVNULL)
        try:
            child.wait(DRAW_SECONDS)
        except subprocess.TimeoutExpired:
            end(child, 0)
