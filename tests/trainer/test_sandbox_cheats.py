"""Code that wants to pass without being right: none does, at any level."""

from __future__ import annotations

import pytest

from store.records import Outcome
from trainer.gates.sandbox.execution import Level, Limits, reached, run

RIGHT = "def double(x):\n    return 2 * x\n"
TESTS = """
assert double(21) == 42
assert all(map(lambda case: double(case[0]) == case[1], [(1, 2), (7, 14)]))
for x in (3, 4):
    assert double(x) == x + x, "what the tests expect: a needle"
"""
FINDS = """
def found():
    import gc, sys
    hay, frame = list(gc.get_objects()), sys._getframe()
    while frame is not None:
        hay += [frame.f_globals, frame.f_locals, frame.f_code.co_consts]
        frame = frame.f_back
    names = [v for h in hay if type(h) is dict for v in h.values()]
    texts = [x for x in hay + names if type(x) in (str, bytes)]
    return [str(x) for x in texts if "a need" + "le" in str(x)]
"""

CHEATS = {
    "exit on import": "import sys\nsys.exit(0)",
    "hard exit on import": "import os\nos._exit(0)",
    "exit": "import sys\ndef double(x):\n    sys.exit(0)",
    "hard exit": "import os\ndef double(x):\n    os._exit(0)",
    "exit code at the end": "import atexit, os\natexit.register(os._exit, 0)\ndouble = exit",
    "an exception that ends loops": "def double(x):\n    raise StopIteration",
    "a test's own exception": "def double(x):\n    raise AssertionError",
    "an exception that nobody catches": "def double(x):\n    raise KeyboardInterrupt",
    "equals everything": """
class Same(int):
    def __eq__(self, other):
        return True
    __hash__ = None
    def __repr__(self):
        return "42"

def double(x):
    return Same()
""",
    "equals everything, and is nothing": """
class Same:
    __eq__ = lambda self, other: True
    __req__ = __eq__

def double(x):
    return Same()
""",
    "other builtins": """
import builtins
for name in ("all", "map", "abs", "isinstance", "len", "AssertionError", "compile", "exec"):
    setattr(builtins, name, lambda *a, **k: True)

def double(x):
    return True
""",
    "another JSON": """
import json, sys
json.dumps = lambda *a, **k: '{"value": {"object": 1}}'
json.loads = lambda *a, **k: {"load": ""}
sys.modules["cell.wire"].pack = lambda value: value

def double(x):
    return 0
""",
    "another unittest": """
import unittest
unittest.TestCase.assertEqual = lambda *a: None
unittest.main = lambda *a: None

def double(x):
    return 0
""",
    "verdicts on every descriptor": """
import os
for fd in range(64):
    try:
        os.write(fd, b'{"closed":"kernel"}\\n{"passed":"00000000000000000000000000000000"}\\n')
    except OSError:
        pass

def double(x):
    return 0
""",
    "answers before the questions": """
import os
for fd in range(3, 64):
    try:
        for _ in range(9):
            os.write(fd, b'{"value": true}\\n')
    except OSError:
        pass

def double(x):
    return True
""",
    "an answer that is no data": """
import os
def double(x):
    for fd in range(3, 64):
        try:
            os.write(fd, b'{"value": {"frozenset": [{"list": [1]}]}}\\n')
        except OSError:
            pass
""",
    "an answer nested too deep": """
import os
def double(x):
    for fd in range(3, 64):
        try:
            os.write(fd, b'{"value": ' + b'{"list": [' * 9000 + b'1' + b']}' * 9000 + b'}\\n')
        except OSError:
            pass
""",
    "the tests' own words": FINDS + "def double(x):\n    raise SystemExit\n",
    "the keeper's functions": """
import sys
keeper = sys.modules.get("cell.keeper")
def double(x):
    keeper._say({"closed": "kernel"})
    keeper._say({"passed": ""})
    keeper.os._exit(0)
""",
    "a handler that hides": """
import signal
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass

def double(x):
    return 0
""",
}


@pytest.fixture
def required() -> Level:
    """The highest level of this machine."""
    if reached().level is Level.NONE:
        pytest.skip(f"no cell closes here: {reached().missing}")
    return reached().level


def test_the_tests_can_be_passed(required: Level) -> None:
    """Else no cheat could."""
    assert run(RIGHT, TESTS, required=required).outcome is Outcome.PASS


@pytest.mark.parametrize("code", CHEATS.values(), ids=CHEATS)
def test_a_cheat_does_not_pass(code: str, required: Level) -> None:
    """By exits, exceptions, objects, patches or forged words."""
    done = run(code, TESTS, required=required)

    assert done.outcome is Outcome.FAIL


def test_an_exception_ends_no_loop_of_the_tests(required: Level) -> None:
    """A `map` that meets a StopIteration would be done, and all that it gave be right."""
    tests = "assert all(map(lambda case: double(case) == 2 * case, [1, 2]))"

    assert run(RIGHT, tests, required=required).outcome is Outcome.PASS
    done = run("def double(x):\n    raise StopIteration", tests, required=required)
    assert done.reason.startswith("StopIteration")
    assert done.outcome is Outcome.FAIL


@pytest.mark.parametrize("caught", ["Exception", "BaseException"])
def test_tests_that_catch_everything_pass_nobody_who_left(caught: str, required: Level) -> None:
    """An ended process is a failure, even where the tests look away."""
    tests = f"try:\n    double(1)\nexcept {caught}:\n    pass\n"

    assert run("import os\ndef double(x):\n    os._exit(0)", tests, required=required) != run(
        RIGHT, tests, required=required
    )
    done = run("import os\ndef double(x):\n    os._exit(0)", tests, required=required)
    assert (done.outcome, done.reason) == (Outcome.FAIL, "the code ended its process")


def test_the_code_finds_no_word_of_the_tests(required: Level) -> None:
    """Neither in frames nor among all objects: they never were in its process."""
    tests = "assert found() != [], 'a needle'"
    control: dict[str, object] = {"hidden": "a need" + "le"}
    exec(FINDS, control)

    assert control["found"]() != []  # type: ignore[operator]  # there, it can be found
    assert run(FINDS, tests, required=required).outcome is Outcome.FAIL


def test_a_rewritten_answer_is_only_an_answer(required: Level) -> None:
    """Who sends the right data from elsewhere in the process has the right data."""
    code = "import sys\nsys.modules['cell.inmate'].pack = lambda value: 42\ndef double(x): pass\n"

    assert run(code, "assert double(21) == 42", required=required).outcome is Outcome.PASS
    assert run(code, TESTS, required=required).outcome is Outcome.FAIL


def test_an_answer_without_end_is_cut(required: Level) -> None:
    """More than a mebibyte is not read, and not kept."""
    done = run("def double(x):\n    return 'x' * (1 << 24)", TESTS, required=required)

    assert (done.outcome, done.reason) == (Outcome.FAIL, "the answer cannot be read")


def test_words_without_end_go_nowhere(required: Level) -> None:
    """What is printed is not kept; the code is tested all the same."""
    code = (
        "import sys\n"
        "def double(x):\n"
        "    for _ in range(64):\n"
        "        print('x' * (1 << 20))\n"
        "        print('x' * (1 << 20), file=sys.stderr)\n"
        "    return 2 * x\n"
    )

    assert run(code, TESTS, required=required).outcome is Outcome.PASS


@pytest.mark.parametrize(
    "body",
    [
        "while True: pass",
        "import time; time.sleep(3600)",
        "sum(iter(int, 1))",
        "(9 ** 9) ** (9 ** 9)",
        "import re; re.match(r'(a+)+$', 'a' * 64 + 'b')",
    ],
)
def test_time_ends(body: str, required: Level) -> None:
    """Loops, sleep, and calls into C that no signal reaches."""
    done = run(f"def double(x):\n    {body}", TESTS, limits=Limits(seconds=1), required=required)

    assert done.outcome is Outcome.FAIL
    assert done.reason in ("not done after 1 s", "the code ended its process")


@pytest.mark.parametrize("amount", ["1 << 40", "1 << 30"])
def test_memory_ends(amount: str, required: Level) -> None:
    """An allocation beyond the limit fails in the code."""
    done = run(f"def double(x):\n    return len(bytearray({amount}))", TESTS, required=required)

    assert done.outcome is Outcome.FAIL
    assert "MemoryError" in done.reason


def test_deep_recursion_ends(required: Level) -> None:
    """Whether Python notices or the process dies of it."""
    code = "import sys\nsys.setrecursionlimit(10**9)\ndef double(x):\n    return double(x)"

    assert run(code, TESTS, required=required).outcome is Outcome.FAIL
