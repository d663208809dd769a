"""HTTP for targets: what is sent again, what is told in errors, and what a dry run sends."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from store.errors import Misconfigured, Rejected, Unavailable
from trainer.targets.http import Connection, Server, Upload
from trainer.targets.told import told

TOKEN = "key-0123456789"
Make = Callable[..., Server]


class Site(ThreadingHTTPServer):
    """A server that answers with what a test put in `answers`, then with 200."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, dict[str, str], bytes] | str] = []
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Handshakes that fail are what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Site

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.command, self.path, dict(self.headers), body))
        answer = self.server.answers.pop(0) if self.server.answers else (200, {}, b"{}")
        if isinstance(answer, str):
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        status, headers, content = answer
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST  # noqa: N815  # the name is http.server's


@pytest.fixture
def site() -> Iterator[Site]:
    """One that runs."""
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def make(site: Site) -> Iterator[Make]:
    """Opens the server; closed after the test."""
    opened: list[Server] = []

    def server(**changes: Any) -> Server:
        arguments = {k: changes.pop(k) for k in ("tell", "headers", "reads") if k in changes}
        usual: dict[str, Any] = {"url": f"http://127.0.0.1:{site.server_port}", "retry_seconds": 0}
        connection = Connection(**(usual | changes))
        opened.append(Server("The site", connection, _fault, **arguments))
        return opened[-1]

    yield server
    for one in opened:
        one.close()


def _fault(response: httpx.Response, words: str) -> Exception:
    return Rejected(f"HTTP {response.status_code}: {words}")


def answer(status: int, words: str = "") -> tuple[int, dict[str, str], bytes]:
    """An error as JSON."""
    return status, {}, json.dumps({"error": words}).encode()


def test_what_may_be_done_twice_is_sent_again(site: Site, make: Make) -> None:
    """After an answer that passes, and after a connection that broke."""
    site.answers = [answer(503), "broken", answer(500), (200, {}, b'{"well": 1}')]
    assert make().ask("POST", "/it", json={"n": 1}).json() == {"well": 1}
    assert [body for *_, body in site.requests] == [b'{"n":1}'] * 4


def test_what_may_not_be_is_sent_once(site: Site, make: Make) -> None:
    """Whether the server did it is not known then, and the error says so."""
    server = make()
    site.answers = ["broken"]
    with pytest.raises(Unavailable, match="Whether it did what it was asked is not known"):
        server.ask("POST", "/it", again=False)
    site.answers = [answer(500, "oh")]
    with pytest.raises(Rejected, match="HTTP 500: oh"):
        server.ask("POST", "/it", again=False)
    assert len(site.requests) == 2


@pytest.mark.parametrize("status", [302, 400, 404, 413])
def test_what_stays_wrong_is_sent_once(site: Site, make: Make, status: int) -> None:
    """A redirect is not followed: it is not what was asked for."""
    site.answers = [answer(status, "no")]
    with pytest.raises(Rejected, match=f"HTTP {status}: no"):
        make().ask("GET", "/it")
    assert len(site.requests) == 1


def test_patience_ends(site: Site, make: Make) -> None:
    """With the server's last words; and at once where it asks for more than we have."""
    site.answers = [answer(503, "soon")] * 3
    with pytest.raises(Rejected, match="HTTP 503: soon"):
        make(retries=2).ask("GET", "/it")
    site.answers = [(503, {"Retry-After": "3600"}, b"later")]
    with pytest.raises(Rejected, match="later"):
        make().ask("GET", "/it")
    assert len(site.requests) == 4


def test_a_file_is_sent_whole_at_every_try(site: Site, make: Make, tmp_path: Path) -> None:
    """With its length ahead, in pieces, from its beginning."""
    content = bytes(range(256)) * 10_000
    (tmp_path / "file").write_bytes(content)
    body = Upload(tmp_path / "file")
    site.answers = [answer(500), (201, {}, b"")]
    make().ask("POST", "/it", content=body, headers=body.headers)

    assert [sent for *_, sent in site.requests] == [content] * 2
    assert all("Transfer-Encoding" not in headers for _, _, headers, _ in site.requests)


def test_a_stream_that_breaks_is_told(site: Site, make: Make) -> None:
    """Half an answer is none."""
    site.answers = [(200, {"Content-Length": "100", "Connection": "close"}, b"half")]
    with pytest.raises(Unavailable, match="broke"), make().listen("POST", "/it") as response:
        response.read()


def test_the_token_is_sent_and_never_told(site: Site, make: Make) -> None:
    """Not even where the server repeats it."""
    site.answers = [answer(400, f"the key {TOKEN} is old")]
    with pytest.raises(Rejected, match=r"the key \[secret\] is old"):
        make(token=TOKEN).ask("GET", "/it")
    assert site.requests[0][2]["Authorization"] == f"Bearer {TOKEN}"


def test_a_dry_run_sends_reads_and_tells_the_rest(site: Site, make: Make, tmp_path: Path) -> None:
    """Method, address, headers without secrets, the body in short."""
    lines: list[str] = []
    server = make(tell=lines.append, token=TOKEN, headers={"X-Api-Key": TOKEN, "X-Site": "a"})
    (tmp_path / "file").write_bytes(b"\xff" * 5_000)
    body = Upload(tmp_path / "file")
    server.ask("GET", "/read")
    server.ask("POST", "/it", json={"name": "n" * 5_000})
    server.ask("PUT", "/file", content=body, headers=body.headers)

    assert server.dry
    assert [path for _, path, _, _ in site.requests] == ["/read"]
    assert [line.split(" ")[0] for line in lines] == ["POST", "PUT"]
    assert "x-site: a" in lines[0]
    assert '{"name":"nnn' in lines[0]
    assert len(lines[0]) < 1_000
    assert "(5000 bytes)" in lines[1]
    assert not any(TOKEN in line for line in lines)


def test_names_and_passwords_in_an_address_are_not_told(site: Site, make: Make) -> None:
    """They are sent."""
    url = f"http://somebody:hush@127.0.0.1:{site.server_port}"
    assert "hush" not in make(url=url).name
    assert "hush" not in told(httpx.Request("GET", url))
    make(url=url).ask("GET", "/it")
    assert site.requests[0][2]["Authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    "wrong", [{"ca_file": "/nowhere.pem"}, {"token": "nö\n"}, {"url": "localhost:11434"}]
)
def test_what_cannot_be_used_is_told_at_once(make: Make, wrong: dict[str, str]) -> None:
    """Before anything is sent."""
    with pytest.raises(Misconfigured, match="cannot be reached as it is configured"):
        make(**wrong)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed one for localhost, with its key."""
    folder = tmp_path_factory.mktemp("tls")
    made = [folder / "certificate.pem", folder / "key.pem"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    try:
        subprocess.run(
            [
                "openssl",
                "req",
                "-x509",
                "-days",
                "2",
                *key,
                *names,
                "-out",
                made[0],
                "-keyout",
                made[1],
            ],
            check=True,
            capture_output=True,
        )
    except FileNotFoundError:
        pytest.skip("openssl makes the certificate, and is not here")
    return made[0], made[1]


def test_tls_trusts_whom_it_is_told_to(
    site: Site, make: Make, certificate: tuple[Path, Path]
) -> None:
    """A certificate of one's own by ca_file, any by verify = false, else none that is unknown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    site.socket = context.wrap_socket(site.socket, server_side=True)
    url = f"https://127.0.0.1:{site.server_port}"

    for strict in (url, url.replace("https", "HTTPS")):
        with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
            make(url=strict, retries=0).ask("GET", "/it")
    make(url=url, ca_file=str(certificate[0])).ask("GET", "/it")
    make(url=url, verify=False).ask("GET", "/it")
    assert len(site.requests) == 2


def test_a_proxy_is_gone_through_where_one_is_named(
    site: Site, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the environment is not: it would see what was trained."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    make().ask("GET", "/it")
    make(url="http://elsewhere.test", proxy=f"http://127.0.0.1:{site.server_port}").ask(
        "GET", "/it"
    )
    assert [path for _, path, _, _ in site.requests] == ["/it", "http://elsewhere.test/it"]
