"""Too few experiences: the error says where they went and which threshold would help."""

from __future__ import annotations

import random
import re

import msgspec
import pytest

from store.errors import NotEnoughData
from store.records import Label, Policy
from tests.converters.selecting import require_enough, select

OFFER = re.compile(r"policy\.(min_weighted|max_harm) = (\d+(?:\.\d+)?)")
LOOSEST = {"max_harm": 1.0, "min_weighted": 0.0}
SEEDS = (0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5)))


def few_of(sweep):
    """The sweep, of which a usual run takes every fifth."""
    return [
        n if at % 5 == 0 else pytest.param(n, marks=pytest.mark.slow) for at, n in enumerate(sweep)
    ]


def _short(items, policy):
    """The error that says that the policy admits too few of these."""
    with pytest.raises(NotEnoughData) as caught:
        require_enough(items, policy)
    return caught.value


def _offers(error):
    return [(key, float(value)) for key, value in OFFER.findall(error.hint)]


def _relaxed(policy, key, value):
    """The policy with the offered value; a value out of bounds fails here."""
    changed = msgspec.structs.replace(policy, **{key: value})
    return msgspec.convert(msgspec.to_builtins(changed), Policy)


def test_enough_is_enough(make_assessed):
    """Nothing is raised when exactly as many are selected as are asked for."""
    items = [make_assessed(f"e-{i}") for i in range(5)]
    policy = Policy(min_examples=5)
    require_enough(items, policy)


def test_an_empty_store_says_that_nothing_matches():
    """With nothing recorded the message says so, and the hint asks for experiences."""
    error = _short([], Policy(min_examples=5))
    assert error.message == "no experiences match, 5 are asked for: 0 recorded."
    assert "Post more experiences with consent" in error.hint


def test_an_empty_selection_says_where_the_experiences_went(make_assessed):
    """The message names how many each step dropped."""
    items = [
        *(make_assessed(f"silent-{i}", training=False) for i in range(2)),
        *(make_assessed(f"harm-{i}", harm=0.4) for i in range(3)),
        make_assessed("low", weighted=6.2),
    ]
    error = _short(items, Policy(min_examples=3))
    assert error.message.startswith("no experiences match, 3 are asked for: 6 recorded")
    for part in ("2 without consent", "3 over max harm", "1 under min weighted"):
        assert part in error.message


def test_a_small_selection_says_how_many_match(make_assessed):
    """When some match, the message says how many of how many."""
    error = _short([make_assessed("a"), make_assessed("b")], Policy(min_examples=3))
    assert error.message.startswith("2 match, 3 are asked for: 2 recorded")


@pytest.mark.parametrize("hundredths", few_of(range(1, 100, 9)))
def test_the_offered_harm_bound_admits_experiences_at_any_harm(make_assessed, hundredths):
    """Harm must be below the bound, so the offer lies above it, whatever the rounding."""
    items = [make_assessed(f"e-{i}", harm=hundredths / 100) for i in range(2)]
    policy = Policy(min_examples=2, max_harm=0.0)
    [(key, value)] = _offers(_short(items, policy))
    assert len(select(items, _relaxed(policy, key, value)).chosen) == 2


@pytest.mark.parametrize("hundredths", few_of(range(600, 1000, 41)))
def test_the_offered_score_admits_experiences_at_any_score(make_assessed, hundredths):
    """The score may be at the bound, so the offer lies at or below it, whatever the rounding."""
    items = [make_assessed(f"e-{i}", weighted=hundredths / 100) for i in range(2)]
    policy = Policy(min_examples=2, min_weighted=10.0)
    [(key, value)] = _offers(_short(items, policy))
    assert len(select(items, _relaxed(policy, key, value)).chosen) == 2


def test_no_threshold_is_offered_that_the_configuration_would_refuse(make_assessed):
    """Harm of 1 is never below a bound of at most 1, so no bound above 1 is offered for it."""
    items = [make_assessed(f"e-{i}", harm=1.0) for i in range(2)]
    policy = Policy(min_examples=2)
    for key, value in _offers(_short(items, policy)):
        assert len(select(items, _relaxed(policy, key, value)).chosen) == 2


def _crowd(make_assessed, seed, *, plain):
    """Experiences as they come; plain ones differ in harm and score only."""
    draw = random.Random(seed)
    crowd = []
    for i in range(120):
        others = {}
        if not plain:
            same = draw.randrange(i) if i and draw.random() < 0.2 else i
            others = {
                "prompt": f"What is {same}?",
                "response": f"It is {same}.",
                "source": draw.choice(["web", "practice"]),
                "training": draw.random() < 0.9,
                "refusal": float(draw.random() < 0.5),
                "abstained": ("karuna",) if draw.random() < 0.1 else (),
            }
        harm, weighted = draw.betavariate(1, 4), draw.uniform(4, 10)
        crowd.append(make_assessed(f"e-{i:03}", harm=harm, weighted=weighted, **others))
    return crowd


def _admitted(items, policy, key, value):
    return len(select(items, _relaxed(policy, key, value)).chosen)


def _check_offers(items, policy):
    """Only thresholds that can help are offered, at least one where one can, and it does help."""
    offers = dict(_offers(_short(items, policy)))
    wanted = policy.min_examples
    helpful = {
        key for key, loosest in LOOSEST.items() if _admitted(items, policy, key, loosest) >= wanted
    }
    assert offers.keys() <= helpful
    assert bool(offers) == bool(helpful)
    for key, value in offers.items():
        admitted = _admitted(items, policy, key, value)
        assert admitted >= wanted, f"{key} = {value} admits {admitted}"
    return offers


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("wanted", [8, 12, 60])
def test_the_offered_threshold_admits_enough(make_assessed, seed, wanted):
    """Where only harm and score decide, an offer gives as many as were asked for, and is near."""
    policy = Policy(min_examples=wanted, max_harm=0.05, min_weighted=9.0, labels=tuple(Label))
    items = _crowd(make_assessed, seed, plain=True)
    for key, value in _check_offers(items, policy).items():
        nearer = value + 0.02 if key == "min_weighted" else value - 0.02
        assert _admitted(items, policy, key, nearer) < wanted


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("wanted", [8, 12, 60])
def test_an_offer_counts_labels_repeats_and_caps(make_assessed, seed, wanted):
    """No threshold is offered that labels, repeats, practice or refusals would undo."""
    policy = Policy(min_examples=wanted, max_harm=0.05, min_weighted=9.0)
    _check_offers(_crowd(make_assessed, seed, plain=False), policy)
