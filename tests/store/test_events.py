"""The log: idempotent, ordered, never renumbered, and the source of every projection."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from sqlalchemy import select, text, update

from store import experiences, keys
from store.errors import Conflict
from store.events import FOLLOW_BATCH, Store
from store.records import Feedback
from store.tables import events
from store.tables import experiences as experience_rows


def _statuses(appended):
    return [a.status for a in appended]


def test_recording_again_under_the_same_id_is_a_duplicate(store, make_experience):
    """The same content under the same id is kept once and answers with the first position."""
    [first] = experiences.record(store, [make_experience()])
    [again] = experiences.record(store, [make_experience()])
    assert (first.status, again.status) == ("recorded", "duplicate")
    assert again.position == first.position == store.position()


def test_other_content_under_the_same_id_is_a_conflict_and_the_rest_is_kept(store, make_experience):
    """A conflict touches nothing but itself: the first content and the rest of the batch stand."""
    experiences.record(store, [make_experience("a")])
    batch = [make_experience("b"), make_experience("a", response="Other."), make_experience("c")]
    appended = experiences.record(store, batch)
    assert _statuses(appended) == ["recorded", "conflict", "recorded"]
    assert experiences.get(store, "a") == make_experience("a")
    assert [experiences.get(store, name).id for name in "bc"] == ["b", "c"]


def test_the_same_item_twice_in_one_batch_is_recorded_once(store, make_experience):
    """Within one transaction the second of two equal items is already a duplicate."""
    appended = experiences.record(store, [make_experience(), make_experience()])
    assert _statuses(appended) == ["recorded", "duplicate"]
    assert store.position() == 1


def test_append_one_raises_conflict_for_other_content(store):
    """A single fact whose key holds other content raises Conflict and names the key."""
    key, _ = keys.create(store, name="a", scopes=("ingest",), source="web", actor="test")
    with pytest.raises(Conflict, match=key.id):
        keys._append(store, "key.created", msgspec.structs.replace(key, name="b"), "test")


def test_positions_grow_and_are_never_reused(store, make_experience):
    """Even when the last event is gone from the table, its position is not given again."""
    experiences.record(store, [make_experience("a"), make_experience("b")])
    with store._write.begin() as connection:
        connection.execute(text("DELETE FROM events WHERE position = 2"))
    [appended] = experiences.record(store, [make_experience("c")])
    assert appended.position == 3


def test_following_gives_events_after_a_position_in_order(store, make_experience):
    """Following pages through the whole log without a gap, whatever the size of its batches."""
    count = FOLLOW_BATCH + 7
    experiences.record(store, [make_experience(f"e-{i}") for i in range(count)])
    assert [e.position for e in store.follow()] == list(range(1, count + 1))
    assert [e.position for e in store.follow(count - 2)] == [count - 1, count]
    assert list(store.follow(count)) == []


def test_following_filters_by_type(store, make_experience, make_assessment):
    """Only events of the types asked for come, still in order."""
    experiences.record(store, [make_experience("a"), make_experience("b")])
    experiences.assess(store, [make_assessment("a"), make_assessment("b")])
    assessed = list(store.follow(types=["experience.assessed"]))
    assert [e.position for e in assessed] == [3, 4]
    assert {e.stream for e in assessed} == {"experience/a", "experience/b"}
    assert len(list(store.follow(types=["experience.recorded", "experience.assessed"]))) == 4
    assert list(store.follow(types=[])) == []


def test_an_event_remembers_who_and_when(store, make_experience):
    """An event carries its actor, an aware time in UTC, and the noun as canonical JSON."""
    experiences.record(store, [make_experience()], actor="key:abc")
    [event] = store.follow()
    assert event.actor == "key:abc"
    assert event.recorded_at.utcoffset().total_seconds() == 0
    assert event.body == msgspec.json.encode(make_experience(), order="deterministic")


@pytest.fixture
def full(store, make_experience, make_assessment) -> Store:
    """A store with several kinds of events in it."""
    experiences.record(store, [make_experience(f"e-{i}", metadata={"z": i}) for i in range(9)])
    experiences.assess(store, [make_assessment(f"e-{i}", weighted=float(i)) for i in range(9)])
    fact = {"experience_id": "e-1", "given_at": make_experience().occurred_at}
    experiences.give_feedback(store, [Feedback(id="f", kind="thumb", value=1, **fact)], actor="t")
    key, _ = keys.create(store, name="k", scopes=("ingest",), source="web", actor="test")
    keys.revoke(store, key.id, actor="test")
    return store


def test_rebuilding_gives_identical_projections(full):
    """Replaying the log gives, row for row, the projections that were dropped."""
    before = full.projections_digest()
    assert full.rebuild() == full.position()
    assert full.projections_digest() == before


def test_rebuilding_repairs_a_projection_that_was_damaged_by_hand(full):
    """Damage shows in the digest of the damaged table alone, and a rebuild mends it."""
    before = full.projections_digest()
    with full._write.begin() as connection:
        rows = experience_rows
        connection.execute(update(rows).where(rows.c.id == "e-3").values(consented=False))
    damaged = full.projections_digest()
    assert {name for name in before if before[name] != damaged[name]} == {"experiences"}
    full.rebuild()
    assert full.projections_digest() == before


def test_what_was_recorded_is_there_after_reopening(store, make_experience):
    """A second store on the same file sees what the first one returned from."""
    experiences.record(store, [make_experience()])
    with Store(store.url) as other:
        assert experiences.get(other, "e-1") == make_experience()
        assert other.position() == 1


@pytest.mark.parametrize("stores", [1, 2])
def test_concurrent_appends_lose_nothing_and_double_nothing(store, make_experience, stores):
    """Threads that post overlapping items, over one store or two, keep each item once."""
    names = [f"e-{i}" for i in range(40)]
    others = [Store(store.url) for _ in range(stores - 1)]
    barrier = threading.Barrier(4)

    def post(worker: int):
        opened = [store, *others][worker % stores]
        barrier.wait(30)
        mine = names[worker % 2 * 20 :][:20]  # each half is posted by two threads
        return [
            status
            for start in range(0, 20, 5)
            for status in _statuses(
                experiences.record(opened, [make_experience(n) for n in mine[start : start + 5]])
            )
        ]

    with ThreadPoolExecutor(4) as pool:
        statuses = [s for answered in pool.map(post, range(4)) for s in answered]
    for other in others:
        other.close()
    assert sorted(statuses) == ["duplicate"] * 40 + ["recorded"] * 40
    with store.reading.connect() as connection:
        positions = connection.execute(select(events.c.position)).scalars().all()
    assert sorted(positions) == list(range(1, 41))
    assert experiences.count_by_source(store) == {"web": 40}
