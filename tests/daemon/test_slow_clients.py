"""Five hundred hostile sockets against the real daemon: it closes them, serves, and can stop."""

from __future__ import annotations

import http.client
import json
import resource
import signal
import socket
import statistics
import threading
import time
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from store import experiences, keys
from store.errors import NotFound
from store.events import Store

SOCKETS = 500
HALF_A_HEAD = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Half: "
UNREAD = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"


def _deadlines(seconds):
    names = ("HEAD", "BODY", "ANSWER", "IDLE")
    return {f"BHAVANA_SERVER__DEADLINES__{name}": str(seconds) for name in names}


def _half_a_body(secret):
    head = "POST /v1/experiences HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return f'{head}Authorization: Bearer {secret}\r\nContent-Length: 1000\r\n\r\n{{"id": "'.encode()


class Swarm:
    """Hostile sockets of five kinds: silent, half a head, half a body, dripping, not reading."""

    def __init__(self, url, secret):
        self._where = (urlsplit(url).hostname, urlsplit(url).port)
        half_a_body = _half_a_body(secret)
        silent, halves = [b""] * 100, [HALF_A_HEAD] * 100 + [half_a_body] * 100
        dripping = [HALF_A_HEAD] * 50 + [half_a_body] * 50
        self._drips = [self._connect(begun) for begun in dripping]
        self._others = [self._connect(begun) for begun in silent + halves]
        self._deaf = [self._connect(UNREAD, buffer=2_048) for _ in range(100)]
        self._done = threading.Event()
        self._drip = threading.Thread(target=self._dripping)
        self._drip.start()

    def _connect(self, begun, buffer=None):
        client = socket.socket()
        if buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        client.connect(self._where)
        client.sendall(begun)
        return client

    def _dripping(self):
        dripping = list(self._drips)
        while not self._done.wait(1):
            for client in list(dripping):
                try:
                    client.send(b"x")
                except OSError:
                    dripping.remove(client)

    def open(self):
        """How many the daemon holds open, of those 400 that would notice."""
        return sum(not _ended(client) for client in self._drips + self._others)

    def unclosed(self, seconds):
        """How many are still open after this time, at the latest. Those that do not read begin
        to when the others were closed: they find what was sent to them, and its end.
        """
        deadline = time.monotonic() + seconds
        while self.open() and time.monotonic() < deadline:
            time.sleep(0.1)
        for client in self._deaf:
            client.settimeout(1)
        return self.open() + sum(not _ended(client, 0) for client in self._deaf)

    def leave(self):
        """Lets go of all of them."""
        self._done.set()
        self._drip.join()
        for client in self._drips + self._others + self._deaf:
            client.close()


def _ended(client, flags=socket.MSG_DONTWAIT):
    """Whether the daemon closed this connection; reads what it said before."""
    try:
        while client.recv(65_536, flags):
            pass
    except (BlockingIOError, TimeoutError):
        return False
    except OSError:
        return True
    return True


@contextmanager
def swarm_against(daemon, secret):
    """A swarm that is gone at the end of the `with` block."""
    swarm = Swarm(daemon.url, secret)
    try:
        yield swarm
    finally:
        swarm.leave()


class Healthy(threading.Thread):
    """A frontend that posts one experience after another on one connection; connects anew
    when it was closed, as frontends do, and counts what was acknowledged.
    """

    def __init__(self, url, secret, experience, name):
        super().__init__(name=name)
        self._where, self._secret, self._experience = urlsplit(url), secret, experience
        self.kept, self.refused, self.failed = [], [], 0
        self._done = threading.Event()

    def run(self):
        connection = http.client.HTTPConnection(self._where.hostname, self._where.port, timeout=30)
        headers = {"Authorization": f"Bearer {self._secret}", "Content-Type": "application/json"}
        number = 0
        while not self._done.is_set():
            number += 1
            item = self._experience | {"id": f"{self.name}-{number}"}
            try:
                connection.request("POST", "/v1/experiences", json.dumps(item), headers)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                self.failed += 1
                connection.close()
                time.sleep(0.01)
            else:
                (self.kept if answer.status == 201 else self.refused).append(item["id"])
        connection.close()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        """Lets the request under way end."""
        self._done.set()
        self.join()


@pytest.fixture
def enough_files():
    """The test may hold its side of every socket."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = SOCKETS + 300
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            pytest.skip(f"a process may open only {hard} files here")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def secret(data):
    """The text of a key that may post experiences."""
    data.mkdir()
    return _new_key(data)


def _new_key(data):
    with Store(f"sqlite:///{data / 'bhavana.db'}") as store:
        return keys.create(store, name="t", scopes=("ingest",), source="web", actor="t")[1]


@pytest.mark.usefixtures("enough_files")
@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        pytest.param(_deadlines(2), 10, id="short deadlines"),
        pytest.param({}, 15, id="the deadlines as they are", marks=pytest.mark.slow),
    ],
)
def test_five_hundred_hostile_sockets_are_closed(
    serving, data, secret, experience, changes, seconds
):
    """All of them, in time; a frontend beside them is answered every time."""
    with serving(data, **changes) as daemon:
        with (
            Healthy(daemon.url, secret, experience, "h") as healthy,
            swarm_against(daemon, secret) as swarm,
        ):
            begun = time.monotonic()
            assert swarm.unclosed(seconds) == 0
            print(f"all closed {time.monotonic() - begun:.1f} s after the last was opened")
        assert healthy.kept
        assert (healthy.refused, healthy.failed) == ([], 0)
        assert "Traceback" not in daemon.log()
        assert '"level": "error"' not in daemon.log()
    assert _missing(data, healthy.kept) == set()


@pytest.mark.usefixtures("enough_files")
def test_it_stops_with_five_hundred_hostile_sockets_open(serving, data, secret, experience):
    """SIGTERM ends it with code 0, in seconds; what was acknowledged is kept."""
    with serving(data, **_deadlines(60)) as daemon:
        with (
            swarm_against(daemon, secret) as swarm,
            Healthy(daemon.url, secret, experience, "h1") as first,
            Healthy(daemon.url, secret, experience, "h2") as second,
        ):
            time.sleep(2)
            assert swarm.open() == 400
            begun = time.monotonic()
            daemon.process.send_signal(signal.SIGTERM)
            code = daemon.process.wait(30)
            print(f"stopped after {time.monotonic() - begun:.1f} s")
        assert code == 0
        assert "Traceback" not in daemon.log()
    acknowledged = first.kept + second.kept
    assert acknowledged
    assert _missing(data, acknowledged) == set()


@pytest.mark.slow
@pytest.mark.usefixtures("enough_files")
def test_a_frontend_keeps_its_rate_beside_five_hundred_hostile_sockets(
    serving, data, secret, experience
):
    """At least 80 % of what a second daemon without them gives: medians, taken in turns."""
    patient = _deadlines(120)
    with (
        serving(data, **patient) as beset,
        serving(data.parent / "calm", **patient) as calm,
        swarm_against(beset, secret) as swarm,
    ):
        secrets = {beset.url: secret, calm.url: _new_key(calm.data)}
        time.sleep(3)  # what the swarm does ask for is answered
        rates = {beset.url: [], calm.url: []}
        for turn in range(20):
            for url in (beset.url, calm.url) if turn % 2 else (calm.url, beset.url):
                rates[url].append(_rate(url, secrets[url], experience, f"turn{turn}"))
        assert swarm.open() == 400
    medians = {url: statistics.median(found) for url, found in rates.items()}
    print(f"beside the swarm {medians[beset.url]:.0f} requests/s, alone {medians[calm.url]:.0f}")
    assert medians[beset.url] >= 0.8 * medians[calm.url]


def _rate(url, secret, experience, name, seconds=1.0):
    begun = time.monotonic()
    with Healthy(url, secret, experience, name) as healthy:
        time.sleep(seconds)
    assert (healthy.refused, healthy.failed) == ([], 0)
    return len(healthy.kept) / (time.monotonic() - begun)


def _missing(data, names):
    """Which of these ids the store does not have."""
    with Store(f"sqlite:///{data / 'bhavana.db'}") as store:
        known = {name for name in names if _has(store, name)}
    return set(names) - known


def _has(store, name):
    try:
        return experiences.get(store, name) is not None
    except NotFound:
        return False
