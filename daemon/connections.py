"""Connections that keep time: a slow or hostile client loses its socket, and nobody else anything.

uvicorn has no deadline for headers, bodies or answers (its issue 157) and waits at its end for
whoever holds a socket. Here one sweep over all connections, four times a second, sees for what
each of them makes us wait, and closes those that let us wait too long. A request pays for this
with a few additions and without a timer of its own.
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable
from enum import Enum
from http import HTTPStatus
from types import FrameType
from typing import Any

import structlog
import uvicorn
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from daemon.bodies import LINES
from daemon.problems import RETRY_AFTER_SECONDS, Problem, respond
from daemon.settings import Deadlines

SWEEP_SECONDS = 0.25
HURRY_SECONDS = 1.0
"""While the server stops, a client gets this long for everything: enough to end what it began."""
MOST_HEAD_BYTES = 16_384
"""For the request line and all headers; also for what a body carries beside its content."""
MOST_PIPELINED = 100
"""Requests that one connection may send ahead of their answers; uvicorn would keep them all."""
LEAST_BYTES_PER_SECOND = 1_000
"""What a streamed upload must bring, and a large answer find taken, to be waited for."""
VERSIONS = ("1.1", "1.0")
STREAMS = tuple(media.encode() for media in LINES)
"""Bodies that may be long: these need a pace, all others an end."""
_TCP_INFO_ACKED = struct.Struct("120xQ")
"""tcpi_bytes_acked in Linux's struct tcp_info."""
log = structlog.get_logger()


class Phase(Enum):
    """For what a connection waits."""

    HEAD = "head"
    """Its client, to send a request's headers: the first, or those of a next one begun."""
    BODY = "body"
    """Its client, to send the body."""
    ANSWER = "answer"
    """Its client, to take what we have written."""
    IDLE = "idle"
    """Nothing: the client may begin another request."""
    WORK = "work"
    """Us."""


def _problem(status: int, code: str, message: str, **headers: str) -> Response:
    return respond(Problem(status, code, message, headers={"Connection": "close"} | headers))


BAD_REQUEST = _problem(400, "bad_request", "This is not HTTP.")
TOO_SLOW = _problem(408, "too_slow", "The request did not come in time; send it again.")
HEAD_TOO_LARGE = _problem(
    431, "head_too_large", f"Request line and headers hold at most {MOST_HEAD_BYTES:,} bytes."
)
_RETRY = {"Retry-After": str(RETRY_AFTER_SECONDS)}
TOO_MANY = _problem(503, "too_many_connections", "Too many connections are open.", **_RETRY)
STOPPING = _problem(503, "stopping", "The daemon is stopping; send it again.", **_RETRY)


def _raw(response: Response) -> bytes:
    """The response as it goes over the wire, for clients that no application will see."""
    status = HTTPStatus(response.status_code)
    head = b"".join(b"%s: %s\r\n" % pair for pair in response.raw_headers)
    line = f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
    return line + head + b"\r\n" + bytes(response.body)


class State(ServerState):
    """What all connections of a server share."""

    def __init__(self, most_connections: int) -> None:
        super().__init__()
        self.most_connections = most_connections
        self.stopping = False


class Connection(HttpToolsProtocol):
    """uvicorn's connection, which also knows for what it waits and since when."""

    server_state: State

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._received = 0
        self._counted_from = 0
        """Bytes received when a head was last complete, or a piece of body came."""
        self._phase: Phase | None = None
        self._request: object = None
        self._since = 0.0
        self._moved_before = 0

    # --- on the way of every request: as little as can be ----------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Greets the client, or sends it away at once when too many are here."""
        super().connection_made(transport)
        if len(self.connections) > self.server_state.most_connections:
            self._refuse(TOO_MANY)

    def data_received(self, data: bytes) -> None:
        """Parses what came; more than a head's worth that is no body is refused."""
        self._received += len(data)
        super().data_received(data)
        if self._received - self._counted_from > MOST_HEAD_BYTES:
            self._refuse(HEAD_TOO_LARGE)

    def on_headers_complete(self) -> None:
        """Starts the application, or answers 431 in its place."""
        if len(self.pipeline) >= MOST_PIPELINED:
            raise OverflowError  # the parser makes it one of its own errors: the connection ends
        # llhttp takes "GET /path" without a version for HTTP/0.9, whose answers have no head.
        if self.parser.get_http_version() not in VERSIONS:
            raise ValueError
        # The sum is taken only where it can be too large. A head that shares its first read with
        # the request before it may slip through with what that read held: never much.
        if self._received - self._counted_from > MOST_HEAD_BYTES < self._head_bytes():
            self.app = HEAD_TOO_LARGE
        self._counted_from = self._received
        super().on_headers_complete()
        self.headers = []  # what a trailer adds is no header: the application must not see it
        if self.server_state.stopping:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """A piece of a body."""
        self._counted_from = self._received
        super().on_body(body)

    # --- seldom ----------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn's own words
        """What we say to a client that does not speak HTTP."""
        self._refuse(BAD_REQUEST)

    def shutdown(self) -> None:
        """The server stops: the answer under way is the last one; the sweep does the rest."""
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def sweep(self, now: float, patience: dict[Phase, float]) -> Phase | None:
        """Closes the connection if it waited too long; returns in which phase, or None."""
        phase = self._phase_now()
        if phase is not self._phase or self.scope is not self._request:
            self._phase, self._request = phase, self.scope
            self._begin(now)
            return None
        seconds = patience.get(phase, math.inf)
        if now - self._since < seconds:
            return None
        if self._keeps_pace(seconds):
            self._begin(now)
            return None
        self._cut()
        return phase

    def _phase_now(self) -> Phase:
        if self.transport.get_write_buffer_size() > 0:
            return Phase.ANSWER
        if self.cycle is None or self.cycle.response_complete:
            return Phase.HEAD if self.timeout_keep_alive_task is None else Phase.IDLE
        asked = not self.flow.read_paused and not self.cycle.waiting_for_100_continue
        return Phase.BODY if self.cycle.more_body and asked else Phase.WORK

    def _begin(self, now: float) -> None:
        self._since = now
        self._moved_before = self._moved()

    def _moved(self) -> int:
        """A count that grows by the bytes that the client brings, or takes."""
        return self._taken() if self._phase is Phase.ANSWER else self._received

    def _taken(self) -> int:
        """What the client's side acknowledged: our own buffer alone says too little, since the
        kernel takes from it by the megabyte and then nothing for minutes.
        """
        peer = self.transport.get_extra_info("socket")
        if peer.family == socket.AF_UNIX or sys.platform != "linux":
            return -self.transport.get_write_buffer_size()
        info = peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_ACKED.size)
        return int(_TCP_INFO_ACKED.unpack(info)[0])

    def _keeps_pace(self, seconds: float) -> bool:
        uploads = self._phase is Phase.BODY and not self.server_state.stopping and self._streams()
        paced = uploads or self._phase is Phase.ANSWER
        return paced and self._moved() - self._moved_before >= LEAST_BYTES_PER_SECOND * seconds

    def _streams(self) -> bool:
        media = dict(self.scope["headers"]).get(b"content-type", b"")
        return media.partition(b";")[0].strip().lower() in STREAMS

    def _cut(self) -> None:
        if self._phase is Phase.ANSWER:
            self._drop()
        elif self._phase is Phase.BODY or self._head_begun():
            self._refuse(STOPPING if self.server_state.stopping else TOO_SLOW)
        else:
            self.transport.close()

    def _drop(self) -> None:
        """Resets: to close would wait for the client, and so would the kernel with its buffer."""
        peer = self.transport.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _head_begun(self) -> bool:
        begun = self.scope is not None
        return begun and (self.cycle is None or self.cycle.scope is not self.scope)

    def _refuse(self, response: Response) -> None:
        """Ends the connection with this answer, unless another one is under way."""
        if self.transport.is_closing():
            return
        answering = self.cycle is not None and not self.cycle.response_complete
        if not (self.pipeline or (answering and self.cycle.response_started)):
            self.transport.write(_raw(response))
        if answering:
            self.cycle.disconnected = True  # the application sees that its client is gone
            self.cycle.message_event.set()
        self.transport.close()


class Server(uvicorn.Server):
    """uvicorn's server with an eye on its connections and a bounded end."""

    def __init__(
        self,
        app: Callable[..., Any],
        *,
        deadlines: Deadlines,
        most_connections: int,
        stop_seconds: int,
        on_start: Callable[[], None],
        on_stop: Callable[[], None],
    ) -> None:
        """`on_start` is told when it answers, `on_stop` at once when a signal asks it to end."""
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                ws="none",
                log_config=None,
                access_log=False,
                timeout_keep_alive=deadlines.idle,
                timeout_graceful_shutdown=stop_seconds,
            )
        )
        self.server_state: State = State(most_connections)
        self._patience: dict[Phase, float] = {
            Phase.HEAD: deadlines.head,
            Phase.BODY: deadlines.body,
            Phase.ANSWER: deadlines.answer,
            Phase.IDLE: deadlines.idle,
        }
        self._on_start = on_start
        self._on_stop = on_stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to accept and to sweep."""
        await super().startup(sockets)
        self._sweep()
        self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accepts nothing more, answers what is under way, and waits for no client."""
        self.server_state.stopping = True
        self._patience = dict.fromkeys(self._patience, HURRY_SECONDS)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal asks for the end."""
        super().handle_exit(sig, frame)
        self._on_stop()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(SWEEP_SECONDS, self._sweep)
        now = loop.time()
        cut: Counter[str] = Counter()
        for connection in list(self.server_state.connections):
            assert isinstance(connection, Connection)
            if (phase := connection.sweep(now, self._patience)) is not None:
                cut[phase.value] += 1
        if cut:
            log.info("connections_cut", stopping=self.server_state.stopping, **cut)
