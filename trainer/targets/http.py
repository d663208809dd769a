"""HTTP for targets: one server, asked with patience, in whose own words every error speaks.

What is repeated, and when: a request that never reached the server always; one that broke later,
or was answered with what passes (429, 5xx), only where the caller says that doing it twice is the
same as doing it once (`again`). In a dry run what changes something is told and not sent.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import httpx
from msgspec import Meta

from store.errors import Misconfigured, Unavailable
from store.records import Noun
from trainer.targets.told import SECRET, Tell, Told, address, only_reads, short

CHUNK_BYTES = 1 << 20
MOST_WAIT = 60.0
"""Seconds; a server that asks for more patience is not waited for."""


class Connection(Noun, frozen=True, kw_only=True):
    """How a target's server is reached; its settings begin with these."""

    url: str
    token: str = ""
    """Sent as `Authorization: Bearer …`."""
    ca_file: str = ""
    """Certificates to trust, in PEM; empty: the usual ones."""
    verify: bool = True
    """False trusts any certificate: whoever sits in between reads along."""
    proxy: str = ""
    """Address of a proxy to go through. Those in the environment are not asked."""
    connect_seconds: Annotated[float, Meta(gt=0)] = 10.0
    answer_seconds: Annotated[float, Meta(gt=0)] = 600.0
    """The longest silence while it works, such as loading a large model."""
    retries: Annotated[int, Meta(ge=0)] = 3
    retry_seconds: Annotated[float, Meta(ge=0)] = 0.5
    """Before the first one; each next one waits twice as long."""


class Upload:
    """A file as a request's body: read in pieces, from its start at each try."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.headers = {"Content-Length": str(path.stat().st_size)}

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk


class Server:
    """One server. Safe to use from any thread; `close` it."""

    def __init__(
        self,
        name: str,
        connection: Connection,
        fault: Callable[[httpx.Response, str], Exception],
        *,
        headers: Mapping[str, str] | None = None,
        tell: Tell | None = None,
        reads: Callable[[httpx.Request], bool] = only_reads,
        success: Callable[[httpx.Request], httpx.Response] = lambda _: httpx.Response(200, json={}),
        passes: Callable[[httpx.Response], bool] = lambda response: (
            response.status_code == 429 or response.status_code >= 500
        ),
    ) -> None:
        """Connects to nothing yet. `fault` makes the error of a response that is not 2xx and of
        the server's words; `passes` says after which of them to ask again; `tell`, `reads` and
        `success` are a dry run's. Raises Misconfigured.
        """
        self.dry = tell is not None
        """Nothing is changed on it: what would be sent is told."""
        self._connection = connection
        self._fault = fault
        self._passes = passes
        try:
            _require_address(connection.url)
            transport: httpx.BaseTransport = httpx.HTTPTransport(
                verify=_trust(connection), proxy=connection.proxy or None, trust_env=False
            )
            if tell is not None:
                transport = Told(transport, tell, reads, success)
            self._client = httpx.Client(
                base_url=connection.url,
                headers=dict(headers or {}) | _authorization(connection),
                timeout=httpx.Timeout(
                    connection.answer_seconds, connect=connection.connect_seconds
                ),
                transport=transport,
            )
        except (httpx.InvalidURL, ValueError, OSError) as error:
            raise Misconfigured(
                f"{name} cannot be reached as it is configured: {error}.",
                hint="Look at url, token, proxy and ca_file in the target's section.",
            ) from error
        self.name = f"{name} at {address(self._client.base_url)}"

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def ask(self, method: str, path: str, *, again: bool = True, **parts: Any) -> httpx.Response:
        """The whole response, of a status 2xx. `parts` are httpx's: json, content, params.

        Raises what `fault` makes of another status, and Unavailable where no answer came.
        """
        response = self._patiently(method, path, again=again, whole=True, parts=parts)
        response.close()
        return response

    @contextmanager
    def listen(self, method: str, path: str, **parts: Any) -> Iterator[httpx.Response]:
        """A response that is read while it comes; sent again only where it was never received."""
        response = self._patiently(method, path, again=False, whole=False, parts=parts)
        try:
            yield response
        except httpx.RequestError as error:
            raise self._broken(error) from error
        finally:
            response.close()

    def words(self, response: httpx.Response) -> str:
        """What the server said, in short and without our token; a JSON error's text alone."""
        text = response.text
        try:
            found = response.json()
            text = str(found["error"]) if isinstance(found, dict) and "error" in found else text
        except (ValueError, RecursionError):
            pass  # then as it stands
        return self.clean(text)

    def clean(self, text: str) -> str:
        """In short and without our token."""
        token = self._connection.token
        return short(text.replace(token, SECRET) if token else text)

    def _patiently(
        self, method: str, path: str, *, again: bool, whole: bool, parts: dict[str, Any]
    ) -> httpx.Response:
        connection = self._connection
        for attempt in range(connection.retries + 1):
            last = attempt == connection.retries
            pause = connection.retry_seconds * 2**attempt
            try:
                request = self._client.build_request(method, path, **parts)
                response = self._client.send(request, stream=True)
                good = response.status_code < 300  # a redirect is not what was asked for
                if whole or not good:
                    response.read()
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                if last:
                    raise self._broken(error) from error
            except httpx.RequestError as error:
                if last or not again:
                    raise self._broken(error) from error
            else:
                if good:
                    return response
                response.close()
                pause = _asked_for(response, pause)
                if last or not again or not self._passes(response) or pause > MOST_WAIT:
                    raise self._fault(response, self.words(response))
            time.sleep(pause)
        raise AssertionError("the last try returns or raises")

    def _broken(self, error: httpx.RequestError) -> Unavailable:
        kind = type(error).__name__
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            # A failed handshake says why; nothing else that httpx says is worth repeating.
            why = f": {error}" if "CERTIFICATE" in str(error) else ""
            return Unavailable(
                f"{self.name} cannot be reached ({kind}){why}.",
                hint="Is it running, and are url and ca_file of the target right?",
            )
        if isinstance(error, httpx.TimeoutException):
            return Unavailable(
                f"{self.name} was silent for {self._connection.answer_seconds:g} s ({kind}).",
                hint="Look at its log; answer_seconds of the target waits longer.",
            )
        return Unavailable(
            f"{self.name} broke the connection off ({kind}).",
            hint="Whether it did what it was asked is not known; doing it again is safe.",
        )


def _authorization(connection: Connection) -> dict[str, str]:
    return {"Authorization": f"Bearer {connection.token}"} if connection.token else {}


def _require_address(url: str) -> None:
    """Httpx would say so at the first request only."""
    parts = httpx.URL(url)
    if parts.scheme not in ("http", "https") or not parts.host.strip("["):
        raise ValueError(f"{url!r} is no address such as http://localhost:11434")


def _trust(connection: Connection) -> ssl.SSLContext | bool:
    if connection.verify and connection.ca_file:
        return ssl.create_default_context(cafile=str(Path(connection.ca_file).expanduser()))
    # Without TLS nothing is verified, and reading all certificates would delay a rollback.
    return connection.verify and httpx.URL(connection.url).scheme == "https" and _usual_trust()


@cache
def _usual_trust() -> ssl.SSLContext:
    """Reading all the usual certificates takes longer than most requests: once is enough."""
    return httpx.create_ssl_context(trust_env=False)


def _asked_for(response: httpx.Response, otherwise: float) -> float:
    try:
        return max(0.0, float(response.headers["Retry-After"]))
    except (KeyError, ValueError):
        return otherwise
