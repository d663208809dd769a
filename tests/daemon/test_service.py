"""The life of the real process: one per data folder, ended by SIGTERM, reloaded by SIGHUP."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from starlette.testclient import TestClient

from daemon.limits import LimitSettings
from daemon.service import Service, running_daemon, sole_daemon
from daemon.settings import load
from daemon.wiring import wire
from store import experiences, keys
from store.errors import Busy
from store.redaction import RedactionSettings

ROOT = Path(__file__).resolve().parent.parent.parent
UNAVAILABLE = 75

STOPPED_EARLY = """
import os, signal
from daemon import service
from daemon.settings import load

start = service.Service._start_clock

def stopped_before_it_serves(self):
    os.kill(os.getpid(), signal.SIGTERM)
    start(self)

service.Service._start_clock = stopped_before_it_serves
settings = load(None, os.environ)
service.serve(settings, reload=lambda: settings)
"""


def _events(daemon):
    """The names of what the daemon logged."""
    return [json.loads(line)["event"] for line in daemon.log().splitlines()]


def test_it_serves_until_it_is_told_to_stop(serving, data):
    """SIGTERM ends it with exit code 0; it takes its address back and logs both ends."""
    with serving(data) as daemon:
        assert daemon.get("/healthz").status_code == 200
        assert json.loads((data / "daemon.json").read_bytes())["pid"] == daemon.process.pid
        assert running_daemon(data).url == daemon.url
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(20) == 0
        assert running_daemon(data) is None
        assert not (data / "daemon.json").exists()
        assert "serving" in _events(daemon)
        assert _events(daemon)[-1] == "stopped"


def test_an_interrupt_from_the_keyboard_ends_it_as_well(serving, data):
    """SIGINT is as good as SIGTERM, and leaves no traceback."""
    with serving(data) as daemon:
        daemon.process.send_signal(signal.SIGINT)
        assert daemon.process.wait(20) == 0
        assert "Traceback" not in daemon.log()


def test_told_to_stop_before_it_serves_it_stops(data, environment):
    """A signal during the start is not forgotten."""
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED_EARLY],
        cwd=ROOT,
        env=environment(),
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            assert process.wait(15) == 0
        finally:
            process.kill()


@pytest.fixture
def told(tmp_path):
    """A function that returns the next message to systemd; its socket stands at `told.path`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        path = str(tmp_path / "notify")
        channel.bind(path)
        channel.settimeout(60)

        def told():
            return channel.recv(4096).decode().splitlines()

        told.path, told.channel = path, channel
        yield told


def test_systemd_is_told_that_it_is_ready_that_it_lives_and_that_it_stops(serving, data, told):
    """READY=1 comes when it answers and not before, WATCHDOG=1 again and again, STOPPING=1 last."""
    said = []
    watched = {"NOTIFY_SOCKET": told.path, "WATCHDOG_USEC": "1500000"}
    with serving(data, **watched) as daemon:
        assert told()[0] == "READY=1"
        assert daemon.get("/readyz").status_code == 200
        assert [told(), told()] == [["WATCHDOG=1"]] * 2
        daemon.process.send_signal(signal.SIGTERM)
        while "STOPPING=1" not in said:
            said += told()
        assert daemon.process.wait(20) == 0


@pytest.fixture
def service(data):
    """A service over a fresh store, with an event loop that runs; it does not serve."""
    settings = load(None, {"BHAVANA_DATA_DIR": str(data)})
    parts = wire(settings)
    service = Service(parts, lambda: settings)
    service._loop = asyncio.new_event_loop()
    runner = threading.Thread(target=service._loop.run_forever)
    runner.start()
    yield service
    service._loop.call_soon_threadsafe(service._loop.stop)
    runner.join()
    service._loop.close()
    parts.store.close()


def _fed(service, told):
    told.channel.settimeout(0.1)
    service._feed_watchdog()
    try:
        return told() == ["WATCHDOG=1"]
    except TimeoutError:
        return False


def test_the_watchdog_starves_without_a_database(service, told, data, monkeypatch):
    """A store that no longer answers must not look alive."""
    monkeypatch.setenv("NOTIFY_SOCKET", told.path)
    assert _fed(service, told)
    with closing(sqlite3.connect(data / "bhavana.db")) as connection:
        connection.execute("DROP TABLE heads")
    assert not _fed(service, told)


def test_the_watchdog_starves_without_an_event_loop(service, told, monkeypatch):
    """A loop that is stuck must not look alive; when it goes on, all is well."""
    monkeypatch.setenv("NOTIFY_SOCKET", told.path)
    monkeypatch.setattr("daemon.service.TICK_SECONDS", 0.02)
    go_on = threading.Event()
    service._loop.call_soon_threadsafe(go_on.wait)
    assert not _fed(service, told)
    go_on.set()
    monkeypatch.undo()
    monkeypatch.setenv("NOTIFY_SOCKET", told.path)
    assert _fed(service, told)


def test_a_second_daemon_on_the_same_folder_is_refused(serving, bhavana, data):
    """It names the process that serves already, which is not disturbed."""
    with serving(data) as daemon:
        second = bhavana("serve")
        assert second.returncode == UNAVAILABLE
        assert f"pid {daemon.process.pid}" in second.stderr
        assert "Traceback" not in second.stderr
        assert daemon.get("/readyz").status_code == 200
        assert running_daemon(data).pid == daemon.process.pid


def test_a_folder_of_a_killed_daemon_can_be_served_again(serving, data):
    """A lock and an address left behind by SIGKILL are no obstacle."""
    with serving(data) as daemon:
        daemon.process.kill()
        daemon.process.wait()
    assert (data / "daemon.json").is_file()
    assert running_daemon(data) is None
    with serving(data) as daemon:
        assert running_daemon(data).pid == daemon.process.pid


def test_a_broken_reload_keeps_the_old_settings(serving, eventually, data, tmp_path):
    """SIGHUP with a broken file is logged and shown in the metrics; a mended one is taken."""
    config = tmp_path / "bhavana.toml"
    config.write_text("[policy]\nmin_examples = 5\n")

    def refused(value):
        text = f"bhavana_config_reload_failed {value}"
        return lambda: text in daemon.get("/metrics").text

    with serving(data, BHAVANA_CONFIG=str(config)) as daemon:
        config.write_text("[policy]\nmin_exampels = 5\n")
        daemon.process.send_signal(signal.SIGHUP)
        eventually(refused("1.0"), "the metric says that the reload was refused")
        [said] = [json.loads(x) for x in daemon.log().splitlines() if "reload_refused" in x]
        assert "min_exampels" in said["error"]
        assert daemon.get("/readyz").status_code == 200
        config.write_text("[policy]\nmin_examples = 6\n")
        daemon.process.send_signal(signal.SIGHUP)
        eventually(refused("0.0"), "the metric says that the reload was taken")
        assert _events(daemon)[-1] == "reloaded"


def test_a_reload_counts_at_the_door(service, experience):
    """From then on: whoever tightens a limit or a rule in a hurry needs no restart."""
    made = service.parts.settings
    loose = msgspec.structs.replace(made, redaction=RedactionSettings(kinds=()))
    service.parts = msgspec.structs.replace(service.parts, settings=loose)
    store = service.parts.store
    secret = keys.create(store, name="t", scopes=("ingest",), source="web", actor="t")[1]
    client = TestClient(service._app(), headers={"Authorization": f"Bearer {secret}"})
    service._ready = True

    def said(name):
        item = experience | {"id": name, "response": "Write to ada@example.org."}
        assert client.post("/v1/experiences", json=[item]).status_code == 201
        return experiences.get(store, name).response

    assert "ada@example.org" in said("before")
    service._reload = lambda: msgspec.structs.replace(made, limits=LimitSettings(key_burst=1))
    service.reload()
    assert "ada@example.org" not in said("after")
    two = [experience | {"id": f"e-{i}"} for i in range(2)]
    assert client.post("/v1/experiences", json=two).status_code == 413


def test_looking_at_the_daemon_never_keeps_one_from_starting(data):
    """`status` may look at any moment; the one who starts is not told that somebody serves."""
    data.mkdir()
    done = threading.Event()

    def look():
        while not done.is_set():
            running_daemon(data)

    watcher = threading.Thread(target=look)
    watcher.start()
    refused = 0
    try:
        for _ in range(500):
            try:
                with sole_daemon(data):
                    pass
            except Busy:
                refused += 1
    finally:
        done.set()
        watcher.join()
    assert refused == 0


def test_the_lock_names_its_holder(data):
    """While one holds the folder, another is told its pid; afterwards it is free."""
    with (
        sole_daemon(data),
        pytest.raises(Busy, match=f"pid {os.getpid()}"),
        sole_daemon(data),
    ):
        raise AssertionError
    with sole_daemon(data):
        pass


def test_what_was_answered_survives_a_kill(serving, bhavana, data, experience):
    """2xx means kept, also when others opened the store and the daemon is killed at once."""
    with serving(data) as daemon:
        secret = bhavana("keys", "create", "--scope", "ingest", "--source", "web").stdout.strip()
        items = [experience | {"id": f"e-{i}"} for i in range(20)]
        assert daemon.post("/v1/experiences", secret, items).status_code == 201
        assert json.loads(bhavana("status", "--json").stdout)["experiences"] == {"web": 20}
        daemon.process.kill()
        daemon.process.wait()
    assert json.loads(bhavana("status", "--json").stdout)["experiences"] == {"web": 20}
