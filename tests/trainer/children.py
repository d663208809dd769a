"""Small honest children: modules with a job's skeleton around a line or two of work; and trainings
in real processes, to be killed.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from store.records import Noun
from trainer.job import read_heartbeat

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 60.0
TRAINING_SECONDS = 120.0
"""The patience with a training."""

CHILD = """
import os, signal, sys, time
from pathlib import Path
from trainer.job import Job, write_atomically
job = Job(Path(sys.argv[1]))
with job.working():
    job.beat("working", 1, 2)
    {work}
    write_atomically(job.folder / "manifest.json", b"{{}}")
"""


class Orders(Noun, kw_only=True):
    """A job that asks for nothing."""

    note: str = "x"


def maker(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """What makes a module around the given work and returns its name."""
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT)]))

    def make(work: str) -> str:
        (folder / "small_child.py").write_text(CHILD.format(work=work))
        return "small_child"

    return make


def is_gone(pid: int) -> bool:
    """Whether the process has ended; a zombie that nobody has collected yet has."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def poll(condition: Callable[[], bool]) -> bool:
    """Whether the condition came true while we had patience."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


class Nursery:
    """Runs tries of jobs in real processes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert self._read() == "ready"

    def start(self, folder: Path, megabytes: int = 0) -> int:
        """Starts a try; its pid."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{folder} {megabytes}\n")
        self.process.stdin.flush()
        return int(self._read())

    def ended(self) -> int:
        """How the try ended: its exit code, or minus the signal."""
        return int(self._read())

    def _read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def step_of(folder: Path) -> int:
    """The step that the job's heartbeat tells; 0 before the first."""
    beat = read_heartbeat(folder)
    return beat.done if beat is not None and beat.phase == "training" else 0


def wait_for_step(folder: Path, step: int, since: int) -> None:
    """Returns when a try that began after the moment `since` is at the step."""
    deadline = time.monotonic() + TRAINING_SECONDS
    while time.monotonic() < deadline:
        beat = folder / "heartbeat.json"
        if beat.is_file() and beat.stat().st_mtime_ns > since and step_of(folder) >= step:
            return
        time.sleep(0.001)
    raise AssertionError((folder / "log.txt").read_text()[-2000:])
