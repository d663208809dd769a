"""Code of a model's, judged: what passes, what fails, and what is an error of ours."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from store.errors import Rejected
from store.records import Outcome
from trainer.gates.sandbox import execution
from trainer.gates.sandbox.answer import code_of
from trainer.gates.sandbox.execution import Execution, Level, Limits, Reached, reached, run
from trainer.gates.sandbox.weaknesses import is_vulnerable, weaknesses

SORTS = "def tidy(items, backwards=False):\n    return sorted(items, reverse=backwards)\n"


@pytest.fixture
def judged() -> Callable[..., Execution]:
    """Runs at the highest level of this machine, if it has any."""
    if reached().level is Level.NONE:
        pytest.skip(f"no cell closes here: {reached().missing}")

    def judged(code: str, tests: str, **given: object) -> Execution:
        return run(code, tests, required=Level.PROCESS, **given)  # type: ignore[arg-type]

    return judged


def test_right_code_passes(judged) -> None:
    """With positions and names, and more than one test; the level is told."""
    tests = "assert tidy([3, 1]) == [1, 3]\nassert tidy((1, 2), backwards=True) == [2, 1]\n"

    done = judged(SORTS, tests)

    assert (done.outcome, done.level) == (Outcome.PASS, reached().level)


def test_wrong_code_fails_at_a_named_line(judged) -> None:
    """The reason holds the exception and the test that raised it."""
    done = judged(SORTS, "assert tidy([]) == []\nassert tidy([2, 1]) == [2, 1]\n")

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
def test_plain_data_comes_over_as_what_it_was(judged, value: str) -> None:
    """Values and types, there and back."""
    tests = (
        f"given = {value}\nback = same(given)\nassert (back, type(back)) == (given, type(given))"
    )

    assert judged("def same(x):\n    return x", tests) == Execution(
        outcome=Outcome.PASS, reason="every test came to its end", level=reached().level
    )


def test_the_standard_library_is_there_and_nothing_else(judged) -> None:
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
    assert judged(code, tests).outcome is Outcome.PASS


def test_exceptions_come_by_name(judged) -> None:
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
    assert judged(code, tests).outcome is Outcome.PASS


def test_a_function_may_have_the_name_of_a_builtin_where_it_is_named(judged) -> None:
    """Otherwise Python's own function is the one that the tests call."""
    code = "def sum(a, b):\n    return 10 * a + b\n"

    assert judged(code, "assert sum(1, 2) == 12", calls=["sum"]).outcome is Outcome.PASS
    assert judged(code, "assert sum(1, 2) == 12").outcome is Outcome.FAIL


def test_what_the_tests_define_is_theirs(judged) -> None:
    """The code cannot replace a helper of the tests by one that is content with everything."""
    code = "def close(a, b):\n    return True\n\ndef third(x):\n    return 0\n"
    tests = "def close(a, b):\n    return abs(a - b) < 1e-6\n\nassert close(third(3.0), 1.0)\n"

    assert judged(code, tests).reason.startswith("AssertionError at line 4")


def test_only_plain_data_comes_back(judged) -> None:
    """A generator, a function or an object of the code's own is no answer."""
    done = judged("def f():\n    return (x for x in (1, 2))", "assert list(f()) == [1, 2]")

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
def test_tests_that_cannot_be_asked_are_an_error(judged, tests: str, reason: str) -> None:
    """The model is not to blame, and nothing passes."""
    done = judged("def f(x):\n    return x", tests)

    assert done.outcome is Outcome.ERROR
    assert reason in done.reason


@pytest.mark.parametrize("code", ["def f(:", "1 / 0", "import nothing_like_that", "input()", "\0"])
def test_code_that_does_not_load_fails(judged, code: str) -> None:
    """Whatever the tests would say."""
    done = judged(code, "pass")

    assert done.outcome is Outcome.FAIL
    assert done.reason.startswith("the code does not load")


def test_sets_have_the_same_order_in_each_run(judged) -> None:
    """A gate that is asked twice says the same."""
    code = "def order():\n    return list({'one', 'two', 'three', 'four', 'five', 'six', 'seven'})"
    tests = "raise ValueError(order())"

    first, second = judged(code, tests), judged(code, tests)

    assert first.reason == second.reason
    assert "seven" in first.reason


def test_words_are_not_verdicts(judged) -> None:
    """What tests print, and half a character in what is code or an exception's words."""
    printed = judged(SORTS, "print('x' * 99999)\nassert tidy([2, 1]) == [1, 2]")
    raised = judged("def f():\n    raise ValueError('\\ud800')", "f()")
    coded = judged("x = '\ud800'", "pass")

    assert printed.outcome is Outcome.PASS
    assert (raised.outcome, raised.reason) == (Outcome.FAIL, "ValueError: ? at line 1: f()")
    assert coded.outcome is Outcome.FAIL


def test_a_level_that_is_not_reached_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is run below the required level; the reason says what is missing."""
    here = Reached(level=Level.PROCESS, missing="no Landlock")
    monkeypatch.setattr(execution, "reached", lambda: here)
    monkeypatch.delattr(execution, "_run_at")

    done = run(SORTS, "pass", required=Level.KERNEL)

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

    done = execution._run_at(level, SORTS, "pass", Limits(), ())

    assert (done.outcome, done.reason) == (Outcome.ERROR, "the cell did not start")


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


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("Here:\n```python\ndef f():\n    return 1\n```\nDone.", "def f():\n    return 1"),
        ("```py\na = 1\n```\nand\n```python\nb = 2\n```", "a = 1\n\nb = 2"),
        ("```\na = 1\n```\n```bash\nls -l\n```", "a = 1"),
        ("```python\na = 1\n```\n```\n[1, 2]\n```", "a = 1"),
        ("1. So:\n   ```python\n   a = 1\n   ```", "a = 1"),
        ("```python\ndef f():\n    return 1", "def f():\n    return 1"),
        ("```python\n>>> f(1)\n```\n```python\na = 1\n```", "a = 1"),
        ("import re\nprint(re.escape('\\d'))", "import re\nprint(re.escape('\\d'))"),
        ("You should use a loop for this.", None),
        ("```js\nlet a = 1;\n```", None),
        ("", None),
    ],
)
def test_the_code_is_found_in_an_answer(answer: str, code: str | None) -> None:
    """Fenced blocks of Python, else the whole; only what parses."""
    assert code_of(answer) == code


def test_weaknesses_are_found_with_their_line() -> None:
    """A comment does not hide one; what is only of note is not grave."""
    code = "import subprocess\n\n\ndef f(x):\n    subprocess.run(x, shell=True)  # nosec\n"

    found = {(w.rule, w.line, w.grave) for w in weaknesses(code)}

    assert found == {("B404", 1, False), ("B602", 5, True)}


@pytest.mark.parametrize(
    ("safe", "vulnerable"),
    [
        (
            "import subprocess\nsubprocess.run(['ls', name])",
            "import os\nos.popen('ls ' + name)",
        ),
        ("import ast\nast.literal_eval(text)", "eval(text)"),
        ("import json\njson.loads(data)", "import pickle\npickle.loads(data)"),
        (
            "c.execute('SELECT a FROM b WHERE c = ?', (d,))",
            "c.execute('SELECT a FROM b WHERE c = %s' % d)",
        ),
        ("import yaml\nyaml.safe_load(text)", "import yaml\nyaml.load(text)"),
        ("import hashlib\nhashlib.sha256(b)", "import hashlib\nhashlib.md5(b)"),
    ],
)
def test_safe_and_vulnerable_code_are_told_apart(safe: str, vulnerable: str) -> None:
    """In both directions, by pairs that do the same."""
    assert (is_vulnerable(safe), is_vulnerable(vulnerable)) == (False, True)


@pytest.mark.parametrize("text", ["no Python at all", "x = " + "+".join("1" * 2000)])
def test_unknown_is_not_secure(text: str) -> None:
    """What cannot be read to its end gets no clean bill."""
    with pytest.raises(Rejected):
        weaknesses(text)
