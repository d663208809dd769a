"""The self-test's cases are well formed, enough of each kind, and nobody's training data."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, get_args

import pytest

from store.records import Vulnerability

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "scorers" / "data"
FILES = (DATA / "selftest.jsonl", DATA / "known_limits.jsonl")
LEAST = {
    "gold": 40,
    "kind_manipulation": 25,
    "keyword_soup": 12,
    "quoted_harm": 15,
    "negated_harm": 12,
    "lookalike_words": 10,
    "warning": 14,
    "crisis": 14,
    "bad_crisis": 8,
    "honest_unknown": 12,
    "glossy": 12,
    "polite_refusal": 12,
    "good_refusal": 8,
    "multilingual_unicode": 16,
    "injection": 16,
    "long_empty": 9,
    "sarcasm_contempt": 8,
    "sycophancy": 10,
    "blunt_kind": 8,
}
WORDS = {
    "passes",
    "held",
    "harmless",
    "harmful",
    "not:deception",
    "not:harshness",
    "not:omission",
    "not:manipulation",
    "abstains",
    "refusal",
    "no_refusal",
}
CONTRARY = (("passes", "held"), ("harmless", "harmful"), ("refusal", "no_refusal"))
RUN = 8
"""Words in a row that two texts may not share."""


@cache
def cases() -> tuple[dict[str, Any], ...]:
    """Those that must hold and those that are known not to, row by row."""
    lines = "\n".join(path.read_text(encoding="utf-8") for path in FILES).split("\n")
    return tuple(json.loads(line) for line in lines if line)


def response(case: dict[str, Any]) -> str:
    """What was answered, with a repetition written out."""
    said = case["response"]
    if isinstance(said, str):
        return said
    text, times = said["repeat"]
    return str(text * times)


def runs(text: str) -> set[tuple[str, ...]]:
    """All sequences of RUN words."""
    words = re.findall(r"\w+", text.lower().replace("’", "'"))
    return {tuple(words[at : at + RUN]) for at in range(len(words) - RUN + 1)}


def strings(value: object) -> Iterator[str]:
    """Every text within a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def others() -> list[Path]:
    """What a head may have been fitted on, and what a candidate is examined with."""
    return [
        DATA / "principles.jsonl",
        DATA / "counterweights.jsonl",
        *sorted((ROOT / "trainer").rglob("*.jsonl")),
    ]


def test_each_case_has_its_fields() -> None:
    """A mistyped key would be a case that tests nothing."""
    needed = {"id", "family", "prompt", "response", "expect", "why"}
    for case in cases():
        assert needed <= set(case) <= needed | {"vulnerable"}, case["id"]
        assert re.fullmatch(rf"{re.escape(case['family'])}-\d{{3}}", case["id"])
        assert case["prompt"].strip(), case["id"]
        assert re.fullmatch(r"\S.{10,150}[.!]", case["why"]), case["id"]
        assert isinstance(response(case), str)
        if "vulnerable" in case:
            assert case["vulnerable"] in get_args(Vulnerability), case["id"]


def test_ids_are_unique_and_no_case_comes_twice() -> None:
    """A failure is reported by its id."""
    assert len({case["id"] for case in cases()}) == len(cases())
    assert len({(case["prompt"], response(case)) for case in cases()}) == len(cases())


@pytest.mark.parametrize("family", LEAST)
def test_there_are_enough_of_each_family(family: str) -> None:
    """One case is an anecdote."""
    assert Counter(case["family"] for case in cases())[family] >= LEAST[family]


def test_there_is_no_family_besides() -> None:
    """A mistyped family would be counted nowhere."""
    assert {case["family"] for case in cases()} == set(LEAST)
    assert len(cases()) >= 230


def test_expectations_are_of_the_closed_vocabulary() -> None:
    """And no case asks for a thing and its contrary."""
    ids = {case["id"] for case in cases()}
    for case in cases():
        wanted = case["expect"]
        assert wanted, case["id"]
        assert len(set(wanted)) == len(wanted), case["id"]
        for word in wanted:
            if word.startswith("below:"):
                assert word[len("below:") :] in ids - {case["id"]}, case["id"]
            else:
                assert word in WORDS, (case["id"], word)
        assert not any(set(pair) <= set(wanted) for pair in CONTRARY), case["id"]


def test_a_pair_answers_the_same_question() -> None:
    """Otherwise the lower score could be the question's doing."""
    prompts = {case["id"]: case["prompt"] for case in cases()}
    pairs = [
        (case["prompt"], prompts[word[len("below:") :]])
        for case in cases()
        for word in case["expect"]
        if word.startswith("below:")
    ]
    assert len(pairs) >= 5
    assert all(bad == good for bad, good in pairs)


def test_length_does_not_give_the_bad_away() -> None:
    """The typical answer to be held back is about as long as the one that is to pass."""
    passing = [len(response(case).split()) for case in cases() if "passes" in case["expect"]]
    held = [
        len(response(case).split())
        for case in cases()
        if "held" in case["expect"] and case["family"] not in ("long_empty", "injection")
    ]
    assert 0.6 < median(held) / median(passing) < 1.6


def test_no_two_cases_are_near_copies() -> None:
    """Each case is its own: a copy would only count one error twice."""
    seen: dict[tuple[str, ...], str] = {}
    for case in cases():
        for run in runs(response(case)):
            assert seen.setdefault(run, case["id"]) == case["id"], (case["id"], " ".join(run))


@pytest.mark.parametrize("path", others(), ids=lambda path: path.name)
def test_nothing_is_shared_with_fitting_rows_or_suites(path: Path) -> None:
    """A test that was trained on is none; and the suites are examined with other scorers."""
    theirs: set[tuple[str, ...]] = set()
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                for text in strings(json.loads(line)):
                    theirs |= runs(text)
    assert theirs
    for case in cases():
        for text in (case["prompt"], response(case), case["why"]):
            shared = runs(text) & theirs
            assert not shared, (case["id"], " ".join(min(shared)))
