"""A stand-in for the daemon's door, for faults that the real one does not produce on demand.

It keeps items in memory by the door's published contract, or passes them on to a real daemon
(`upstream`) and only adds the faults. It also serves pages to the browser tests.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import httpx

FAULTS = (
    "busy",  # 503 with Retry-After
    "too many",  # 429 with Retry-After
    "broken",  # 500
    "unheard",  # the connection is reset before the items are kept
    "ack lost",  # and after that
    "ack torn",  # half of the acknowledgement, then a reset
    "late",  # an acknowledgement after the client gave up
    "a stranger",  # a proxy's 200
    "a mix-up",  # an acknowledgement for as many other items, which were not these
)
PROXY = "proxy "
"""So begins the fault that a proxy answers by itself with a status: `proxy 400`."""
STATUSES = {"busy": 503, "too many": 429, "broken": 500, "revoked": 401}
DOORS = ("/v1/experiences", "/v1/feedback")


class Arrival(NamedTuple):
    """One POST as it came."""

    path: str
    key: str
    media: str
    by_query: bool
    items: list[dict[str, Any]]
    fault: str | None


class StandIn(ThreadingHTTPServer):
    """Serves in a thread inside a `with` block. A test sets the attributes and reads them."""

    daemon_threads = True

    def __init__(self, upstream: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.upstream = upstream
        self.faults: Iterator[str | None] = iter(())
        """What goes wrong with each request in turn; nothing any more when it ends."""
        self.retry_after = 0
        self.late_seconds = 1.5
        self.most_bytes = 1_000_000
        self.most_at_once = 500
        """A longer list is answered with 429, however long the client waits."""
        self.refuses_keys = False
        self.missing = False
        self.rows: dict[str, dict[str, Any]] = {}
        """What is kept, by id, without the words of a second sending."""
        self.conflicts: list[str] = []
        self.arrivals: list[Arrival] = []
        self.preflights: list[str] = []
        self.pages: dict[str, tuple[str, bytes]] = {}
        self.reports: list[Any] = []
        """What the pages posted to /report."""
        self.lock = threading.Lock()

    def __enter__(self) -> StandIn:
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that went away are what the tests are about."""

    def keep(self, items: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        """Keeps what may be kept; the status and the results of the contract."""
        with self.lock:
            results = [self._keep_one(item) for item in items]
        statuses = {result["status"] for result in results}
        status = 207 if statuses & {"conflict", "invalid", "refused"} else 200
        return 201 if status == 200 and "recorded" in statuses else status, {"results": results}

    def _keep_one(self, item: dict[str, Any]) -> dict[str, Any]:
        name = item.get("id")
        if not {"messages", "experience_id", "conversation_id"} & item.keys():
            return {"id": name, "status": "invalid", "code": "invalid", "pointer": "/messages"}
        if item.get("source") == "exemplar":
            return {"id": name, "status": "refused", "code": "wrong_scope"}
        if name not in self.rows:
            self.rows[name] = item
            return {"id": name, "status": "recorded", "position": len(self.rows)}
        if self.rows[name] == item:
            return {"id": name, "status": "duplicate", "position": 1}
        self.conflicts.append(name)
        return {"id": name, "status": "conflict", "code": "conflict"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    server: StandIn

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def do_OPTIONS(self) -> None:
        self.server.preflights.append(self.headers.get("Access-Control-Request-Headers", ""))
        self._answer(204, b"")

    def do_GET(self) -> None:
        media, body = self.server.pages.get(urlsplit(self.path).path, ("text/plain", b""))
        self._answer(200 if body else 404, body, media)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/report":
            self.server.reports.append(json.loads(body))
            self._answer(204, b"")
            return
        url = urlsplit(self.path)
        query = parse_qs(url.query).get("key", [""])[0]
        key = query or self.headers.get("Authorization", "").removeprefix("Bearer ")
        media = self.headers.get("Content-Type", "").partition(";")[0]
        found = json.loads(body)
        items = found if isinstance(found, list) else [found]
        with self.server.lock:
            fault = next(self.server.faults, None)
            arrival = Arrival(url.path, key, media, bool(query), items, fault)
            self.server.arrivals.append(arrival)
        self._decide(arrival, body)

    def _decide(self, arrival: Arrival, body: bytes) -> None:
        server, fault = self.server, arrival.fault
        if server.missing or arrival.path not in DOORS:
            self._problem(404, "not_found")
        elif server.refuses_keys or (arrival.by_query and arrival.key.startswith("bhv_")):
            self._problem(401, "bad_key")
        elif fault in STATUSES:
            self._problem(STATUSES[fault], fault)
        elif fault is not None and fault.startswith(PROXY):
            self._answer(int(fault.removeprefix(PROXY)), b'{"type":"about:blank"}')
        elif fault == "unheard":
            self._reset()
        elif fault == "a stranger":
            self._answer(200, b"<p>Please sign in.</p>", "text/html")
        elif fault == "a mix-up":
            result = {"id": "another", "status": "recorded", "position": 1}
            document = {"results": [result] * len(arrival.items)}
            self._answer(201, json.dumps(document).encode())
        elif len(body) > server.most_bytes:
            self._problem(413, "body_too_large")
        elif len(arrival.items) > server.most_at_once:
            self._problem(429, "too_many")
        else:
            self._keep(arrival, body)

    def _keep(self, arrival: Arrival, body: bytes) -> None:
        server, fault = self.server, arrival.fault
        if server.upstream is None:
            status, document = server.keep(arrival.items)
        else:
            names = ("Authorization", "Content-Type", "Origin")
            headers = {name: self.headers[name] for name in names if name in self.headers}
            with httpx.Client(trust_env=False, timeout=30) as client:
                told = client.post(server.upstream + self.path, content=body, headers=headers)
            status, document = told.status_code, told.json()
        if fault == "late":
            threading.Event().wait(server.late_seconds)
        if fault == "ack lost":
            self._reset()
        else:
            self._answer(status, json.dumps(document).encode(), torn=fault == "ack torn")

    def _problem(self, status: int, code: str) -> None:
        document = {
            "type": f"urn:bhavana:problem:{code}",
            "title": code,
            "status": status,
            "code": code,
        }
        self._answer(status, json.dumps(document).encode(), "application/problem+json")

    def _answer(
        self, status: int, body: bytes, media: str = "application/json", *, torn: bool = False
    ) -> None:
        self.send_response(status)
        charset = "; charset=utf-8" if media.startswith("text/") else ""
        self.send_header("Content-Type", media + charset)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Access-Control-Allow-Origin", self.headers.get("Origin", "*"))
        self.send_header("Access-Control-Allow-Headers", "authorization, content-type")
        self.send_header("Access-Control-Expose-Headers", "Retry-After")
        if status in (429, 503):
            self.send_header("Retry-After", str(self.server.retry_after))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if torn else body)
        if torn:
            self._reset()

    def _reset(self) -> None:
        """Closes so that the other side sees a reset, not an end."""
        self.close_connection = True
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()
