"""Verbs on experiences: feedback, assessments, and the questions that the loop asks."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from store import experiences, keys, sources
from store.errors import NotFound
from store.records import Feedback, Label, now

PANEL, OTHER = "panel-1", "panel-2"


def _thumb(make_experience, name="f-1", of="e-1"):
    moment = make_experience().occurred_at
    return Feedback(id=name, experience_id=of, kind="thumb", given_at=moment, value=1)


def test_an_unknown_experience_is_not_found(store):
    """Asking for what is not recorded raises NotFound and names the id."""
    with pytest.raises(NotFound, match="nobody"):
        experiences.get(store, "nobody")


def test_feedback_may_arrive_before_its_experience(store, make_experience):
    """Feedback on an unknown experience is kept, and found when the experience is there."""
    [early] = experiences.give_feedback(store, [_thumb(make_experience)], actor="t")
    assert early.status == "recorded"
    experiences.record(store, [make_experience()])
    assert experiences.feedback_on(store, "e-1") == [_thumb(make_experience)]


def test_feedback_comes_back_in_order_and_counts_once(store, make_experience):
    """Repeats are duplicates; the rest is returned as it came."""
    first, second = _thumb(make_experience, "b"), _thumb(make_experience, "a")
    experiences.give_feedback(store, [first, second], actor="t")
    [again] = experiences.give_feedback(store, [first], actor="t")
    assert again.status == "duplicate"
    assert experiences.feedback_on(store, "e-1") == [first, second]
    assert experiences.count_feedback(store) == 2


def _heard(store, *kinds, as_of=None, moment=None):
    """What was said on single responses, by id."""
    found = experiences.heard(
        store,
        kinds or ("thumb",),
        as_of=store.position() if as_of is None else as_of,
        moment=moment or now(),
    )
    return {h.feedback.id: h for h in found}


def test_feedback_is_heard_in_its_order_up_to_the_position(store, make_experience, monkeypatch):
    """Over more than a page; other kinds, and those on a whole conversation, are left out."""
    monkeypatch.setattr(experiences, "BATCH", 2)
    thumb = _thumb(make_experience)
    given = [msgspec.structs.replace(thumb, id=f"f-{i}") for i in (3, 1, 2, 5, 4)]
    others = [
        msgspec.structs.replace(thumb, id="talk", experience_id=None, conversation_id="c-1"),
        msgspec.structs.replace(thumb, id="words", kind="comment", value=None, text="Hm."),
    ]
    experiences.give_feedback(store, [*given[:3], *others], actor="t")
    middle = store.position()
    experiences.give_feedback(store, given[3:], actor="t")
    assert list(_heard(store)) == ["f-3", "f-1", "f-2", "f-5", "f-4"]
    assert list(_heard(store, as_of=middle)) == ["f-3", "f-1", "f-2"]
    assert list(_heard(store, "comment")) == ["words"]
    assert [h.feedback for h in _heard(store).values()] == given


def test_feedback_is_trusted_as_the_key_it_came_with(store, make_experience):
    """Whatever the source of the response; a key in everybody's hands, or none, lends no trust."""
    experiences.record(store, [make_experience(source="house")])
    sources.change(store, "house", "trusted", actor="t")

    def say(name, **changes):
        key, _ = keys.create(store, name=name, scopes=("feedback",), actor="t", **changes)
        experiences.give_feedback(store, [_thumb(make_experience, name)], actor=f"key:{key.id}")
        return key

    say("of-the-house", source="house")
    say("of-a-page", source="house", publishable=True, origins=("https://a.example",))
    stolen = say("stolen", source="house")
    say("new", source="new")
    say("other", source="other")
    sources.change(store, "other", "untrusted", actor="t")
    experiences.give_feedback(store, [_thumb(make_experience, "keyless")], actor="key:unknown")
    before = now()
    keys.revoke(store, stolen.id, actor="t")
    assert {name: (h.source, h.tier) for name, h in _heard(store).items()} == {
        "of-the-house": ("house", "trusted"),
        "of-a-page": ("house", "untrusted"),
        "stolen": ("house", "untrusted"),
        "new": ("new", "quarantined"),
        "other": ("other", "untrusted"),
        "keyless": ("", "untrusted"),
    }
    assert _heard(store, moment=before)["stolen"].tier == "trusted"
    assert _heard(store, moment=now() + timedelta(days=8))["new"].tier == "untrusted"


def test_assessing_is_once_per_experience_and_panel(store, make_experience, make_assessment):
    """The same panel's repeat is a duplicate; another panel adds its own assessment."""
    experiences.record(store, [make_experience()])
    [first] = experiences.assess(store, [make_assessment()])
    [again] = experiences.assess(store, [make_assessment()])
    [other] = experiences.assess(store, [make_assessment(panel=OTHER, weighted=3.0)])
    assert [a.status for a in (first, again, other)] == ["recorded", "duplicate", "recorded"]
    end = store.position()
    [by_first] = experiences.assessed(store, PANEL, as_of=end, moment=now())
    [by_other] = experiences.assessed(store, OTHER, as_of=end, moment=now())
    assert (by_first.assessment.weighted, by_other.assessment.weighted) == (7.0, 3.0)


def test_an_assessment_is_never_edited(store, make_experience, make_assessment):
    """A second opinion of the same panel is a conflict, and the first one stands."""
    experiences.record(store, [make_experience()])
    experiences.assess(store, [make_assessment()])
    [changed] = experiences.assess(store, [make_assessment(weighted=9.0)])
    assert changed.status == "conflict"
    [kept] = experiences.assessed(store, PANEL, as_of=store.position(), moment=now())
    assert kept.assessment.weighted == 7.0


def test_unassessed_are_oldest_first_up_to_the_position_and_the_limit(
    store, make_experience, make_assessment
):
    """What a panel has not seen is listed as of a position, in order, per panel."""
    experiences.record(store, [make_experience(name) for name in "dcba"])
    experiences.assess(store, [make_assessment("c")])

    def pending(panel, as_of, limit=10):
        return [e.id for e in experiences.unassessed(store, panel, as_of=as_of, limit=limit)]

    assert pending(PANEL, 4) == ["d", "b", "a"]
    assert pending(PANEL, 3) == ["d", "b"]
    assert pending(PANEL, 4, limit=1) == ["d"]
    assert pending(OTHER, 4) == ["d", "c", "b", "a"]


def test_assessed_pages_through_everything_in_order_of_recording(
    store, make_experience, make_assessment
):
    """More than one page of experiences comes back whole, and only up to the position."""
    names = [f"e-{i:04}" for i in range(experiences.BATCH + 3)]
    experiences.record(store, [make_experience(name) for name in reversed(names)])
    experiences.assess(store, [make_assessment(name) for name in names])
    found = [
        a.experience.id for a in experiences.assessed(store, PANEL, as_of=len(names), moment=now())
    ]
    assert found == names[::-1]
    assert len(list(experiences.assessed(store, PANEL, as_of=5, moment=now()))) == 5


def test_counts_by_source_and_label(store, make_experience, make_assessment):
    """Counts are by source and by the panel's label; those without a label count as None."""
    experiences.record(store, [make_experience("a"), make_experience("b", source="practice")])
    experiences.assess(store, [make_assessment("a"), make_assessment("b", weighted=None)])
    assert experiences.count_by_source(store) == {"practice": 1, "web": 1}
    assert experiences.count_by_label(store, PANEL) == {Label.GOOD: 1, None: 1}
    assert experiences.count_by_label(store, OTHER) == {}


def test_two_workers_never_claim_the_same(store, make_experience, make_assessment):
    """What one works at the other does not get, until it is given back or forgotten."""
    experiences.record(store, [make_experience(f"e-{i}") for i in range(6)])
    end = store.position()

    def claim(holder, limit=4):
        found = experiences.claim(store, PANEL, as_of=end, holder=holder, limit=limit)
        return [e.id for e in found]

    assert claim("first") == ["e-0", "e-1", "e-2", "e-3"]
    assert claim("second") == ["e-4", "e-5"]
    assert claim("third") == []
    experiences.assess(store, [make_assessment("e-0"), make_assessment("e-4")])
    assert claim("first") == ["e-1", "e-2", "e-3"]
    assert claim("second", 0) == []
    assert claim("third") == ["e-5"]


def test_a_claim_does_not_outlive_its_worker_for_long(store, make_experience, monkeypatch):
    """A worker that was killed holds nobody up for more than a while."""
    experiences.record(store, [make_experience()])
    experiences.claim(store, PANEL, as_of=1, holder="killed")
    later = now() + experiences.CLAIM
    monkeypatch.setattr(experiences, "now", lambda: later)
    [found] = experiences.claim(store, PANEL, as_of=1, holder="other")
    assert found.id == "e-1"
