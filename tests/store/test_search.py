"""Search and dossiers: what is meant, nothing else, and all that was said of it."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest

from store import dossiers, experiences, privacy, reviews, search, tags
from store.errors import NotFound
from store.records import (
    ConsentChange,
    Context,
    Cycle,
    Dataset,
    Feedback,
    Label,
    Message,
    Policy,
    Review,
    Tagging,
    new_id,
    now,
)
from store.search import Filter

PANEL = "panel-1"
MOMENT = datetime(2026, 1, 2, tzinfo=UTC)


def _found(store, *words, panel=PANEL, **only):
    return [hit.id for hit in search.search(store, words, panel=panel, only=Filter(**only))]


def _review(store, name, decision, **changes):
    review = Review(
        id=new_id("review"),
        experience_id=name,
        decision=decision,
        reason="So it is.",
        reviewer="anna",
        reviewed_at=MOMENT,
        **changes,
    )
    reviews.record(store, review, actor="test")
    return review


def _tag(store, name, tag, *, on=True):
    tagging = Tagging(
        id=new_id("t"), experience_id=name, tag=tag, on=on, reviewer="anna", tagged_at=MOMENT
    )
    tags.record(store, tagging, actor="test")


@pytest.fixture
def talks(store, make_experience, make_assessment):
    """Four experiences; the panel judged the first two."""
    experiences.record(
        store,
        [
            make_experience("e-1", "My heron is ill.", response="Call a Vet.\nToday!"),
            make_experience(
                "e-2",
                "Wie heißt diese STRASSE?",
                response="Es ist die Straße am Wehr.",
                source="shop",
                context=Context(category="truth", difficulty="hard"),
            ),
            make_experience(
                "e-3",
                messages=(
                    Message(role="system", content='Say "100%_sure\\" only'),
                    Message(role="user", content="Cafe\u0301?"),
                ),
                response="A café by the weir, said the heron.",
                context=Context(category="truth", difficulty="easy"),
            ),
            make_experience("e-4", response="Nothing at all."),
        ],
    )
    experiences.assess(store, [make_assessment("e-1", weighted=8.5), make_assessment("e-2")])
    return store


# --- search -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("heron",), ["e-3", "e-1"]),
        (("HERON", "vet"), ["e-1"]),
        (("heron", "nothing"), []),
        (("a vet.",), ["e-1"]),
        (("strasse",), ["e-2"]),
        (("straße", "WEHR"), ["e-2"]),
        (("CAFÉ",), ["e-3"]),
        (("Cafe\u0301",), ["e-3"]),
        (('"100%_sure\\"',), ["e-3"]),
        (("100__sure",), []),
        (("training",), []),  # a key of the body, and no word of anybody's
        ((), ["e-4", "e-3", "e-2", "e-1"]),
    ],
)
def test_all_words_are_somewhere_in_what_was_said(talks, words, names):
    """In messages or response, whatever their case and accents; the newest first."""
    assert _found(talks, *words) == names


def test_a_hit_tells_what_is_known(talks):
    """Where it comes from, what panel and people say of it, and the words around the hit."""
    _review(talks, "e-1", "accept")
    _review(talks, "e-1", "reject")
    _tag(talks, "e-1", "birds")
    [hit] = search.search(talks, ["vet"], panel=PANEL)
    assert (hit.source, hit.label, hit.decision) == ("web", Label.EXCELLENT, "reject")
    assert (hit.tags, hit.snippet) == (("birds",), "Call a Vet. Today!")
    [hit] = search.search(talks, ["strasse"], panel="other")
    assert (hit.label, hit.decision, hit.tags) == (None, None, ())
    assert (hit.category, hit.difficulty, hit.position) == ("truth", "hard", 2)


def test_a_long_text_is_shown_around_the_first_word(store, make_experience):
    """On one line, with marks where it was cut."""
    experiences.record(store, [make_experience(response="x " * 200 + "the\nweir " + "y " * 200)])
    [hit] = search.search(store, ["WEIR", "answer"], panel=PANEL)
    assert hit.snippet.startswith("…x x")
    assert "x the weir y" in hit.snippet
    assert hit.snippet.endswith("y…")
    assert len(hit.snippet) < 100


@pytest.mark.parametrize(
    ("only", "names"),
    [
        ({"source": "shop"}, ["e-2"]),
        ({"category": "truth"}, ["e-3", "e-2"]),
        ({"category": "truth", "difficulty": "easy"}, ["e-3"]),
        ({"label": Label.EXCELLENT}, ["e-1"]),
        ({"tag": "birds"}, ["e-3"]),
        ({"tag": "never"}, []),
        ({"decision": "correct"}, ["e-1"]),
        ({"decision": "accept"}, ["e-2"]),
        ({"decision": "accept", "source": "web"}, []),
    ],
)
def test_filters_narrow(talks, only, names):
    """The newest decision counts, and the tags that are on."""
    _review(talks, "e-1", "accept")
    _review(talks, "e-1", "correct", text="Better so.")
    _review(talks, "e-2", "accept")
    _tag(talks, "e-3", "birds")
    _tag(talks, "e-1", "birds")
    _tag(talks, "e-1", "birds", on=False)
    assert _found(talks, **only) == names


def test_what_was_erased_is_not_found(talks):
    """Neither by its words nor without any."""
    privacy.erase(talks, "experience", "e-1", reason="asked", actor="test")
    assert _found(talks, "heron") == ["e-3"]
    assert "e-1" not in _found(talks)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_each_is_found_once_over_pages(talks, monkeypatch, count):
    """However the pages fall."""
    monkeypatch.setattr(search, "PAGE", count)
    monkeypatch.setattr(dossiers, "PAGE", count)
    assert _found(talks) == ["e-4", "e-3", "e-2", "e-1"]
    walked = [d.experience.id for d in dossiers.walk(talks, panel=PANEL)]
    assert walked == ["e-1", "e-2", "e-3", "e-4"]


def test_no_more_is_read_than_is_asked_for(talks, monkeypatch):
    """The first hits come before the whole store was looked through."""
    monkeypatch.setattr(search, "PAGE", 1)
    looked = []
    monkeypatch.setattr(search, "_holds", _noting(search._holds, looked))
    list(itertools.islice(search.search(talks, ["heron"], panel=PANEL), 1))
    assert len(looked) == 2


def _noting(function, calls):
    def noted(*arguments):
        calls.append(arguments)
        return function(*arguments)

    return noted


# --- dossiers -----------------------------------------------------------------------------


def test_a_dossier_holds_all_that_was_said(store, make_experience, make_assessment):
    """Of this experience and its conversation, and of no other one."""
    experiences.record(
        store, [make_experience(f"e-{n}", conversation_id=f"talk-{n}") for n in (1, 2)]
    )
    assessment = make_assessment("e-1")
    experiences.assess(store, [assessment, make_assessment("e-1", panel="older")])
    given = [
        Feedback(id="f-1", kind="thumb", value=1, conversation_id="talk-1", given_at=MOMENT),
        Feedback(id="f-2", kind="thumb", value=-1, experience_id="e-1", given_at=MOMENT),
        Feedback(id="f-3", kind="thumb", value=1, experience_id="e-2", given_at=MOMENT),
    ]
    experiences.give_feedback(store, given, actor="test")
    decided = [_review(store, "e-1", "accept"), _review(store, "e-1", "reject")]
    _review(store, "e-2", "accept")
    for tag in ("b", "a"):
        _tag(store, "e-1", tag)
    change = ConsentChange(
        id="c", scope="conversation", scope_id="talk-1", training=False, changed_at=MOMENT
    )
    experiences.change_consent(store, change, actor="test")
    _hold(store, "dataset-1", members=(1,))
    found = dossiers.get(store, "e-1", panel=PANEL)
    assert (found.assessment.id, found.assessment.panel) == (assessment.id, PANEL)
    assert found == dossiers.Dossier(
        experience=experiences.get(store, "e-1"),
        position=1,
        consented=False,
        assessment=found.assessment,
        feedback=(given[1], given[0]),
        reviews=tuple(decided),
        tags=("a", "b"),
        datasets=("dataset-1",),
    )
    other = dossiers.get(store, "e-2", panel=PANEL)
    assert (other.consented, other.assessment, other.feedback) == (True, None, (given[2],))
    assert (len(other.reviews), other.tags, other.datasets) == (1, (), ())
    assert list(dossiers.walk(store, panel=PANEL)) == [found, other]


def _hold(store, name, *, members):
    from store import cycles

    cycle = Cycle(id="cycle-1", position=store.position(), reason="test", started_at=now())
    cycles.start(store, cycle)
    dataset = Dataset(
        id=name,
        cycle_id="cycle-1",
        position=cycle.position,
        path="/nowhere",
        content_hash="0",
        policy=Policy(),
        panel=PANEL,
        counts={},
        funnel={},
        built_at=now(),
        members=members,
    )
    cycles.leave(store, dataset)


def test_dossiers_of_a_source_or_a_tag(talks):
    """As many as are counted."""
    _tag(talks, "e-3", "birds")
    for narrowed, names in (
        ({}, ["e-1", "e-2", "e-3", "e-4"]),
        ({"source": "shop"}, ["e-2"]),
        ({"tag": "birds"}, ["e-3"]),
        ({"tag": "birds", "source": "shop"}, []),
    ):
        walked = [d.experience.id for d in dossiers.walk(talks, panel=PANEL, **narrowed)]
        assert walked == names
        assert dossiers.count(talks, **narrowed) == len(names)


def test_there_is_no_dossier_of_what_is_gone(talks):
    """Nor of what never came."""
    privacy.erase(talks, "experience", "e-1", reason="asked", actor="test")
    for name in ("e-1", "never"):
        with pytest.raises(NotFound, match=name):
            dossiers.get(talks, name, panel=PANEL)
