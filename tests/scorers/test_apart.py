"""A question to a child process: a large one, one that hangs, one that is stopped."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from scorers import apart
from scorers.apart import ask
from store.errors import ChildFailed, Unavailable
from store.records import Noun


class Text(Noun, frozen=True, kw_only=True):
    """What is asked and answered here."""

    said: str


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes a module of these lines, for a child that is started in its folder."""
    monkeypatch.setattr(apart, "ROOT", tmp_path)

    def make(lines: str) -> str:
        (tmp_path / "told.py").write_text(lines)
        return "told"

    return make


def test_a_question_of_any_size_is_answered(module) -> None:
    """Larger than a pipe holds, both ways."""
    echo = module("import sys; sys.stdout.write(sys.stdin.read())")
    question = Text(said="x" * 1_000_000)
    assert ask(echo, question, Text, seconds=60) == question


def test_a_child_that_does_not_even_read_is_ended(module) -> None:
    """After so many seconds, and nothing waits for it to read."""
    hangs = module("import time; time.sleep(600)")
    with pytest.raises(ChildFailed, match="did not end within 1 s"):
        ask(hangs, Text(said="x" * 1_000_000), Text, seconds=1)


def test_a_child_that_ends_without_an_answer_is_told_with_its_last_words(module) -> None:
    """And its exit code."""
    dies = module("raise SystemExit('no disk')")
    with pytest.raises(ChildFailed, match=r"code 1 and no answer\. no disk"):
        ask(dies, Text(said=""), Text, seconds=60)


def test_stopping_ends_the_child(module) -> None:
    """At once."""
    stop = threading.Event()
    stop.set()
    hangs = module("import time; time.sleep(600)")
    with pytest.raises(Unavailable, match="Stopping"):
        ask(hangs, Text(said=""), Text, seconds=600, stop=stop)
