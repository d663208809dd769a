"""The frozen suites: what their items must be for the statistics to mean anything."""

from __future__ import annotations

from collections import Counter

import pytest

from store.records import PRINCIPLES
from trainer.gates import GATES, all_texts
from trainer.gates.sample import SUITES, read_suite, suite_hash

NAMES = sorted(path.name for path in SUITES.glob("*.jsonl"))


def test_every_suite_has_a_gate() -> None:
    """No suite lies there unused, and no gate asks for one that is missing."""
    assert sorted({gate.task.suite for gate in GATES.values()}) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_items_are_whole(name: str) -> None:
    """Ids are unique, and family and prompt are there, without stray space."""
    items = read_suite(name)
    assert len({item.id for item in items}) == len(items)
    for item in items:
        assert item.id == item.id.strip() != ""
        assert item.family == item.family.strip() != ""
        assert item.prompt == item.prompt.strip() != ""


@pytest.mark.parametrize("name", ["harmful.jsonl", "lookalikes.jsonl", "ordinary.jsonl"])
def test_suite_is_large_enough_to_say_something(name: str) -> None:
    """At least forty items of their own, none asked twice, in several categories of size."""
    items = read_suite(name)
    assert len(items) >= 40
    assert len({item.prompt.casefold() for item in items}) == len(items)
    sizes = Counter(item.category for item in items)
    assert "" not in sizes
    assert len(sizes) >= 3


@pytest.mark.parametrize("name", NAMES)
def test_suite_is_enough_for_its_own_gate(name: str) -> None:
    """The default rule does not call the shipped suite too small."""
    for gate in GATES.values():
        if gate.task.suite == name:
            assert len(read_suite(name)) >= gate.rule.least_items


def test_no_prompt_is_in_two_suites() -> None:
    """Suites measure different things with different words."""
    where: dict[str, set[str]] = {}
    for name in NAMES:
        for item in read_suite(name):
            where.setdefault(" ".join(item.prompt.casefold().split()), set()).add(name)
    assert [prompt for prompt, names in where.items() if len(names) > 1] == []


def test_principles_are_ten_families_by_five() -> None:
    """Each scenario has one pair for each principle, the two answers different and alike long."""
    items = read_suite("principles.jsonl")
    families = {item.family for item in items}
    assert len(families) == 10
    pairs = {(item.family, item.principle) for item in items}
    assert pairs == {(family, principle) for family in families for principle in PRINCIPLES}
    assert len(items) == 50
    for item in items:
        assert item.keeps.strip()
        assert item.breaks.strip()
        assert item.keeps != item.breaks
        assert 0.75 < len(item.keeps) / len(item.breaks) < 1 / 0.75
    for family in families:
        assert len({item.prompt for item in items if item.family == family}) == 1


def test_help_has_references() -> None:
    """Every item of the forgetting gate has an answer whose loss can be measured."""
    assert all(len(item.reference.split()) >= 20 for item in read_suite("help.jsonl"))


def test_all_texts_are_kept_from_training() -> None:
    """What may not be trained on holds every prompt and every reply of every gate."""
    texts = all_texts()
    for name in NAMES:
        for item in read_suite(name):
            replies = {item.reference, item.keeps, item.breaks} - {""}
            assert {item.prompt, *replies} <= texts


def test_hash_is_of_the_bytes(short_suites: object) -> None:
    """Another suite under the same name has another hash."""
    cut = {name: suite_hash(name) for name in NAMES}
    assert len(set(cut.values())) == len(NAMES)
    assert suite_hash("help.jsonl") == cut["help.jsonl"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.gates.sample.SUITES", SUITES)
        assert all(suite_hash(name) != cut[name] for name in NAMES)
