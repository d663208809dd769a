"""Starts a job's child process, watches its heartbeat, and says plainly how it ended."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from store.errors import ChildFailed, Unavailable
from store.orphans import EXIT_RETRYABLE, with_this_parent
from store.records import Noun
from trainer.job import Heartbeat, write_record

POLL_SECONDS = 0.2
STALL_SECONDS = 900.0
"""A child that beats no more for this long is taken for hung."""
TERMINATE_SECONDS = 5.0
LOG_LINES = 12

Watch = Callable[[Heartbeat], None]


def run_job(
    module: str,
    folder: Path,
    job: Noun,
    *,
    stop: threading.Event,
    watch: Watch = lambda _: None,
) -> None:
    """Runs `python -m module folder` to its end; returns when its manifest is there.

    A folder whose manifest is there already is not run again. Raises ChildFailed with the end
    of its log, or Unavailable when `stop` was set or the child asks to be started again.
    """
    if (folder / "manifest.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_record(folder / "job.json", job)
    with (folder / "log.txt").open("ab") as log:
        begun = log.tell()
        child = start(module, str(folder), stdout=log)
        try:
            _wait(child, folder, begun, stop, watch)
        finally:
            end(child)
    if not (folder / "manifest.json").is_file():
        raise ChildFailed(f"{module} ended without a manifest.{_tail(folder, begun)}")


def start(module: str, *arguments: str, stdout: int | object = None) -> subprocess.Popen[bytes]:
    """Starts one of our modules as a child that ends when this process does."""
    environment = with_this_parent() | {"PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=Path(__file__).resolve().parent.parent,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=stdout,  # type: ignore[arg-type]
        stderr=subprocess.STDOUT if stdout is not None else None,
    )


def end(child: subprocess.Popen[bytes], seconds: float = TERMINATE_SECONDS) -> None:
    """Ends the child if it still runs, kindly first, and reaps it."""
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def read_heartbeat(folder: Path) -> Heartbeat | None:
    """The job's last heartbeat, or None when it has none yet."""
    try:
        return msgspec.json.decode((folder / "heartbeat.json").read_bytes(), type=Heartbeat)
    except FileNotFoundError:
        return None


def _wait(
    child: subprocess.Popen[bytes], folder: Path, begun: int, stop: threading.Event, watch: Watch
) -> None:
    seen: Heartbeat | None = None
    changed = time.monotonic()
    while (code := child.poll()) is None:
        if stop.wait(POLL_SECONDS):
            raise Unavailable("Stopping; the step will be repeated at the next start.")
        beat = read_heartbeat(folder)
        if beat is not None and beat != seen:
            seen, changed = beat, time.monotonic()
            watch(beat)
        if time.monotonic() - changed > STALL_SECONDS:
            raise ChildFailed(f"{child.args!r} gave no sign of life for {STALL_SECONDS:.0f} s.")
    if code == EXIT_RETRYABLE:
        raise Unavailable("The child asks to be started again.")
    if code != 0:
        raise ChildFailed(f"The child ended with {_meaning(code)}.{_tail(folder, begun)}")


def _meaning(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _tail(folder: Path, begun: int) -> str:
    log = (folder / "log.txt").read_bytes()[begun:]  # without what earlier tries said
    lines = log.decode(errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    shown = errors[-1:] or lines[-LOG_LINES:]
    return f" Its log {folder / 'log.txt'} ends:\n" + "\n".join(shown) if shown else ""
