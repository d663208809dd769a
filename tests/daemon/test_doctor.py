"""The doctor: what is there, what is not, and what to do, without changing anything."""

from __future__ import annotations

import math
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import text

from daemon import doctor
from daemon.doctor import examine
from daemon.settings import ServerSettings, Settings, StoreSettings, TrainerSettings
from scorers.settings import GuardSettings, PanelSettings
from store import experiences, keys, sources
from store.engine import newest_revision
from store.events import Store
from store.records import now
from trainer.recipe import Recipe
from trainer.targets.limits import CLOUDFLARE
from trainer.targets.local import LocalTarget

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def settings(tmp_path):
    """Settings of a folder of the test's own, and any free port."""
    return Settings(data_dir=str(tmp_path / "data"), server=ServerSettings(port=0))


@pytest.fixture
def opened(settings):
    """The store of these settings, with an experience and a usable key."""
    settings.data.mkdir()
    with Store(settings.store_url) as store:
        keys.create(store, name="k", scopes=("ingest",), source="web", actor="test")
        sources.change(store, "web", "trusted", actor="test")
        yield store


def _states(settings):
    return {check.name: check.state for check in examine(settings, None)}


def _check(settings, name):
    [check] = [check for check in examine(settings, None) if check.name == name]
    assert bool(check.next) == (check.state != "ok")
    return check


def test_before_the_first_start_nothing_fails_and_nothing_is_made(settings):
    """The folder is judged by the one that it will be made in."""
    assert "fail" not in _states(settings).values()
    assert not settings.data.exists()


def test_a_store_in_use_is_looked_at(settings, opened):
    """Its revision, its end, its clock, its keys and its sources."""
    states = _states(settings)
    assert {states[name] for name in ("schema", "log", "clock", "keys", "sources")} == {"ok"}
    assert f"head {opened.position()}" in _check(settings, "log").said
    assert str(newest_revision()) in _check(settings, "schema").said


def test_lost_events_fail(settings, opened):
    """The next step is a backup or an accepted loss."""
    opened.high_water.rise(opened.position() + 3)
    check = _check(settings, "log")
    assert check.state == "fail"
    assert "accept-loss" in check.next


def test_a_damaged_mark_fails(settings, opened):
    """And names the file."""
    opened.high_water.path.write_text("x")
    check = _check(settings, "store")
    assert check.state == "fail"
    assert "high-water" in check.said


def test_a_file_that_is_no_database_fails(settings):
    """In one line."""
    settings.data.mkdir()
    (settings.data / "bhavana.db").write_text("This was never a database.\n" * 100)
    assert _check(settings, "store").state == "fail"


def test_a_record_that_cannot_be_read_fails(settings, opened):
    """The next step is to verify."""
    with opened._write.begin() as connection:
        connection.execute(text("UPDATE events SET body = x'7b' WHERE type = 'key.created'"))
    check = _check(settings, "store")
    assert (check.state, check.next) == ("fail", "Run `bhavana store verify`.")


@pytest.mark.parametrize(("allowed", "state"), [(True, "warn"), (False, "fail")])
def test_an_older_schema_is_told(settings, opened, allowed, state):
    """It fails only where the daemon may not migrate by itself."""
    with opened._write.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    store = StoreSettings(migrate_on_start=allowed)
    changed = Settings(data_dir=settings.data_dir, store=store, server=settings.server)
    check = _check(changed, "schema")
    assert check.state == state
    assert "bhavana store migrate" in check.next


def test_no_usable_key_is_told(settings, opened):
    """A revoked one does not count, nor an expired one."""
    [key] = keys.listed(opened)
    keys.revoke(opened, key.id, actor="test")
    past = now() - timedelta(days=1)
    keys.create(opened, name="old", scopes=("ingest",), source="web", actor="test", expires_at=past)
    assert _check(settings, "keys").state == "warn"


def test_sources_in_quarantine_are_named(settings, opened):
    """They are recorded and not learned from, which surprises people."""
    sources.begin(opened, "forum", actor="test")
    check = _check(settings, "sources")
    assert check.state == "warn"
    assert check.said.endswith(": forum")


def test_a_clock_behind_the_newest_event_is_told(settings, opened, make_experience, monkeypatch):
    """Somebody set it back, or it was ahead before."""
    experiences.record(opened, [make_experience()])
    monkeypatch.setattr(doctor, "now", lambda: now() - timedelta(days=1))
    assert _check(settings, "clock").state == "warn"


def test_a_port_in_use_fails(settings):
    """With its address and what to set."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        busy = Settings(data_dir=settings.data_dir, server=ServerSettings(port=port))
        check = _check(busy, "port")
    assert check.state == "fail"
    assert f"127.0.0.1:{port}" in check.said


def test_a_data_folder_that_cannot_be_made_fails(tmp_path):
    """A file stands where a folder should."""
    (tmp_path / "file").write_text("")
    settings = Settings(data_dir=str(tmp_path / "file" / "data"), server=ServerSettings(port=0))
    assert _check(settings, "data folder").state == "fail"


@pytest.mark.parametrize(
    ("name", "least", "little", "state"),
    [("disk", 0, 0, "ok"), ("disk", 0, 2**80, "warn"), ("disk", 2**80, 2**80, "fail")],
)
def test_a_disk_that_gets_full_is_told(settings, monkeypatch, name, least, little, state):
    """First as a warning, and when a cycle could not end any more as a failure."""
    monkeypatch.setattr(doctor, "LEAST_FREE", least)
    monkeypatch.setattr(doctor, "LITTLE_FREE", little)
    assert _check(settings, name).state == state


@pytest.mark.parametrize(
    ("slow", "none", "state"), [(math.inf, 0, "ok"), (0, 0, "warn"), (math.inf, math.inf, "warn")]
)
def test_a_sync_is_measured_and_judged(settings, monkeypatch, slow, none, state):
    """Too slow is told, and so is what no disk can do; the file for it is gone afterwards."""
    settings.data.mkdir()
    monkeypatch.setattr(doctor, "SLOW_SYNC_SECONDS", slow)
    monkeypatch.setattr(doctor, "NO_SYNC_SECONDS", none)
    check = _check(settings, "fsync")
    assert check.state == state
    assert " ms" in check.said
    assert list(settings.data.iterdir()) == []


def test_a_package_that_is_not_installed_fails(settings, monkeypatch):
    """By name."""
    monkeypatch.setattr(doctor, "PACKAGES", (*doctor.PACKAGES, "no_such_package"))
    check = _check(settings, "packages")
    assert (check.state, check.said) == ("fail", "not installed: no_such_package")


def test_an_encoder_that_is_not_installed_fails(settings, monkeypatch):
    """With the command that installs it."""
    monkeypatch.setattr(doctor, "ENCODER", "no_such_encoder")
    check = _check(settings, "encoder")
    assert check.state == "fail"
    assert "no-such-encoder" in check.next


def test_a_guard_is_looked_for_where_the_panel_names_one(settings, tmp_path):
    """Its files, without loading them; a hub id is taken at its word."""
    assert "guard" not in _states(settings)

    def naming(model):
        panel = PanelSettings(scorers=("guard",), guard=GuardSettings(model=model))
        return msgspec.structs.replace(settings, panel=panel)

    assert _check(naming("org/name"), "guard").state == "ok"
    check = _check(naming(str(tmp_path)), "guard")
    assert check.state == "fail"
    assert "config.json" in check.said


def test_the_encoder_is_the_one_that_the_scorers_use():
    """Its name stands in two places, since theirs imports torch."""
    assert f'PACKAGE = "{doctor.ENCODER}"' in (ROOT / "scorers" / "embedding.py").read_text()


def test_a_base_model_that_is_not_there_fails(settings):
    """With what can be named instead."""
    trainer = TrainerSettings(base="/nowhere.gguf")
    changed = Settings(data_dir=settings.data_dir, server=settings.server, trainer=trainer)
    check = _check(changed, "base model")
    assert check.state == "fail"
    assert "smollm2-135m" in check.next


def test_an_adapter_that_the_target_cannot_serve_fails(settings, monkeypatch):
    """Its rank, layers and size where it can; before the first cycle and not after it."""
    assert _check(settings, "adapter").said == (
        "rank 16 in 10 of 30 layers, 6.5 MB; local serves it"
    )
    monkeypatch.setattr(LocalTarget, "limits", CLOUDFLARE)
    trainer = TrainerSettings(recipe=Recipe(lora_r=64, use_dora=True))
    check = _check(msgspec.structs.replace(settings, trainer=trainer), "adapter")
    assert check.state == "fail"
    assert "rank is 32" in check.said
    assert "DoRA" in check.said


def test_an_sqlite_with_the_bug_is_told(settings, monkeypatch):
    """Which one is in use, and how to get a newer one."""
    assert doctor.sqlite_module().sqlite_version in _check(settings, "sqlite").said
    monkeypatch.setattr(doctor, "has_reset_bug", lambda _: True)
    check = _check(settings, "sqlite")
    assert check.state == "warn"
    assert "pysqlite3" in check.next


def test_postgresql_is_asked_whether_it_keeps_what_it_commits(settings, postgresql_url):
    """Its version, and whether a commit is on the disk."""
    store = StoreSettings(url=postgresql_url)
    changed = Settings(data_dir=settings.data_dir, store=store, server=settings.server)
    with Store(postgresql_url) as opened:
        assert _check(changed, "postgresql").state in ("ok", "warn")
        name = opened.reading.url.database
        with opened.reading.execution_options(isolation_level="AUTOCOMMIT").connect() as c:
            c.execute(text("SET default_transaction_read_only = off"))
            c.execute(text(f"ALTER DATABASE {name} SET synchronous_commit = off"))
    check = _check(changed, "postgresql")
    assert check.state == "warn"
    assert "synchronous_commit off" in check.said


def test_looking_imports_no_torch(settings):
    """What is installed is found without loading it."""
    code = (
        "import sys; from daemon.doctor import examine; from daemon.settings import Settings;"
        f"examine(Settings(data_dir={settings.data_dir!r}), None);"
        "print([m for m in ('torch', 'transformers', 'peft') if m in sys.modules])"
    )
    seen = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert seen.stdout.strip() == "[]"
