"""The verbs on the store and the doctor, as people use them: what they say and how they end."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from store import experiences, log
from store.events import Store

REJECTED, HALTED = 2, 3


def _failed(ran, code):
    """What a verb said on stderr when it failed with this code, as it should: in our words."""
    assert ran.returncode == code, ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.stderr.startswith("error: ")
    return ran.stderr


@pytest.fixture
def kept(data, make_experience):
    """The data folder's store with three experiences; it is closed again."""
    data.mkdir()
    with Store(f"sqlite:///{data / 'bhavana.db'}") as store:
        experiences.record(store, [make_experience(f"e-{i}") for i in range(3)])
    return store


def _damage(store, statement):
    with Store(store.url) as opened, opened._write.begin() as connection:
        connection.execute(text(statement))


def test_verifying_a_whole_store_succeeds(bhavana, kept):
    """One line for people, everything for programs, and nothing on stderr in a pipe."""
    ran = bhavana("store", "verify")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("3 events (0 erased), 0 seals, head 3, high-water mark 3")
    found = json.loads(bhavana("store", "verify", "--json").stdout)
    assert (found["events"], found["high_water"], found["faults"]) == (3, 3, [])


def test_verifying_lists_every_fault(bhavana, kept):
    """Exit code 3; each fault in a line of its own, with what to do."""
    _damage(kept, "UPDATE events SET actor = 'somebody' WHERE position = 2")
    _damage(kept, "DELETE FROM experiences WHERE position = 3")
    said = _failed(bhavana("store", "verify"), HALTED)
    faults = [line for line in said.splitlines() if line.startswith("  - ")]
    assert len(faults) == 2
    assert "at 1 to 3" in faults[0]
    assert "bhavana store rebuild" in faults[1]
    ran = bhavana("store", "verify", "--json")
    assert [f"  - {fault}" for fault in json.loads(ran.stdout)["faults"]] == faults
    _failed(ran, HALTED)


def test_verifying_beside_a_running_daemon(bhavana, serving, data, kept):
    """Nothing has to stop for it."""
    with serving(data):
        assert bhavana("store", "verify").returncode == 0


def test_a_store_that_sqlite_cannot_open_is_told(bhavana, kept):
    """Exit code 3 and not a traceback, even when not one table can be read."""
    with kept.database.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3000)
    assert "bhavana store verify" in _failed(bhavana("store", "verify"), HALTED)


def test_a_damaged_mark_is_told_by_every_verb_and_verified_around(bhavana, kept):
    """Others name the verb that looks; that one names the file and finds the rest whole."""
    kept.high_water.path.write_text("?")
    assert "bhavana store verify" in _failed(bhavana("status"), HALTED)
    said = _failed(bhavana("store", "verify"), HALTED)
    assert str(kept.high_water.path) in said
    assert said.count("  - ") == 1


def test_a_log_that_lost_its_end_does_not_train_until_the_loss_is_accepted(bhavana, kept):
    """The cycle fails with the next step; the loss is accepted with a reason; then it turns."""
    kept.high_water.path.write_text(f"{7:020d}\n")
    ran = bhavana("cycle")
    assert ran.returncode == HALTED
    assert "positions 4 to 7" in ran.stdout
    assert "bhavana store accept-loss" in ran.stdout
    assert bhavana("store", "accept-loss").returncode == REJECTED  # it needs a reason
    accepted = bhavana("store", "accept-loss", "--reason", "the disk died", "--json")
    assert json.loads(accepted.stdout) == [{"first": 4, "last": 7}]
    assert bhavana("store", "verify").returncode == 0
    ended = json.loads(bhavana("cycle", "--json").stdout)
    assert ended["state"] == "too_few"
    again = bhavana("store", "accept-loss", "--reason", "again")
    assert again.stdout == "Nothing is missing.\n"


def test_a_backup_is_made_beside_the_daemon_and_can_be_used(bhavana, serving, data, kept, tmp_path):
    """The file is a store; the same name is refused a second time."""
    path = tmp_path / "backup.db"
    with serving(data):
        ran = bhavana("store", "backup", str(path))
    assert ran.returncode == 0, ran.stderr
    assert "opened and verified" in ran.stderr
    url = f"sqlite:///{path}"
    assert bhavana("store", "verify", BHAVANA_STORE__URL=url).returncode == 0
    said = _failed(bhavana("store", "backup", str(path)), REJECTED)
    assert f"{path} is there already" in said


def test_a_store_is_copied_into_an_empty_one(bhavana, kept, tmp_path):
    """From the configured one, or from the one that is named; never over something."""
    first, second = (f"sqlite:///{tmp_path / name}.db" for name in ("first", "second"))
    found = json.loads(bhavana("store", "copy", "--to", first, "--json").stdout)
    assert (found["events"], found["faults"]) == (3, [])
    assert bhavana("store", "copy", "--from", first, "--to", second).returncode == 0
    said = _failed(bhavana("store", "copy", "--to", second), REJECTED)
    assert "holds something already: events" in said


def test_a_store_is_copied_to_postgresql_and_served_from_there(
    bhavana, serving, data, kept, postgresql_url, experience
):
    """The same id is the same experience there."""
    assert bhavana("store", "copy", "--to", postgresql_url).returncode == 0
    there = {"BHAVANA_STORE__URL": postgresql_url}
    key = ("keys", "create", "--scope", "ingest", "--source", "web")
    secret = bhavana(*key, **there).stdout.strip()
    with serving(data, **there) as daemon:
        assert daemon.post("/v1/experiences", secret, experience | {"id": "new"}).status_code == 201
        assert daemon.post("/v1/experiences", secret, experience | {"id": "e-1"}).status_code == 409
    assert bhavana("store", "verify", **there).returncode == 0


def test_stats_are_for_people_and_for_programs(bhavana, kept):
    """The same counts."""
    found = json.loads(bhavana("store", "stats", "--json").stdout)
    assert found["events"] == {"experience.recorded": 3}
    assert found["rows"]["experiences"] == 3
    said = bhavana("store", "stats").stdout
    assert "events: 3, 0 of them erased" in said
    assert "experience.recorded" in said


def test_what_is_too_old_is_erased_when_asked(bhavana, data, make_experience, monkeypatch):
    """A dry run first; without an age nothing is."""
    data.mkdir()
    with Store(f"sqlite:///{data / 'bhavana.db'}") as store:
        monkeypatch.setattr(log, "now", lambda: datetime.now(UTC) - timedelta(days=40))
        experiences.record(store, [make_experience("old")])
    ages = {"BHAVANA_RETENTION__CONSENTED_DAYS": "30"}
    assert json.loads(bhavana("store", "retain", "--json").stdout)["consented"] == 0
    dry = bhavana("store", "retain", "--dry-run", **ages).stdout
    assert "1 experiences with consent and 0 without would be erased" in dry
    assert json.loads(bhavana("store", "retain", "--json", **ages).stdout)["consented"] == 1
    assert json.loads(bhavana("status", "--json").stdout)["experiences"] == {}
    assert bhavana("store", "verify").returncode == 0


def test_a_schema_is_migrated_only_where_that_is_allowed(bhavana, data):
    """Refused with the verb that does it, by the daemon, too; then everything goes on."""
    data.mkdir()
    refuses = {"BHAVANA_STORE__MIGRATE_ON_START": "false"}
    for verb in (("serve",), ("status",), ("store", "verify")):
        assert "bhavana store migrate" in _failed(bhavana(*verb, **refuses), REJECTED)
    assert bhavana("store", "migrate", **refuses).returncode == 0
    assert bhavana("status", **refuses).returncode == 0


def test_a_schema_of_another_version_is_told(bhavana, kept):
    """A newer one is not touched."""
    _damage(kept, "UPDATE alembic_version SET version_num = '9999'")
    assert "9999" in _failed(bhavana("status"), REJECTED)
    assert "9999" in _failed(bhavana("store", "verify"), REJECTED)


# --- the doctor ---------------------------------------------------------------------------


def test_the_doctor_says_what_is_there(bhavana, serving, data, kept):
    """Beside a running daemon, too, whose address it tells; exit code 0."""
    with serving(data) as daemon:
        ran = bhavana("doctor")
    assert ran.returncode == 0, ran.stdout
    assert f"pid {daemon.process.pid}" in ran.stdout
    assert "head 3, high-water mark 3" in ran.stdout


def test_the_doctor_fails_with_what_is_wrong_and_what_to_do(bhavana, kept):
    """Exit code 3; the checks are on stdout, for programs as JSON."""
    kept.high_water.path.write_text(f"{7:020d}\n")
    ran = bhavana("doctor")
    assert "log" in _failed(ran, HALTED)
    assert "next: Restore a backup" in ran.stdout
    checks = {c["name"]: c["state"] for c in json.loads(bhavana("doctor", "--json").stdout)}
    assert checks["log"] == "fail"
    assert checks["python"] == "ok"


def test_the_doctor_tells_a_broken_configuration(bhavana):
    """As a failed check among its own, not as a refusal to look."""
    ran = bhavana("doctor", "--json", BHAVANA_POLICY__MAX_HAM="1")
    _failed(ran, HALTED)
    [check] = json.loads(ran.stdout)
    assert "policy.max_harm" in check["said"]
