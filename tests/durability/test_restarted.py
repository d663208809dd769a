"""Ten restarts under load: the socket outlives the process, and the client tries again."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from daemon.clients.client import Client
from store import keys
from store.events import Store
from tests import canaries
from tests.durability.recorded import recorded

RESTARTS = 10
SENDERS = 4
HANDOVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.set_inheritable(3, True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.executable, [sys.executable, "-m", "daemon", "serve"])
"""
"""What systemd does at the start of a service that has a socket unit."""


@pytest.fixture
def listener():
    """The socket that systemd would hold."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        yield listening


@pytest.fixture
def key(place):
    """The text of a key that may post."""
    with Store(place.store) as store:
        return keys.create(store, name="t", scopes=("ingest",), source="web", actor="t")[1]


def _start(place, listener, log):
    return subprocess.Popen(
        [sys.executable, "-c", HANDOVER, str(listener.fileno())],
        pass_fds=[listener.fileno()],
        env=place.environment | {"BHAVANA_DATA_DIR": str(place.data)},
        stderr=log,
    )


def _is_ready(url):
    """Asked over the inherited socket, so it waits in the kernel's queue for the next daemon."""
    with httpx.Client(trust_env=False, timeout=60) as http:
        return http.get(f"{url}/readyz").status_code == 200


def _send(url, key, sender, stop, sent):
    with Client(url, key) as client:
        number = 0
        while not stop.is_set():
            name = f"s{sender}-{number}"
            client.record(
                id=name,
                source="web",
                messages=[{"role": "user", "content": f"{canaries.SENTENCE} {number}"}],
                response="An answer.",
                consent={"training": False},
            )
            sent.append(name)
            number += 1
            time.sleep(0.02)
        assert client.flush(timeout=60)


def test_ten_restarts_lose_and_double_nothing(place, listener, key, tmp_path):
    """Frontends that use the client notice nothing: each item is stored exactly once."""
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    stop = threading.Event()
    sent = [[] for _ in range(SENDERS)]
    senders = [
        threading.Thread(target=_send, args=(url, key, i, stop, sent[i])) for i in range(SENDERS)
    ]
    with (tmp_path / "stderr.log").open("wb") as log:
        process = _start(place, listener, log)
        try:
            for sender in senders:
                sender.start()
            for _ in range(RESTARTS):
                assert _is_ready(url)
                time.sleep(0.5)
                process.terminate()
                assert process.wait(30) == 0
                process = _start(place, listener, log)
            assert _is_ready(url)
            stop.set()
            for sender in senders:
                sender.join(90)
            process.terminate()
            assert process.wait(30) == 0
        finally:
            stop.set()
            if process.poll() is None:
                process.kill()
                process.wait()
    names = [name for names in sent for name in names]
    assert recorded(place.store) == dict.fromkeys(names, 1)
    assert len(names) > 100 * SENDERS
    said = (tmp_path / "stderr.log").read_text()
    assert "Traceback" not in said
    canaries.assert_unspoken(said)
