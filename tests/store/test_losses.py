"""Events that are gone: noticed, refused to learn without, accepted by a person."""

from __future__ import annotations

import pytest
from sqlalchemy import delete

from store import experiences, losses
from store.errors import Halted, IntegrityError
from store.events import Store, StoreReader
from store.losses import Gap, without
from store.tables import events
from store.verify import verify


@pytest.fixture
def ten(store, make_experience):
    """A store with ten experiences."""
    experiences.record(store, [make_experience(f"e-{i}") for i in range(1, 11)])
    return store


def _lose(store, first, last):
    """Takes the events away, as nobody may."""
    with store._write.begin() as connection:
        connection.execute(delete(events).where(events.c.position.between(first, last)))


@pytest.fixture
def shortened(store_url, tmp_path, make_experience):
    """A store whose log ends at 3 and once reached 5, on either database."""
    mark = tmp_path / "mark"
    with Store(store_url, high_water=mark) as store:
        experiences.record(store, [make_experience(f"e-{i}") for i in range(1, 4)])
        assert mark.read_text() == f"{3:020d}\n"
        store.high_water.rise(5)
    with Store(store_url, high_water=mark) as store:
        yield store


def test_nothing_is_missing_from_a_whole_log(ten):
    """Neither in an empty one."""
    assert losses.missing(ten) == []
    losses.require_whole(ten)


def test_an_empty_log_is_whole(store):
    """There is nothing to miss yet."""
    assert losses.missing(store) == []


@pytest.mark.parametrize(
    ("lost", "gaps"),
    [
        ([(4, 4)], [Gap(4, 4)]),
        ([(1, 2)], [Gap(1, 2)]),
        ([(9, 10)], [Gap(9, 10)]),
        ([(2, 3), (6, 8)], [Gap(2, 3), Gap(6, 8)]),
        ([(1, 10)], [Gap(1, 10)]),
    ],
)
def test_gaps_are_found_wherever_they_are(ten, lost, gaps):
    """At the beginning, in the middle, at the end, or everywhere."""
    for first, last in lost:
        _lose(ten, first, last)
    assert losses.missing(ten) == gaps


def test_a_log_shorter_than_its_mark_misses_its_end(shortened):
    """What the mark knows of and the log does not."""
    assert losses.missing(shortened) == [Gap(4, 5)]


def test_a_shortened_log_refuses_to_train_and_goes_on_recording(shortened, make_experience):
    """Halted says what is gone and what to do; new events come after the gap, which stays."""
    with pytest.raises(Halted, match=r"2 acknowledged events are gone.*4 to 5") as caught:
        losses.require_whole(shortened)
    assert "bhavana store accept-loss" in caught.value.hint
    [appended] = experiences.record(shortened, [make_experience("new")])
    assert appended.position == 6
    assert losses.missing(shortened) == [Gap(4, 5)]


def test_an_accepted_loss_is_in_the_log_and_the_store_is_whole_again(shortened):
    """With its reason and who accepted it; another loss is not covered by it."""
    assert losses.accept(shortened, reason="the disk died", actor="cli") == [Gap(4, 5)]
    [event] = shortened.follow(types=["loss.accepted"])
    assert (event.position, event.actor) == (6, "cli")
    assert b"the disk died" in event.body
    losses.require_whole(shortened)
    assert verify(shortened).faults == ()
    _lose(shortened, 2, 2)
    assert losses.missing(shortened) == [Gap(2, 2)]


def test_a_loss_in_the_middle_can_be_accepted_too(ten):
    """The chain is broken there, which the accepted loss explains."""
    _lose(ten, 4, 6)
    assert verify(ten).faults != ()
    losses.accept(ten, reason="test", actor="test")
    assert losses.missing(ten) == []
    ten.rebuild()  # the rows of what is gone are still in the projections
    assert verify(ten).faults == ()


def test_accepting_again_accepts_nothing(shortened):
    """Nor does it record anything."""
    losses.accept(shortened, reason="test", actor="test")
    end = shortened.position()
    assert losses.accept(shortened, reason="test", actor="test") == []
    assert shortened.position() == end


def test_a_damaged_mark_is_no_reason_to_think_the_log_whole(shortened):
    """Without the mark nobody knows, so nothing is learned."""
    shortened.high_water.path.write_text("nonsense")
    with pytest.raises(IntegrityError, match="high-water"):
        losses.require_whole(shortened)


@pytest.mark.parametrize(
    ("taken", "left"),
    [
        ([], [Gap(3, 7)]),
        ([Gap(1, 2)], [Gap(3, 7)]),
        ([Gap(8, 9)], [Gap(3, 7)]),
        ([Gap(3, 7)], []),
        ([Gap(1, 9)], []),
        ([Gap(1, 3)], [Gap(4, 7)]),
        ([Gap(7, 8)], [Gap(3, 6)]),
        ([Gap(4, 5)], [Gap(3, 3), Gap(6, 7)]),
        ([Gap(3, 4), Gap(4, 5)], [Gap(6, 7)]),
        ([Gap(2, 6), Gap(3, 4)], [Gap(7, 7)]),
    ],
)
def test_taking_losses_out_of_a_gap_leaves_the_rest(taken, left):
    """Whether they overlap its beginning, its end, both, each other, or not at all."""
    assert without(Gap(3, 7), taken) == left


def test_missing_is_asked_without_writing(shortened):
    """A reader finds the same."""
    reader = StoreReader(
        shortened.reading.url.render_as_string(hide_password=False),
        high_water=shortened.high_water.path,
    )
    with reader:
        assert losses.missing(reader) == [Gap(4, 5)]
