"""The Python code in what a model answered."""

from __future__ import annotations

import ast
import re
import textwrap
import warnings

_BLOCK = re.compile(
    r"^[ \t]*(?P<fence>`{3,}|~{3,})[ \t]*(?P<language>[\w+.-]*)[^\n]*\n"
    r"(?P<code>.*?)"
    r"(?:^[ \t]*(?P=fence)[ \t]*$|\Z)",  # an answer that was cut off closes no fence
    re.MULTILINE | re.DOTALL,
)
_PYTHON = ("python", "py", "python3")
MOST_CHARACTERS = 65_536
"""Of code that is looked at: a parser may fail badly at what is longer."""


def code_of(answer: str) -> str | None:
    """The fenced blocks of Python, one below the other, or the whole answer if it is Python.

    Blocks that name no language count where none names Python. What does not parse is left out, so
    the result always parses; None where nothing is left. Prose of one word parses, too.
    """
    blocks = [(m["language"].lower(), m["code"]) for m in _BLOCK.finditer(answer)]
    named = [code for language, code in blocks if language in _PYTHON]
    candidates = named or [code for language, code in blocks if not language]
    if not blocks:
        candidates = [answer]
    found = [code for code in map(_flush, candidates) if code.strip() and parses(code)]
    return "\n\n".join(found) if found else None


def parses(code: str) -> bool:
    """Whether it is Python; a text of unusual length or depth is not."""
    if len(code) > MOST_CHARACTERS:
        return False
    with warnings.catch_warnings():  # of unknown escapes, say: the model's fault, and its own
        warnings.simplefilter("ignore")
        try:
            ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False
    return True


def _flush(code: str) -> str:
    """Without the indent that all lines share, as a block in a list has it."""
    return textwrap.dedent(code).strip("\n")
