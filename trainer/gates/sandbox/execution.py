"""Runs code that a model wrote against tests of ours, in a cell that is closed first.

Two child processes, locked in alike: one holds the code, one the tests (see `cell.examiner`).
A level below the required one is an error, never a weaker run.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from contextlib import suppress
from enum import Enum
from functools import cache, total_ordering
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from store.records import Noun, Outcome

HERE = Path(__file__).parent
START_SECONDS = 30.0
"""Within which a cell is closed, on a busy machine too; the time of a run begins afterwards."""
GRACE_SECONDS = 5.0
"""After which a cell is ended from outside that did not end by itself."""
MOST_SAID = 1 << 16
"""Bytes of a verdict."""
START = (
    "import sys; sys.path.insert(0, {!r}); from cell.keeper import main; del sys.path[0]; main()"
)
ENVIRONMENT = {"PYTHONHASHSEED": "0"}
"""So that a set has the same order in each run. The code sees no variable at all."""


@total_ordering
class Level(Enum):
    """How well a cell is closed. Each holds all that those before it hold."""

    NONE = "none"
    """Not even a process of its own could be made."""
    PROCESS = "process"
    """Limits on memory, time and files, no further process, nobody's rights, no environment."""
    KERNEL = "kernel"
    """Landlock and seccomp: it reads Python's libraries, and makes the calls of a computation."""
    NAMESPACES = "namespaces"
    """It sees no network, no other process, and no file but those libraries."""

    def __lt__(self, other: Level) -> bool:
        order = list(Level)
        return order.index(self) < order.index(other)


class Limits(Noun, frozen=True, kw_only=True):
    """What one run may take."""

    seconds: Annotated[float, Meta(gt=0, le=600)] = 10.0
    """By the clock; of one processor as many, rounded up."""
    memory_mb: Annotated[int, Meta(ge=128)] = 512
    """MiB of addresses, for the code and for the tests each."""


class Execution(Noun, frozen=True, kw_only=True):
    """What came of one run."""

    outcome: Outcome
    """PASS: the last test came to its end. FAIL: through the code. ERROR: through us."""
    reason: str
    """Of a failure the exception and the line of the tests."""
    level: Level
    """How well the cell was closed; where it was not closed, how well this machine can."""


class Reached(Noun, frozen=True, kw_only=True):
    """How well this machine closes a cell."""

    level: Level
    missing: str
    """What stood in the way of the next level; empty when there is none."""


DEFAULT = Limits()
ADDS = "def add(a, b):\n    return a + b\n"
ADDS_WELL = "assert add(2, 3) == 5\n"


def run(
    code: str,
    tests: str,
    *,
    limits: Limits = DEFAULT,
    required: Level = Level.KERNEL,
    calls: Collection[str] = (),
) -> Execution:
    """Whether Python code passes tests that are statements with asserts.

    The tests run in a process of their own and call functions of the code by name: `calls`, or else
    every name that the tests use, do not bind and Python does not know. So nothing that the code
    does to its own process makes a test pass. Arguments and results are plain data (None, bool,
    int, float, complex, str, bytes, list, tuple, set, frozenset, dict); a subclass arrives as its
    base. Exceptions arrive by name. Code has no files to write, no network, no processes and no
    threads. Blocks until it is done; safe in several threads.

    What the tests define is theirs: a helper that a prompt gives belongs there, or the code may
    replace it. `calls` is needed where the function has a builtin's name. Tests that need an
    object or a class of the code's are an error.
    """
    here = reached()
    if here.level < required:
        reason = f"{required.value} is required, {here.level.value} is reached: {here.missing}"
        return Execution(outcome=Outcome.ERROR, reason=reason, level=here.level)
    return _run_at(here.level, code, tests, limits, calls)


@cache
def reached() -> Reached:
    """The highest level at which a cell of this machine closes and works, by closing one."""
    missing = ""
    for level in sorted(Level, reverse=True)[:-1]:
        tried = _run_at(level, ADDS, ADDS_WELL, DEFAULT, ())
        if tried.outcome is Outcome.PASS:
            return Reached(level=level, missing=missing)
        missing = tried.reason
    return Reached(level=Level.NONE, missing=missing)


def _run_at(
    level: Level, code: str, tests: str, limits: Limits, calls: Collection[str]
) -> Execution:
    nonce = secrets.token_hex(16)
    order = {"code": code, "tests": tests, "calls": sorted(calls), "nonce": nonce}
    said = _ask(level, limits, json.dumps(order).encode())  # takes half characters, too
    outcome, reason = _read(said, nonce)
    return Execution(outcome=outcome, reason=reason, level=level)


def _read(said: bytes, nonce: str) -> tuple[Outcome, str]:
    """What the keeper's lines mean. Once the cell was closed, only the nonce is a pass."""
    try:
        lines = [msgspec.json.decode(line, type=dict[str, str]) for line in said.splitlines()]
    except msgspec.MsgspecError:
        return Outcome.ERROR, "the keeper's words cannot be read"
    match lines:
        case [{"closed": _}, {"passed": given}] if secrets.compare_digest(given, nonce):
            return Outcome.PASS, "every test came to its end"
        case [{"closed": _}, {"failed": reason}]:
            return Outcome.FAIL, reason
        case [{"closed": _}, {"unsuited": reason}]:
            return Outcome.ERROR, reason
        case [{"closed": _}, *_]:
            return Outcome.FAIL, "no verdict came back"
        case [{"open": reason}]:
            return Outcome.ERROR, reason
        case _:
            return Outcome.ERROR, "the cell did not start"


def _ask(level: Level, limits: Limits, order: bytes) -> bytes:
    """What the keeper of a cell says, to its end or until its time is up; none of it is left."""
    asked = msgspec.to_builtins(limits) | {"level": level.value}
    words = msgspec.json.encode(asked).decode()
    # A file, not a pipe: whoever writes into a pipe waits for its reader.
    with tempfile.TemporaryFile() as stdin:
        stdin.write(order)
        stdin.seek(0)
        keeper = subprocess.Popen(
            [_interpreter(), "-s", "-S", "-P", "-c", START.format(str(HERE)), words],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=ENVIRONMENT,
            start_new_session=True,
        )
        try:
            assert keeper.stdout is not None
            until = time.monotonic() + START_SECONDS + limits.seconds + GRACE_SECONDS
            return _listen(keeper.stdout.fileno(), until)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(keeper.pid, signal.SIGKILL)
            keeper.communicate()


def _listen(descriptor: int, until: float) -> bytes:
    """What is said before it ends, before that time and before it is too much."""
    said = b""
    ready = select.poll()
    ready.register(descriptor, select.POLLIN)
    while len(said) < MOST_SAID and ready.poll(max(0.0, until - time.monotonic()) * 1000):
        part = os.read(descriptor, MOST_SAID - len(said))
        if not part:
            break
        said += part
    return said


def _interpreter() -> str:
    """Python itself and not a virtual environment's link to it, which would bring our packages."""
    return str(Path(sys.executable).resolve())
