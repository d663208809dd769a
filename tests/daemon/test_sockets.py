"""Listening sockets that outlive the process: sd_listen_fds(3), with real processes."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from daemon import sockets

ROOT = Path(__file__).resolve().parent.parent.parent
HANDOVER = """
import os, sys

count = int(sys.argv[1])
given = [os.dup(int(number)) for number in sys.argv[2 : 2 + count]]
for place, number in enumerate(given, start=3):
    os.dup2(number, place)
    os.set_inheritable(place, True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(count), "LISTEN_FDNAMES": "x"}
os.execv(sys.executable, [sys.executable, *sys.argv[2 + count :]])
"""
"""What systemd does at the start of a service: sockets from descriptor 3 on, then the program."""

LOOK = """
import json, os, subprocess, sys
from daemon import sockets

[listener] = sockets.inherited()
child = "import os, sys; sys.exit(os.path.exists('/proc/self/fd/3'))"
print(json.dumps({
    "url": sockets.url_of(listener),
    "told": [name for name in os.environ if name.startswith("LISTEN_")],
    "child_sees_it": subprocess.run([sys.executable, "-c", child], close_fds=False).returncode,
}))
"""


def handed(listeners, *program):
    """Keyword arguments for a process that runs this program with these sockets from 3 on."""
    numbers = [listener.fileno() for listener in listeners]
    given = [str(len(numbers)), *map(str, numbers)]
    return {"command": [sys.executable, "-c", HANDOVER, *given, *program], "pass_fds": numbers}


def run_handed(listeners, program):
    """Runs a Python program to its end with these sockets from 3 on."""
    start = handed(listeners, "-c", program)
    return subprocess.run(
        start["command"],
        pass_fds=start["pass_fds"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


SERVE = ("-m", "daemon", "serve")


@pytest.fixture
def listener():
    """A socket that somebody else listens on for the daemon."""
    with socket.create_server(("127.0.0.1", 0), backlog=500) as listening:
        yield listening


def test_it_serves_on_the_socket_that_it_inherits(serving, data, listener):
    """Not on server.port; and the socket still listens when the daemon has ended."""
    where = listener.getsockname()
    with serving(data, **handed([listener], *SERVE)) as daemon:
        assert daemon.url == f"http://{where[0]}:{where[1]}"
        assert daemon.get("/healthz").status_code == 200
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(20) == 0
    socket.create_connection(where).close()


def test_it_serves_on_several_sockets_one_of_them_a_unix_socket(serving, data, listener, tmp_path):
    """What the unit lists, it serves."""
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as local:
        local.bind(path)
        local.listen()
        with serving(data, **handed([listener, local], *SERVE)) as daemon:
            assert daemon.get("/healthz").status_code == 200
            connection = http.client.HTTPConnection("localhost")
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(path)
            connection.request("GET", "/healthz")
            assert connection.getresponse().status == 200
            connection.close()


def test_sockets_for_another_process_are_left_alone(monkeypatch):
    """LISTEN_PID names whom they are for; the variables go in any case, as children would read
    them.
    """
    for pid in (str(os.getpid() + 1), "", "x"):
        monkeypatch.setenv("LISTEN_PID", pid)
        monkeypatch.setenv("LISTEN_FDS", "1")
        assert sockets.inherited() == []
        assert not {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} & os.environ.keys()


def test_without_sockets_there_are_none(monkeypatch):
    """A start by hand binds its own."""
    monkeypatch.delenv("LISTEN_PID", raising=False)
    assert sockets.inherited() == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_children_inherit_neither_the_socket_nor_the_variables(listener):
    """A training child that outlives the daemon must not keep its port."""
    seen = run_handed([listener], LOOK)
    assert seen.returncode == 0, seen.stderr
    assert json.loads(seen.stdout) == {
        "url": f"http://127.0.0.1:{listener.getsockname()[1]}",
        "told": [],
        "child_sees_it": 0,
    }


def test_a_descriptor_that_does_not_listen_is_named(tmp_path):
    """A wrong unit (Accept=yes, a datagram socket, a file) is told in words."""
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams, (tmp_path / "f").open("w") as file:
        for given in (datagrams, file):
            seen = run_handed([given], LOOK)
            assert "Misconfigured: Inherited descriptor 3" in seen.stderr


def test_restarts_over_one_socket_refuse_nobody(serving, data, listener, eventually):
    """While it restarts, connections wait in the kernel; each request is answered."""
    answered, failed, done = [], [], threading.Event()

    def ask():
        while not done.is_set():
            connection = http.client.HTTPConnection(*listener.getsockname(), timeout=60)
            try:
                connection.request("GET", "/healthz", headers={"Connection": "close"})
                answered.append(connection.getresponse().status)
            except (OSError, http.client.HTTPException) as error:
                failed.append(error)
            finally:
                connection.close()

    def some_more(than):
        return lambda: len(answered) >= than + 20 or failed

    frontends = [threading.Thread(target=ask) for _ in range(4)]
    for frontend in frontends:
        frontend.start()
    try:
        for _ in range(3):
            with serving(data, **handed([listener], *SERVE)) as daemon:
                eventually(some_more(len(answered)), "requests are answered")
                daemon.process.send_signal(signal.SIGTERM)
                assert daemon.process.wait(30) == 0
        with serving(data, **handed([listener], *SERVE)):
            done.set()
            for frontend in frontends:
                frontend.join()
    finally:
        done.set()
        listener.close()
    assert (set(answered), failed) == ({200}, [])


@pytest.mark.skipif(
    shutil.which("systemd-socket-activate") is None, reason="systemd is not installed"
)
def test_systemd_itself_hands_over_what_we_take(environment, data, eventually):
    """The first connection starts the daemon, and is answered."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    data.mkdir()
    command = ["systemd-socket-activate", "--listen", f"127.0.0.1:{port}"]
    command += [f"--setenv={name}={value}" for name, value in environment().items()]
    with (data / "stderr.log").open("wb") as log:
        process = subprocess.Popen([*command, sys.executable, *SERVE], cwd=ROOT, stderr=log)
    try:
        said = data / "stderr.log"
        eventually(lambda: b"Listening" in said.read_bytes() or process.poll(), "it listens")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        connection.close()
        assert urlsplit(json.loads((data / "daemon.json").read_bytes())["url"]).port == port
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
