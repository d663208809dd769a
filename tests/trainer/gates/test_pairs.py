"""The suites of pairs: what two replies must be for a preference between them to mean anything."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from converters.constitution.examples import LawCategory
from store.records import PRINCIPLES, Outcome
from trainer.gates import principles
from trainer.gates.decide import Values, decide
from trainer.gates.sample import Sample, read_suite

PAIRS = ["principles.jsonl", "sycophancy.jsonl", "honesty.jsonl", "law_conflicts.jsonl"]


@pytest.mark.parametrize("name", PAIRS)
def test_replies_are_alike_long(name: str) -> None:
    """Within a tenth by words; those of the first ten scenarios within a quarter."""
    for sample in read_suite(name):
        keeps, breaks = len(sample.keeps.split()), len(sample.breaks.split())
        assert sample.keeps != sample.breaks
        assert 0.9 <= keeps / breaks <= 1 / 0.9, sample.id


@pytest.mark.parametrize("name", PAIRS)
def test_length_does_not_tell_them_apart(name: str) -> None:
    """The shorter reply is the better one in 40 to 60 % of the pairs."""
    samples = read_suite(name)
    shorter = sum(len(sample.keeps) < len(sample.breaks) for sample in samples)
    assert 0.4 <= shorter / len(samples) <= 0.6


def _words(text: str) -> set[str]:
    return set(re.findall(r"[\w']+", text.casefold()))


@pytest.mark.parametrize("name", PAIRS)
def test_no_stock_word_tells_them_apart(name: str) -> None:
    """No word is in more than a quarter of one kind and in less than a twentieth of the other."""
    samples = read_suite(name)
    keeps = Counter(word for sample in samples for word in _words(sample.keeps))
    breaks = Counter(word for sample in samples for word in _words(sample.breaks))
    many, few = 0.25 * len(samples), 0.05 * len(samples)
    for some, others in ((keeps, breaks), (breaks, keeps)):
        assert [w for w, count in some.items() if count > many and others[w] < few] == []


def test_principles_are_ten_scenarios_by_five_and_fifty_more() -> None:
    """The seeds' scenarios have a pair for each principle; of the others each has its own."""
    samples = read_suite("principles.jsonl")
    families = Counter(sample.family for sample in samples)
    assert sorted(families.values()) == [1] * 50 + [5] * 10
    assert Counter(sample.principle for sample in samples) == dict.fromkeys(PRINCIPLES, 20)
    for family, count in families.items():
        own = [sample for sample in samples if sample.family == family]
        assert len({sample.prompt for sample in own}) == 1
        assert len({sample.principle for sample in own}) == count


def test_sycophancy_has_ten_of_each_kind() -> None:
    """Who folds was pressed: an earlier question and answer stand before, and only there."""
    samples = read_suite("sycophancy.jsonl")
    kinds = Counter(sample.category for sample in samples)
    assert kinds == {"wrong-claim": 10, "flatters": 10, "folds": 10}
    for sample in samples:
        roles = [message.role for message in sample.earlier]
        assert roles == (["user", "assistant"] if sample.category == "folds" else [])


def test_honesty_has_six_of_each_kind() -> None:
    """False premises, what is not known, what is not sure, and what the model cannot do."""
    kinds = Counter(sample.category for sample in read_suite("honesty.jsonl"))
    assert kinds == dict.fromkeys(("false-premise", "unknown", "unsure", "overclaiming"), 6)


def test_law_conflicts_name_the_higher_law_first() -> None:
    """Each category is a law over another that the constitution puts below it."""
    for sample in read_suite("law_conflicts.jsonl"):
        found = re.fullmatch(r"law-(\d)-over-law-(\d)", sample.category)
        assert found is not None
        higher, lower = (LawCategory(int(number)) for number in found.groups())
        assert higher.goes_before(lower), sample.id


def _losses(sample: Sample, margin: float) -> dict[str, float]:
    return {"keeps": 3.0, "breaks": 3.0 + margin}


def _values(margins: dict[str, float]) -> Values:
    samples = read_suite("principles.jsonl")
    gate = principles.GATE
    base = {s.id: gate.score(s, _losses(s, 0.1)) for s in samples}
    candidate = {s.id: gate.score(s, _losses(s, margins.get(s.principle, 0.3))) for s in samples}
    return {"base": base, "candidate": candidate}


def test_a_collapsed_principle_fails_though_the_mean_is_better() -> None:
    """Four principles gain and one loses: the gate names it."""
    samples = read_suite("principles.jsonl")
    values = _values({"karuna": -0.1})
    verdict = decide("principles", principles.GATE, principles.GATE.rule, samples, values)
    assert verdict.comparisons[0].difference > 0
    assert verdict.outcome is Outcome.FAIL
    assert "karuna" in verdict.reason


def test_a_better_candidate_passes() -> None:
    """Every principle gains a little."""
    samples = read_suite("principles.jsonl")
    verdict = decide("principles", principles.GATE, principles.GATE.rule, samples, _values({}))
    assert verdict.outcome is Outcome.PASS
