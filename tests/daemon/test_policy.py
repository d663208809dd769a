"""The policy as operators meet it: shown, tried, set for good, looked back on; and over HTTP."""

from __future__ import annotations

import json
import os
import stat
import tomllib

import httpx
import msgspec
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from daemon.api import make_app
from daemon.cli.app import app
from daemon.cli.policy import SINGULAR
from daemon.settings import load
from scorers.panel import panel_id
from scorers.settings import PanelSettings
from store import experiences, keys, policies, sources
from store.errors import BhavanaError
from store.events import Store
from store.records import Policy

PANEL = panel_id(PanelSettings())
FILE = """# Ours: do not lose this.
[policy]
max_harm = 0.3 # as the board decided
# min_weighted = 7.0

[server]
port = 1
"""


@pytest.fixture
def judged(make_experience, make_assessment):
    """Records ten experiences, harm 0.0 to 0.27, of a trusted source, in a store."""

    def record(store):
        sources.change(store, "web", "trusted", actor="test")
        items = [make_experience(f"e-{i}", f"question {i}") for i in range(10)]
        experiences.record(store, items)
        found = [make_assessment(f"e-{i}", harm=i * 0.03, panel=PANEL) for i in range(10)]
        experiences.assess(store, found)

    return record


@pytest.fixture
def house(data, tmp_path, monkeypatch, judged):
    """A data folder with a judged store, an environment of its own, and no configuration."""
    for name in list(os.environ):
        if name.startswith("BHAVANA_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("BHAVANA_DATA_DIR", str(data))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    data.mkdir()
    with Store(f"sqlite:///{data / 'bhavana.db'}") as store:
        judged(store)
    return data


@pytest.fixture
def file(tmp_path):
    """A configuration with comments in it."""
    path = tmp_path / "bhavana.toml"
    path.write_text(FILE)
    path.chmod(0o640)
    return path


def _run(*arguments):
    ran = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(ran.exception, Exception):
        raise ran.exception
    return ran


def _said(*arguments):
    ran = _run(*arguments, "--json")
    assert ran.exit_code == 0, ran.output
    return json.loads(ran.stdout)


def _store(house):
    return Store(f"sqlite:///{house / 'bhavana.db'}")


def _refused(*arguments):
    with pytest.raises(BhavanaError) as caught:
        _run(*arguments)
    return str(caught.value)


def test_every_value_of_the_policy_has_an_option():
    """In both verbs; a new value of the noun gets one by itself."""
    for verb in ("try", "set"):
        told = _run("policy", verb, "--help").stdout
        for name in Policy.__struct_fields__:
            assert f"--{SINGULAR.get(name, name).replace('_', '-')} " in told


def test_trying_shows_what_would_change_and_changes_nothing(house, file):
    """Counts, examples with their words, and neither log nor file is touched."""
    with _store(house) as store:
        before = store.position()
    found = _said("--config", file, "policy", "try", "--max-harm", "0.2")
    assert found["changed"] == {"max_harm": {"before": 0.3, "after": 0.2}}
    assert found["kept"] == {"now": 10, "then": 7}
    assert found["lost"]["steps"] == {"over_max_harm": 3}
    text = _run("--config", file, "policy", "try", "--max-harm", "0.2").stdout
    assert "max_harm              0.3 -> 0.2" in text
    assert "lost            3  dropped then by over max harm 3" in text
    assert "e-9  from web" in text
    with _store(house) as store:
        assert store.position() == before
        assert policies.newest(store) is None
    assert file.read_text() == FILE


def test_trying_the_other_way_gains(house, monkeypatch):
    """Against a stricter policy in force, which comes from the environment here."""
    monkeypatch.setenv("BHAVANA_POLICY__MAX_HARM", "0.1")
    found = _said("policy", "try", "--max-harm", "0.2")
    assert (found["gained"]["count"], found["lost"]["count"]) == (3, 0)
    assert found["gained"]["steps"] == {"over_max_harm": 3}


def test_a_whole_try_selects_under_both_policies(house):
    """Words, doubles and caps, too: the funnels are the selection's own."""
    options = ("--near-duplicate", "0", "--max-per-question", "99", "--max-harm", "0.2")
    found = _said("policy", "try", "--whole", *options)
    assert found["whole"]["then"]["selected"] == 7
    assert found["not_replayed"] == ["near_duplicate", "max_per_question"]
    text = _run("policy", "try", "--whole", *options).stdout
    assert "over max harm                 0        3" in text
    told = _run("policy", "try", "--max-per-source", "9").stdout
    assert "Not replayed, for it needs words: max_per_source" in told


def test_lists_and_mixtures_are_given_again_for_each(house):
    """Those given replace all."""
    found = _said(
        *("policy", "try", "--label", "good", "--label", "low"),
        *("--mixture", "web=2", "--mixture", "*=1", "--category", "truth=1"),
    )
    assert found["changed"]["labels"]["after"] == ["good", "low"]
    assert found["changed"]["mixture"]["after"] == {"web": 2, "*": 1}
    assert found["changed"]["categories"]["after"] == {"truth": 1}


@pytest.mark.parametrize(
    "options",
    [
        {"max_harm": "2"},
        {"min_examples": "many"},
        {"phase": "exellence"},
        {"labels": "splendid"},
        {"max_harm": "nan"},
        {"min_written_share": "1"},
    ],
)
@pytest.mark.parametrize("verb", [("try",), ("set", "--reason", "r")])
def test_a_wrong_value_is_told_as_the_loader_tells_it(house, file, verb, options):
    """The same message as for a file, and nothing is changed."""
    [(name, text)] = options.items()
    with pytest.raises(BhavanaError) as caught:
        load(file, {}, policy={name: [text] if name == "labels" else _toml(text)})
    flag = f"--{SINGULAR.get(name, name).replace('_', '-')}"
    said = _refused("--config", file, "policy", *verb, flag, text)
    assert said == str(caught.value)
    assert f"policy.{name}" in said
    assert file.read_text() == FILE


def _toml(text):
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def test_a_weight_that_is_none_is_told(house):
    """Without a number, and with a word in its place."""
    assert "names no weight" in _refused("policy", "try", "--mixture", "web")
    assert "policy.mixture" in _refused("policy", "try", "--mixture", "web=much")


def test_setting_writes_the_file_and_an_event(house, file):
    """Comments, other sections and the file's mode stay; who and why are in the log."""
    done = _said(
        *("--config", file, "policy", "set", "--max-harm", "0.2", "--size", "500"),
        *("--mixture", "web=2", "--reason", "the board", "--as", "anna"),
    )
    text = file.read_text()
    assert "# Ours: do not lose this." in text
    assert "max_harm = 0.2 # as the board decided" in text
    assert tomllib.loads(text) == {
        "policy": {"max_harm": 0.2, "size": 500, "mixture": {"web": 2}},
        "server": {"port": 1},
    }
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert list(file.parent.glob(".*")) == []
    assert done["changed"]["max_harm"] == {"before": 0.3, "after": 0.2}
    assert (done["recorded"], done["daemon"]) == (True, None)
    with _store(house) as store:
        found = policies.newest(store)
    assert (found.actor, found.reason) == ("cli:anna", "the board")
    assert (
        found.policy == load(file, {}).policy == Policy(max_harm=0.2, size=500, mixture={"web": 2})
    )


def test_setting_the_same_again_leaves_all_as_it_is(house, file):
    """No second event, and not even another file."""
    _run("--config", file, "policy", "set", "--max-harm", "0.2", "--reason", "once")
    before = file.stat().st_ino
    done = _said("--config", file, "policy", "set", "--max-harm", "0.2", "--reason", "twice")
    assert (done["changed"], done["recorded"]) == ({}, False)
    assert file.stat().st_ino == before
    assert [one["reason"] for one in _said("policy", "history")] == ["once"]


def test_a_file_is_made_where_there_is_none(house, tmp_path):
    """The user's own, and it is the one in use from then on."""
    done = _said("policy", "set", "--phase", "excellence", "--reason", "grown up")
    assert done["file"] == str(tmp_path / "config" / "bhavana" / "bhavana.toml")
    shown = _said("policy", "show")
    assert shown["policy"]["max_harm"] == {"value": 0.2, "origin": "phase"}
    assert shown["policy"]["phase"] == {"value": "excellence", "origin": "file"}
    assert shown["recorded"]["reason"] == "grown up"


def test_what_the_environment_overrules_cannot_be_set(house, file, monkeypatch):
    """The variable is named; other values can be."""
    monkeypatch.setenv("BHAVANA_POLICY__MAX_HARM", "0.1")
    set_harm = ("policy", "set", "--max-harm", "0.2", "--reason", "r")
    assert "BHAVANA_POLICY__MAX_HARM" in _refused("--config", file, *set_harm)
    assert file.read_text() == FILE
    with _store(house) as store:
        assert policies.newest(store) is None
    _run("--config", file, "policy", "set", "--size", "9", "--reason", "r")
    assert (
        _said("--config", file, "policy", "show")["policy"]["max_harm"]["origin"] == "environment"
    )


def test_a_file_that_this_cannot_change_is_left_alone(house, tmp_path):
    """Said before anything is recorded; so is a change without a reason or a value."""
    path = tmp_path / "odd.toml"
    path.write_text("[server]\nport = 1\n[policy]\nmax_harm = 0.3\n")
    assert "needs a value" in _refused("--config", path, "policy", "set", "--reason", "r")
    assert "reason" in _refused("--config", path, "policy", "set", "--size", "9", "--reason", " ")
    assert _run("--config", path, "policy", "set", "--size", "9").exit_code == 2
    path.write_text("[policy\n")
    assert "not valid TOML" in _refused(
        "--config", path, "policy", "set", "--size", "9", "--reason", "r"
    )
    with _store(house) as store:
        assert policies.newest(store) is None


def test_history_and_show_tell_when_who_why_and_what(house, file):
    """In text, the oldest first; show says where each value comes from."""
    assert "None is recorded yet" in _run("policy", "history").stdout
    _run("--config", file, "policy", "set", "--max-harm", "0.2", "--reason", "less harm")
    _run("--config", file, "policy", "set", "--max-harm", "0.25", "--reason", "a bit more")
    text = _run("policy", "history").stdout
    assert text.index("less harm") < text.index("a bit more")
    assert "max_harm              0.2 -> 0.25" in text
    shown = _run("--config", file, "policy", "show").stdout
    assert "a bit more" in shown
    lines = {line.split()[0]: line.split()[-1] for line in shown.splitlines() if line}
    assert (lines["max_harm"], lines["min_weighted"], lines["size"]) == ("file", "phase", "default")
    file.write_text(FILE)
    assert "the next cycle records this" in _run("--config", file, "policy", "show").stdout


def test_a_running_daemon_takes_it_and_it_survives_a_restart(
    serving, bhavana, data, tmp_path, eventually
):
    """Told by SIGHUP; the event and the file are there when another process starts."""
    path = tmp_path / "bhavana.toml"
    path.write_text(FILE.replace("port = 1", "port = 0"))
    data.mkdir()
    with Store(f"sqlite:///{data / 'bhavana.db'}") as store:
        _, key = keys.create(store, name="t", scopes=("operate",), actor="t")

    def asked(daemon):
        with httpx.Client(trust_env=False) as client:
            headers = {"Authorization": f"Bearer {key}"}
            return client.get(f"{daemon.url}/v1/policy", headers=headers).json()

    with serving(data, BHAVANA_CONFIG=str(path)) as daemon:
        assert asked(daemon)["policy"]["max_harm"] == 0.3
        ran = bhavana(
            "--config", str(path), "policy", "set", "--max-harm", "0.2", "--reason", "less"
        )
        assert ran.returncode == 0, ran.stderr
        assert f"pid {daemon.process.pid}" in ran.stdout
        eventually(lambda: asked(daemon)["policy"]["max_harm"] == 0.2, "it reads the file")
    with serving(data, BHAVANA_CONFIG=str(path)) as daemon:
        found = asked(daemon)
        assert found["policy"]["max_harm"] == 0.2
        assert found["recorded"]["reason"] == "less"


# --- over HTTP ----------------------------------------------------------------------------


@pytest.fixture
def ask(store, judged):
    """Asks the application over a judged store, whose policy in force is stricter in one value."""
    judged(store)
    settings = load(None, {"BHAVANA_POLICY__MAX_HARM": "0.1"})

    def ask(method, path, scope="operate", typed=None, **body):
        text = keys.create(store, name="t", scopes=(scope,), source="web", actor="t")[1]
        with TestClient(make_app(store, lambda: True, settings=lambda: settings)) as client:
            headers = {"Authorization": f"Bearer {text}"} | (typed or {})
            return client.request(method, f"/v1/policy{path}", headers=headers, **body)

    return ask


def test_the_policy_in_force_is_told(ask, store):
    """With what was recorded last, where something was."""
    found = ask("GET", "").json()
    assert (found["policy"]["max_harm"], found["recorded"]) == (0.1, None)
    policies.change(store, Policy(), reason="begin")
    found = ask("GET", "").json()
    assert (found["recorded"]["reason"], found["recorded"]["changed"]) == ("begin", {})


def test_a_dry_run_tells_what_would_change_and_changes_nothing(ask, store):
    """Both ways round, from the policy in force."""
    more = ask("POST", "/dry-run", json={"max_harm": 0.2})
    assert more.status_code == 200
    assert (more.json()["gained"]["count"], more.json()["lost"]["count"]) == (3, 0)
    less = ask("POST", "/dry-run", json={"max_harm": 0.05}).json()
    assert (less["gained"]["count"], less["lost"]["count"]) == (0, 2)
    assert [e["id"] for e in less["lost"]["examples"]] == ["e-3"]
    assert "kindness" not in str(less)
    assert policies.newest(store) is None
    assert ask("GET", "").json()["policy"]["max_harm"] == 0.1


def test_a_phase_that_is_tried_brings_its_thresholds(ask):
    """And what is named beside it goes before them."""
    found = ask("POST", "/dry-run", json={"phase": "excellence"}).json()["changed"]
    assert found["max_harm"]["after"] == 0.2
    assert found["min_weighted"]["after"] == 7.5
    own = ask("POST", "/dry-run", json={"phase": "excellence", "max_harm": 0.1}).json()["changed"]
    assert "max_harm" not in own


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"max_harm": 2}, "/max_harm"),
        ({"labels": ["good", "splendid"]}, "/labels/1"),
        ({"phase": None}, "/phase"),
        ({"min_examples": 0}, "/min_examples"),
    ],
)
def test_a_wrong_dry_run_is_a_problem_with_a_pointer(ask, problem, body, pointer):
    """As for every other wish."""
    assert problem(ask("POST", "/dry-run", json=body), 422, "invalid")["pointer"] == pointer


def test_a_dry_run_needs_the_right_key_and_json(ask, problem):
    """The scope operate, a known name, an object."""
    for method, path in (("GET", ""), ("POST", "/dry-run")):
        problem(ask(method, path, "read", json={}), 403)
    assert "max_ham" in problem(ask("POST", "/dry-run", json={"max_ham": 1}), 422)["detail"]
    problem(ask("POST", "/dry-run", json=[]), 422)
    typed = {"Content-Type": "application/json"}
    problem(ask("POST", "/dry-run", content=b"{", typed=typed), 400, "bad_json")


def test_the_wish_names_every_value(client):
    """In the document, too."""
    with_values = msgspec.json.schema_components([Policy], ref_template="{name}")[1]["Policy"]
    document = client.get("/openapi.json").json()["components"]["schemas"]["PolicyWish"]
    assert document["properties"].keys() == with_values["properties"].keys()
    assert not document.get("required")
