"""The curators' verbs, as people use them: what they say, what they record, how they end."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from typing import NamedTuple

import pytest

from daemon.cli import main
from scorers.panel import panel_id
from scorers.settings import PanelSettings
from store import experiences, privacy, reviews
from store.events import Store
from store.records import Context, Feedback, Review, new_id, now

REJECTED = 2


def _failed(ran, code=REJECTED):
    """What a verb said on stderr when it failed with this code, as it should: in our words."""
    assert ran.returncode == code, ran.stderr
    assert "Traceback" not in ran.stderr
    assert "error: " in ran.stderr
    return ran.stderr


class Ran(NamedTuple):
    """How a verb ended."""

    returncode: object
    stdout: str
    stderr: str


@pytest.fixture
def bhavana(data, monkeypatch, capsys):
    """Runs the command line in this process: to start one for each verb would take minutes."""
    for name in [name for name in os.environ if name.startswith(("BHAVANA_", "XDG_CONFIG"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BHAVANA_DATA_DIR", str(data))
    monkeypatch.setenv("HOME", str(data.parent))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["bhavana", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Ran(ended.value.code, said.out, said.err)

    return run


@pytest.fixture
def url(data):
    """URL of the data folder's store."""
    data.mkdir()
    return f"sqlite:///{data / 'bhavana.db'}"


@pytest.fixture
def kept(url, make_experience, make_assessment):
    """Three experiences in the data folder's store, of which the panel judged two."""
    hard = Context(category="truth", difficulty="hard")
    with Store(url) as store:
        experiences.record(
            store,
            [
                make_experience("e-1", "Is the heron ill?", response="Call a vet.", context=hard),
                make_experience("e-2", response="The heron is well.", context=hard),
                make_experience("e-3", source="shop"),
            ],
        )
        panel = panel_id(PanelSettings())
        judged = [make_assessment("e-1", weighted=9.0, panel=panel)]
        experiences.assess(store, [*judged, make_assessment("e-2", panel=panel)])
        thumb = Feedback(id="f", kind="thumb", value=-1, experience_id="e-1", given_at=now())
        experiences.give_feedback(store, [thumb], actor="test")
    return url


def _event(url, kind):
    with Store(url) as store:
        return list(store.follow(types=[kind]))


def test_finding_tagging_and_showing(bhavana, kept):
    """One errand: search, tag what is found, find it by its tag, see all of it, untag."""
    hits = json.loads(bhavana("search", "HERON", "--json").stdout)
    assert [(h["id"], h["label"]) for h in hits] == [("e-2", "good"), ("e-1", "excellent")]
    assert bhavana("tag", "e-1", "birds", "--as", "anna").returncode == 0
    assert "already" in bhavana("tag", "e-1", "birds", "--as", "ben").stdout
    [event] = _event(kept, "experience.tagged")
    said = json.loads(event.body)
    assert (event.actor, said["reviewer"], said["tag"]) == ("cli", "anna", "birds")
    text = bhavana("search", "--tag", "birds").stdout
    assert "e-1" in text
    assert "#birds" in text
    assert "Call a vet." in text
    assert bhavana("review", "accept", "e-1", "--as", "anna").returncode == 0
    shown = json.loads(bhavana("show", "e-1", "--json").stdout)
    assert shown["experience"]["response"] == "Call a vet."
    assert shown["assessment"]["label"] == "excellent"
    assert [f["id"] for f in shown["feedback"]] == ["f"]
    assert [r["decision"] for r in shown["reviews"]] == ["accept"]
    assert (shown["tags"], shown["consented"], shown["datasets"]) == (["birds"], True, [])
    text = bhavana("show", "e-1").stdout
    for word in ("user: Is the heron ill?", "answer: Call a vet.", "thumb -1", "accept by anna"):
        assert word in text
    assert json.loads(bhavana("tags", "--json").stdout) == {"birds": 1}
    assert bhavana("untag", "e-1", "birds").returncode == 0
    assert bhavana("search", "--tag", "birds").stdout == "Nothing is found.\n"


def test_search_says_when_there_may_be_more(bhavana, kept):
    """On stderr, so that a pipe gets hits alone."""
    ran = bhavana("search", "--limit", "1", "--source", "web", "--category", "truth")
    assert ran.stdout.startswith("e-2  2026-01-02 03:04  web  good")
    assert "--limit" in ran.stderr
    assert bhavana("search", "--difficulty", "easy").stdout == "Nothing is found.\n"


@pytest.mark.parametrize(
    "verb",
    [
        ("show", "nobody"),
        ("tag", "nobody", "birds"),
        ("untag", "e-3", "birds"),
        ("tag", "e-3", "two words"),
        ("review", "accept", "nobody"),
        ("review", "reject", "nobody", "--reason", "x"),
        ("review", "correct", "nobody", "--reason", "x", "--text", __file__),
    ],
)
def test_what_is_not_there_is_told(bhavana, kept, verb):
    """Exit code 2 and what to do, and nothing is recorded."""
    said = _failed(bhavana(*verb))
    assert {"nobody", "e-3"} & set(verb) <= set(re.findall(r"[\w-]+", said))
    assert "\n  next: " in said
    assert _event(kept, "experience.tagged") == _event(kept, "experience.reviewed") == []


def test_what_a_reviewer_writes_is_redacted_as_at_the_door(bhavana, kept, tmp_path):
    """A correction is learned from: no address or key of anybody may be in it, nor in a reason."""
    better = tmp_path / "better.txt"
    better.write_text("Ask Ann at ann.smith@example.org, cafe\u0301 Weir.")
    told = ("--reason", "her number is +49 170 1234567", "--text", str(better))
    ran = bhavana("review", "correct", "e-1", *told)
    assert ran.returncode == 0, ran.stderr
    [review] = json.loads(bhavana("show", "e-1", "--json").stdout)["reviews"]
    assert review["text"] == "Ask Ann at [email], caf\u00e9 Weir."
    assert review["reason"] == "her number is [phone]"


def test_counting(bhavana, kept):
    """By category and difficulty; and by source, label, decision and tag."""
    cells = json.loads(bhavana("categories", "--json").stdout)
    assert cells == [
        {
            "category": "truth",
            "difficulty": "hard",
            "experiences": 2,
            "excellent": 1,
            "good": 1,
        },
        {
            "category": None,
            "difficulty": None,
            "experiences": 1,
            "excellent": 0,
            "good": 0,
        },
    ]
    assert "truth         hard                   2" in bhavana("categories").stdout
    bhavana("review", "reject", "e-2", "--reason", "dull")
    bhavana("tag", "e-2", "birds")
    assert json.loads(bhavana("stats", "--json").stdout) == {
        "sources": {"shop": 1, "web": 2},
        "labels": {"excellent": 1, "good": 1},
        "feedback": {"thumb": 1},
        "decisions": {"reject": 1},
        "tags": {"birds": 1},
    }
    assert "3 experiences" in bhavana("stats").stdout


def test_a_dump_holds_all_that_was_said(bhavana, kept, tmp_path):
    """A line each, for its owner alone; never over another file, never in part."""
    path = tmp_path / "all.jsonl"
    ran = bhavana("dump", "--output", str(path))
    assert ran.returncode == 0, ran.stderr
    assert (ran.stderr, "3 experiences" in ran.stdout) == ("", True)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["experience"]["id"] for row in rows] == ["e-1", "e-2", "e-3"]
    assert rows[0]["feedback"][0]["id"] == "f"
    assert rows[0] == json.loads(bhavana("show", "e-1", "--json").stdout)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "is there already" in _failed(bhavana("dump", "--output", str(path)))
    some = tmp_path / "some.jsonl"
    assert bhavana("dump", "--output", str(some), "--source", "shop").returncode == 0
    assert [json.loads(row)["experience"]["id"] for row in some.read_text().splitlines()] == ["e-3"]
    assert "cannot be written" in _failed(bhavana("dump", "--output", str(tmp_path / "no" / "x")))
    assert sorted(p.name for p in tmp_path.glob("*.jsonl")) == ["all.jsonl", "some.jsonl"]


# --- import -------------------------------------------------------------------------------

SHAREGPT = {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]}
MESSAGES = {
    "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
}


@pytest.fixture
def file(tmp_path):
    """Writes documents into a file, a line each; returns its path as text."""

    def write(*documents):
        path = tmp_path / "old.jsonl"
        lines = [d if isinstance(d, str) else json.dumps(d) for d in documents]
        path.write_text("\n".join(lines))
        return str(path)

    return write


def _sources(url):
    with Store(url) as store:
        return experiences.count_by_source(store)


def test_a_file_comes_in_once(bhavana, url, file):
    """Whatever the formats of its lines; what to do next is said."""
    path = file(SHAREGPT, MESSAGES)
    ran = bhavana("import", path, "--source", "old")
    assert ran.returncode == 0, ran.stderr
    assert "2 recorded, 0 were there already, 0 left out." in ran.stdout
    assert "consent" in ran.stdout
    assert "bhavana sources set old trusted" in ran.stdout
    again = json.loads(bhavana("import", path, "--source", "old", "--json").stdout)
    assert again == {"recorded": 0, "duplicates": 2, "faults": []}
    assert _sources(url) == {"old": 2}
    [event, _] = _event(url, "experience.recorded")
    assert (event.actor, json.loads(event.body)["consent"]["training"]) == ("cli", False)


def test_consent_is_given_by_who_says_so(bhavana, url, file):
    """With the version of the text; afterwards it is another content."""
    path = file(MESSAGES)
    by = ("import", path, "--source", "old", "--consent-training", "--policy-text", "2024-01")
    assert bhavana(*by).returncode == 0
    [event] = _event(url, "experience.recorded")
    assert json.loads(event.body)["consent"] == {"training": True, "policy": "2024-01"}
    said = _failed(bhavana("import", path, "--source", "old"))
    assert f"{path}, line 1: Recorded before with other content." in said
    assert "bhavana consent" in said


def test_a_file_with_faults_is_imported_when_they_are_to_be_left_out(bhavana, url, file):
    """Else nothing of it is; each fault has its file, line and reason."""
    path = file(MESSAGES, "{", SHAREGPT)
    said = _failed(bhavana("import", path, "--source", "old"))
    assert f"{path}, line 2: This is not valid JSON" in said
    assert "--skip-bad" in said
    with Store(url) as store:
        assert store.position() == 0
    ran = bhavana("import", path, "--source", "old", "--skip-bad")
    assert (ran.returncode, _sources(url)) == (0, {"old": 2})
    assert f"{path}, line 2:" in ran.stderr
    assert "2 recorded, 0 were there already, 1 left out." in ran.stdout


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--source", ""), "source"),
        (("--source", "old", "--format", "docx"), "openwebui"),
        (("--source", "old", "--format", "sharegpt"), "line 1: This is not of the format sharegpt"),
        (("--source", "old", "--policy-text", "1"), "--consent-training"),
    ],
)
def test_a_wrong_import_is_refused(bhavana, url, file, options, told):
    """With what is right; nothing is recorded."""
    assert told in _failed(bhavana("import", file(MESSAGES), *options))
    with Store(url) as store:
        assert store.position() == 0


# --- agreement ----------------------------------------------------------------------------


def _review(store, name, harmful, reviewer="anna"):
    review = Review(
        id=new_id("review"),
        experience_id=name,
        decision="reject" if harmful else "accept",
        harms=("omission",) if harmful else (),
        reason="So it is.",
        reviewer=reviewer,
        reviewed_at=now(),
    )
    reviews.record(store, review, actor="test")


def test_agreement_of_people_and_panel(bhavana, url, make_experience, make_assessment):
    """By the cut of the policy, on what was drawn at random and on all; and between people."""
    panel = panel_id(PanelSettings())
    harms = [0.9, 0.31, 0.3, 0.29, 0.0, None]
    names = [f"e-{n}" for n in range(len(harms))]
    with Store(url) as store:
        experiences.record(store, [make_experience(name) for name in names])
        experiences.assess(
            store,
            [make_assessment(n, panel=panel, harm=h) for n, h in zip(names, harms, strict=True)],
        )
        row = {"reviewer": "anna", "drawn": "random", "drawn_at": now().isoformat()}
        store.write(lambda c: c.execute(reviews.insert(reviews.draws), row | {"position": 1}))
        for name, harmful in zip(names, (True, True, False, True, False, True), strict=True):
            _review(store, name, harmful)
        _review(store, "e-1", True, "ben")
        _review(store, "e-2", True, "ben")
        _review(store, "e-2", False, "ben")
        _review(store, "e-1", False, "ben")
    found = json.loads(bhavana("review", "agreement", "--json").stdout)
    assert found["cut"] == 0.3
    assert found["random"]["agreement"]["n"] == 1
    on_all = found["all"]
    assert (on_all["silent"], on_all["taught"]) == (1, 0)
    table = ("n", "both", "first_only", "second_only", "neither")
    assert [on_all["agreement"][name] for name in table] == [5, 1, 1, 2, 1]
    assert on_all["agreement"]["share"] == pytest.approx(0.4)
    [pair] = found["reviewers"]
    assert (pair["first"], pair["second"]) == ("anna", "ben")
    assert [pair["agreement"][name] for name in table] == [2, 0, 1, 0, 1]
    text = bhavana("review", "agreement").stdout
    assert "drawn at random: n 1, agree 100.0%" in text
    assert "anna and ben: n 2, agree 50.0%" in text


def test_agreement_before_anybody_decided(bhavana, kept):
    """Nothing to compare is no error, and no number."""
    ran = bhavana("review", "agreement")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "nothing to compare yet" in ran.stdout


def test_what_was_erased_is_neither_found_nor_dumped(bhavana, kept, tmp_path):
    """Neither by words nor by id."""
    with Store(kept) as store:
        privacy.erase(store, "experience", "e-1", reason="asked", actor="test")
    assert "e-1" not in bhavana("search", "heron").stdout
    _failed(bhavana("show", "e-1"))
    bhavana("dump", "--output", str(tmp_path / "d"))
    assert "vet" not in (tmp_path / "d").read_text()


def test_the_next_answer_is_shown_until_it_is_decided(bhavana, kept):
    """With what was said, what the panel says, and the verbs that decide."""
    text = bhavana("review", "next", "--as", "anna").stdout
    name = text.split()[0]
    for word in ("drawn: ", "answer: ", "panel: deception 0.10; label", f"review accept {name}"):
        assert word in text
    assert bhavana("review", "next", "--as", "anna").stdout == text
    assert bhavana("review", "accept", name, "--as", "anna").returncode == 0
    assert name != bhavana("review", "next", "--as", "anna").stdout.split()[0]
