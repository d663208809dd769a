"""Cross-origin requests: answered for the origins that some publishable key names, no others.

No credentials, no wildcard. Curl and servers send no Origin and are not concerned.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from daemon.keyring import KeyRing

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEADERS = b"authorization, content-type, content-encoding, idempotency-key"
PREFLIGHT = [
    (b"access-control-allow-methods", b"POST"),
    (b"access-control-allow-headers", HEADERS),
    (b"access-control-max-age", b"600"),
]


class CrossOrigin:
    """Wraps an ASGI application that browsers may call."""

    def __init__(self, app: App, ring: KeyRing) -> None:
        self._app = app
        self._ring = ring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a preflight, and marks other answers as readable for an allowed origin."""
        origin = next((value for name, value in scope["headers"] if name == b"origin"), None)
        marks: list[tuple[bytes, bytes]] = []
        allowed = False
        if origin is not None:
            marks.append((b"vary", b"Origin"))
            allowed = await self._ring.allows(origin)
            if allowed:
                marks.append((b"access-control-allow-origin", origin))
                marks.append((b"access-control-expose-headers", b"retry-after"))
        if scope["method"] == "OPTIONS":
            headers = [(b"allow", b"POST, OPTIONS"), *marks, *(PREFLIGHT if allowed else [])]
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
        elif marks:
            await self._app(scope, receive, _marked(send, marks))
        else:
            await self._app(scope, receive, send)


def _marked(send: Send, marks: list[tuple[bytes, bytes]]) -> Send:
    async def marked(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *marks]
        await send(message)

    return marked
