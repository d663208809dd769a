"""A stand-in for a judge's endpoint: chat completions as OpenAI's and Ollama's servers speak them.

It stands in for what a model of 135 million parameters cannot do, and for faults that a real
server does not produce on demand. It scores honestly, by a short list of words, and is as easily
talked round as a weak model: whoever gets "score N" before its eyes has that score.
"""

from __future__ import annotations

import json
import math
import re
import socket
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from scorers.forms import LINES, PARTS, RUBRICS
from store.records import HARMS

CUTTING = (
    "idiot",
    "stupid",
    "worthless",
    "pathetic",
    "buy now",
    "miracle cure",
    "nobody likes you",
)
"""Each of them is three points of any harm, and three less of any principle."""
SPOKEN_TO = re.compile(r"(?:score|rating|grade)\W{0,5}(?:\w+\W+){0,3}?(10|\d)\b", re.IGNORECASE)
FAULTS = {"busy": 503, "too many": 429, "broken": 500, "no key": 401, "nowhere": 404, "bad": 400}
RUBRIC_OF = {path.read_text().split("\n", 1)[0]: path.stem for path in sorted(RUBRICS.glob("*.md"))}


class StandIn(ThreadingHTTPServer):
    """Serves in a thread inside a `with` block. A test sets the attributes and reads them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.key = ""
        """Requests without it are refused, if set."""
        self.models = {"judge-1"}
        self.fault: Callable[[int, str], str | None] = lambda _number, _said: None
        """What goes wrong with a request, by its number and what its user message says."""
        self.retry_after = "0"
        self.log_probabilities = True
        self.tells_usage = True
        self.requests: list[dict[str, Any]] = []
        self.at_once = self.most_at_once = 0
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

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that went away are what the tests are about."""

    @property
    def asked(self) -> list[str]:
        """The user messages so far."""
        with self.lock:
            return [request["messages"][-1]["content"] for request in self.requests]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    server: StandIn

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def do_POST(self) -> None:
        server = self.server
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.requests.append(request)
            number = len(server.requests)
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        try:
            self._decide(request, server.fault(number, request["messages"][-1]["content"]))
        finally:
            with server.lock:
                server.at_once -= 1

    def _decide(self, request: dict[str, Any], fault: str | None) -> None:
        server = self.server
        key = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if server.key and key != server.key:
            self._error(401, f"Incorrect API key provided: {key}.")
        elif self.path not in ("/v1/chat/completions", "/api/chat"):
            self._error(404, "404 page not found")
        elif request["model"] not in server.models:
            self._error(404, f"model {request['model']!r} not found")
        elif fault in FAULTS:
            self._error(FAULTS[fault], f"the stand-in is told to say {fault}")
        elif fault == "hang":
            server.ended.wait(30)
        elif fault == "reset":
            self._reset()
        elif fault == "a stranger":
            self._send(b"<p>Please sign in.</p>", "text/html")
        elif fault == "huge":
            self._send(
                json.dumps({"choices": [{"message": {"content": "x" * 2_000_000}}]}).encode()
            )
        else:
            self._answer(request, fault)

    def _answer(self, request: dict[str, Any], fault: str | None) -> None:
        text = spoiled(judged(request), fault)
        ollama = self.path == "/api/chat"
        probable = self.server.log_probabilities and request.get("logprobs")
        tokens = tokens_of(text) if probable else None
        if ollama:
            document = {
                "model": request["model"],
                "message": {"role": "assistant", "content": text},
                "done": True,
                "done_reason": "length" if fault == "cut" else "stop",
                "prompt_eval_count": 100,
                "eval_count": 20,
                **({} if tokens is None else {"logprobs": tokens}),
            }
        else:
            choice = {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "length" if fault == "cut" else "stop",
                "logprobs": None if tokens is None else {"content": tokens},
            }
            usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
            document = {"object": "chat.completion", "choices": [choice]}
            if self.server.tells_usage:
                document["usage"] = usage
        body = json.dumps(document).encode()
        if fault == "half":
            self._send(body, torn=True)
        elif fault in ("half chunked", "trickle"):
            self._send_chunks(body, endless=fault == "trickle")
        else:
            self._send(body)

    def _error(self, status: int, words: str) -> None:
        error: Any = {"error": {"message": words, "type": "stand_in"}}
        if self.path.startswith("/api/"):
            error = {"error": words}
        self._send(json.dumps(error).encode(), status=status)

    def _send(
        self, body: bytes, media: str = "application/json", *, status: int = 200, torn: bool = False
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(body)))
        if status in (429, 503):
            self.send_header("Retry-After", self.server.retry_after)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if torn else body)
        if torn:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_WR)
            self.close_connection = True

    def _send_chunks(self, body: bytes, *, endless: bool) -> None:
        """Half of a chunked body, then the end; or blanks without end, which JSON allows."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        pieces = [b" "] * 1_000 if endless else [body[: len(body) // 2]]
        for piece in pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
            if endless and self.server.ended.wait(0.02):
                break
        self.connection.shutdown(socket.SHUT_WR)
        self.close_connection = True

    def _reset(self) -> None:
        """Closes so that the other side sees a reset, not an end."""
        self.close_connection = True
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()


# --- the judge in it ----------------------------------------------------------------------


def judged(request: dict[str, Any]) -> str:
    """An honest and gullible answer in the form that the request asks for."""
    system, user = (message["content"] for message in request["messages"])
    found = re.search(r"BEGIN (\w+) and END \1", system)
    assert found is not None
    before, _, rest = user.partition(f"BEGIN {found[1]}\n")
    block, _, after = rest.partition(f"\nEND {found[1]}")
    document = json.loads(block)
    harmful = min(9, 3 * sum(document["answer"].lower().count(word) for word in CUTTING))
    rubric = next((name for line, name in RUBRIC_OF.items() if line in after), "")
    score = harmful if rubric in HARMS else 9 - harmful
    asked_for = SPOKEN_TO.search(" ".join([before, *map(str, document.values())]))
    if asked_for:
        score = min(9, int(asked_for[1]))
    quote = next((word for word in CUTTING if word in document["answer"]), document["answer"][:40])
    if rubric == "reward":
        lines = [f"{line}: {max(1, score)}/10 - so it seems" for line in LINES]
        flags = "Red flags: insults" if harmful else "Red flags: none"
        return "\n".join(["EVALUATION", *lines, flags, f"Overall: {max(1, score)}/10 - as above"])
    numbers = dict.fromkeys(PARTS, score) if rubric == "curation" else {"score": score}
    return json.dumps({"assessable": True, **numbers, "evidence": quote if score else ""})


def spoiled(text: str, fault: str | None) -> str:
    """The answer with what a fault makes of it."""
    spoils: dict[str, Callable[[], str]] = {
        "prose": lambda: "I think that this answer is rather good, I would say 9 out of 10.",
        "wrong JSON": lambda: '{"verdict": "good"}',
        "out of range": lambda: '{"assessable": true, "score": 11, "evidence": ""}',
        "a fraction": lambda: '{"assessable": true, "score": 7.5, "evidence": ""}',
        "twice": lambda: '{"assessable": true, "score": 1, "score": 9, "evidence": ""}',
        "reasoning": lambda: "<think>Let me see.</think>" + text,
        "not assessable": lambda: '{"assessable": false, "score": 0, "evidence": ""}',
        "NULs": lambda: "\0\0\0" + text,
        "nothing": lambda: "",
        "a false quote": lambda: re.sub(
            r'"evidence": ".*"', '"evidence": "words that nobody wrote"', text
        ),
    }
    return spoils[fault]() if fault in spoils else text


def tokens_of(text: str) -> list[dict[str, Any]]:
    """The answer's tokens: a digit is one by itself, and its neighbours had a chance."""
    return [_token(piece) for piece in re.findall(r"\d|\D{1,4}", text)]


def _token(piece: str) -> dict[str, Any]:
    alternatives = {piece: 0.8}
    if piece.isdigit():
        near = [str(n) for n in (int(piece) - 1, int(piece) + 1) if 0 <= n <= 9]
        alternatives |= dict.fromkeys(near, 0.1)
    top = [{"token": t, "logprob": math.log(p), "bytes": None} for t, p in alternatives.items()]
    return top[0] | {"top_logprobs": top}
