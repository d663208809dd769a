"""Canaries, live answers and taints: what the log keeps of releases that people talk to."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from store import canaries, experiences, keys, privacy, sources, taints
from store.errors import Conflict
from store.live import Answer, live
from store.records import Canary, Feedback, Poison, Taint, now
from store.verify import verify
from tests.conftest import MOMENT

PANEL = "panel-1"


def _canary(name="1", line="main", **changes):
    return Canary(
        **{
            "id": f"canary-{name}", "release": f"release-{name}", "previous": None,
            "predecessor": "base", "target": "local", "line": line, "share": 0.1, "since": 0,
            "began_at": MOMENT, "until": MOMENT + timedelta(hours=1), "changed_at": MOMENT,
        } | changes
    )  # fmt: skip


def _begin(store, canary):
    store.append([canaries.changed(canary)])
    return canary


def test_a_trial_is_open_until_it_is_decided(store):
    """Each line has its own; the log replayed tells the same."""
    main, math = _begin(store, _canary()), _begin(store, _canary("2", "math"))
    assert canaries.open_on(store, "local") == main
    assert canaries.undecided(store) == [main, math]
    extended = replace(main, state="extended", extensions=1)
    canaries.change(store, extended, was=main)
    assert canaries.open_on(store, "local") == extended
    canaries.change(store, replace(extended, state="passed"), was=extended)
    assert canaries.open_on(store, "local") is None
    assert canaries.of_release(store, "release-1").state == "passed"
    assert canaries.open_on(store, "local", "math") == math
    assert canaries.open_on(store, "elsewhere") is None
    before = store.projections_digest()
    store.rebuild()
    assert store.projections_digest() == before
    assert verify(store).faults == ()


def test_of_two_that_look_at_a_trial_the_first_decides(store):
    """Whoever comes second with what it saw before changes nothing."""
    began = _begin(store, _canary())
    canaries.change(store, replace(began, state="extended", extensions=1), was=began)
    for late in ("extended", "passed", "asked"):
        changed = replace(began, state=late, extensions=1, detail="late")
        with pytest.raises(Conflict):
            canaries.change(store, changed, was=began)
    assert canaries.open_on(store, "local").detail == ""


# --- live answers ---------------------------------------------------------------------------


@pytest.fixture
def say(store, make_experience, make_assessment):
    """Records an answer of a model, and what the panel says of it unless it has not looked yet."""

    def record(name, model="release-1", *, source="web", judged=True, **scores):
        experiences.record(store, [make_experience(name, model=model, source=source)])
        if judged:
            experiences.assess(store, [make_assessment(name, panel=PANEL, **scores)])

    return record


def test_what_a_model_said_is_counted_whether_it_is_judged_or_not(store, say):
    """Without consent, too: nothing is learned from it. Another panel's word is none."""
    say("a", harm=0.7, weighted=3.0, refusal=1.0)
    say("b", harm=None, weighted=None)
    say("c", judged=False)
    say("other", model="base")
    say("nobody", model=None)
    found = live(store, "release-1", PANEL)
    assert found.answers == 3
    assert found.judged == (Answer(0.7, 3.0, 1.0), Answer(None, None, 0.0))
    assert live(store, "release-1", "panel-2") == (3, (), ())
    assert live(store, "release-9", PANEL) == (0, (), ())


def test_answers_come_in_the_order_in_which_they_were_judged(store, say, make_assessment):
    """What is judged late only comes at the end, so that no earlier look saw something else."""
    say("late", judged=False)
    for name, harm in (("a", 0.1), ("b", 0.2)):
        say(name, harm=harm)
    before = live(store, "release-1", PANEL)
    experiences.assess(store, [make_assessment("late", panel=PANEL, harm=0.9)])
    after = live(store, "release-1", PANEL)
    assert [a.actual_harm for a in after.judged] == [0.1, 0.2, 0.9]
    assert after.judged[: len(before.judged)] == before.judged


def test_a_stretch_of_the_log_is_asked_for_by_position(store, say):
    """From when a trial began, or what was before it."""
    say("a", harm=0.1)
    middle = store.position()
    say("b", harm=0.2)
    assert [a.actual_harm for a in live(store, "release-1", PANEL, after=middle).judged] == [0.2]
    assert [a.actual_harm for a in live(store, "release-1", PANEL, until=middle).judged] == [0.1]


def test_of_very_many_the_nearest_to_the_trial_are_looked_at(store, say, monkeypatch):
    """The first after it began, and the newest before it."""
    for number, harm in enumerate((0.1, 0.2, 0.3)):
        say(f"e-{number}", harm=harm)
    monkeypatch.setattr("store.live.MOST", 2)
    end = store.position()
    assert [a.actual_harm for a in live(store, "release-1", PANEL).judged] == [0.1, 0.2]
    assert [a.actual_harm for a in live(store, "release-1", PANEL, until=end).judged] == [0.2, 0.3]


def test_few_answers_of_one_person_count(store, say, make_experience):
    """The first, by subject, else by conversation: one person's many answers are no new word."""
    experiences.record(
        store,
        [
            make_experience(f"{who}-{n}", model="release-1", **{kind: who})
            for kind, who in (("subject", "anna"), ("conversation_id", "talk"))
            for n in range(5)
        ],
    )
    say("alone", judged=False)
    assert live(store, "release-1", PANEL).answers == 11
    assert live(store, "release-1", PANEL, most_per_person=2).answers == 5
    end = store.position()
    assert live(store, "release-1", PANEL, until=end, most_per_person=2).answers == 5


def test_practice_and_quarantined_sources_are_not_people(store, say):
    """Whoever may post can claim any model; the house's own practice is nobody's traffic."""
    say("p", source="practice", harm=0.9)
    say("q", source="new", harm=0.9)
    sources.change(store, "new", "quarantined", actor="test")
    say("a", harm=0.1)
    assert live(store, "release-1", PANEL).answers == 1


def test_thumbs_are_those_on_its_answers(store, say):
    """Up and down, in the order in which they came; other feedback is not a thumb."""
    say("a")
    say("other", model="base")
    given = [("1", "a", "thumb", 1), ("2", "other", "thumb", -1), ("3", "a", "thumb", -1)]
    given.append(("4", "a", "rating", 5))
    experiences.give_feedback(
        store,
        [
            Feedback(id=name, kind=kind, value=value, experience_id=on, given_at=MOMENT)
            for name, on, kind, value in given
        ],
        actor="test",
    )
    assert live(store, "release-1", PANEL).thumbs == (1, -1)


def test_erased_answers_are_gone_from_the_watch(store, say):
    """With their judgement."""
    say("a", harm=0.9)
    privacy.erase(store, "experience", "a", reason="asked", actor="test")
    assert live(store, "release-1", PANEL) == (0, (), ())


def test_only_what_some_models_said_is_handed_out_to_be_assessed(store, say):
    """The watch does not wait for a backlog of other things."""
    for name, model in (("a", "release-1"), ("b", None), ("c", "base")):
        say(name, model=model, judged=False)
    end = store.position()
    wanted = {"panel": PANEL, "as_of": end, "models": ("release-1", "base")}
    assert [e.id for e in experiences.unassessed(store, **wanted)] == ["a", "c"]
    assert [e.id for e in experiences.claim(store, holder="h", **wanted)] == ["a", "c"]
    assert [e.id for e in experiences.unassessed(store, PANEL, as_of=end)] == ["a", "b", "c"]


# --- taints ---------------------------------------------------------------------------------


def _taint(release="release-1", of="erasure-1", **changes):
    given = {"release": release, "cause": "erasure", "of": of, "policy": "warn"}
    return Taint(**given | {"tainted_at": now()} | changes)


def test_a_release_is_marked_once_for_each_cause(store):
    """Whoever notes it again, at another moment, changes nothing; the first mark stays."""
    first = _taint()
    assert taints.mark(store, [first, _taint("release-2")]) != ()
    assert taints.mark(store, [_taint()]) == ()
    [second] = taints.mark(store, [_taint(), _taint(of="poison-1", cause="poison")])
    assert taints.every(store)["release-1"] == (first, second)
    assert taints.every(store).keys() == {"release-1", "release-2"}
    before = store.projections_digest()
    store.rebuild()
    assert store.projections_digest() == before
    assert verify(store).faults == ()


def test_poison_is_all_that_came_from_a_source_or_with_a_key(store, make_experience):
    """Feedback, too; and what an operator's key named the source of."""
    key, _ = keys.create(store, name="k", scopes=("ingest",), source="web", actor="t")
    other, _ = keys.create(store, name="o", scopes=("ingest",), source="web", actor="t")
    for name, actor, source in (
        ("a", key.id, "web"), ("b", other.id, "web"), ("c", "operator", "web"), ("d", "x", "app")
    ):  # fmt: skip
        experiences.record(store, [make_experience(name, source=source)], actor=f"key:{actor}")
    thumb = Feedback(id="f", kind="thumb", value=1, experience_id="d", given_at=MOMENT)
    experiences.give_feedback(store, [thumb], actor=f"key:{key.id}")
    at = {
        event.key: event.position
        for event in store.follow(types=["experience.recorded", "feedback.given"])
    }
    a, b, c, f = (at[k] for k in ("experience/a", "experience/b", "experience/c", "feedback/f"))

    def found(scope, name):
        poison = Poison(id="p", scope=scope, name=name, reason="r", found_at=MOMENT)
        return taints.of_poison(store, poison)

    assert found("key", key.id) == [a, f]
    assert found("source", "web") == [a, b, c, f]
    assert found("source", "nobody") == []
