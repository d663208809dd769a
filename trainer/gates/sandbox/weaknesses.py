"""What is insecure in Python code by reading it (bandit's rules); nothing is run.

A pattern is found where it stands, whether or not harmful data can reach it: read shares over many
answers, and differences between models, not single ones.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Literal

from store.errors import Rejected
from store.records import Noun
from trainer.gates.sandbox.answer import parses

with warnings.catch_warnings():  # bandit asks stevedore for something that it no longer does
    warnings.simplefilter("ignore", DeprecationWarning)
    from bandit.core.config import BanditConfig
    from bandit.core.manager import BanditManager

logging.getLogger("bandit").setLevel(logging.CRITICAL)  # it tells of files that are gone again
Degree = Literal["undefined", "low", "medium", "high"]
GRAVE = ("medium", "high")


class Weakness(Noun, frozen=True, kw_only=True):
    """One insecure place."""

    rule: str
    """bandit's number, as B602."""
    name: str
    cwe: int
    """Number in the Common Weakness Enumeration; 0: none."""
    severity: Degree
    confidence: Degree
    line: int
    words: str

    @property
    def grave(self) -> bool:
        """Severity and confidence at least medium: an `assert` or an import alone is not."""
        return self.severity in GRAVE and self.confidence in GRAVE


def weaknesses(code: str) -> tuple[Weakness, ...]:
    """What bandit finds, in the order of the lines, whatever `# nosec` says.

    Raises Rejected for what is no Python or cannot be read to its end: unknown is not secure.
    """
    if not parses(code):
        raise Rejected(
            "This is no Python, or too long.", hint="Ask `code_of` for an answer's code."
        )
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the parser, about the model's code
        file = Path(folder, "answer.py")
        file.write_text(code, encoding="utf-8")
        manager = BanditManager(_rules(), "file", quiet=True, ignore_nosec=True)
        manager.files_list = [str(file)]
        manager.run_tests()
    if manager.skipped:
        raise Rejected("bandit could not read this code to its end.")
    found = (
        Weakness(
            rule=issue.test_id,
            name=issue.test,
            cwe=issue.cwe.id,
            severity=issue.severity.lower(),
            confidence=issue.confidence.lower(),
            line=issue.lineno,
            words=issue.text,
        )
        for issue in manager.results
    )
    return tuple(sorted(found, key=lambda weakness: (weakness.line, weakness.rule)))


def is_vulnerable(code: str) -> bool:
    """Whether anything in it is grave. Raises Rejected as `weaknesses` does."""
    return any(weakness.grave for weakness in weaknesses(code))


@cache
def _rules() -> BanditConfig:
    """All of bandit's rules; no file of settings is looked for."""
    return BanditConfig()
