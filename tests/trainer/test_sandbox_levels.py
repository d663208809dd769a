"""How well a cell closes: each level all of it or not at all, and never less than was required."""

from __future__ import annotations

import os
import subprocess

import pytest

from store.records import Outcome
from tests.trainer.cells import CLOSED, NOBODY, interpreter_for
from trainer.gates.sandbox import execution
from trainer.gates.sandbox.execution import (
    ADDS,
    ADDS_WELL,
    Execution,
    Level,
    Limits,
    Reached,
    reached,
    run,
)

FORBIDS = """
import errno, cell.{module}
def forbidden(*_, **__):
    raise OSError(errno.EPERM, "{module}: not on this machine")
cell.{module}.{call} = forbidden
"""


@pytest.mark.parametrize(
    ("module", "call", "level"),
    [
        ("namespaces", "enter", Level.KERNEL),
        ("landlock", "ruleset", Level.PROCESS),
        ("seccomp", "confine", Level.PROCESS),
        ("kernel", "prctl", Level.NONE),
    ],
)
def test_what_a_machine_forbids_lowers_the_level(
    monkeypatch: pytest.MonkeyPatch, module: str, call: str, level: Level
) -> None:
    """To the next that holds whole; the reason names what is missing."""
    found = interpreter_for(Level.KERNEL)
    if found is None:
        pytest.skip("no cell of level kernel closes on this machine")
    monkeypatch.setattr(execution, "_interpreter", lambda: found)
    path, rest = execution.START.split("; from ")
    forbids = FORBIDS.format(module=module, call=call)
    monkeypatch.setattr(execution, "START", f"{path}\nexec({forbids!r})\nfrom {rest}")

    here = reached.__wrapped__()

    assert here == Reached(level=level, missing=f"[Errno 1] {module}: not on this machine")


def test_a_level_that_is_not_reached_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is run below the required level; the reason says what is missing."""
    here = Reached(level=Level.PROCESS, missing="no Landlock")
    monkeypatch.setattr(execution, "reached", lambda: here)
    monkeypatch.delattr(execution, "_run_at")

    done = run(ADDS, ADDS_WELL, required=Level.KERNEL)

    assert done == Execution(
        outcome=Outcome.ERROR,
        reason="kernel is required, process is reached: no Landlock",
        level=Level.PROCESS,
    )


def test_levels_are_in_order() -> None:
    """Each is above those before it."""
    assert max(Level) is Level.NAMESPACES
    assert Level.NONE < Level.PROCESS < Level.KERNEL < Level.NAMESPACES


@pytest.mark.parametrize("level", [Level.PROCESS, Level.KERNEL, Level.NAMESPACES])
def test_a_cell_that_does_not_close_is_an_error(
    monkeypatch: pytest.MonkeyPatch, level: Level
) -> None:
    """An interpreter that fails gives no verdict, so there is no pass."""
    monkeypatch.setattr(execution, "_interpreter", lambda: "/bin/false")

    done = execution._run_at(level, ADDS, ADDS_WELL, Limits(), ())

    assert (done.outcome, done.reason) == (Outcome.ERROR, "the cell did not start")


@pytest.mark.parametrize("level", CLOSED, ids=lambda level: level.value)
def test_without_root_it_closes_as_well(monkeypatch: pytest.MonkeyPatch, level: Level) -> None:
    """By a user namespace where there is one; else the level is an error, and that is said."""
    if os.geteuid() != 0:
        pytest.skip("the other tests say so already")
    start = subprocess.Popen

    def as_nobody(command: list[str], **given: object) -> subprocess.Popen[bytes]:
        return start(command, user=NOBODY, group=NOBODY, extra_groups=[], **given)  # type: ignore[call-overload,no-any-return]

    found = interpreter_for(Level.KERNEL)
    if found is None:
        pytest.skip("no Python here that everybody may read")
    monkeypatch.setattr(execution, "_interpreter", lambda: found)
    monkeypatch.setattr(execution.subprocess, "Popen", as_nobody)  # type: ignore[attr-defined]

    done = execution._run_at(level, ADDS, ADDS_WELL, Limits(), ())

    if level is Level.NAMESPACES and done.outcome is Outcome.ERROR:
        assert "unshare" in done.reason or "mount" in done.reason
    else:
        assert (done.outcome, done.reason) == (Outcome.PASS, "every test came to its end")
