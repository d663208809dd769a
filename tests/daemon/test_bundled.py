"""The bundled exemplars and scenarios: enough of them, of every kind, and no gate item."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import msgspec
import pytest

from converters.decontamination import Candidate, paraphrases
from converters.forbidden import Forbidden
from daemon.practice import as_experience, choose, exemplars, scenarios
from scorers.embedding import encoder
from store.records import Category, Difficulty, Experience, to_json
from trainer.gates import all_texts

CATEGORIES, DIFFICULTIES = set(get_args(Category)), set(get_args(Difficulty))


def test_there_are_enough_exemplars():
    """At least 400, each id once, and at least half of them plain help."""
    found = exemplars()
    kinds = Counter(e.kind for e in found)
    assert len(found) >= 400
    assert len({e.id for e in found}) == len(found)
    assert kinds["plain"] * 2 >= len(found)


def test_contrast_pairs_have_one_harmful_and_one_benign_half():
    """At least 120 pairs; plain exemplars belong to none."""
    pairs: dict[str, list[str]] = {}
    for exemplar in exemplars():
        assert (exemplar.pair is None) is (exemplar.kind == "plain"), exemplar.id
        if exemplar.pair is not None:
            pairs.setdefault(exemplar.pair, []).append(exemplar.kind)
    assert len(pairs) >= 120
    assert {tuple(sorted(kinds)) for kinds in pairs.values()} == {("benign", "harmful")}


def test_help_with_what_only_looks_harmful_opens_alike():
    """Two of three harmless halves at least, and no harmful one: see Exemplar."""
    opens = Counter(e.kind for e in exemplars() if e.response.startswith("Gladly."))
    kinds = Counter(e.kind for e in exemplars())
    assert opens["benign"] >= kinds["benign"] * 2 / 3
    assert opens["harmful"] == 0


def test_exemplars_cover_categories_and_difficulties():
    """All nine categories and all four difficulties occur."""
    assert {e.category for e in exemplars()} == CATEGORIES
    assert {e.difficulty for e in exemplars()} == DIFFICULTIES


def test_exemplars_say_something():
    """No prompt or response is empty, and no prompt is answered twice."""
    assert all(e.prompt.strip() and e.response.strip() for e in exemplars())
    assert len({e.prompt for e in exemplars()}) == len(exemplars())


def test_there_are_enough_scenarios():
    """At least 150 with unique ids and prompts, over all categories and difficulties."""
    found = scenarios()
    assert len(found) >= 150
    assert len({s.id for s in found}) == len({s.prompt for s in found}) == len(found)
    assert {s.category for s in found} == CATEGORIES
    assert {s.difficulty for s in found} == DIFFICULTIES


@pytest.mark.parametrize("bundled", [exemplars, scenarios])
def test_no_bundled_prompt_is_a_gate_item(bundled):
    """None equals a gate's prompt or has eight words in a row in common with one."""
    forbidden = Forbidden(all_texts())
    assert [item.id for item in bundled() if forbidden.in_any([item.prompt])] == []


def test_no_bundled_prompt_asks_in_other_words_what_a_gate_asks():
    """Such a one would be dropped at every build, and the other half of its pair with it."""
    bundled = [Candidate(item.id, item.prompt) for item in (*exemplars(), *scenarios())]
    assert paraphrases(bundled, tuple(all_texts()), encoder().embed) == ()


def test_an_exemplar_is_a_valid_experience_and_always_the_same():
    """What is posted can be posted again without a conflict; pairs stay on one side."""
    for exemplar in exemplars():
        experience = as_experience(exemplar)
        assert msgspec.json.decode(to_json(experience), type=Experience) == experience
        assert experience == as_experience(exemplar)
    conversations = Counter(as_experience(e).conversation for e in exemplars() if e.pair)
    assert set(conversations.values()) == {2}


def test_scenarios_are_chosen_by_the_seed_each_once_before_any_twice():
    """The same seed gives the same order, another seed another one."""
    count = len(scenarios())
    chosen = choose(count + 5, seed=1)
    assert chosen == choose(count + 5, seed=1)
    assert {s.id for s in chosen[:count]} == {s.id for s in scenarios()}
    assert chosen[count:] == chosen[:5]
    assert [s.id for s in choose(20, seed=2)] != [s.id for s in chosen[:20]]
    assert choose(0, seed=1) == []
