"""Cells for tests: of each level that this machine can close, and attempts to get out of one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import cache

import pytest

from store.records import Outcome
from trainer.gates.sandbox import execution
from trainer.gates.sandbox.execution import ADDS, ADDS_WELL, Execution, Level, Limits

CLOSED = (Level.KERNEL, Level.NAMESPACES)
NOBODY = 65534
OUT = 'assert attempt() == "out"\n'
"""The tests: they pass where the attempt worked."""
Cell = Callable[..., Execution]


@cache
def interpreter_for(level: Level) -> str | None:
    """A Python with which a cell of this level closes here.

    Below `NAMESPACES` root's cell runs as nobody, who may not be allowed to read our own.
    """
    with pytest.MonkeyPatch.context() as patch:
        for found in (execution._interpreter(), "/usr/bin/python3"):
            patch.setattr(execution, "_interpreter", lambda found=found: found)
            tried = execution._run_at(level, ADDS, ADDS_WELL, Limits(), ())
            if tried.outcome is Outcome.PASS:
                return found
    return None


@pytest.fixture
def cell(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Cell:
    """Runs code in a cell of the level that is the test's parameter."""
    level: Level = request.param
    found = interpreter_for(level)
    if found is None:
        pytest.skip(f"no cell of level {level.value} closes on this machine")
    monkeypatch.setattr(execution, "_interpreter", lambda: found)

    def run(code: str, tests: str = OUT, **limits: float) -> Execution:
        return execution._run_at(level, code, tests, Limits(**limits), ())  # type: ignore[arg-type]

    return run


def at(*levels: Level) -> pytest.MarkDecorator:
    """Makes the test in a cell of each of these levels."""
    return pytest.mark.parametrize("cell", levels, indirect=True, ids=lambda level: level.value)


closed = at(*CLOSED)
every = at(Level.PROCESS, *CLOSED)


def outside(code: str) -> str:
    """What the attempt returns without a cell, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint(attempt())"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def attempt(body: str) -> str:
    """A function that makes this attempt and says "out"."""
    lines = "".join(f"    {line}\n" for line in body.strip().splitlines())
    return f"import ctypes, os, socket, sys\ndef attempt():\n{lines}    return 'out'\n"
