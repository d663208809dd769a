"""No words in a row are shared by two suites, or by a suite and what is learned from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from converters.forbidden import GRAM_WORDS, Forbidden
from daemon.practice import exemplars, scenarios
from trainer import probes
from trainer.gates.sample import SUITES, read_suite

OWN = [
    "arithmetic",
    "hacking",
    "honesty",
    "law_conflicts",
    "nourishment",
    "paraphrase",
    "principles",
    "self_evaluation",
    "sycophancy",
]


def _texts(name: str) -> frozenset[str]:
    return frozenset().union(*(sample.texts() for sample in read_suite(f"{name}.jsonl")))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def _learned_from() -> list[str]:
    parts = Path(str(files("converters.constitution"))) / "parts"
    read = [
        json.loads(line)
        for path in sorted(parts.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    bundled = [text for e in exemplars() for text in (e.prompt, e.response)]
    return [*bundled, *(s.prompt for s in scenarios()), *_strings(read)]


@pytest.mark.parametrize("name", OWN)
def test_shares_no_words_with_what_is_learned_from(name: str) -> None:
    """Not eight in a row with a bundled example, a part of the constitution, or a probe."""
    forbidden = Forbidden(_texts(name))
    others = [*_learned_from(), *probes.texts()]
    assert [text for text in others if forbidden.in_any([text])] == []


@pytest.mark.parametrize("name", OWN)
def test_shares_no_words_with_another_suite(name: str) -> None:
    """Else one would be measured twice, and learning from one would help in the other."""
    forbidden = Forbidden(_texts(name))
    for path in SUITES.glob("*.jsonl"):
        if path.stem != name:
            assert not forbidden.in_any(_texts(path.stem)), path.stem


def test_words_in_a_row_are_found() -> None:
    """The check sees a reply that was woven into another text."""
    reply = read_suite("principles.jsonl")[0].keeps
    woven = " ".join(re.findall(r"\w+", reply)[:GRAM_WORDS])
    assert Forbidden(_texts("principles")).in_any([f"Somebody said: {woven}, and left."])
