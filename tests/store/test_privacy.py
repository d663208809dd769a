"""People's wishes: words and ids are gone, their places stay, and nothing comes back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from sqlalchemy import text

from store import experiences, privacy
from store.errors import Conflict, NotFound
from store.events import Store
from store.log import Fact
from store.records import ConsentChange, Dataset, Feedback, Policy, TrainingRun, now
from store.verify import verify

CANARY = "the heron at the weir"


@pytest.fixture
def said(store, make_experience, make_assessment):
    """Two people's words, with feedback, an assessment and a change of consent."""
    mine = {"subject": "person-7", "conversation_id": "talk-7"}
    experiences.record(
        store,
        [
            make_experience("mine-1", response=f"I know {CANARY} well.", **mine),
            make_experience("mine-2", prompt=f"Where is {CANARY}?", **mine),
            make_experience("other", subject="person-8", conversation_id="talk-8"),
        ],
    )
    experiences.assess(store, [make_assessment("mine-1"), make_assessment("other")])
    moment = now()
    given = [
        Feedback(
            id="f-1", kind="comment", experience_id="mine-1", given_at=moment, text=CANARY
        ),
        Feedback(
            id="f-2", kind="thumb", conversation_id="talk-7", given_at=moment, value=1,
            subject="person-7",
        ),
        Feedback(id="f-3", kind="thumb", experience_id="other", given_at=moment, value=1),
    ]  # fmt: skip
    experiences.give_feedback(store, given, actor="test")
    change = ConsentChange(
        id="c-1", scope="subject", scope_id="person-7", training=False, changed_at=moment
    )
    experiences.change_consent(store, change, actor="test")
    return store


def _bytes_of(store):
    """Everything that the store's files hold, after the log was emptied into the database."""
    assert store.scrub()
    database = store._write.url.database
    return b"".join(
        path.read_bytes()
        for path in (store.wal, store.wal.with_name(database.rsplit("/", 1)[-1]))
        if path.exists()
    )


def _erase(store, scope, name):
    return privacy.erase(store, scope, name, reason="asked", actor="test")


def test_erasing_a_person_takes_words_feedback_assessments_and_consent(said):
    """Everything of that person is counted, and nothing of anybody else's."""
    found = privacy.find(said, "subject", "person-7")
    assert (len(found.experiences), len(found.feedback)) == (2, 2)
    assert (len(found.assessments), len(found.consents)) == (1, 1)
    erasure = _erase(said, "subject", "person-7")
    assert erasure.positions == found.positions
    with pytest.raises(NotFound):
        experiences.get(said, "mine-1")
    assert experiences.get(said, "other").subject == "person-8"
    assert [f.id for f in experiences.feedback_on(said, "other")] == ["f-3"]
    assert privacy.find(said, "subject", "person-7").positions == ()


@pytest.mark.parametrize(
    ("scope", "name", "count"), [("experience", "mine-1", 1), ("conversation", "talk-7", 2)]
)
def test_an_experience_and_a_conversation_can_be_erased(said, scope, name, count):
    """The wish reaches as far as it says."""
    assert len(_erase(said, scope, name).experiences) == count
    assert experiences.count_by_source(said) == {"web": 3 - count}


def test_what_was_erased_is_in_no_file_of_the_store(sqlite_only, said):
    """Neither words nor ids are in the database or its write-ahead log."""
    assert CANARY.encode() in _bytes_of(said)
    _erase(said, "subject", "person-7")
    left = _bytes_of(said)
    for gone in (CANARY, "mine-1", "mine-2", "person-7", "talk-7"):
        assert gone.encode() not in left
    assert b"person-8" in left


def test_what_was_erased_is_not_taken_again(said, make_experience):
    """The same ids are refused, with the same words or others; feedback's, too."""
    _erase(said, "subject", "person-7")
    again = [make_experience("mine-1"), make_experience("mine-2"), make_experience("new")]
    assert [a.status for a in experiences.record(said, again)] == ["erased", "erased", "recorded"]


def test_nothing_more_is_taken_about_what_was_erased(said, make_assessment):
    """Feedback that comes late, and the assessment of a worker that had read it before."""
    _erase(said, "subject", "person-7")
    late = [
        Feedback(id=f"late-{name}", kind="thumb", experience_id=name, given_at=now(), value=1)
        for name in ("mine-1", "other", "not-yet-here")
    ]
    statuses = [a.status for a in experiences.give_feedback(said, late, actor="test")]
    assert statuses == ["erased", "recorded", "recorded"]
    assert experiences.assess(said, [make_assessment("mine-2")])[0].status == "erased"
    assert verify(said).faults == ()


def _comment(name, **on):
    return Feedback(id=name, kind="comment", given_at=now(), text=CANARY, **on)


@pytest.mark.parametrize(("scope", "name"), [("subject", "person-7"), ("experience", "mine")])
def test_what_was_said_on_a_whole_conversation_goes_with_the_last_of_it(
    store, make_experience, scope, name
):
    """Nobody signs it, and with the last experience nothing points to it any more."""
    mine = make_experience("mine", subject="person-7", conversation_id="talk-7")
    shared = make_experience("shared", subject="person-7", conversation_id="talk-8")
    others = make_experience("others", subject="person-8", conversation_id="talk-8")
    experiences.record(store, [mine, shared, others])
    given = [
        _comment("on-mine", conversation_id="talk-7"),
        _comment("on-8", conversation_id="talk-8"),
    ]
    experiences.give_feedback(store, given, actor="test")
    _erase(store, scope, name)
    left = [e.key for e in store.follow(types=["feedback.given"]) if e.body != b"null"]
    assert left == ["feedback/on-8"]
    again = [_comment("late", conversation_id="talk-7"), _comment("fine", conversation_id="talk-8")]
    statuses = [a.status for a in experiences.give_feedback(store, again, actor="test")]
    assert statuses == ["erased", "recorded"]
    goes_on = [
        make_experience("goes-on", subject="person-7", conversation_id="talk-7"),
        make_experience("anew", subject="person-7", conversation_id="talk-9"),
    ]
    assert [a.status for a in experiences.record(store, goes_on)] == ["erased", "recorded"]
    assert verify(store).faults == ()


def test_what_is_on_its_way_is_not_taken_after_the_wish(store, make_experience):
    """Erased before it came; so is what belongs to it, and the consent on it."""
    assert _erase(store, "experience", "coming") is None
    assert _erase(store, "conversation", "talk-3") is None
    coming = [make_experience("coming"), make_experience("other", conversation_id="talk-3")]
    assert [a.status for a in experiences.record(store, coming)] == ["erased", "erased"]
    change = ConsentChange(
        id="c", scope="experience", scope_id="coming", training=True, changed_at=now()
    )
    with pytest.raises(Conflict, match="erased"):
        experiences.change_consent(store, change, actor="test")
    assert store.position() == 0


def test_erasing_beside_another_process_costs_neither_anything(
    postgresql_url, make_experience, make_assessment
):
    """Both record and erase at once; no word comes in between finding and erasing."""
    names = [f"e-{n}" for n in range(40)]
    with Store(postgresql_url) as one, Store(postgresql_url) as other:
        experiences.record(one, [make_experience(name, subject="s") for name in names])

        def speaks(n):
            experiences.record(other, [make_experience(f"more-{n}")])
            experiences.give_feedback(
                other, [_comment(f"f-{n}", experience_id=names[n])], actor="test"
            )
            experiences.assess(other, [make_assessment(names[n])])

        with ThreadPoolExecutor(3) as pool:
            speaking = pool.submit(lambda: [speaks(n) for n in range(len(names))])
            asked = [
                pool.submit(lambda s=s: [_erase(s, "experience", name) for name in names])
                for s in (one, other)
            ]
            speaking.result()
            wished = [*asked[0].result(), *asked[1].result()]
        assert sum(erasure is not None for erasure in wished) == len(names)
        left = {e.key for e in one.follow() if e.body != b"null"}
        for n, name in enumerate(names):
            assert left.isdisjoint({f"experience/{name}", f"feedback/f-{n}"})
            assert not any(key.startswith(f"assessment/{name}/") for key in left)
        assert verify(one).faults == ()


def test_the_log_keeps_order_and_digests(said):
    """The rows stay at their positions with type, time and digest, and name nobody."""
    before = {e.position: e for e in said.follow()}
    erasure = _erase(said, "subject", "person-7")
    for event in said.follow():
        if event.position in erasure.positions:
            assert event.body == b"null"
            assert event.stream == "erased"
            assert event.type == before[event.position].type
        elif event.position in before:
            assert event == before[event.position]
    assert "person-7" not in msgspec.json.encode(erasure).decode()


def test_erasing_survives_a_rebuild(said):
    """Replaying the log brings nothing back."""
    _erase(said, "subject", "person-7")
    before = said.projections_digest()
    said.rebuild()
    assert said.projections_digest() == before


def test_erasing_again_finds_nothing(said):
    """A repeated wish is no error and leaves no second event."""
    _erase(said, "subject", "person-7")
    end = said.position()
    assert _erase(said, "subject", "person-7") is None
    assert said.position() == end


def test_where_an_experience_went_is_known(said):
    """Dataset, run and release of the cycle that learned from it, and nothing else's."""
    [mine, _] = privacy.find(said, "subject", "person-7").experiences
    dataset = Dataset(
        id="dataset-1",
        cycle_id="cycle-1",
        position=said.position(),
        path="/nowhere",
        content_hash="0",
        policy=Policy(),
        panel="p",
        counts={},
        funnel={},
        built_at=now(),
        members=(mine,),
    )
    run = TrainingRun(
        id="run-1",
        cycle_id="cycle-1",
        dataset_id="dataset-1",
        base="b",
        base_hash="0",
        recipe_hash="0",
        path="/nowhere",
        adapter_hash="0",
        metrics={},
        finished_at=now(),
    )
    facts = [("dataset.built", dataset), ("run.finished", run)]
    said.append([Fact(type=t, stream="cycle/1", key=n.id, noun=n) for t, n in facts])
    went = privacy.where_it_went(said, [mine])
    assert went == privacy.Went(datasets=("dataset-1",), runs=("run-1",), adapters=("0",))
    [other] = privacy.find(said, "experience", "other").experiences
    assert privacy.where_it_went(said, [other]) == privacy.Went()
    assert privacy.erased_among(said, dataset.members) == set()
    _erase(said, "experience", "mine-1")
    assert privacy.erased_among(said, dataset.members) == {mine}


def test_what_came_with_a_key_is_known(store, make_experience):
    """What was erased since is counted, too, but no longer named."""
    experiences.record(store, [make_experience("a"), make_experience("b")], actor="key:mine")
    experiences.record(store, [make_experience("c")], actor="key:other")
    _erase(store, "experience", "a")
    assert list(privacy.of_key(store, "mine").values()) == ["", "b"]
    assert privacy.of_key(store, "none") == {}


@pytest.mark.parametrize(
    ("changes", "consented"),
    [
        ([], True),
        ([("subject", "person-8", False)], False),
        ([("conversation", "talk-8", False)], False),
        ([("experience", "other", False)], False),
        ([("subject", "person-9", False)], True),
        ([("subject", "person-8", False), ("experience", "other", True)], True),
        ([("experience", "other", True), ("subject", "person-8", False)], False),
    ],
)
def test_the_newest_consent_that_covers_an_experience_counts(said, changes, consented):
    """Whatever its scope; and a question as of an earlier position hears the earlier answer."""
    before = said.position()
    for number, (scope, name, training) in enumerate(changes):
        change = ConsentChange(
            id=f"n-{number}", scope=scope, scope_id=name, training=training, changed_at=now()
        )
        experiences.change_consent(said, change, actor="test")

    def of(as_of):
        found = experiences.assessed(said, "panel-1", as_of=as_of, moment=now())
        return {a.experience.id: a.consented for a in found}

    assert of(said.position())["other"] is consented
    assert of(before) == {"mine-1": False, "other": True}


def test_erased_bodies_are_empty_in_the_table(said):
    """The database's own view: no body is left where the stream says erased."""
    _erase(said, "subject", "person-7")
    with said.reading.connect() as connection:
        query = text("SELECT count(*) FROM events WHERE stream = 'erased'")
        assert connection.execute(query).scalar() == 6
