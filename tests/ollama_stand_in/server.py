"""The stand-in's HTTP edge: Ollama's routes, its errors, and faults on demand."""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.ollama_stand_in.answers import Answers, Document
from tests.ollama_stand_in.library import ApiError, Library, Model, modelfile
from tests.ollama_stand_in.making import Maker
from tests.ollama_stand_in.runners import Runners
from trainer.targets.ollama.era import era_of

Fault = Callable[[str, str, Document], str | None]
"""What goes wrong with a request, by method, path and document."""


class StandIn(ThreadingHTTPServer):
    """Serves in a thread inside a `with` block. A test sets the attributes and reads them."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder: Path, version: str = "0.34.1", *, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.version = version
        self.era = era_of(version)
        self.library = Library(folder)
        self.maker = Maker(self.library, self.era.number)
        self.runners = Runners()
        self.answers = Answers(self.era, self.library, self.runners)
        self.token = ""
        """Requests without it are refused, if set; as a proxy in front of a real one does."""
        self.fault: Fault = lambda _method, _path, _document: None
        self.slow_seconds = 30.0
        self.requests: list[tuple[str, str, Document]] = []
        self.lock = threading.Lock()
        self.ended = threading.Event()

    def __enter__(self) -> StandIn:
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.shutdown()
        self._thread.join()
        self.server_close()
        self.runners.clear()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that went away are what some tests are about; our own faults are told."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def sent(self, *paths: str) -> list[str]:
        """Which requests came, as `POST /api/copy`; of these paths only, where some are named."""
        with self.lock:
            return [f"{m} {p}" for m, p, _ in self.requests if not paths or p in paths]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a body would wait for the acknowledgement of its head
    timeout = 60
    server: StandIn
    fault: str | None = None

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        self._take({})

    def do_HEAD(self) -> None:
        self._take({})

    def do_POST(self) -> None:
        self._take({} if "/api/blobs/" in self.path else self._document())

    def do_DELETE(self) -> None:
        self._take(self._document())

    def _document(self) -> Document:
        try:
            found = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def _take(self, document: Document) -> None:
        server = self.server
        with server.lock:
            server.requests.append((self.command, self.path, document))
        self.fault = server.fault(self.command, self.path, document)
        if server.token and self.headers.get("Authorization") != f"Bearer {server.token}":
            self._refuse(ApiError(401, "unauthorized"))
        elif self.fault == "failing":
            self._refuse(ApiError(500, "the stand-in is told to fail"))
        elif self.fault == "load failure":
            words = "llama runner process has terminated: error loading model: told to fail"
            self._refuse(ApiError(500, words))
        elif self.fault == "busy":
            words = "server busy, please try again.  maximum pending requests exceeded"
            self._refuse(ApiError(503, words))
        elif self.fault == "slow":
            server.ended.wait(server.slow_seconds)
            self._reset()
        elif self.fault == "reset":
            self._reset()
        elif self.fault == "a stranger":
            self._send(200, b"<p>Please sign in.</p>", "text/html")
        else:
            try:
                self._route(document)
            except ApiError as error:
                self._refuse(error)

    def _route(self, document: Document) -> None:
        library, way = self.server.library, (self.command, self.path.split("sha256:")[0])
        match way:
            case ("GET" | "HEAD", "/"):
                self._send(200, b"Ollama is running", "text/plain")
            case ("GET", "/api/version"):
                self._say({"version": self.server.version})
            case ("GET", "/api/tags"):
                self._say({"models": library.tags()})
            case ("GET", "/api/ps"):
                self._say({"models": self.server.answers.processes()})
            case ("HEAD", "/api/blobs/"):
                there = library.blob(self.path.removeprefix("/api/blobs/")).exists()
                self._send(200 if there else 404, b"")
            case ("POST", "/api/blobs/"):
                length = int(self.headers.get("Content-Length", 0))
                digest = self.path.removeprefix("/api/blobs/")
                try:
                    new = library.take(digest, self.rfile, length)
                except ApiError:
                    self.close_connection = True  # what was not read is no next request
                    raise
                self._send(201 if new else 200, b"")
            case ("POST", "/api/show"):
                self._show(library.model(document.get("model", "")))
            case ("POST", "/api/copy"):
                library.copy(document.get("source", ""), document.get("destination", ""))
                self._send(200, b"")
            case ("DELETE", "/api/delete"):
                library.delete(document.get("model", ""))
                self._send(200, b"")
            case ("POST", "/api/create"):
                self._create(document)
            case ("POST", "/api/generate"):
                self._tell(document, self.server.answers.generate(document))
            case ("POST", "/api/chat"):
                self._tell(document, self.server.answers.chat(document))
            case _:
                self._send(404, b"404 page not found", "text/plain")

    def _show(self, model: Model) -> None:
        self._say(
            {
                "modelfile": modelfile(model),
                "template": model.template,
                "license": model.license,
                "details": {"format": "gguf"},
            }
        )

    def _create(self, document: Document) -> None:
        steps = self.server.maker.create(document)
        if document.get("stream", True):
            self._stream(steps)
        else:
            self._say(list(steps)[-1])

    def _tell(self, document: Document, answer: Document) -> None:
        if document.get("stream", True):
            self._stream(iter([answer]))
        else:
            self._say(answer)

    # --- sending --------------------------------------------------------------------------

    def _stream(self, steps: Iterator[Document]) -> None:
        """NDJSON. The status is true only of what goes wrong before the first line."""
        first = next(steps)
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if self.fault == "mid-stream":
            self._chunk(json.dumps(first) + "\n")
            self._chunk('{"error":"the stand-in is told to fail in the middle"}\n')
        elif self.fault == "truncated":
            self._chunk(json.dumps(first)[:-5])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_WR)
            self.close_connection = True
            return
        elif self.fault == "no success":
            self._chunk(json.dumps(first) + "\n")
        else:
            self._chunk(json.dumps(first) + "\n")
            try:
                for step in steps:
                    if self.fault != "lost":
                        self._chunk(json.dumps(step) + "\n")
            except ApiError as error:
                self._chunk(json.dumps({"error": error.words}) + "\n")
        if self.fault == "lost":
            self._reset()
        else:
            self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, text: str) -> None:
        content = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))

    def _refuse(self, error: ApiError) -> None:
        if self.command == "HEAD":
            self._send(error.status, b"")
        else:
            self._say({"error": error.words}, error.status)

    def _say(self, document: Document, status: int = 200) -> None:
        self._send(status, json.dumps(document).encode())

    def _send(self, status: int, body: bytes, media: str = "application/json") -> None:
        if self.fault == "lost":
            self._reset()
            return
        self.send_response(status)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _reset(self) -> None:
        """Closes so that the other side sees a reset, not an end."""
        self.close_connection = True
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()
