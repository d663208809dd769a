"""Words that were kept for as long as they may be: by age, and by consent as it stands."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from store import experiences, log, privacy, retention
from store.records import CURATED, PRACTICE, ConsentChange, Feedback
from store.verify import verify

LONG_AGO = datetime(2025, 1, 1, tzinfo=UTC)
LIMIT = LONG_AGO + timedelta(days=30)
LATER = LIMIT + timedelta(days=1)
YES, NO = True, False


@pytest.fixture
def clock(monkeypatch):
    """A clock for what is recorded: a list whose last value is the present."""
    moments = [LONG_AGO]
    monkeypatch.setattr(log, "now", lambda: moments[-1])
    return moments


@pytest.fixture
def kept(store, clock, make_experience):
    """Of either class one that is old and one that is not, in one conversation each."""
    for age, moment in (("old", LONG_AGO), ("new", LATER)):
        clock.append(moment)
        experiences.record(
            store,
            [
                make_experience(
                    f"{age}-{consented}", training=consented, conversation_id=f"talk-{consented}"
                )
                for consented in (YES, NO)
            ],
        )
    return store


def _aged(store, consented, before=LIMIT):
    return [one.id for one in retention.aged(store, before=before, consented=consented)]


def _erase(store, consented, before=LIMIT):
    some = retention.aged(store, before=before, consented=consented)
    return retention.erase_aged(
        store, some, before=before, consented=consented, reason="age", actor="test"
    )


def _change(store, scope, name, training):
    change = ConsentChange(
        id=f"c-{scope}-{name}-{training}",
        scope=scope,
        scope_id=name,
        training=training,
        changed_at=LATER,
    )
    experiences.change_consent(store, change, actor="test")


def _left(store):
    return sorted(one.id for one in experiences.listed(store))


@pytest.mark.parametrize("consented", [YES, NO])
def test_what_is_old_is_found_by_class(kept, consented):
    """Not what is newer, nor what is of the other class."""
    assert _aged(kept, consented) == [f"old-{consented}"]
    assert _aged(kept, consented, LATER + timedelta(days=1)) == [
        f"old-{consented}",
        f"new-{consented}",
    ]
    assert _aged(kept, consented, LONG_AGO) == []


@pytest.mark.parametrize(
    ("scope", "name"), [("experience", "old-True"), ("conversation", "talk-True"), ("subject", "s")]
)
def test_consent_counts_as_it_stands(store, clock, make_experience, scope, name):
    """What was withdrawn since is of the other class, whatever the withdrawal covers."""
    one = make_experience("old-True", conversation_id="talk-True", subject="s")
    experiences.record(store, [one, make_experience("other", subject="o")])
    _change(store, scope, name, NO)
    assert (_aged(store, YES), _aged(store, NO)) == (["other"], ["old-True"])
    _change(store, "experience", "old-True", YES)
    assert (_aged(store, YES), _aged(store, NO)) == (["old-True", "other"], [])


def test_what_nobody_said_does_not_age(store, clock, make_experience):
    """Exemplars and practice are the house's own, and could not be posted again."""
    own = [make_experience(source, source=source) for source in (CURATED, PRACTICE)]
    experiences.record(store, own)
    assert _aged(store, YES) == []


def test_what_is_old_is_erased_with_all_that_is_on_it(kept, make_assessment):
    """Its feedback, assessment and consent change; nothing of what stays."""
    experiences.assess(kept, [make_assessment("old-True"), make_assessment("new-True")])
    given = [
        Feedback(id=f"f-{name}", kind="thumb", value=1, experience_id=name, given_at=LATER)
        for name in ("old-True", "new-True")
    ]
    experiences.give_feedback(kept, given, actor="test")
    _change(kept, "experience", "old-True", YES)
    [erasure] = _erase(kept, YES)
    assert (erasure.scope, len(erasure.experiences), len(erasure.positions)) == ("age", 1, 4)
    assert _left(kept) == ["new-False", "new-True", "old-False"]
    assert [f.id for f in experiences.feedback_on(kept, "new-True")] == ["f-new-True"]
    assert verify(kept).faults == ()


def test_feedback_on_a_conversation_goes_with_its_last_experience(kept):
    """While something of the conversation is left, so is what was said about it."""
    whole = Feedback(
        id="f", kind="comment", text="Thanks", conversation_id="talk-True", given_at=LATER
    )
    experiences.give_feedback(kept, [whole], actor="test")
    _erase(kept, YES)
    assert experiences.count_feedback(kept) == 1
    _erase(kept, YES, LATER + timedelta(days=1))
    assert experiences.count_feedback(kept) == 0


def test_erasing_again_finds_nothing(kept):
    """And leaves no event."""
    assert len(_erase(kept, NO)) == 1
    end = kept.position()
    assert _erase(kept, NO) == []
    assert kept.position() == end


def test_what_was_erased_for_its_age_is_not_taken_again(kept, make_experience):
    """A frontend that repeats itself after a year brings nothing back."""
    _erase(kept, NO)
    [appended] = experiences.record(kept, [make_experience("old-False")])
    assert appended.status == "erased"


def test_a_change_of_consent_in_the_meantime_saves_it(kept):
    """What was found old is looked at again in the transaction that erases."""
    some = retention.aged(kept, before=LIMIT, consented=NO)
    _change(kept, "experience", "old-False", YES)
    erased = retention.erase_aged(
        kept, some, before=LIMIT, consented=NO, reason="age", actor="test"
    )
    assert erased == []
    assert "old-False" in _left(kept)


def test_many_are_erased_in_batches(store, clock, make_experience, monkeypatch):
    """Each in a transaction of its own, so that others can record in between."""
    monkeypatch.setattr(privacy, "BATCH", 2)
    experiences.record(store, [make_experience(f"e-{i}") for i in range(5)])
    assert [len(erasure.experiences) for erasure in _erase(store, YES)] == [2, 2, 1]
    assert _left(store) == []
    assert verify(store).faults == ()
