"""The stand-in's HTTP side: routes, the envelope, and what goes wrong on demand."""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import httpx

from tests.cloudflare_stand_in.account import Account, Refused

CODES = {
    3036: (429, "You have used up your daily free allocation of 10,000 neurons"),
    3037: (400, "Finetune not found"),
    3039: (400, "Finetune is missing model.safetensors or config.json"),
    3040: (429, "Capacity temporarily exceeded, please try again."),
    5005: (405, "LoRA unsupported for this model"),
    5007: (400, "No such model"),
}
BREAKS = (
    "unheard",  # reset before anything is done
    "lost",  # done, and reset before the answer
    "torn",  # done, and half of the answer
    "late",  # done, and answered after the client gave up
    "page",  # a proxy's page, with status 200
    "unsuccessful",  # status 200, and success false
)
"""Beside these a fault is one of CODES, an HTTP status, or `rate`: 429 with Retry-After."""
AI = "/accounts/(?P<account>[^/]+)/ai"
VALUE = "/accounts/(?P<account>[^/]+)/storage/kv/namespaces/(?P<ns>[^/]+)/values/(?P<key>[^/]+)"
ROUTES = (
    ("verify", "GET", "/user/tokens/verify"),
    ("list", "GET", f"{AI}/finetunes"),
    ("create", "POST", f"{AI}/finetunes"),
    ("asset", "POST", f"{AI}/finetunes/(?P<id>[^/]+)/finetune-assets"),
    ("catalog", "GET", f"{AI}/models/search"),
    ("run", "POST", f"{AI}/run"),
    ("run", "POST", f"{AI}/run/(?P<model>@.+)"),
    ("read", "GET", VALUE),
    ("write", "PUT", VALUE),
)


class Exchange(NamedTuple):
    """A request, and what was answered; status 0 where the connection was broken."""

    operation: str
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    status: int
    answer: bytes
    media: str
    fault: Any


class StandIn(ThreadingHTTPServer):
    """Serves in a thread inside a `with` block."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.origin = f"http://127.0.0.1:{self.server_port}"
        self.url = f"{self.origin}/client/v4"
        self.account = Account()
        self.faults: dict[str, list[Any]] = defaultdict(list)
        """What goes wrong with each request of an operation in turn; None: nothing."""
        self.late = threading.Event()
        """Set when the late answers may come."""
        self.retry_after = "300"
        self.kv_upstream = ""
        """Where KV requests are passed on to, as to wrangler's own KV."""
        self.exchanges: list[Exchange] = []
        self.lock = threading.Lock()

    def __enter__(self) -> StandIn:
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.late.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that went away are what the tests are about."""

    def asked(self, *operations: str) -> list[Exchange]:
        """The requests of these operations, in order; all of them where none is named."""
        return [e for e in self.exchanges if not operations or e.operation in operations]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a body would wait for the acknowledgement of its head
    timeout = 60
    server: StandIn

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        url = urlsplit(self.path)
        path = url.path.removeprefix("/client/v4")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        operation, parts = self._route(path)
        with self.server.lock:
            waiting = self.server.faults[operation]
            fault = waiting.pop(0) if waiting else None
            query = parse_qs(url.query)
            status, answer, media = self._decide(operation, parts, query, body, fault)
            headers = {name.lower(): value for name, value in self.headers.items()}
            told = 0 if fault in ("unheard", "lost", "torn", "late") else status
            exchange = Exchange(
                operation, self.command, path, query, headers, body, told, answer, media, fault
            )
            self.server.exchanges.append(exchange)
        if fault == "late":
            self.server.late.wait(30)
        if fault in ("unheard", "lost"):
            self._reset()
        else:
            self._send(status, answer, media, torn=fault == "torn")

    def _route(self, path: str) -> tuple[str, dict[str, str]]:
        for operation, method, pattern in ROUTES:
            found = re.fullmatch(pattern, path)
            if method == self.command and found:
                return operation, {k: unquote(v) for k, v in found.groupdict().items()}
        return "nothing", {}

    def _decide(
        self,
        operation: str,
        parts: dict[str, str],
        query: dict[str, list[str]],
        body: bytes,
        fault: Any,
    ) -> tuple[int, bytes, str]:
        account = self.server.account
        try:
            if fault in CODES:
                raise Refused(CODES[fault][0], fault, CODES[fault][1])
            if fault == "rate":
                raise Refused(429, 10429, "Rate limited")
            if isinstance(fault, int):
                raise Refused(fault, None, "Something went wrong")
            if fault == "page":
                return 200, b"<p>Please sign in.</p>", "text/html"
            if fault == "unheard":
                return 0, b"", ""
            if self.headers.get("Authorization") != f"Bearer {account.token}":
                raise Refused(401, 10000, "Authentication error")
            if parts.get("account", account.id) != account.id or operation == "nothing":
                raise Refused(404, 7003, "Could not route to the path")
            if parts.get("ns", account.namespace) != account.namespace:
                raise Refused(404, 10013, "namespace not found")
            if operation in ("read", "write") and self.server.kv_upstream:
                return self._passed_on(parts, body)
            result = self._do(operation, parts, query, body)
        except Refused as refused:
            return refused.status, _problem(operation, refused), "application/json"
        if isinstance(result, bytes):
            return 200, result, "application/octet-stream"
        success = fault != "unsuccessful"
        errors = [] if success else [{"code": 7000, "message": "No"}]
        envelope = {"success": success, "errors": errors, "messages": [], "result": result}
        return 200, json.dumps(envelope).encode(), "application/json"

    def _do(
        self, operation: str, parts: dict[str, str], query: dict[str, list[str]], body: bytes
    ) -> Any:
        account = self.server.account
        if operation == "verify":
            return {"id": "ed17574386854bf78a67040be0a770b0", "status": account.token_status}
        if operation == "list":
            return account.listed()
        if operation == "create":
            return account.create(json.loads(body))
        if operation == "asset":
            fields = _multipart(self.headers["Content-Type"], body)
            account.keep(parts["id"], fields["file_name"].decode(), fields["file"])
            return {}
        if operation == "catalog":
            return account.models(query.get("search", [""])[0])
        if operation == "run":
            asked = json.loads(body)
            if "model" in parts:
                return account.run(parts["model"], asked)
            return account.run(asked["model"], asked["input"])
        if operation == "read":
            return account.read(parts["key"])
        account.values.setdefault(parts["key"], []).append(body)
        return None

    def _passed_on(self, parts: dict[str, str], body: bytes) -> tuple[int, bytes, str]:
        address = f"{self.server.kv_upstream}/{parts['ns']}/values/{parts['key']}"
        media = {"Content-Type": "application/octet-stream"}
        with httpx.Client(trust_env=False, timeout=60) as client:
            told = client.request(self.command, address, content=body, headers=media)
        said = told.headers.get("content-type", "application/octet-stream")
        return told.status_code, told.content, said.partition(";")[0]

    def _send(self, status: int, body: bytes, media: str, *, torn: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(body)))
        if status == 429 and b"10429" in body:
            self.send_header("Retry-After", self.server.retry_after)
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


def _problem(operation: str, refused: Refused) -> bytes:
    """The envelope of a failure. For runs on a model's own path the schema has codes as text."""
    error: dict[str, Any] = {"message": refused.message}
    if refused.code is not None:
        is_text = operation == "run" and refused.status == 400
        error["code"] = str(refused.code) if is_text else refused.code
    kept = {"verify", "read", "write"}
    result = None if operation in kept else {}
    envelope = {"success": False, "errors": [error], "messages": [], "result": result}
    return json.dumps(envelope).encode()


def _multipart(media: str, body: bytes) -> dict[str, bytes]:
    """The fields of a form, by name."""
    boundary = b"--" + media.partition("boundary=")[2].encode()
    fields = {}
    for part in body.split(boundary)[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        name = head.partition(b' name="')[2].partition(b'"')[0].decode()
        fields[name] = content.removesuffix(b"\r\n")
    return fields
