"""How much there is."""

from __future__ import annotations

from store import experiences, privacy
from store.stats import stats
from store.tables import metadata


def test_events_rows_and_bytes_are_counted(store, make_experience, make_assessment):
    """By type, by table, and by what lies on the disk; erased ones, too."""
    experiences.record(store, [make_experience("a"), make_experience("b")])
    experiences.assess(store, [make_assessment("a")])
    privacy.erase(store, "experience", "a", reason="asked", actor="test")
    found = stats(store)
    assert found.events == {
        "experience.assessed": 1,
        "experience.erased": 1,
        "experience.recorded": 2,
    }
    assert found.erased == 2
    assert found.oldest <= found.newest
    assert found.rows.keys() == metadata.tables.keys()
    assert (found.rows["events"], found.rows["experiences"], found.rows["tombstones"]) == (4, 1, 2)
    assert found.bytes["database"] > 0
    if store.database is not None:
        assert found.bytes["write_ahead_log"] == store.wal.stat().st_size > 0
        assert found.bytes["high_water"] == store.high_water.path.stat().st_size


def test_an_empty_store_has_no_oldest_event(store):
    """Unknown is not a date."""
    found = stats(store)
    assert (found.events, found.erased, found.oldest, found.newest) == ({}, 0, None, None)
