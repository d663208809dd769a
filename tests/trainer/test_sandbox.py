"""Code that a model wrote, examined: what passes, what fails, and what is an error of ours."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from store.records import Outcome
from trainer.gates.sandbox import execution
from trainer.gates.sandbox.execution import Execution, Level, reached, run

SORTS = "def tidy(items, backwards=False):\n    return sorted(items, reverse=backwards)\n"


@pytest.fixture
def examined() -> Callable[..., Execution]:
    """Runs at the highest level of this machine, if it has any."""
    if reached().level is Level.NONE:
        pytest.skip(f"no cell closes here: {reached().missing}")

    def examined(code: str, tests: str, **given: object) -> Execution:
        return run(code, tests, required=Level.PROCESS, **given)  # type: ignore[arg-type]

    return examined


def test_right_code_passes(examined) -> None:
    """With positions and names, and more than one test; the level is told."""
    tests = "assert tidy([3, 1]) == [1, 3]\nassert tidy((1, 2), backwards=True) == [2, 1]\n"

    done = examined(SORTS, tests)

    assert (done.outcome, done.level) == (Outcome.PASS, reached().level)


def test_wrong_code_fails_at_a_named_line(examined) -> None:
    """The reason holds the exception and the test that raised it."""
    done = examined(SORTS, "assert tidy([]) == []\nassert tidy([2, 1]) == [2, 1]\n")

    assert done.outcome is Outcome.FAIL
    assert done.reason == "AssertionError at line 2: assert tidy([2, 1]) == [2, 1]"


@pytest.mark.parametrize(
    "value",
    [
        *("None", "True", "-7", "10**40", "0.1", "1 - 2j", "'é\\x00\\ud800'", "b'\\xff'"),
        *("[1, [2.5, None]]", "(1,)", "{1, 2}", "frozenset({(1, 'a')})", "set()"),
        *("{(1, 2): {'a': [True]}, None: ()}", "float('-inf')"),
    ],
)
def test_plain_data_comes_over_as_what_it_was(examined, value: str) -> None:
    """Values and types, there and back."""
    tests = (
        f"given = {value}\nback = same(given)\nassert (back, type(back)) == (given, type(given))"
    )

    assert examined("def same(x):\n    return x", tests) == Execution(
        outcome=Outcome.PASS, reason="every test came to its end", level=reached().level
    )


def test_the_standard_library_is_there_and_nothing_else(examined) -> None:
    """Modules with shared libraries, too; of our packages none."""
    code = """
import ctypes, dataclasses, decimal, heapq, itertools, json, re, sqlite3, statistics, typing, zlib

@dataclasses.dataclass
class Pair:
    a: int

def f():
    return sqlite3.connect(":memory:").execute("select 1 + 1").fetchone()

def g():
    import numpy
"""
    tests = """
assert f() == (2,)
try:
    g()
except ModuleNotFoundError:
    pass
else:
    raise AssertionError
"""
    assert examined(code, tests).outcome is Outcome.PASS


def test_exceptions_come_by_name(examined) -> None:
    """Python's own can be caught as such; what the code defines, only as an exception."""
    code = """
class Odd(ValueError):
    pass

def refuse(how):
    raise {"value": ValueError("no"), "odd": Odd("no"), "stop": StopIteration()}[how]
"""
    tests = """
for how, kind, words in (("value", ValueError, "no"), ("x", KeyError, "'x'")):
    try:
        refuse(how)
    except kind as error:
        assert words in str(error)
    else:
        raise AssertionError(how)
try:
    refuse("odd")
except ValueError:
    raise AssertionError("an exception of the code's own is none of Python's")
except Exception as error:
    assert str(error) == "Odd: no"
"""
    assert examined(code, tests).outcome is Outcome.PASS


def test_a_function_may_have_the_name_of_a_builtin_where_it_is_named(examined) -> None:
    """Otherwise Python's own function is the one that the tests call."""
    code = "def sum(a, b):\n    return 10 * a + b\n"

    assert examined(code, "assert sum(1, 2) == 12", calls=["sum"]).outcome is Outcome.PASS
    assert examined(code, "assert sum(1, 2) == 12").outcome is Outcome.FAIL


def test_tests_may_hand_the_function_to_a_check(examined) -> None:
    """As HumanEval does; a helper of its prompt that the tests use belongs to the tests."""
    tests = """
METADATA = {}

def shift(text):
    return "".join(chr((ord(c) - 92) % 26 + 97) for c in text)

def check(candidate):
    for text in ("abc", "xyz"):
        assert candidate(shift(text)) == text, "and back"

check(unshift)
"""
    right = "def unshift(text):\n    return ''.join(chr((ord(c) - 102) % 26 + 97) for c in text)"
    cheat = "def shift(text):\n    return text\n\ndef unshift(text):\n    return text"

    assert examined(right, tests).outcome is Outcome.PASS
    assert examined(cheat, tests).reason.startswith("AssertionError: and back at line 9")


def test_what_the_tests_define_is_theirs(examined) -> None:
    """The code cannot replace a helper of the tests by one that is content with everything."""
    code = "def close(a, b):\n    return True\n\ndef third(x):\n    return 0\n"
    tests = "def close(a, b):\n    return abs(a - b) < 1e-6\n\nassert close(third(3.0), 1.0)\n"

    assert examined(code, tests).reason.startswith("AssertionError at line 4")


def test_only_plain_data_comes_back(examined) -> None:
    """A generator, a function or an object of the code's own is no answer."""
    done = examined("def f():\n    return (x for x in (1, 2))", "assert list(f()) == [1, 2]")

    assert done.outcome is Outcome.FAIL
    assert "generator is not plain data" in done.reason


@pytest.mark.parametrize(
    ("tests", "reason"),
    [
        ("assert f(lambda x: x)", "f is given more than data"),
        ("try:\n    f(print)\nexcept BaseException:\n    pass", "f is given more than data"),
        ("assert f.name == 1", "f.name is not a call of a function"),
        ("assert (", "the tests are no Python"),
    ],
)
def test_tests_that_cannot_be_asked_are_an_error(examined, tests: str, reason: str) -> None:
    """The model is not to blame, and nothing passes."""
    done = examined("def f(x):\n    return x", tests)

    assert done.outcome is Outcome.ERROR
    assert reason in done.reason


@pytest.mark.parametrize("code", ["def f(:", "1 / 0", "import nothing_like_that", "input()", "\0"])
def test_code_that_does_not_load_fails(examined, code: str) -> None:
    """Whatever the tests would say."""
    done = examined(code, "pass")

    assert done.outcome is Outcome.FAIL
    assert done.reason.startswith("the code does not load")


def test_sets_have_the_same_order_in_each_run(examined) -> None:
    """A gate that is asked twice says the same."""
    code = "def order():\n    return list({'one', 'two', 'three', 'four', 'five', 'six', 'seven'})"
    tests = "raise ValueError(order())"

    first, second = examined(code, tests), examined(code, tests)

    assert first.reason == second.reason
    assert "seven" in first.reason


def test_words_are_not_verdicts(examined) -> None:
    """What tests print, and half a character in what is code or an exception's words."""
    printed = examined(SORTS, "print('x' * 99999)\nassert tidy([2, 1]) == [1, 2]")
    raised = examined("def f():\n    raise ValueError('\\ud800')", "f()")
    coded = examined("x = '\ud800'", "pass")

    assert printed.outcome is Outcome.PASS
    assert (raised.outcome, raised.reason) == (Outcome.FAIL, "ValueError: ? at line 1: f()")
    assert coded.outcome is Outcome.FAIL


@pytest.mark.parametrize(
    "said",
    [
        b'{"closed":"kernel"}\n{"passed":"guess"}\n',
        b'{"passed":"nonce"}\n',
        b'{"closed":"kernel"}\n{"passed":"nonce"}\n{"failed":"x"}\n',
        b'{"closed":"kernel"}\n',
        b"",
        b"\xff\n",
    ],
)
def test_only_the_nonce_after_the_closing_is_a_pass(said: bytes) -> None:
    """And nothing before, between or after."""
    assert execution._read(said, "nonce")[0] is not Outcome.PASS
    assert execution._read(b'{"closed":"k"}\n{"passed":"nonce"}\n', "nonce")[0] is Outcome.PASS
