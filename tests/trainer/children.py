"""Small honest children: modules with a job's skeleton around a line or two of work."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from store.records import Noun

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 60.0

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
