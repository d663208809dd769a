"""The command line as people use it: exit codes that mean something, and never a traceback."""

from __future__ import annotations

import json
import os
import re
import socket

import pytest

from daemon.cli import SPINS, main
from store import cycles, experiences
from store.events import Store
from tests import canaries
from trainer import isolation

REJECTED, HALTED, UNAVAILABLE = 2, 3, 75
WITH_BOTH_SCOPES = ("keys", "create", "--scope", "ingest", "--scope", "operate")


def _failed(ran, code):
    """What a verb said on stderr when it failed with this code, as it should: in our words."""
    assert ran.returncode == code, ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.stderr.startswith("error: ")
    return ran.stderr


@pytest.fixture
def kept(data, make_experience):
    """Records experiences in the test's data folder."""

    def keep(count):
        data.mkdir(exist_ok=True)
        with Store(f"sqlite:///{data / 'bhavana.db'}") as store:
            experiences.record(store, [make_experience(f"e-{i}") for i in range(count)])

    return keep


@pytest.mark.parametrize(("before", "after"), [(None, SPINS[1]), ("7", "7")])
def test_threads_of_children_do_not_spin_long(monkeypatch, capsys, before, after):
    """Beside other work, threads that spin wait for one that is not running; a wish is heeded."""
    monkeypatch.setenv(SPINS[0], before or "")
    if before is None:
        monkeypatch.delenv(SPINS[0])
    monkeypatch.setattr("sys.argv", ["bhavana", "--help"])
    with pytest.raises(SystemExit):
        main()
    assert "Usage" in capsys.readouterr().out
    assert isolation.environment(isolation.NO_LIMITS, os.environ)[SPINS[0]] == after


def test_status_of_a_fresh_folder(bhavana, data):
    """Everything is there as JSON and zero; for people it is text."""
    ran = bhavana("status", "--json")
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["experiences"] == {}
    assert (found["daemon"], found["last_cycle"], found["current_release"]) == (None, None, None)
    assert found["data_dir"] == str(data)
    text = bhavana("status").stdout
    assert "not running" in text
    assert "the untouched base" in text


def test_status_counts(bhavana, kept):
    """The counts by source and the log's position are those of the store."""
    kept(7)
    found = json.loads(bhavana("status", "--json").stdout)
    assert found["experiences"] == {"web": 7}
    assert found["store"]["position"] == 7
    assert found["feedback"] == 0


def test_an_unknown_configuration_key_is_told_with_the_near_name(bhavana, tmp_path):
    """Exit code 2, all problems in one message, no traceback."""
    path = tmp_path / "bhavana.toml"
    path.write_text("[policy]\nmax_ham = 0.1\n[server]\nprt = 1\n")
    said = _failed(bhavana("--config", str(path), "status"), REJECTED)
    assert "did you mean 'policy.max_harm'?" in said
    assert "did you mean 'server.port'?" in said
    assert str(path) in said


def test_a_missing_configuration_file_is_told(bhavana, tmp_path):
    """A file that was named but is not there is an error, not a default."""
    said = _failed(bhavana("--config", str(tmp_path / "none.toml"), "status"), REJECTED)
    assert "none.toml cannot be read" in said


def test_the_settings_in_force_are_printed_as_json(bhavana, data):
    """Defaults included, and as the environment changes them."""
    found = json.loads(bhavana("config", BHAVANA_POLICY__MAX_HARM="0.25").stdout)
    assert found["policy"]["max_harm"] == 0.25
    assert found["policy"]["min_weighted"] == 6.5
    assert found["data_dir"] == str(data)


@pytest.mark.parametrize(
    "verb", [("serve",), ("status",), ("keys", "list"), ("store", "migrate"), ("cycle",)]
)
def test_a_data_folder_that_cannot_be_made_is_told(bhavana, tmp_path, verb):
    """Exit code 2, the path, and what to set; a file stands where a folder should."""
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "data"
    said = _failed(bhavana(*verb, BHAVANA_DATA_DIR=str(path)), REJECTED)
    assert str(path) in said
    assert "data_dir" in said


def test_keys_are_made_listed_and_revoked(bhavana):
    """The text is shown once, on stdout alone; the list shows no secret."""
    made = bhavana(
        "keys",
        "create",
        "--scope",
        "ingest",
        "--scope",
        "feedback",
        "--name",
        "app",
        "--source",
        "web",
    )
    secret = made.stdout.strip()
    assert re.fullmatch(r"bhv_[0-9a-f]{12}_[0-9a-f]{40}", secret)
    public = secret.split("_")[1]
    listed = json.loads((ran := bhavana("keys", "list", "--json")).stdout)
    entry = {"id": public, "name": "app", "scopes": ["ingest", "feedback"], "revoked": False}
    assert [entry.items() <= found.items() for found in listed] == [True]
    assert secret not in made.stderr
    assert listed[0]["source"] == "web"
    assert secret[-40:] not in ran.stdout
    assert bhavana("keys", "revoke", public).returncode == 0
    [ended] = json.loads(bhavana("keys", "list", "--json").stdout)
    assert (entry | {"revoked": True}).items() <= ended.items()


def test_a_key_with_an_unknown_scope_or_id_is_refused(bhavana):
    """Exit code 2 and what there is instead."""
    said = _failed(bhavana("keys", "create", "--scope", "root"), REJECTED)
    assert "ingest, feedback, read, review" in said
    assert "keys list" in _failed(bhavana("keys", "revoke", "0000"), REJECTED)


def test_a_cycle_over_an_empty_store_says_that_nothing_matches(bhavana, data):
    """Exit code 3, the reason, and a cycle that ended as too_few."""
    ran = bhavana("cycle")
    assert ran.returncode == HALTED, ran.stderr
    assert "no experiences match" in ran.stdout
    assert "Traceback" not in ran.stdout + ran.stderr
    with Store(f"sqlite:///{data / 'bhavana.db'}") as store:
        assert cycles.last(store).state == "too_few"
        assert cycles.running(store) is None


def test_answer_names_the_bad_line(bhavana, tmp_path):
    """A line that is no question is named by file and number, before any model is loaded."""
    path, output = tmp_path / "questions.jsonl", tmp_path / "answers.jsonl"
    path.write_text('{"id": "1", "prompt": "Why?"}\n\n{"id": "2", "prmpt": 3, "prompt": 4}\n')
    said = _failed(bhavana("answer", "--input", str(path), "--output", str(output)), REJECTED)
    assert f"{path}, line 3" in said
    assert '{"id": "...", "prompt": "..."}' in said
    assert not output.exists()


def test_rebuilding_reports_identical_projections(bhavana, kept):
    """The log was replayed, and the tables are as before."""
    kept(5)
    ran = bhavana("store", "rebuild")
    assert ran.returncode == 0, ran.stderr
    assert "Replayed 5 events" in ran.stdout
    assert "are as before" in ran.stdout


def test_rebuilding_tells_which_projections_were_wrong(bhavana, kept, data):
    """Exit code 3 names the damaged table, which a second rebuild finds mended."""
    kept(2)
    with (
        Store(f"sqlite:///{data / 'bhavana.db'}") as store,
        store._write.begin() as connection,
    ):
        connection.exec_driver_sql("UPDATE experiences SET consented = 0 WHERE id = 'e-1'")
    assert "experiences" in _failed(bhavana("store", "rebuild"), HALTED)
    assert bhavana("store", "rebuild").returncode == 0


def test_a_port_in_use_is_told(bhavana):
    """Exit code 2, the address, and how to get a free one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        said = _failed(bhavana("serve", BHAVANA_SERVER__PORT=port), REJECTED)
    assert f"127.0.0.1:{port}" in said
    assert "0 for a free one" in said


def test_a_file_that_is_no_database_is_told(bhavana, data):
    """A text file in the store's place gives one message and stays as it is."""
    data.mkdir()
    (data / "bhavana.db").write_text("This was never a database.\n" * 100)
    ran = bhavana("status")
    assert ran.returncode in (REJECTED, UNAVAILABLE)
    assert "Traceback" not in ran.stderr


def test_practice_without_daemon_or_key_says_what_to_do(bhavana, data):
    """No daemon is to be tried again later; no key is to be made."""
    said = _failed(bhavana("practice", "--episodes", "0"), UNAVAILABLE)
    assert "bhavana serve" in said
    said = _failed(bhavana("practice", "--url", "http://127.0.0.1:9"), REJECTED)
    assert "bhavana keys create" in said


# --- beside a running daemon --------------------------------------------------------------


def test_the_command_line_beside_a_running_daemon(bhavana, serving, data):
    """Keys made beside it work at once, exemplars are posted once, and status sees them."""
    with serving(data) as daemon:
        secret = bhavana(*WITH_BOTH_SCOPES).stdout.strip()
        experience = {
            "id": "e-1",
            "occurred_at": "2026-01-02T03:04:05Z",
            "source": "web",
            "messages": [{"role": "user", "content": canaries.SECRET}],
            "response": canaries.SENTENCE,
        }
        assert daemon.post("/v1/experiences", secret, experience).status_code == 201
        assert daemon.post("/v1/experiences", secret, experience).status_code == 200

        practice = ("practice", "--episodes", "0", "--exemplars", "--json")
        first = json.loads(bhavana(*practice, BHAVANA_API_KEY=secret).stdout)
        again = json.loads(bhavana(*practice, BHAVANA_API_KEY=secret).stdout)
        assert first == {"recorded": again["duplicate"]}
        assert first["recorded"] >= 400

        found = json.loads(bhavana("status", "--json").stdout)
        assert found["daemon"] == {"pid": daemon.process.pid, "url": daemon.url}
        assert found["experiences"] == {"exemplar": first["recorded"], "web": 1}

        public = secret.split("_")[1]
        assert bhavana("keys", "revoke", public).returncode == 0
        refused = bhavana(*practice, BHAVANA_API_KEY=secret)
        assert "401" in _failed(refused, REJECTED)

        said = _failed(bhavana("store", "rebuild"), UNAVAILABLE)
        assert f"pid {daemon.process.pid}" in said


def test_a_cycle_is_turned_by_the_running_daemon(bhavana, serving, data):
    """`cycle` asks the daemon, follows it to the end, and reports like the cycle of its own."""
    with serving(data) as daemon:
        ran = bhavana("cycle", "--json")
        assert ran.returncode == HALTED, ran.stderr
        ended = json.loads(ran.stdout)
        assert ended["state"] == "too_few"
        assert "no experiences match" in ended["detail"]
        assert ended["reason"] == "schedule"
        assert 'bhavana_cycles_total{state="too_few"} 1.0' in daemon.get("/metrics").text
