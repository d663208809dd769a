"""What was judged, over HTTP and on the command line; and what a cycle writes of it."""

from __future__ import annotations

import json

import msgspec
import pytest
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from daemon import cycle
from daemon import override as by_hand
from daemon.api import make_app
from daemon.canary.settings import CanarySettings
from daemon.cli import evaluations as verbs
from daemon.settings import Settings
from daemon.wiring import Parts, open_target
from store import cycles, keys
from store.events import Store
from store.records import Cycle, Outcome, TrainingRun
from tests.daemon.judging import MOMENT, answering, as_candidate, judged
from trainer.gates import NAMES
from trainer.report.page import NAME, policy

HELD = {"principles": Outcome.FAIL}


@pytest.fixture
def parts(store, tmp_path):
    """What a cycle works with; the untouched base is in service."""
    settings = Settings(data_dir=str(tmp_path / "data"), canary=CanarySettings(hours=0))
    return Parts(settings=settings, store=store, target=open_target(settings, store))


@pytest.fixture
def get(client, store):
    """Gets something with a key of some scopes."""

    def ask(path, *scopes):
        secret = keys.create(store, name="t", scopes=scopes or ("read",), actor="t")[1]
        return client.get(path, headers={"Authorization": f"Bearer {secret}"})

    return ask


def test_evaluations_are_listed_with_what_became_of_them(parts, get, monkeypatch):
    """Newest first; one that a person promoted names whom, beside the gates that did not pass."""
    judged(parts, HELD)
    judged(parts, {"refusal": Outcome.ERROR}, name="2")
    answering(monkeypatch, as_candidate)
    by_hand.override(parts, "evaluation-1", actor="anna", reason="I looked.")
    second, first = get("/v1/evaluations").json()["evaluations"]
    assert (second["id"], second["release"], second["overridden"]) == ("evaluation-2", None, None)
    assert second["outcomes"]["refusal"] == "error"
    assert (first["passed"], first["release"]) == (False, "release-1")
    assert first["overridden"]["actor"] == "anna"
    shown = get("/v1/evaluations/evaluation-1").json()
    assert shown["summary"] == f"1 of {len(NAMES)} gates did not pass; promoted by a person."
    assert shown["release"]["overridden"]["reason"] == "I looked."


def test_the_report_comes_with_a_strict_policy(parts, get):
    """A page that may load nothing, run nothing and be framed by nobody."""
    judged(parts, HELD)
    answer = get("/v1/evaluations/evaluation-1/report")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    stated = answer.headers["content-security-policy"]
    assert stated == f"{policy()}; frame-ancestors 'none'; sandbox"
    assert "default-src 'none'" in stated
    assert "unsafe" not in stated
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert f"Held back: 1 of {len(NAMES)} gates did not pass." in answer.text


@pytest.mark.parametrize("path", ["", "/evaluation-1", "/evaluation-1/report"])
def test_evaluations_are_for_those_who_may_read(parts, client, get, problem, path):
    """Models may repeat what people said."""
    judged(parts, HELD)
    problem(client.get(f"/v1/evaluations{path}"), 401, "missing_key")
    problem(get(f"/v1/evaluations{path}", "erase"), 403, "wrong_scope")
    assert get(f"/v1/evaluations{path}").status_code == 200


def test_an_unknown_evaluation_is_not_found(get, problem):
    """Neither the record nor its page."""
    for path in ("evaluation-9", "evaluation-9/report"):
        problem(get(f"/v1/evaluations/{path}"), 404)


def test_metrics_tell_of_an_override_while_it_serves(parts, store, monkeypatch):
    """1 from then on, until a release that passed takes its place."""
    answering(monkeypatch, as_candidate)

    def told():
        with TestClient(make_app(store, lambda: True, settings=lambda: parts.settings)) as client:
            lines = client.get("/metrics").text.splitlines()
        return next(line for line in lines if line.startswith("bhavana_release_overridden"))

    judged(parts, HELD)
    assert told() == "bhavana_release_overridden 0.0"
    release = by_hand.override(parts, "evaluation-1", actor="anna", reason="I looked.")
    assert told() == "bhavana_release_overridden 1.0"
    judged(parts, {}, name="2", incumbent=release.id, ended="failed")
    by_hand.finish(parts, "evaluation-2")
    assert told() == "bhavana_release_overridden 0.0"


def test_a_promotion_is_written_into_the_page(parts, monkeypatch):
    """The page in the evaluation's folder says what became of it, and by whose word."""
    judged(parts, HELD)
    answering(monkeypatch, as_candidate)
    by_hand.override(parts, "evaluation-1", actor="anna", reason="I looked.")
    text = (parts.settings.data / "evaluations" / "evaluation-1" / NAME).read_text()
    assert "release-1" in text
    assert "by the word of <strong>anna</strong>" in text


def test_a_page_that_cannot_be_written_holds_up_no_cycle(parts, monkeypatch):
    """The promotion is whole; the log says that the page is not there, and nothing of its words."""
    judged(parts, {}, ended="failed")
    answering(monkeypatch, as_candidate)

    def breaks(_):
        raise ValueError("what somebody said")

    monkeypatch.setattr(cycle, "write_report", breaks)
    with capture_logs() as said:
        release = by_hand.finish(parts, "evaluation-1")
    assert cycles.current_release(parts.store, "local") == release
    [told] = [one for one in said if one["event"] == "report_not_written"]
    assert told["error"] == "ValueError"
    assert "what somebody said" not in str(said)


def test_an_evaluation_leaves_its_page(parts, monkeypatch):
    """The step writes it when the record is there, from the record and the folder."""
    before = judged(parts, HELD)
    begun = Cycle(id="cycle-2", reason="test", started_at=MOMENT, position=0)
    cycles.start(parts.store, begun)
    run = cycles.by_id(parts.store, TrainingRun, before.run_id)

    def child(module, folder, job, **_):
        manifest = {
            "adapter_hash": before.adapter_hash, "base_hash": before.base_hash,
            "gates_hash": before.gates_hash, "verdicts": before.verdicts, "metrics": {},
            "finished_at": MOMENT,
        }  # fmt: skip
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))

    monkeypatch.setattr(cycle, "run_job", child)
    made = cycle.evaluate(parts, begun, run)
    page = parts.settings.data / "evaluations" / "evaluation-2" / NAME
    assert made.id in page.read_text()


def test_the_verb_promotes_by_a_persons_word(data, monkeypatch, capsys):
    """In the name of who is logged in, where no other is given; and says so."""
    configured = Settings(data_dir=str(data))
    monkeypatch.setattr(verbs, "settings", lambda: configured)
    monkeypatch.setattr(verbs, "login", lambda: "anna")
    monkeypatch.setattr(verbs.logs, "set_up", lambda: None)  # the tests' own stands
    answering(monkeypatch, as_candidate)
    data.mkdir()
    with Store(f"sqlite:///{data / 'bhavana.db'}") as opened:
        target = open_target(configured, opened)
        judged(Parts(settings=configured, store=opened, target=target), HELD)
    verbs.promote("evaluation-1", override=True, reason="I looked.")
    said = "release-1 serves at local, by the word of anna, which stays with it."
    assert said in capsys.readouterr().out
    verbs.list_evaluations()
    listed = "held back (principles fail), promoted by the word of anna as release-1"
    assert listed in capsys.readouterr().out


def test_the_command_line_shows_what_was_judged(data, bhavana, tmp_path):
    """List, table, JSON and page; without --override, or without a reason, nothing is promoted."""
    assert "None yet" in bhavana("evaluations", "list").stdout
    data.mkdir(exist_ok=True)
    with Store(f"sqlite:///{data / 'bhavana.db'}") as opened:
        settings = Settings(data_dir=str(data))
        target = open_target(settings, opened)
        judged(Parts(settings=settings, store=opened, target=target), HELD)
    listed = bhavana("evaluations", "list").stdout
    assert "evaluation-1  2026-01-02 03:04  held back (principles fail)" in listed
    page = tmp_path / "pages" / "one.html"
    shown = bhavana("evaluations", "show", "--html", str(page))
    assert "principles: fail" in shown.stdout
    assert page.read_text().startswith("<!doctype html>")
    as_json = json.loads(bhavana("evaluations", "show", "evaluation-1", "--json").stdout)
    assert as_json["evaluation"]["id"] == "evaluation-1"
    refused = bhavana("promote", "evaluation-1")
    assert (refused.returncode, "--override --reason" in refused.stderr) == (2, True)
    for arguments in (("--override",), ("--reason", "because"), ("--override", "--reason", " ")):
        assert bhavana("promote", "evaluation-1", *arguments).returncode == 2
    assert "held back (principles fail)\n" in bhavana("evaluations", "list").stdout
