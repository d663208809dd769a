"""What comes in from a file: by the door's rules, each once, and no words that may not stay."""

from __future__ import annotations

import json

import pytest

from converters.imports.files import read
from daemon.importing import bring_in, faults_of
from daemon.redaction import Redactor
from scorers.panel import panel_id
from scorers.settings import PanelSettings
from store import experiences, privacy, sources
from store.errors import Unavailable
from store.records import Consent, now
from store.redaction import WITHHELD, RedactionSettings

CANARY = "the heron stood in the reeds"


def _row(*said, **about):
    roles = ("user", "assistant") * len(said)
    messages = [{"role": r, "content": c} for r, c in zip(roles, said, strict=False)]
    return {"messages": messages} | about


@pytest.fixture
def bring(store, tmp_path):
    """Brings rows in, as the command line does; returns what became of them."""

    def bring(*rows, source="old", training=False, judge=None, **redaction):
        path = tmp_path / "f.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in rows))
        return bring_in(
            store,
            read(path, source=source, consent=Consent(training=training)),
            Redactor(RedactionSettings(**redaction)),
            judge or _nobody,
            source=source,
            actor="test",
            told=lambda _: None,
        )

    return bring


def _nobody(_):
    raise AssertionError("nothing is to be judged")


def _kept(store):
    return [
        experiences.get(store, one.id) for one in reversed(experiences.listed(store, limit=100))
    ]


def test_what_comes_in_is_as_the_door_keeps_it(store, bring):
    """NFC, without addresses and keys; as an event with its actor; in quarantine."""
    done = bring(_row("Cafe\u0301 at a@b.example?", "Yes, caf\u00e9.", "More?", "No."))
    assert (done.recorded, done.duplicates, done.faults) == (2, 0, ())
    first, second = _kept(store)
    assert first.messages[0].content == "Caf\u00e9 at [email]?"
    assert len(second.messages) == 3
    [event, _] = store.follow(types=["experience.recorded"])
    assert event.actor == "test"
    assert sources.tiers(store, as_of=store.position(), moment=now())["old"] == "quarantined"


def test_no_name_tells_what_was_redacted(store, bring):
    """Who has the rest could guess a number and compare: numbers that go give one name."""
    first = bring(_row("Call me at +49 30 1234567?", "Gladly."))
    again = bring(_row("Call me at +49 30 7654321?", "Gladly."))
    assert (first.recorded, again.recorded, again.duplicates) == (1, 0, 1)
    assert "[phone]" in _kept(store)[0].messages[0].content


def test_importing_twice_records_nothing_twice(store, bring):
    """Though the source is trusted meanwhile, which stays; a later turn is recorded."""
    bring(_row("Why?", "Because."))
    sources.change(store, "old", "trusted", actor="test")
    done = bring(_row("Why?", "Because."), _row("Why?", "Because.", "So?", "So."))
    assert (done.recorded, done.duplicates) == (1, 2)
    assert sources.tiers(store, as_of=store.position(), moment=now())["old"] == "trusted"


def test_the_house_s_own_sources_get_no_trial(store, bring):
    """As at the door."""
    bring(_row("Why?", "Because."), source="exemplar")
    assert sources.listed(store) == []


def test_other_consent_is_another_content(store, bring):
    """What is recorded keeps what was said of it then; the file says where it differs."""
    bring(_row("Why?", "Because."))
    done = bring(_row("Why?", "Because."), _row("What?", "That."), training=True)
    assert (done.recorded, [fault.place for fault in done.faults]) == (1, ["line 1"])
    assert [e.consent.training for e in _kept(store)] == [False, True]


def test_what_was_erased_does_not_come_back(store, bring):
    """Nor what belongs to an erased conversation."""
    row = _row("Why?", "Because.", conversation="talk-1")
    bring(row)
    privacy.erase(store, "conversation", "talk-1", reason="asked", actor="test")
    done = bring(row, _row("What?", "That.", conversation="talk-1"))
    assert (done.recorded, len(done.faults)) == (0, 2)
    assert "erased" in done.faults[0].reason
    assert _kept(store) == []


def test_of_a_place_all_comes_in_or_nothing(store, bring):
    """A control character in its last answer keeps out the first one, too, and nobody else's."""
    bad = _row("Why?", "Because.", "So?", "So \x07.")
    done = bring(bad, _row("What?", "That."))
    assert (done.recorded, [fault.place for fault in done.faults]) == (1, ["line 1"])
    assert "control character" in done.faults[0].reason
    assert [e.response for e in _kept(store)] == ["That."]


def test_faults_are_found_before_anything_is_recorded(store, tmp_path):
    """Those of the file and those of the door, with their places."""
    path = tmp_path / "f.jsonl"
    rows = [_row("Why?", "Because."), {"else": 1}, _row("Why?", "\x07")]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    found = read(path, source="old", consent=Consent())
    faults = faults_of(found, Redactor(RedactionSettings()), lambda _: None)
    assert [fault.place for fault in faults] == ["line 2", "line 3"]
    assert store.position() == 0


def test_words_that_may_not_stay_are_judged_and_dropped(store, bring, make_assessment):
    """The panel sees them, the store keeps its word on them; without a panel nothing is kept."""
    panel = panel_id(PanelSettings())
    seen = []

    def judge(some):
        seen.extend(e.response for e in some)
        return [make_assessment(e.id, panel=panel) for e in some]

    withheld = {"content": "withhold"}
    done = bring(_row(f"Was it that {CANARY}?", f"Yes, {CANARY}."), judge=judge, **withheld)
    assert (done.recorded, done.faults) == (1, ())
    assert seen == [f"Yes, {CANARY}."]
    [kept] = _kept(store)
    assert (kept.response, kept.messages[0].content) == (WITHHELD, WITHHELD)
    assert kept.metadata["response_chars"] == len(f"Yes, {CANARY}.")
    assert experiences.count_by_label(store, panel) == {"good": 1}
    other = _row("Was it then?", "Then.")
    again = bring(other, judge=lambda some: [make_assessment(e.id) for e in some], **withheld)
    assert (again.recorded, again.duplicates) == (1, 0)
    assert not any(CANARY.encode() in event.body for event in store.follow())

    def fails(_):
        raise Unavailable("asleep")

    before = store.position()
    with pytest.raises(Unavailable):
        bring(_row("Why?", "Because."), judge=fails, **withheld)
    assert store.position() == before
