"""Reviews: who looks at what next, what was decided, and that measuring stays without bias."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from sqlalchemy import select

from store import experiences, privacy, retention, reviews
from store.errors import Conflict, NotFound, Rejected
from store.events import Store
from store.records import CURATED, PRACTICE, ConsentChange, Feedback, Review, now
from store.redaction import WITHHELD
from store.tables import draws
from store.verify import verify

PANEL = "panel-1"
CUT = 0.5
MOMENT = datetime(2026, 1, 2, tzinfo=UTC)


def _review(name, **changes):
    return Review(
        **{
            "id": f"review-of-{name}",
            "experience_id": name,
            "decision": "accept",
            "reason": "It is kind and true.",
            "reviewer": "anna",
            "reviewed_at": MOMENT,
        }
        | changes
    )


def _record(store, name, **changes):
    return reviews.record(store, _review(name, **changes), actor="test")


def _only_at_random(monkeypatch):
    monkeypatch.setattr(reviews, "QUEUE", ("random",))
    monkeypatch.setattr(reviews, "KEPT_APART", 1)


def _draw(store, reviewer="anna"):
    return reviews.draw(store, PANEL, reviewer=reviewer, cut=CUT)


@pytest.fixture
def judged(store, make_experience, make_assessment):
    """Records experiences that the panel judged: name to what differs in the assessment."""

    def judge(items, **changes):
        experiences.record(store, [make_experience(name, **changes) for name in items])
        experiences.assess(store, [make_assessment(name, **how) for name, how in items.items()])
        return store

    return judge


def test_the_newest_decision_on_each_stands_as_of_a_position(judged):
    """In the order of the reviews, with the better answer; what was erased is not among them."""
    store = judged({"e-1": {}, "e-2": {}, "e-3": {}})
    _record(store, "e-2", decision="reject")
    _record(store, "e-1", id="first", decision="correct", text="Better.")
    middle = store.position()
    _record(store, "e-2", id="again", decision="correct", text="Better still.")
    _record(store, "e-3")
    privacy.erase(store, "experience", "e-3", reason="asked", actor="t")

    def decided(as_of):
        found = reviews.decided(store, as_of=as_of)
        assert [d.position for d in found] == sorted(d.position for d in found)
        return [(d.review.experience_id, d.review.decision, d.review.text) for d in found]

    assert decided(middle) == [("e-2", "reject", None), ("e-1", "correct", "Better.")]
    now_stands = [("e-1", "correct", "Better."), ("e-2", "correct", "Better still.")]
    assert decided(store.position()) == now_stands


# --- the decision itself ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pointer", "changes"),
    [
        ("/harms", {"decision": "accept", "harms": ("omission",)}),
        ("/harms", {"decision": "reject", "harms": ("omission", "omission")}),
        ("/text", {"decision": "correct"}),
        ("/text", {"decision": "reject", "text": "Better so."}),
        ("/text", {"decision": "accept", "text": "Better so."}),
    ],
)
def test_a_review_that_contradicts_itself_is_rejected(judged, pointer, changes):
    """With a pointer to the part that does not fit, and nothing is recorded."""
    store = judged({"e-1": {}})
    with pytest.raises(Rejected) as caught:
        _record(store, "e-1", **changes)
    assert caught.value.pointer == pointer
    assert reviews.judgements(store, PANEL) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"decision": "correct", "text": "x" * 65_537},
        {"reason": ""},
        {"reason": "a\0b"},
        {"reviewer": "anna\nberta"},
    ],
)
def test_a_review_that_could_not_be_read_again_is_rejected(judged, changes):
    """Before it is recorded: one such event would stop every replay of the log."""
    store = judged({"e-1": {}})
    with pytest.raises(Rejected, match="cannot be kept"):
        _record(store, "e-1", **changes)
    store.rebuild()
    assert reviews.judgements(store, PANEL) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"decision": "reject"},
        {"decision": "reject", "harms": ("deception", "harmful_compliance")},
        {"decision": "correct", "text": "Better so.", "harms": ("harshness",)},
        {"decision": "correct", "text": "Better so."},
    ],
)
def test_a_review_may_name_harms_or_none(judged, changes):
    """A response can be bad without doing harm."""
    store = judged({"e-1": {}})
    assert _record(store, "e-1", **changes).status == "recorded"
    [found] = reviews.judgements(store, PANEL)
    assert found.review == _review("e-1", **changes)
    assert found.review.harmful == bool(changes.get("harms"))


def test_what_is_not_there_cannot_be_reviewed(judged):
    """Neither what never came, nor what was erased."""
    store = judged({"e-1": {}})
    privacy.erase(store, "experience", "e-1", reason="asked", actor="test")
    for name in ("e-1", "never"):
        with pytest.raises(NotFound):
            _record(store, name)


def test_a_repeated_review_is_a_duplicate(judged):
    """Though what was drawn is not noted any more; other content under its id is a conflict."""
    store = judged({"e-1": {}, "e-2": {}})
    name = _draw(store).experience.id
    first, again = _record(store, name), _record(store, name)
    assert (first.status, again.status) == ("recorded", "duplicate")
    assert again.position == first.position
    with pytest.raises(Conflict):
        _record(store, name, reason="Other words.")
    other = "e-1" if name == "e-2" else "e-2"
    with pytest.raises(Conflict):
        _record(store, other, id=f"review-of-{name}")


def test_a_refused_review_leaves_the_draw(judged):
    """It is still to be reviewed."""
    store = judged({"e-1": {}, "e-2": {}})
    _record(store, "e-1")
    drawn = _draw(store)
    with pytest.raises(Conflict):
        _record(store, "e-2", id="review-of-e-1")
    assert _draw(store) == drawn


def test_the_newest_review_of_an_experience_counts(judged):
    """In the order of the reviews, with the panel's word and consent as it stands."""
    store = judged({"e-1": {"harm": 0.2}, "e-2": {"harm": 0.3}})
    _record(store, "e-1")
    _record(store, "e-2")
    as_it_was = store.position()
    _record(store, "e-1", id="again", decision="reject", harms=("omission",), reviewer="ben")
    change = ConsentChange(
        id="c", scope="experience", scope_id="e-2", training=False, changed_at=MOMENT
    )
    experiences.change_consent(store, change, actor="test")
    found = reviews.judgements(store, PANEL)
    assert [(j.review.id, j.experience.id, j.position) for j in found] == [
        ("review-of-e-2", "e-2", 2),
        ("again", "e-1", 1),
    ]
    assert [j.consented for j in found] == [False, True]
    assert [j.assessment.actual_harm for j in found] == [0.3, 0.2]
    assert [j.assessment for j in reviews.judgements(store, "other")] == [None, None]
    assert experiences.decisions(store, as_of=store.position()) == {
        "e-1": "reject",
        "e-2": "accept",
    }
    assert experiences.decisions(store, as_of=as_it_was) == {"e-1": "accept", "e-2": "accept"}
    assert experiences.decisions(store, as_of=0) == {}


def test_what_is_learned_from_knows_the_decision(judged):
    """As of the position that is asked about."""
    store = judged({"e-1": {}, "e-2": {}})
    before = store.position()
    _record(store, "e-1", decision="reject")

    def decided(as_of):
        found = experiences.assessed(store, PANEL, as_of=as_of, moment=now())
        return {a.experience.id: a.decision for a in found}

    assert decided(before) == {"e-1": None, "e-2": None}
    assert decided(store.position()) == {"e-1": "reject", "e-2": None}


# --- what is looked at next ---------------------------------------------------------------


def test_nothing_is_drawn_where_nothing_was_judged(store, make_experience):
    """An experience that the panel has not assessed waits."""
    experiences.record(store, [make_experience()])
    assert _draw(store) is None


def test_the_panel_is_asked_about_where_it_is_least_sure(judged):
    """Nearest to the cut, the newest first where two are equally near; never unknown harm."""
    judged({"far": {"harm": 0.95}, "old": {"harm": 0.25}, "unknown": {"harm": None}})
    store = judged({"new": {"harm": 0.75}, "low": {"harm": 0.01}})
    drawn = _draw(store)
    assert (drawn.experience.id, drawn.drawn, drawn.position) == ("new", "uncertain", 7)
    assert drawn.assessment.actual_harm == 0.75


def test_asking_again_gives_the_same_until_it_is_reviewed(judged):
    """Nobody skips one; another process knows it, too."""
    store = judged({f"e-{i}": {"harm": i / 10} for i in range(4)})
    first = _draw(store)
    assert _draw(store) == first
    _record(store, first.experience.id)
    second = _draw(store)
    assert second.experience.id != first.experience.id
    assert _draw(store) == second


def test_two_people_never_look_at_the_same(judged):
    """Each gets their own until nothing is left."""
    store = judged({f"e-{i}": {"harm": i / 10} for i in range(5)})
    drawn = [_draw(store, f"person-{n}") for n in range(7)]
    names = [d.experience.id for d in drawn if d is not None]
    assert len(names) == len(set(names)) == 5
    assert drawn[5:] == [None, None]


def test_many_who_ask_at_once_never_look_at_the_same(
    postgresql_url, make_experience, make_assessment
):
    """In two daemons on one database; and one who asks twice at once gets one."""
    names = [f"e-{i}" for i in range(12)]
    with Store(postgresql_url) as one, Store(postgresql_url) as other:
        experiences.record(one, [make_experience(name) for name in names])
        experiences.assess(one, [make_assessment(name) for name in names])
        with ThreadPoolExecutor(6) as pool:
            people = [f"person-{n % 5}" for n in range(20)]
            stores = [one, other] * 10
            drawn = list(pool.map(_draw, stores, people))
    of = {(person, d.experience.id) for person, d in zip(people, drawn, strict=True)}
    assert len(of) == len({name for _, name in of}) == 5


def test_the_shares_are_half_a_quarter_and_a_quarter(judged):
    """Of forty draws, whoever asks."""
    store = judged({f"e-{i:02}": {"harm": i / 60, "doubts": ("injection",)} for i in range(60)})
    kinds = Counter()
    for n in range(40):
        drawn = _draw(store, f"person-{n % 3}")
        kinds[drawn.drawn] += 1
        _record(store, drawn.experience.id, reviewer=f"person-{n % 3}")
    assert kinds == {"uncertain": 20, "random": 10, "disagreed": 10}
    assert reviews.count(store) == {"uncertain": 20, "disagreed": 10, "random": 10, "chosen": 0}


def test_the_turn_goes_on_with_draws_that_wait_and_not_with_what_people_chose(judged):
    """Nor with second thoughts: the n-th draw has the n-th kind."""
    store = judged({f"e-{i}": {"harm": i / 20, "doubts": ("x",)} for i in range(10)})
    _record(store, "e-0")
    first = _draw(store, "a")
    assert first.drawn == "uncertain"
    assert _draw(store, "b").drawn == "random"
    _record(store, first.experience.id)
    _record(store, first.experience.id, id="again", decision="reject")
    assert [_draw(store, person).drawn for person in "acd"] == [
        "uncertain",
        "disagreed",
        "uncertain",
    ]


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "thumb", "value": -1},
        {"kind": "rating", "value": 2},
        {"kind": "preference", "value": -1, "text": "The other."},
        {"kind": "outcome", "value": -0.1},
        {"kind": "correction", "text": "Better so."},
    ],
)
def test_where_people_object_a_person_looks(judged, given):
    """Their feedback counts, and no comment, no praise."""
    store = judged({"objected": {}, "praised": {}, "commented": {}})
    praise = [
        Feedback(id="p-1", kind="thumb", value=1, experience_id="praised", given_at=MOMENT),
        Feedback(id="p-2", kind="rating", value=3, experience_id="praised", given_at=MOMENT),
        Feedback(id="p-3", kind="outcome", value=0, experience_id="praised", given_at=MOMENT),
        Feedback(
            id="p-4", kind="comment", value=-1, text="Hm", experience_id="commented",
            given_at=MOMENT,
        ),
        Feedback(id="p-5", experience_id="objected", given_at=MOMENT, **given),
    ]  # fmt: skip
    experiences.give_feedback(store, praise, actor="test")
    assert _disagreed(store) == ["objected"]


def test_where_scorers_disagree_or_abstain_a_person_looks(judged):
    """The newest first."""
    store = judged(
        {
            "doubted": {"doubts": ("disagreed:omission",)},
            "sure": {},
            "abstained": {"abstained": ("karuna",)},
        }
    )
    assert _disagreed(store) == ["abstained", "doubted"]


def _disagreed(store):
    """What is drawn as disagreed, in order, when that is the only kind."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reviews, "QUEUE", ("disagreed",))
        while (drawn := _draw(store)) is not None:
            found.append(drawn.experience.id)
            _record(store, drawn.experience.id)
    return found


def test_where_a_kind_has_nothing_the_next_one_has_its_turn(judged):
    """Nobody disagreed: what is least sure comes instead, and is counted as that."""
    store = judged({f"e-{i}": {"harm": i / 10} for i in range(4)})
    kinds = [_draw(store, f"person-{n}").drawn for n in range(4)]
    assert kinds == ["uncertain", "random", "uncertain", "uncertain"]


def test_where_harm_is_unknown_it_is_drawn_at_random(judged, monkeypatch):
    """Unknown is not near the cut."""
    monkeypatch.setattr(reviews, "KEPT_APART", 1)
    store = judged({"e-1": {"harm": None}})
    assert _draw(store).drawn == "random"


def test_the_lot_falls_anywhere(judged, monkeypatch):
    """Not where the panel is unsure: in twenty draws more than one of a few comes."""
    _only_at_random(monkeypatch)
    store = judged({f"e-{i}": {"harm": 0.5 if i else 0.0} for i in range(5)})
    names = set()
    for n in range(20):
        drawn = _draw(store, f"person-{n}")
        names.add(drawn.experience.id)
        store.write(lambda c: c.exec_driver_sql("DELETE FROM draws"))
    assert len(names) > 1
    assert names <= {f"e-{i}" for i in range(5)}


def test_what_the_panel_is_unsure_of_stays_in_the_sample(judged):
    """The other kinds take nothing from each fourth answer, of which alone is drawn at random."""
    store = judged({f"e-{i}": {"harm": CUT, "doubts": ("injection",)} for i in range(40)})
    apart = {
        row.position % reviews.KEPT_APART == 0: row.drawn
        for n in range(40)
        if (row := _draw(store, f"person-{n}")) is not None
    }
    assert apart[True] == "random"
    assert apart[False] in ("uncertain", "disagreed")


def test_curated_answers_are_not_drawn(judged):
    """They were judged when they were written; practice is looked at."""
    judged({"written": {"harm": 0.5}}, source=CURATED)
    store = judged({"own": {"harm": 0.1}}, source=PRACTICE)
    assert _draw(store, "a").experience.id == "own"
    assert _draw(store, "b") is None


def test_what_was_not_stored_is_not_drawn(judged):
    """A person would have nothing to read; the panel judged it at the door."""
    store = judged({"e-1": {"harm": 0.5, "doubts": ("injection",)}}, response=WITHHELD)
    assert _draw(store) is None


def test_another_panel_takes_no_draw_away(judged):
    """What was drawn waits for its person, without the word of a panel that has not come to it."""
    store = judged({"e-1": {}, "e-2": {}})
    first = _draw(store)
    later = reviews.draw(store, "other", reviewer="anna", cut=CUT)
    assert later == msgspec.structs.replace(first, assessment=None)
    assert reviews.draw(store, "other", reviewer="ben", cut=CUT) is None


# --- how it was drawn ---------------------------------------------------------------------


def test_how_it_was_drawn_is_what_the_store_knows(judged, monkeypatch):
    """Whatever the review claims: measuring is not for those who are measured by it."""
    store = judged({"e-1": {}, "e-2": {}})
    _only_at_random(monkeypatch)
    name = _draw(store).experience.id
    other = "e-1" if name == "e-2" else "e-2"
    _record(store, name, drawn="chosen")
    _record(store, other, drawn="random")
    found = {j.experience.id: j.review.drawn for j in reviews.judgements(store, PANEL)}
    assert found == {name: "random", other: "chosen"}


def test_second_thoughts_take_nothing_from_the_sample(judged, monkeypatch):
    """What was drawn at random stays so when it is reviewed again, by anybody."""
    store = judged({"e-1": {}})
    _only_at_random(monkeypatch)
    _draw(store)
    _record(store, "e-1")
    _record(store, "e-1", id="again", decision="reject", reviewer="ben")
    [found] = reviews.judgements(store, PANEL)
    assert (found.review.id, found.review.drawn) == ("again", "random")


def test_harms_that_were_seen_are_those_of_people(judged):
    """Of this panel, newest first, between two positions, as many as are asked for."""
    judged({"e-1": {"harm": 0.1}, "e-2": {"harm": None, "weighted": None}})
    judged({"own": {"harm": 0.9}}, source=PRACTICE)
    judged({"written": {"harm": 0.9}}, source=CURATED)
    store = judged({"e-3": {"harm": 0.3}})

    def seen(panel=PANEL, limit=10, **between):
        return reviews.harms_seen(store, panel, limit=limit, **between)

    assert seen() == [(0.3, 7.0), (None, None), (0.1, 7.0)]
    assert seen(limit=1) == [(0.3, 7.0)]
    assert seen(until=2) == [(None, None), (0.1, 7.0)]
    assert seen(after=1, until=2) == [(None, None)]
    assert seen("other") == []


# --- the log ------------------------------------------------------------------------------


@pytest.fixture
def decided(judged):
    """A store with reviews of each kind, and a draw that waits."""
    store = judged(
        {f"e-{i}": {"harm": i / 10, "doubts": ("injection",)} for i in range(8)}, subject="s"
    )
    for n in range(4):
        name = _draw(store).experience.id
        how = {"decision": "reject", "harms": ("omission",)} if n % 2 else {}
        _record(store, name, **how)
    _record(store, _draw(store, "ben").experience.id, decision="correct", text="Better so.")
    _draw(store)
    return store


def test_a_rebuild_gives_the_same(decided):
    """Tables, tallies and judgements."""
    before = decided.projections_digest(), reviews.judgements(decided, PANEL)
    decided.rebuild()
    assert (decided.projections_digest(), reviews.judgements(decided, PANEL)) == before


def test_a_store_with_reviews_verifies(decided):
    """Each has the key and the stream that its verb gives it."""
    assert verify(decided).faults == ()


# --- erasure ------------------------------------------------------------------------------

CANARY = "the heron at the weir"


def test_erasing_takes_reviews_and_draws(decided):
    """Counted with the rest, and the tallies follow; nothing comes back with a rebuild."""
    found = privacy.find(decided, "subject", "s")
    assert (len(found.experiences), len(found.reviews)) == (8, 5)
    assert set(found.reviews) <= set(found.positions)
    privacy.erase(decided, "subject", "s", reason="asked", actor="test")
    assert reviews.judgements(decided, PANEL) == []
    assert set(reviews.count(decided).values()) == {0}
    assert _draw(decided) is None
    with decided.reading.connect() as connection:
        assert connection.execute(select(draws)).all() == []
    assert verify(decided).faults == ()
    before = decided.projections_digest()
    decided.rebuild()
    assert decided.projections_digest() == before


@pytest.mark.parametrize(("scope", "name"), [("experience", "mine"), ("conversation", "talk")])
def test_erasing_one_takes_its_reviews_only(judged, scope, name):
    """Not what was decided on another one; and the id of the review is not taken again."""
    judged({"mine": {}}, conversation_id="talk")
    store = judged({"other": {}})
    for reviewed in ("mine", "other"):
        _record(store, reviewed)
    _record(store, "mine", id="again", decision="reject")
    assert len(privacy.find(store, scope, name).reviews) == 2
    privacy.erase(store, scope, name, reason="asked", actor="test")
    assert [j.experience.id for j in reviews.judgements(store, PANEL)] == ["other"]
    with pytest.raises(Conflict, match="erased"):
        _record(store, "other", id="again")
    assert verify(store).faults == ()


def test_a_review_that_was_erased_is_in_no_file_of_the_store(sqlite_only, judged):
    """Neither the reason nor the better answer, nor any id."""
    store = judged({"mine": {}, "other": {}})
    how = {"decision": "correct", "text": f"I saw {CANARY}.", "reason": f"It forgot {CANARY}."}
    _record(store, "mine", **how)
    assert CANARY in _text_of(store)
    privacy.erase(store, "experience", "mine", reason="asked", actor="test")
    left = _text_of(store)
    assert CANARY not in left
    assert "mine" not in left
    assert "other" in left


def _text_of(store):
    """What the store's files hold, after the log was emptied into the database."""
    assert store.scrub()
    files = (path for path in (store.database, store.wal) if path.exists())
    return "".join(path.read_bytes().decode(errors="replace") for path in files)


def test_a_review_of_what_is_erased_meanwhile_is_not_taken(
    postgresql_url, make_experience, make_assessment
):
    """However they meet: no word of it is left, and no draw."""
    names = [f"e-{n}" for n in range(20)]
    with Store(postgresql_url) as one, Store(postgresql_url) as other:
        experiences.record(one, [make_experience(name) for name in names])
        experiences.assess(one, [make_assessment(name) for name in names])

        def decides(name):
            _draw(other, f"for-{name}")
            with suppress(NotFound):
                _record(other, name)

        def wishes(name):
            privacy.erase(one, "experience", name, reason="asked", actor="test")

        with ThreadPoolExecutor(4) as pool:
            told = [pool.submit(what, name) for name in names for what in (decides, wishes)]
            for done in told:
                done.result()
        assert [e for e in one.follow(types=["experience.reviewed"]) if e.body != b"null"] == []
        assert _draw(one, "for-e-0") is None
        assert verify(one).faults == ()


def test_reviews_age_with_their_experience(judged):
    """What is too old goes with all that is on it."""
    store = judged({"old": {}})
    _record(store, "old")
    later = now() + timedelta(days=1)
    some = retention.aged(store, before=later, consented=True)
    [erasure] = retention.erase_aged(
        store, some, before=later, consented=True, reason="age", actor="test"
    )
    assert len(erasure.positions) == 3
    assert reviews.judgements(store, PANEL) == []


# --- beside the panel's word, and each other's --------------------------------------------


def test_what_people_and_panel_say_of_the_same_answers(judged, monkeypatch):
    """The newest review of each; of all, or of those that were drawn at random."""
    store = judged({"e-1": {"harm": 0.9}, "e-2": {"harm": None}, "e-3": {}})
    _only_at_random(monkeypatch)
    name = _draw(store).experience.id
    at = int(name[-1])
    for one in ("e-1", "e-2"):
        _record(store, one, id=f"first-{one}", decision="reject", harms=("omission",))
    _record(store, "e-2", id="again")
    found = {(b.position, b.harmful, b.actual_harm) for b in reviews.beside(store, PANEL)}
    assert found == {(1, True, 0.9), (2, False, None)}
    assert {b.position for b in reviews.at_random(store, PANEL)} == {at} & {1, 2}


def test_what_several_people_decided(judged):
    """Only where there are several, with the newest word of each."""
    store = judged({"e-1": {}, "e-2": {}, "e-3": {}})
    _record(store, "e-1")
    _record(store, "e-2")
    _record(store, "e-2", id="second-thoughts", decision="reject")
    _record(store, "e-3")
    _record(store, "e-3", id="bens", decision="reject", reviewer="ben")
    _record(store, "e-3", id="annas-last", decision="reject")
    [said] = reviews.by_several(store)
    assert {name: review.id for name, review in said.items()} == {
        "anna": "annas-last",
        "ben": "bens",
    }
