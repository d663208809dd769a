"""`bhavana chat`: with the running daemon where it answers, else with a child process."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from ..conftest import ROOT, environment_of
from .conftest import SERVING, House

KEPT = re.compile(r"\(kept as (\S+), (.*)\)")


@pytest.fixture(scope="module")
def base_at_home(answers, tmp_path_factory):
    """A daemon with which the untouched base answers."""
    with answers(House(tmp_path_factory.mktemp("verb") / "data")) as home:
        yield home


@pytest.fixture
def chat(base_at_home):
    """Runs the verb on the daemon's data folder; what is typed comes by stdin."""

    def run(*arguments, typed="", key=True, **changes):
        shown = {"BHAVANA_API_KEY": base_at_home.secret} if key else {}
        return subprocess.run(
            [sys.executable, "-m", "daemon", "chat", *arguments],
            cwd=ROOT,
            env=environment_of(base_at_home.house.data, **(SERVING | shown | changes)),
            input=typed,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


def _experiences(home):
    with home.client() as client:
        return client.get("/v1/experiences").json()["experiences"]


def _experience(home, name):
    with home.client() as client:
        return client.get(f"/v1/experiences/{name}").json()["experience"]


def test_it_talks_to_the_daemon_and_keeps_nothing(chat, base_at_home):
    """Although the daemon records: nobody asked for it here."""
    before = len(_experiences(base_at_home))
    ran = chat("Say hello.")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("smollm2-135m: ")
    assert "kept" not in ran.stderr
    assert len(_experiences(base_at_home)) == before


def test_a_conversation_is_kept_where_that_is_asked_for(chat, base_at_home):
    """It is said what is kept and how it goes again; each turn knows those before."""
    ran = chat("--record", "--max-new-tokens", "5", typed="Say hello.\nSay it again.\n\n")
    assert ran.returncode == 0, ran.stderr
    assert "bhavana erase --conversation" in ran.stderr
    first, second = (_experience(base_at_home, name) for name, _ in KEPT.findall(ran.stderr))
    assert first["conversation_id"] == second["conversation_id"]
    assert [len(e["messages"]) for e in (first, second)] == [1, 3]
    assert second["messages"][1]["content"] == first["response"]
    assert not second["consent"]["training"]


@pytest.mark.parametrize(("typed", "agrees"), [("y\n", True), ("\n", False), ("n\n", False)])
def test_consent_is_asked_of_the_person(chat, base_at_home, typed, agrees):
    """Whose default is no."""
    ran = chat("Say hello.", "--record", "--consent-training", "--policy-text", "v1", typed=typed)
    assert ran.returncode == 0, ran.stderr
    [(name, learned)] = KEPT.findall(ran.stderr)
    assert learned == ("and may be learned from" if agrees else "and is not learned from")
    consent = _experience(base_at_home, name)["consent"]
    assert consent == {"training": agrees, "policy": "v1" if agrees else None}


def test_without_serving_a_child_answers_and_the_daemon_keeps_it(chat, base_at_home):
    """By the ingest door, under the same words."""
    off = {"BHAVANA_SERVING__ENABLED": "false"}
    ran = chat("Say hello.", "--record", "--max-new-tokens", "8", **off)
    assert ran.returncode == 0, ran.stderr
    [(name, _)] = KEPT.findall(ran.stderr)
    kept = _experience(base_at_home, name)
    assert (kept["model"], kept["source"]) == ("smollm2-135m", "web")
    assert kept["response"] in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "key", "said"),
    [
        (("--record",), False, "BHAVANA_API_KEY"),
        (("--consent-training",), True, "needs --record"),
        (("--record", "--policy-text", "v1"), True, "needs --consent-training"),
    ],
)
def test_what_does_not_go_together_is_refused(chat, arguments, key, said):
    """With the next step, before anything is said."""
    ran = chat("Say hello.", *arguments, key=key)
    assert ran.returncode == 2
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_key_that_may_not_is_refused(chat, base_at_home):
    """In the daemon's words."""
    ran = chat("Say hello.", BHAVANA_API_KEY=base_at_home.house.key("ingest"))
    assert ran.returncode == 2
    assert "chat is needed" in ran.stderr
