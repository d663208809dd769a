"""Refits: which heads are at work, and where what people said went."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from store import experiences, privacy, refits
from store.errors import Busy, Conflict
from store.records import Refit
from store.verify import verify

MOMENT = datetime(2026, 1, 2, tzinfo=UTC)


def _refit(name, **changes):
    return Refit(
        **{
            "id": name,
            "outcome": "promoted",
            "reason": "better on all",
            "serves": f"heads-{name}",
            "stands_on": "0",
            "reviews": 40,
            "random": 10,
            "labels_digest": "0",
            "figures": {"heldout": {"auroc": 0.9}},
            "finished_at": MOMENT,
        }
        | changes
    )


def test_the_newest_refit_says_what_is_at_work(store):
    """None before the first; one that was held back names what goes on serving."""
    assert refits.last(store) is None
    refits.record(store, _refit("r-1"))
    held = _refit("r-2", outcome="held_back", serves="heads-r-1")
    refits.record(store, held)
    assert refits.last(store) == held


def test_a_repeated_refit_is_a_duplicate(store):
    """And another under its id a conflict."""
    statuses = [refits.record(store, _refit("r-1")).status for _ in range(2)]
    assert statuses == ["recorded", "duplicate"]
    with pytest.raises(Conflict):
        refits.record(store, _refit("r-1", outcome="withdrawn"))


def test_who_lost_the_lease_leaves_no_refit(store):
    """The fence is asked in the record's own transaction."""

    def void(_connection):
        raise Busy

    with pytest.raises(Busy):
        refits.record(store, _refit("r-1"), fence=void)
    assert refits.last(store) is None


def test_what_a_refit_learned_from_is_known(store, make_experience):
    """By experience, and nothing else's; it survives a rebuild."""
    experiences.record(store, [make_experience(f"e-{i}") for i in (1, 2, 3)])
    refits.record(store, _refit("r-1", members=(1, 2)))
    refits.record(store, _refit("r-2", members=(2,)))
    before = store.projections_digest()
    store.rebuild()
    assert store.projections_digest() == before
    went = [privacy.where_it_went(store, [position]) for position in (1, 2, 3)]
    assert went == [
        privacy.Went(refits=("r-1",)),
        privacy.Went(refits=("r-1", "r-2")),
        privacy.Went(),
    ]
    assert verify(store).faults == ()
