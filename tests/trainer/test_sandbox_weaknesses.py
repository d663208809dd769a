"""The code in an answer, and what is insecure in it; nothing is run."""

from __future__ import annotations

import pytest

from store.errors import Rejected
from trainer.gates.sandbox.answer import code_of
from trainer.gates.sandbox.weaknesses import is_vulnerable, weaknesses


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
