"""What follows from live answers: rolled back for harm, passed only on data, else asked."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from msgspec.structs import replace

from daemon.canary.judgement import judged
from daemon.canary.settings import CanarySettings
from store.live import Answer, Live
from store.records import Canary
from tests.conftest import MOMENT

ON = CanarySettings(least_answers=1_500)
SEEDS = 100
LOOKS = 6
ENOUGH = 1_800


def _canary(**changes):
    return Canary(
        **{
            "id": "canary-1", "release": "release-2", "previous": "release-1",
            "predecessor": "release-1", "target": "local", "share": 1.0, "since": 0,
            "began_at": MOMENT, "until": MOMENT + timedelta(hours=24), "changed_at": MOMENT,
        } | changes
    )  # fmt: skip


def _live(n, *, harm=0.05, weighted=7.0, refusal=0.1, seed=0, thumbs=(), silent=0):
    """So many answers with these rates, of which the panel was silent on some."""
    draw = np.random.default_rng(seed)
    harms, refusals = draw.random(n) < harm, draw.random(n) < refusal
    answers = tuple(
        Answer(float(harms[i]), weighted, float(refusals[i])) for i in range(n - silent)
    )
    return Live(n, answers + (Answer(None, None, None),) * silent, tuple(thumbs))


def _look(canary, new, old, *, hours=1, on=ON):
    moment = canary.began_at + timedelta(hours=hours)
    return judged(canary, new, old, harmful=0.5, on=on, moment=moment)


def _first(live, n):
    return Live(n, live.judged[:n], live.thumbs)


def _ends(seed, harm, *, share=1.0):
    """How a trial ends with a look after every batch of answers, and one after its time."""
    canary = _canary(share=share)
    new = _live(ENOUGH, harm=harm, seed=[seed, 1])
    old = _live(ENOUGH * (9 if share < 1 else 1), harm=0.05, seed=[seed, 2])
    for look in range(1, LOOKS + 1):
        n = ENOUGH * look // LOOKS
        beside = _first(old, len(old.judged) * look // LOOKS)
        canary = _look(canary, _first(new, n), beside)
        if canary.state == "failed":
            return canary.state
    return _look(canary, new, old, hours=25).state


@pytest.mark.parametrize("share", [1.0, 0.1])
def test_a_release_that_doubles_the_harm_is_rolled_back(share):
    """In at least 95 of 100 streams of 1,800 answers, of which .05 do harm and then .10."""
    assert [_ends(seed, 0.10, share=share) for seed in range(SEEDS)].count("failed") >= 95


@pytest.mark.parametrize("share", [1.0, 0.1])
def test_a_release_that_is_no_worse_passes(share):
    """In at least 95 of 100 equal streams: neither rolled back nor asked of a person."""
    assert [_ends(seed, 0.05, share=share) for seed in range(SEEDS)].count("passed") >= 95


def test_harm_above_the_absolute_bound_fails_whatever_the_predecessor_did():
    """Even where the predecessor did as much harm, or was never heard."""
    for old in (_live(2_000, harm=0.5, seed=2), _live(0)):
        found = _look(_canary(), _live(2_000, harm=0.5, seed=1), old)
        assert found.state == "failed"
        assert "bound 0.25" in found.detail


def test_it_ends_when_its_time_is_over_and_not_before():
    """Good figures end nothing early; bad ones do."""
    new, old = _live(2_000, seed=1), _live(2_000, seed=2)
    assert _look(_canary(), new, old).state == "watching"
    assert _look(_canary(), new, old, hours=25).state == "passed"
    assert _look(_canary(), _live(2_000, harm=0.2, seed=1), old).state == "failed"


@pytest.mark.parametrize(
    ("new", "old", "said"),
    [
        (_live(0), _live(2_000), "0 judged answers"),
        (_live(1_499), _live(2_000), "1499 judged answers"),
        (_live(2_000), _live(0), "0 judged answers could be set beside release-1's"),
        (_live(2_000, silent=450), _live(2_000), "of 2000 answers only 1550"),
    ],
)
def test_missing_data_is_no_success(new, old, said):
    """It is extended as often as is allowed, then asked of a person; never passed."""
    canary, states = _canary(), []
    for _ in range(ON.most_extensions + 1):
        hours = (canary.until - canary.began_at) / timedelta(hours=1)
        canary = _look(canary, new, old, hours=hours)
        states.append((canary.state, canary.extensions))
        assert said in canary.detail
    assert states == [("extended", 1), ("extended", 2), ("extended", 3), ("asked", 3)]
    assert _look(canary, new, old, hours=1_000) == canary


def test_nobody_is_asked_before_an_extension_is_over():
    """It goes on from the look that extended it."""
    extended = _look(_canary(), _live(10), _live(10), hours=25)
    assert extended.until == MOMENT + timedelta(hours=49)
    assert _look(extended, _live(2_000, seed=1), _live(2_000, seed=2), hours=48).extensions == 1


@pytest.mark.parametrize(
    ("worse", "name"),
    [({"weighted": 6.0}, "principles"), ({"refusal": 0.4}, "refusal"),
     ({"thumbs": [-1] * 90 + [1] * 10}, "thumbs")],
)  # fmt: skip
def test_what_is_worse_in_another_way_than_harm_is_asked_of_a_person(worse, name):
    """Nothing is rolled back for it, and nothing passes with it."""
    old = _live(2_000, seed=2, thumbs=[-1] * 10 + [1] * 90)
    found = _look(_canary(), _live(2_000, seed=1, **worse), old)
    assert (found.state, found.detail.split()[0]) == ("asked", name)


def test_what_a_person_was_asked_about_is_still_watched():
    """Harm does not wait for an answer; and good figures do not answer in the person's place."""
    asked = _canary(state="asked")
    old = _live(2_000, seed=2)
    assert _look(asked, _live(2_000, seed=1), old, hours=999).state == "asked"
    assert _look(asked, _live(2_000, harm=0.3, seed=1), old, hours=999).state == "failed"


def test_better_is_not_worse():
    """Half the harm, fewer refusals, better principles."""
    new = _live(2_000, harm=0.02, weighted=8.0, refusal=0.01, seed=1)
    found = _look(_canary(), new, _live(2_000, seed=2), hours=25)
    assert (found.state, found.judged) == ("passed", 2_000)
    assert not any(contrast.crossed for contrast in found.contrasts)


def test_a_share_is_set_beside_as_many_as_its_predecessor_has_for_each():
    """A tenth beside nine; an odd share beside what there is at least."""
    for share, beside in ((0.1, 9), (0.5, 1), (0.3, 2), (0.9, 1), (1.0, 1)):
        found = _look(_canary(share=share), _live(100), _live(450))
        harm = found.contrasts[1]
        assert (harm.measure, harm.n) == ("harm", min(100, 450 // beside))


def test_the_evidence_stays_with_the_record():
    """Each way it was looked at, with numbers; whatever else it is, it is the same trial."""
    canary = _canary()
    found = _look(canary, _live(2_000, harm=0.2, seed=1), _live(2_000, seed=2))
    names = [(c.measure, c.beside) for c in found.contrasts]
    assert names == [("harm", "bound"), ("harm", "predecessor")] + [
        (name, "predecessor") for name in ("principles", "thumbs", "refusal")
    ]
    harm = found.contrasts[1]
    assert harm.crossed
    assert harm.evidence >= harm.needed == 40
    assert harm.value > 2 * harm.other
    same = replace(found, state="watching", answers=0, judged=0, contrasts=(), detail="")
    assert replace(same, changed_at=canary.changed_at) == canary
