"""A dry run over HTTP: what only reads is sent; what would change something is told instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import httpx

WORDS = 600
"""Characters of what a server said, or would be sent, that we repeat."""
SECRET = "[secret]"  # noqa: S105  # what stands in its place
PLUMBING = {"host", "accept", "accept-encoding", "connection", "user-agent", "content-length"}
"""Headers that are not shown: nobody chose them."""

Tell = Callable[[str], None]
"""Where it is told."""


class Told(httpx.BaseTransport):
    """Sends what only reads; tells what would change something, and makes its success up."""

    def __init__(
        self,
        sends: httpx.BaseTransport,
        tell: Tell,
        reads: Callable[[httpx.Request], bool],
        success: Callable[[httpx.Request], httpx.Response],
    ) -> None:
        self._sends, self._tell, self._reads, self._success = sends, tell, reads, success

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The server's answer to a read; a made-up one to the rest."""
        if self._reads(request):
            return self._sends.handle_request(request)
        self._tell(told(request))
        return self._success(request)

    def close(self) -> None:
        """Closes the connections that reads were sent over."""
        self._sends.close()


def only_reads(request: httpx.Request) -> bool:
    """Whether a request changes nothing, by its method."""
    return request.method in ("GET", "HEAD", "OPTIONS")


def told(request: httpx.Request) -> str:
    """A request in a few lines: method, address, headers without secrets, its body in short."""
    lines = [f"{request.method} {address(request.url)}"]
    lines += [f"  {name}: {value}" for name, value in redacted(request.headers).items()]
    try:
        body = request.read().decode()
        lines += [f"  {short(body)}"] if body else []
    except (UnicodeDecodeError, httpx.RequestNotRead, httpx.StreamConsumed):
        lines.append(f"  ({request.headers.get('Content-Length', 'some')} bytes)")
    return "\n".join(lines)


def redacted(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that somebody chose, without what is secret in them."""
    secret = ("authorization", "cookie", "key", "token", "secret")
    return {
        name: SECRET if any(word in name.lower() for word in secret) else value
        for name, value in headers.items()
        if name.lower() not in PLUMBING
    }


def address(url: httpx.URL) -> str:
    """Without a name and password that it may hold."""
    return str(url.copy_with(userinfo=b"") if url.userinfo else url).rstrip("/")


def short(text: str) -> str:
    """On one line, and not more of it than people read."""
    joined = " ".join(text.split())
    return joined if len(joined) <= WORDS else f"{joined[:WORDS]} …"
