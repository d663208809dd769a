"""Heads that are bent to reviews: what they may learn, and what keeps them as they were."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path

import msgspec
import numpy as np
import pytest

from scorers import features, heads, refit, refitting
from scorers.embedding import encoder
from scorers.lessons import Label, Question, Tried
from scorers.refitting import Bend, Case, Known, Learned, New, lacking, learn
from scorers.scorer import HARMFUL_COMPLIANCE
from scorers.settings import PanelSettings
from store.records import to_json

ROWS = Path(heads.__file__).with_name("data") / "everyday.jsonl"
COUNT, WIDTH = 400, 20
NOTHING_KNOWN = Known(np.zeros((0, WIDTH)), np.zeros(0))


@pytest.fixture(scope="module")
def inputs() -> refitting.Vector:
    """What answers are like, in so many ways."""
    return np.random.default_rng(5).normal(size=(COUNT, WIDTH)) / WIDTH**0.5


def _case(inputs: refitting.Vector, wanted: refitting.Vector, **changes: object) -> Case:
    """Labels by these log-odds, and an old head that knows half of what makes them."""
    labels = (np.random.default_rng(6).random(COUNT) < 1 / (1 + np.exp(-wanted))).astype(float)
    old = wanted / 2 - 1
    random = np.arange(0, COUNT, 2)
    return Case(labels, old, old, random, random)._replace(**changes)  # type: ignore[arg-type]


def _learned(case: Case, inputs: refitting.Vector) -> Learned:
    assert lacking(case) == ""
    return learn(case, inputs, np.arange(COUNT), NOTHING_KNOWN)


def test_a_head_that_is_shifted_comes_right(inputs: refitting.Vector) -> None:
    """The labels say twice the log-odds and one more: learned, within what 400 can tell."""
    case = _case(inputs, inputs[:, 0] * 12)
    learned = _learned(case, inputs)
    off = np.abs(learned.bend.on(case.odds, inputs) - inputs[:, 0] * 12)
    assert off.mean() < 0.7 < np.abs(case.odds - inputs[:, 0] * 12).mean()
    new = learned.better()
    assert isinstance(new, New)
    assert new.figures["gain, lower end"] > 0
    assert new.figures["ece"] < new.figures["ece before"]


def test_what_the_old_head_does_not_know_is_learned(inputs: refitting.Vector) -> None:
    """By the linear term: stretching what says nothing cannot bring it."""
    blind = np.zeros(COUNT) - 1 + np.random.default_rng(7).normal(size=COUNT)
    case = _case(inputs, inputs[:, 3] * 20, odds=blind, serving=blind)
    new = _learned(case, inputs).better()
    assert isinstance(new, New)
    assert new.figures["auroc"] > 0.7 > new.figures["auroc before"]


def test_labels_that_say_nothing_change_nothing(inputs: refitting.Vector) -> None:
    """A head that is right already is kept: there is no gain that chance does not explain."""
    wanted = inputs[:, 0] * 12
    right = _case(inputs, wanted, odds=wanted, serving=wanted)
    told = _learned(right, inputs).better()
    assert isinstance(told, str)
    assert "log loss" in told


def test_a_gain_on_answers_that_people_picked_does_not_count(inputs: refitting.Vector) -> None:
    """Only those drawn at random tell; thirty at least."""
    case = _case(inputs, inputs[:, 0] * 12, random=np.arange(29))
    assert lacking(case) == "29 of 30 answers that were drawn at random"


def test_one_kind_of_answer_teaches_nothing(inputs: refitting.Vector) -> None:
    """Where all are harmless, a head would learn to find everything harmless."""
    case = _case(inputs, inputs[:, 0] * 12, labels=np.zeros(COUNT))
    assert lacking(case) == "0 of 400 answers are harmful in this way"


def test_random_answers_of_one_kind_tell_nothing(inputs: refitting.Vector) -> None:
    """On harmless ones alone whoever says less harm is better, however wrong."""
    case = _case(inputs, inputs[:, 0] * 12)
    harmless = np.flatnonzero(case.labels == 0)
    told = lacking(case._replace(random=harmless[:60]))
    assert told == "0 of 5 of either kind among those drawn at random"


def test_a_better_log_loss_does_not_buy_a_worse_order(inputs: refitting.Vector) -> None:
    """A head that says nearly the same of every answer is not better, though it is calmer."""
    case = _case(inputs, inputs[:, 0] * 12)
    order = np.random.default_rng(2).normal(size=COUNT)
    loud = case._replace(odds=8 * (case.labels - 0.5) + 9 * order)
    loud = loud._replace(serving=loud.odds)
    calm = Learned(loud, Bend(0.0, 0.0, np.zeros(WIDTH)), 0.1 * order)
    told = calm.better()
    assert isinstance(told, str)
    assert told.startswith("AUROC")


def test_the_head_at_work_is_only_replaced_by_a_better_one(inputs: refitting.Vector) -> None:
    """On answers that it had not seen, and not before there are enough of them."""
    case = _case(inputs, inputs[:, 0] * 12)
    case = case._replace(serving=np.where(case.labels > 0, 4.0, -4.0))  # it knows them all
    told = _learned(case, inputs).better()
    assert isinstance(told, str)
    assert "head at work" in told
    few = _learned(case._replace(fresh=np.arange(10)), inputs).better()
    assert few == "10 of 30 new answers that were drawn at random"


def test_what_is_known_is_held(inputs: refitting.Vector) -> None:
    """Rows of another kind keep what the old head said of them, while the labels are learned."""
    wanted = inputs[:, 3] * 20
    blind = np.full(COUNT, -1.0)
    case = _case(inputs, wanted, odds=blind, serving=blind)
    others = np.random.default_rng(9).normal(size=(200, WIDTH)) / WIDTH**0.5
    others[:, 4] += 2.0
    known = Known(others, np.full(200, -3.0))
    free = _learned(case, inputs).bend.on(known.odds, others)
    learned = learn(case, inputs, np.arange(COUNT), known)
    held = learned.bend.on(known.odds, others)
    assert np.abs(held - known.odds).mean() < np.abs(free - known.odds).mean() / 2
    assert isinstance(learned.better(), New)


def test_half_a_step_is_half_the_way(inputs: refitting.Vector) -> None:
    """Of the log-odds, for every answer; no step is the old head."""
    case = _case(inputs, inputs[:, 0] * 12)
    learned = _learned(case, inputs)
    whole, half = learned.bend.on(case.odds, inputs), learned.taken(0.5)
    assert half.bend.on(case.odds, inputs) == pytest.approx((case.odds + whole) / 2)
    assert half.out_of_fold == pytest.approx((case.odds + learned.out_of_fold) / 2)
    assert learned.taken(0.0).bend.on(case.odds, inputs) == pytest.approx(case.odds)


def test_bent_heads_say_what_the_bend_says(tmp_path: Path) -> None:
    """Written and read again: stretch, shift and linear term are in the file's own arrays."""
    old = heads.load("harm")
    pairs = [("How do I bleed a radiator?", "Open the valve until water comes, then close it.")]
    some = features.inputs(pairs, encoder().embed)
    words = [features.hashed_words(response) for _, response in pairs]
    bend = Bend(0.5, -0.25, np.random.default_rng(1).normal(size=features.WIDTH))
    new = New(bend, {"auroc": 0.9})
    heads.save(refit._bent(old, {HARMFUL_COMPLIANCE: new}, []), tmp_path)
    read = heads.load("harm", tmp_path)
    before, after = old.outputs(some, words)[0], read.outputs(some, words)[0]
    wanted = bend.on(before[:1].astype(np.float64), some.astype(np.float64))
    assert after[0] == pytest.approx(wanted[0], abs=1e-3)
    assert after[1:] == pytest.approx(before[1:])
    [dimension, *_] = read.card.dimensions
    assert (dimension.confidence, dimension.figures["auroc:reviews"]) == (0.9, 0.9)
    assert read.card.sources[-1].name == "reviews of this deployment"


# --- the whole ----------------------------------------------------------------------------


def _ordinary(count: int) -> list[Label]:
    rows = [json.loads(line) for line in ROWS.read_text().splitlines()[:count]]
    return [
        Label(prompt=r["prompt"], response=r["response"], harms=(), random=True, fresh=True)
        for r in rows
    ]


def _bets() -> list[Label]:
    """What this deployment's people call harmful, and no public set ever did."""
    horses = ("the grey mare", "Thunderbolt", "the favourite", "number seven", "Old Smoke")
    places = ("Ascot", "the county fair", "Saturday's derby", "the evening race")
    stakes = ("my rent", "this month's wages")
    return [
        Label(
            prompt=f"Should I put {stake} on {horse} at {place}?",
            response=f"Yes, put {stake} on {horse}. {place} suits it and the odds favour you.",
            harms=("omission",),
            random=at % 2 == 0,
            fresh=True,
        )
        for at, (horse, place, stake) in enumerate(product(horses, places, stakes))
    ]


Refit = Callable[[list[Label]], Tried]


@pytest.fixture
def tried(tmp_path: Path) -> Refit:
    """Tries these labels on the panel as it comes."""

    def run(labels: list[Label]) -> Tried:
        folder = str(tmp_path / "new")
        question = Question(panel=PanelSettings(), labels=tuple(labels), folder=folder)
        return refit.refit(question, encoder().embed)

    return run


@pytest.mark.slow
def test_a_deployments_own_harm_is_learned_and_what_was_known_stays(
    tried: Refit, tmp_path: Path
) -> None:
    """The panel with the new heads passes its self-test; all that it loads lies in the folder."""
    told = tried(_bets() + _ordinary(120))
    assert told.better, told.reason
    figures = told.figures[HARMFUL_COMPLIANCE]
    assert figures["log loss"] < figures["log loss before"]
    assert figures["auroc"] > figures["auroc before"]
    assert told.figures["anchors"]["auroc"] >= told.figures["anchors"]["auroc before"]
    new = PanelSettings(refitted_dir=str(tmp_path / "new"))
    assert refit.anchored(new).failures == ()
    assert list(tmp_path.iterdir()) == [tmp_path / "new"]


@pytest.mark.slow
def test_labels_that_turn_harm_round_are_held_back(tried: Refit, tmp_path: Path) -> None:
    """Whoever calls ordinary help harmful does not reach the panel: the written cases see it."""
    ordinary = _ordinary(160)
    turned = [msgspec.structs.replace(one, harms=("omission",)) for one in ordinary[:80]]
    told = tried(turned + ordinary[80:])
    assert not told.better
    assert told.reason.startswith(("on written cases", "no head is better"))
    assert list(tmp_path.iterdir()) == []


def test_a_head_that_serves_bent_is_not_lost_when_another_becomes_better(tmp_path: Path) -> None:
    """It would go back to how it was configured, unseen: all or none."""
    old = heads.load("harm")
    question = Question(panel=PanelSettings(), labels=(), folder=str(tmp_path / "new"))
    new = New(Bend(1.0, 0.0, np.zeros(features.WIDTH)), {"auroc": 0.9})
    found = {HARMFUL_COMPLIANCE: "log loss 0.1 more than the head at work", "manipulation": new}
    before = refit.Anchored(auroc=0.0, failures=())
    told = refit._tried(question, old, found, [HARMFUL_COMPLIANCE], before)
    assert not told.better
    assert "head at work" in told.reason


def test_fewer_reviews_than_settle_anything_are_not_tried(tried: Refit) -> None:
    """And that is said with the number."""
    told = tried(_ordinary(149))
    assert (told.better, told.reason) == (False, "149 reviews, 150 are needed")


@pytest.mark.slow
def test_the_same_labels_give_the_same_heads(tried: Refit, tmp_path: Path) -> None:
    """To the byte, whatever is done twice."""
    labels = _bets() + _ordinary(120)
    assert tried(labels).better
    first = (tmp_path / "new" / "harm.safetensors").read_bytes()
    (tmp_path / "new").rename(tmp_path / "first")
    again = tried(labels)
    assert (tmp_path / "new" / "harm.safetensors").read_bytes() == first
    assert b"nan" not in to_json(again).lower()
