"""Counts for curators, as the database gives them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from store import counts, experiences, privacy, reviews, tags
from store.counts import Cell, Counts
from store.records import Context, Feedback, Review, Tagging, new_id

PANEL = "panel-1"
MOMENT = datetime(2026, 1, 2, tzinfo=UTC)


def _review(store, name, decision):
    review = Review(
        id=new_id("review"),
        experience_id=name,
        decision=decision,
        reason="So it is.",
        reviewer="anna",
        reviewed_at=MOMENT,
    )
    reviews.record(store, review, actor="test")


@pytest.fixture
def full(store, make_experience, make_assessment):
    """Five experiences of three kinds, three of them judged, one of these by another panel."""
    hard, easy = (Context(category="truth", difficulty=d) for d in ("hard", "easy"))
    contexts = (hard, hard, hard, easy, Context())
    experiences.record(
        store, [make_experience(f"e-{n}", context=c) for n, c in enumerate(contexts, 1)]
    )
    experiences.assess(
        store,
        [
            make_assessment("e-1", weighted=9.0),
            make_assessment("e-2", weighted=7.0),
            make_assessment("e-3", weighted=9.0, panel="other"),
            make_assessment("e-4", weighted=None),
        ],
    )
    return store


def test_by_category_and_difficulty(full):
    """With the labels of this panel; what has no name comes last."""
    truth = {"category": "truth"}
    expected = [
        Cell(**truth, difficulty="easy", experiences=1, excellent=0, good=0),
        Cell(**truth, difficulty="hard", experiences=3, excellent=1, good=1),
        Cell(category=None, difficulty=None, experiences=1, excellent=0, good=0),
    ]
    assert counts.by_category(full, PANEL) == expected
    assert counts.by_category(full, "never")[1].excellent == 0


def test_of_each_kind(full):
    """The newest decision on each counts; what was erased does not."""
    _review(full, "e-1", "accept")
    _review(full, "e-1", "reject")
    _review(full, "e-2", "accept")
    for name in ("e-1", "e-3"):
        tagging = Tagging(
            id=new_id("t"), experience_id=name, tag="b", on=True, reviewer="a", tagged_at=MOMENT
        )
        tags.record(full, tagging, actor="test")
    thumb = Feedback(id="f", kind="thumb", value=1, experience_id="e-1", given_at=MOMENT)
    experiences.give_feedback(full, [thumb], actor="test")
    assert counts.counts(full, PANEL) == Counts(
        sources={"web": 5},
        labels={"abstained": 1, "excellent": 1, "good": 1},
        feedback={"thumb": 1},
        decisions={"accept": 1, "reject": 1},
        tags={"b": 2},
    )
    privacy.erase(full, "experience", "e-1", reason="asked", actor="test")
    assert counts.counts(full, PANEL) == Counts(
        sources={"web": 4},
        labels={"abstained": 1, "good": 1},
        feedback={},
        decisions={"accept": 1},
        tags={"b": 1},
    )
