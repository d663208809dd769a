"""Deadlines, limits and the end of connections: the real server in a thread, on real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from contextlib import contextmanager

import pytest

from daemon.connections import LEAST_BYTES_PER_SECOND, MOST_HEAD_BYTES, Server
from daemon.settings import Deadlines

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
PATIENCE_SECONDS = 20
LARGE = 30_000_000


class Application:
    """Answers with what it received; remembers who left before the body was whole."""

    def __init__(self):
        self.cut = 0
        self.go_on = threading.Event()

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        size, message = 0, {"more_body": True}
        while message.get("more_body"):
            message = await receive()
            if message["type"] == "http.disconnect":
                self.cut += 1
                return
            size += len(message["body"])
        while scope["path"] == "/slow" and not self.go_on.is_set():
            await asyncio.sleep(0.01)
        seen = {"bytes": size, "headers": [name.decode() for name, _ in scope["headers"]]}
        content = bytes(LARGE) if scope["path"] == "/large" else json.dumps(seen).encode()
        headers = [(b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})


class Edge:
    """A server that runs, as a test holds it."""

    def __init__(self, server, address, app):
        self.server, self.address, self.app = server, address, app

    def client(self):
        """A connection to it."""
        return socket.create_connection(self.address, timeout=PATIENCE_SECONDS)


@pytest.fixture
def edge():
    """Runs a server with deadlines of one second where a test sets no other; then ends it."""

    @contextmanager
    def run(most_connections=50, stop_seconds=10, **deadlines):
        app, started = Application(), threading.Event()
        given = {"head": 1, "body": 1, "answer": 1, "idle": 1} | deadlines
        server = Server(
            app,
            deadlines=Deadlines(**given),
            most_connections=most_connections,
            stop_seconds=stop_seconds,
            on_start=started.set,
            on_stop=lambda: None,
        )
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            assert started.wait(PATIENCE_SECONDS)
            yield Edge(server, address, app)
        finally:
            app.go_on.set()
            server.should_exit = True
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()

    return run


def rest(client):
    """Everything that still comes until the server closes."""
    received = b""
    try:
        while piece := client.recv(65_536):
            received += piece
    except ConnectionResetError:
        pass
    return received


def answer(client):
    """(status, document) of one answer; the connection stays open."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += client.recv(65_536)
    head, _, body = received.partition(b"\r\n\r\n")
    [length] = [int(x.split(b":")[1]) for x in head.lower().split(b"\r\n") if b"-length" in x]
    while len(body) < length:
        body += client.recv(65_536)
    return int(head.split()[1]), json.loads(body)


def status(received):
    """The status of the answer that these bytes are; it must be a problem that closes."""
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    assert json.loads(body)["status"] == int(head.split()[1])
    return int(head.split()[1])


def post(length, media=b"application/json"):
    """The head of a POST."""
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
    return head % (media, length)


# --- deadlines ----------------------------------------------------------------------------


def test_one_who_sends_nothing_is_closed_without_a_word(edge):
    """A connection on which no request was begun has nothing to be answered."""
    with edge() as served, served.client() as client:
        assert rest(client) == b""


def test_half_a_head_is_told_that_it_came_too_slowly(edge):
    """408, and the connection is closed."""
    with edge() as served, served.client() as client:
        client.sendall(GET[:-2])
        assert status(rest(client)) == 408


def test_the_head_of_a_next_request_has_a_deadline_as_well(edge):
    """The first byte of it starts the clock; the keep-alive timer no longer runs then."""
    with edge() as served, served.client() as client:
        client.sendall(GET)
        assert answer(client)[0] == 200
        client.sendall(GET[:5])
        assert status(rest(client)) == 408


def test_empty_lines_between_requests_buy_no_time(edge):
    """HTTP allows them, and a keep-alive timer would take them for life."""
    with edge() as served, served.client() as client:
        client.sendall(GET)
        assert answer(client)[0] == 200
        client.sendall(b"\r\n")
        assert rest(client) == b""


def test_half_a_body_is_closed_and_the_application_sees_nobody(edge):
    """408; what came is not taken for a whole body."""
    with edge() as served, served.client() as client:
        client.sendall(post(100) + b"x" * 10)
        assert status(rest(client)) == 408
        assert served.app.cut == 1


def test_a_plain_body_needs_an_end_and_a_stream_only_a_pace(edge):
    """At four times the least pace NDJSON may take longer than the deadline, JSON may not."""
    with edge() as served:
        assert _dripped(served, b"application/json", seconds=3) == 408
        assert _dripped(served, b"application/x-ndjson; charset=utf-8", seconds=3) == 200


def test_a_stream_without_pace_is_closed(edge):
    """A twentieth of the least pace is none, whatever the body is called."""
    with edge() as served:
        assert _dripped(served, b"application/x-ndjson", seconds=5, share=0.05) == 408


def _dripped(served, media, *, seconds, share=4.0):
    """The status after a body sent at this share of the least pace."""
    step = 0.05
    piece = b"x" * int(LEAST_BYTES_PER_SECOND * share * step)
    with served.client() as client:
        client.sendall(post(len(piece) * int(seconds / step), media))
        for _ in range(int(seconds / step)):
            try:
                client.sendall(piece)
            except OSError:
                break
            time.sleep(step)
        received = rest(client)
    return int(received.split()[1])


def test_one_who_does_not_read_is_dropped(edge, eventually):
    """An answer that nobody takes is given up."""
    with edge() as served, _deaf(served) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        connections = served.server.server_state.connections
        eventually(lambda: len(connections) == 1, "it is connected")
        eventually(lambda: len(connections) == 0, "it is dropped")
        assert len(rest(client)) < LARGE


def test_one_who_reads_slowly_but_steadily_gets_it_all(edge):
    """A large answer may take longer than the deadline."""
    with edge() as served, _deaf(served) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        received, begun = 0, time.monotonic()
        while received < LARGE:
            if time.monotonic() - begun < 3:
                time.sleep(0.02)
            piece = client.recv(65_536)
            assert piece, f"cut after {received} bytes"
            received += len(piece)


def _deaf(served):
    """A connection with a small buffer at the client's end."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.settimeout(PATIENCE_SECONDS)
    client.connect(served.address)
    return client


def test_no_deadline_hurries_the_application(edge):
    """Who waits for us may wait for longer than any deadline."""
    with edge() as served, served.client() as client:
        client.sendall(GET.replace(b"/ ", b"/slow "))
        time.sleep(2.5)
        served.app.go_on.set()
        assert answer(client)[0] == 200


# --- limits -------------------------------------------------------------------------------


def test_a_head_of_ordinary_size_is_taken(edge):
    """15 KB of headers pass, on every request of a connection."""
    large = GET[:-2] + b"X-Large: " + b"x" * (MOST_HEAD_BYTES - 1_000) + b"\r\n\r\n"
    with edge() as served, served.client() as client:
        for _ in range(3):
            client.sendall(large)
            assert answer(client)[0] == 200


@pytest.mark.parametrize("end", [b"\r\n\r\n", b""], ids=["whole", "endless"])
def test_too_large_a_head_is_refused(edge, end):
    """431, whether it is sent whole or never ends."""
    with edge(head=60) as served, served.client() as client:
        client.sendall(GET[:-2] + b"X-Large: " + b"x" * MOST_HEAD_BYTES)
        time.sleep(0.2)
        client.sendall(b"y" * 100 + end)
        assert status(rest(client)) == 431


def test_many_small_headers_are_too_large_a_head_as_well(edge):
    """The sum counts."""
    with edge(head=60) as served, served.client() as client:
        client.sendall(GET[:-2] + b"A: b\r\n" * MOST_HEAD_BYTES + b"\r\n")
        assert status(rest(client)) == 431


def test_a_body_is_no_head(edge):
    """A large body in many pieces, and the next request behind it, are not refused."""
    with edge(body=60) as served, served.client() as client:
        for _ in range(2):
            client.sendall(post(1_000_000) + b"x" * 1_000_000)
            assert answer(client) == (200, {"bytes": 1_000_000, "headers": [*HEADERS]})
        client.sendall(GET)
        assert answer(client)[0] == 200


HEADERS = ("host", "content-type", "content-length")
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"


def test_a_trailer_is_no_header(edge):
    """What comes after the body cannot pretend to have come before it."""
    with edge() as served, served.client() as client:
        client.sendall(CHUNKED)
        time.sleep(0.1)
        client.sendall(b"0\r\nAuthorization: Bearer x\r\n\r\n")
        assert answer(client) == (200, {"bytes": 1, "headers": ["host", "transfer-encoding"]})


@pytest.mark.parametrize("what", [b"0\r\nX: ", b"1;extension="], ids=["trailer", "extension"])
def test_an_endless_frame_around_a_body_is_refused(edge, what):
    """Trailers and chunk extensions are bounded like a head."""
    with edge(body=60) as served, served.client() as client:
        client.sendall(CHUNKED + what)
        time.sleep(0.1)
        for _ in range(2):
            client.sendall(b"x" * MOST_HEAD_BYTES)
            time.sleep(0.1)
        assert status(rest(client)) == 431
        assert served.app.cut == 1


def test_requests_sent_far_ahead_of_their_answers_end_the_connection(edge):
    """A few may be pipelined, and are answered in turn; a flood is not kept in memory."""
    with edge(head=60, idle=60) as served, served.client() as client:
        client.sendall(GET * 50)
        received = b""
        while received.count(b"HTTP/1.1 200") < 50:
            received += client.recv(65_536)
        client.sendall(GET * 5_000)
        assert rest(client).count(b"HTTP/1.1 200") < 500


def test_what_is_not_http_gets_a_problem(edge):
    """400 in our words."""
    with edge() as served, served.client() as client:
        client.sendall(b"what is this?\r\n\r\n")
        assert status(rest(client)) == 400


def test_too_many_connections_are_refused_at_once(edge, eventually):
    """503 for the one too many; when another leaves, there is room again."""
    with edge(most_connections=2, head=60, idle=60) as served, served.client() as first:
        with served.client() as second:
            for client in (first, second):
                client.sendall(GET)
                assert answer(client)[0] == 200
            with served.client() as third:
                assert status(rest(third)) == 503
        connections = served.server.server_state.connections
        eventually(lambda: len(connections) == 1, "the second has left")
        with served.client() as fourth:
            fourth.sendall(GET)
            assert answer(fourth)[0] == 200


# --- the end ------------------------------------------------------------------------------


def test_the_end_waits_for_answers_and_for_nobody_who_is_slow(edge):
    """What is in work is answered; idle, silent and half-sent connections are closed."""
    patient = {"head": 60, "body": 60, "answer": 60, "idle": 60}
    with (
        edge(**patient) as served,
        served.client() as silent,
        served.client() as idle,
        served.client() as half,
        served.client() as deaf,
        served.client() as waiting,
    ):
        idle.sendall(GET)
        assert answer(idle)[0] == 200
        half.sendall(post(100) + b"x")
        deaf.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        waiting.sendall(GET.replace(b"/ ", b"/slow "))
        time.sleep(0.5)
        served.server.should_exit = True
        assert rest(silent) == b""
        assert rest(idle) == b""
        assert status(rest(half)) == 503
        served.app.go_on.set()
        assert rest(waiting).startswith(b"HTTP/1.1 200")
        assert len(rest(deaf)) < LARGE


def test_one_who_is_about_to_ask_when_the_end_begins_is_answered(edge):
    """A busy connection has its next request answered, and is told to close."""
    with edge(idle=60) as served, served.client() as busy:
        busy.sendall(GET)
        assert answer(busy)[0] == 200
        served.server.should_exit = True
        time.sleep(0.4)
        busy.sendall(GET)
        received = rest(busy)
        assert received.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in received
