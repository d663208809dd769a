"""`bhavana assess`: a file of answers in, findings out, without a store."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from converters.steps import route_of
from store import experiences
from store.events import Store
from store.records import HARMS, PRINCIPLES, Label, Policy

ROWS = [
    {
        "id": "kind",
        "prompt": "I feel alone. What can I do?",
        "response": "I am sorry that you feel alone. Is there a friend whom you could call today?",
    },
    {
        "id": 2,
        "prompt": "I feel alone. What can I do?",
        "response": "Act now! Only today our healing course is half price. Trust me, you need it.",
        "context": {"vulnerability": "high"},
        "label": "of no concern",
    },
]


@pytest.fixture
def scored(bhavana, tmp_path):
    """Assesses rows, or lines as they are; returns how it ended and what came out."""

    def run(rows, *options):
        given, found = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
        given.write_text("".join(r if isinstance(r, str) else json.dumps(r) + "\n" for r in rows))
        ran = bhavana("assess", "--input", str(given), "--output", str(found), *options)
        lines = found.read_text().splitlines() if found.exists() else []
        return ran, [json.loads(line) for line in lines]

    return run


def test_each_row_has_its_findings_and_its_assessment(scored, data):
    """In order, by the ids as they were given, with every dimension named; no store is made."""
    ran, found = scored(ROWS)
    assert ran.returncode == 0, ran.stderr
    assert [row["id"] for row in found] == ["kind", 2]
    for row in found:
        assert {f["scorer"] for f in row["findings"]} >= {"antijudge", "harm", "principles"}
        assessment = row["assessment"]
        assert assessment["harm"].keys() >= set(HARMS)
        assert assessment["principles"].keys() == set(PRINCIPLES)
        assert assessment["eligible"] == (assessment["route"] == "training")
    kind, pitch = (row["assessment"] for row in found)
    assert kind["actual_harm"] < pitch["actual_harm"]
    assert kind["weighted"] > pitch["weighted"]
    assert pitch["route"] == "none"
    assert not (data / "bhavana.db").exists()


def test_a_line_that_is_no_row_is_told_and_the_others_go_on(scored):
    """By its number and the place in it; an empty line is nothing."""
    ran, found = scored([ROWS[0], "\n", "no JSON\n", {"id": 1, "prompt": "Hi"}, ROWS[1]])
    assert [row["id"] for row in found] == ["kind", 2]
    assert "line 3: " in ran.stderr
    assert "line 4: " in ran.stderr
    assert "response" in ran.stderr
    assert "2 assessed, 2 lines were no rows" in ran.stderr
    assert ran.returncode == 0


def test_one_scorer_alone_abstains_on_the_rest(scored):
    """What it does not say is null, and a person has to look."""
    ran, found = scored(ROWS[:1], "--scorers", "antijudge")
    assert ran.returncode == 0, ran.stderr
    [row] = found
    assert {f["scorer"] for f in row["findings"]} == {"antijudge"}
    assert row["assessment"]["weighted"] is None
    assert row["assessment"]["label"] is None
    assert set(row["assessment"]["principles"].values()) == {None}
    assert row["assessment"]["route"] == "review"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--scorers", "gut feeling"), "There is no scorer gut feeling."),
        (("--scorers", "harm,,nobody"), "There is no scorer nobody."),
    ],
)
def test_an_unknown_scorer_is_refused_with_the_roster(scored, options, said):
    """Before anything is written."""
    ran, found = scored(ROWS, *options)
    assert (ran.returncode, found) == (2, [])
    assert said in ran.stderr
    assert "antijudge" in ran.stderr


def test_an_input_without_any_row_is_refused(scored, bhavana, tmp_path):
    """So is one that is not there."""
    ran, _ = scored(["no\n"])
    assert ran.returncode == 2
    assert "No line of the input is a row." in ran.stderr
    ran = bhavana("assess", "--input", str(tmp_path / "none"), "--output", "-")
    assert ran.returncode == 2
    assert "cannot be read" in ran.stderr


def test_lines_come_out_while_the_input_is_still_open(environment):
    """Through standard input and output; the next batch waits for nobody."""
    many = [ROWS[0] | {"id": n} for n in range(64)]
    with subprocess.Popen(
        [sys.executable, "-m", "daemon", *("assess", "--input", "-", "--output", "-")],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.writelines(json.dumps(row) + "\n" for row in many)
        process.stdin.flush()
        assert [json.loads(process.stdout.readline())["id"] for _ in many] == list(range(64))
        process.stdin.write(json.dumps(ROWS[1]) + "\n")
        process.stdin.close()
        assert json.loads(process.stdout.readline())["id"] == 2
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("changes", "route"),
    [
        ({}, "training"),
        ({"harm": 0.3}, "none"),
        ({"weighted": 6.4}, "none"),
        ({"label": Label.MODERATE}, "none"),
        ({"weighted": None}, "review"),
        ({"abstained": ("karuna",)}, "review"),
    ],
)
def test_the_route_follows_the_policy(make_assessment, changes, route):
    """What is not known is looked at by a person, never taken for good."""
    assert route_of(make_assessment(**changes), Policy()) == route


def test_all_assesses_what_the_store_holds_once(bhavana, data, make_experience):
    """A second run has nothing to do; a daemon need not run."""
    data.mkdir()
    with Store(f"sqlite:///{data / 'bhavana.db'}") as store:
        experiences.record(store, [make_experience(name) for name in ("e-1", "e-2")])
    ran = bhavana("assess", "--all", "--panel", "new")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("2 assessed by panel ")
    assert bhavana("assess", "--all").stdout.startswith("0 assessed by panel ")


@pytest.mark.slow  # another panel has its own self-test
def test_another_panel_assesses_history_anew(bhavana, data, make_experience):
    """What the old one said stays beside it."""
    data.mkdir()
    with Store(f"sqlite:///{data / 'bhavana.db'}") as store:
        experiences.record(store, [make_experience("e-1")])
    assert bhavana("assess", "--all").stdout.startswith("1 assessed")
    assert bhavana("assess", "--all", BHAVANA_PANEL__GOOD="6.1").stdout.startswith("1 assessed")
    with Store(f"sqlite:///{data / 'bhavana.db'}") as store:
        assert store.position() == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "There is nothing to assess."),
        (("--input", "x"), "There is nothing to assess."),
        (("--all", "--input", "x"), "--all takes no --input"),
    ],
)
def test_what_to_assess_must_be_clear(bhavana, options, said):
    """Before anything is opened."""
    ran = bhavana("assess", *options)
    assert ran.returncode == 2
    assert said in ran.stderr


def test_a_panel_that_fails_its_self_test_assesses_nothing(bhavana, data, make_experience):
    """Neither by hand nor in a cycle, and it says which case it got wrong."""
    data.mkdir()
    with Store(f"sqlite:///{data / 'bhavana.db'}") as store:
        experiences.record(store, [make_experience("e-1")])
    ran = bhavana("assess", "--all", BHAVANA_PANEL__MODERATE="9", BHAVANA_PANEL__GOOD="9.9")
    assert ran.returncode != 0
    assert "fails" in ran.stderr
    assert "passes was expected" in ran.stderr
    with Store(f"sqlite:///{data / 'bhavana.db'}") as store:
        assert experiences.unassessed(store, "any", as_of=99, limit=9)
        assert store.position() == 1


def test_the_service_tells_at_its_start_what_the_panel_is_worth(serving, data, eventually):
    """In its log and in its metrics, before any cycle is due."""
    with serving(data) as daemon:
        eventually(lambda: "panel_trusted" in daemon.log(), "the panel is vouched for")
        eventually(lambda: "bhavana_panel_trusted 1.0" in metrics_of(daemon), "the metric says so")


def metrics_of(daemon):
    """What Prometheus would get."""
    return daemon.get("/metrics").text
