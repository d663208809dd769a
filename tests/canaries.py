"""A word that no log may hold: the tests' samples speak it, and what was said is searched for it.

Logs name ids, counts and reasons, never what people said, and no key. Searched is what each
daemon said, when it ends, and what each test's own process printed and logged.
"""

from __future__ import annotations

import re

import pytest

WORD = "quillonberry"
"""Occurs nowhere else."""
SENTENCE = f"The {WORD} folds seven ferries before breakfast."
SECRET = f"sk-live-{WORD}-7d1f9c40be25"
"""Has the shape of somebody's API key."""
SPOKEN = re.compile(rf"{WORD}|bhvp?_[0-9a-f]{{12}}_[0-9a-f]+|bhvt_[\w-]{{13,}}")
"""The word, and the texts of keys and feedback tokens; those that the log blotted are shorter."""
LEAK = """
import sys
from daemon.ingest import House
accept = House.accept
def leak(house, item, *others):
    print(item, file=sys.stderr, flush=True)
    return accept(house, item, *others)
House.accept = leak
"""
"""Makes a daemon log what people said: a program for the negative controls to run first."""


def assert_unspoken(said: str) -> None:
    """Fails when something is in it that no log may hold."""
    found = SPOKEN.search(said)
    assert found is None, f"a log holds a canary: {said[max(0, found.start() - 300) : found.end()]}"


def judged(report: pytest.TestReport) -> pytest.TestReport:
    """The report, failed when what the test printed and logged in its phase holds a canary."""
    if report.passed:
        said = [text for name, text in report.sections if name.endswith(report.when)]
        try:
            assert_unspoken("\n".join(said))
        except AssertionError as error:
            report.outcome, report.longrepr = "failed", str(error)
    return report
