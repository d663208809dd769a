"""What the daemon's tests share: the real command line, and a real daemon on a free port."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest
from starlette.testclient import TestClient

from daemon import logs
from daemon.api import make_app
from store import keys
from store.events import Store
from tests import canaries
from tests.daemon.prompter import Verb

ROOT = Path(__file__).resolve().parent.parent.parent
SERVE = (sys.executable, "-m", "daemon", "serve")
PATIENCE_SECONDS = 180.0
EXPERIENCE = {
    "id": "e-1",
    "occurred_at": "2026-01-02T03:04:05Z",
    "source": "web",
    "messages": [{"role": "user", "content": f"{canaries.SENTENCE} {canaries.SECRET}"}],
    "response": "Good morning",
}

Ran = subprocess.CompletedProcess[str]


class Daemon(NamedTuple):
    """A daemon that serves, as a test holds it."""

    process: subprocess.Popen[bytes]
    data: Path
    url: str

    def get(self, path: str) -> httpx.Response:
        """Asks it."""
        with httpx.Client(trust_env=False, timeout=30) as client:
            return client.get(self.url + path)

    def post(self, path: str, key: str, value: Any) -> httpx.Response:
        """Tells it."""
        with httpx.Client(trust_env=False, timeout=30) as client:
            headers = {"Authorization": f"Bearer {key}"}
            return client.post(self.url + path, json=value, headers=headers)

    def log(self) -> str:
        """What it said."""
        return (self.data / "stderr.log").read_text()


def eventually(holds: Callable[[], Any], what: str) -> Any:
    """Waits until something holds and returns it; fails when it takes far too long."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(0.05)
    raise AssertionError(f"in {PATIENCE_SECONDS:.0f} s it did not happen: {what}")


def environment_of(data: Path, **changes: str) -> dict[str, str]:
    """The environment without anybody's configuration, and with this data folder."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("BHAVANA_", "XDG_"))}
    kept |= {k: v for k, v in os.environ.items() if k == "XDG_CACHE_HOME"}
    own = {"BHAVANA_DATA_DIR": str(data), "BHAVANA_SERVER__PORT": "0", "HOME": str(data.parent)}
    return kept | {"PYTHONPATH": str(ROOT), "BHAVANA_LOG_FORMAT": "json"} | own | changes


@contextmanager
def _served(
    data: Path, *, command: Sequence[str] = SERVE, pass_fds: Sequence[int] = (), **changes: str
) -> Iterator[Daemon]:
    data.mkdir(parents=True, exist_ok=True)
    address = data / "daemon.json"
    with (data / "stderr.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment_of(data, **changes),
            stdout=log,
            stderr=log,
            pass_fds=pass_fds,
        )
    try:
        found = eventually(
            lambda: process.poll() is not None or _address(address, process.pid), "it listens"
        )
        assert process.poll() is None, (data / "stderr.log").read_text()
        daemon = Daemon(process, data, found)
        eventually(lambda: _ready(daemon), "/readyz answers 200")
        yield daemon
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    canaries.assert_unspoken((data / "stderr.log").read_text())


def _address(path: Path, pid: int) -> str | None:
    """The address that this process left; one of a killed process before it does not count."""
    found = json.loads(path.read_bytes()) if path.is_file() else {}
    return found["url"] if found.get("pid") == pid else None


def _ready(daemon: Daemon) -> bool:
    try:
        return daemon.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="session")
def serving(vouched: Path) -> Callable[..., AbstractContextManager[Daemon]]:
    """Serves a data folder with the real daemon inside a `with` block; its log holds no canary."""
    return _served


@pytest.fixture(scope="session", name="eventually")
def _eventually() -> Callable[[Callable[[], Any], str], Any]:
    """Waits, within bounds, until something holds."""
    return eventually


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder of the test's own; not made yet."""
    return tmp_path / "data"


@pytest.fixture(scope="session")
def prompter() -> Iterator[subprocess.Popen[bytes]]:
    """What has imported the command line already, and forks a process for each verb."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("prompter.py"))],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.stdin.close()


@pytest.fixture
def bhavana(
    data: Path, vouched: Path, prompter: subprocess.Popen[bytes], tmp_path: Path
) -> Callable[..., Ran]:
    """Runs the command line on the test's data folder and returns how it ended."""
    numbers = itertools.count(1)

    def run(*arguments: str, **changes: str) -> Ran:
        number = next(numbers)
        said = [tmp_path / f"verb-{number}.{end}" for end in ("stdout", "stderr")]
        stdout, stderr = map(str, said)
        verb = Verb(list(arguments), environment_of(data, **changes), stdout, stderr)
        assert prompter.stdin is not None
        assert prompter.stdout is not None
        prompter.stdin.write(msgspec.json.encode(verb) + b"\n")
        prompter.stdin.flush()
        code = int(prompter.stdout.readline())
        out, err = (path.read_text() for path in said)
        return Ran(["bhavana", *arguments], code, out, err)

    return run


@pytest.fixture
def environment(data: Path, vouched: Path) -> Callable[..., dict[str, str]]:
    """The environment in which `bhavana` runs the command line."""
    return lambda **changes: environment_of(data, **changes)


@pytest.fixture
def experience() -> dict[str, Any]:
    """An experience as a frontend posts it."""
    return dict(EXPERIENCE)


# --- the application in this process ------------------------------------------------------


@pytest.fixture(scope="session", autouse=True)
def _logs() -> None:
    """It logs as it does in service, where a traceback shows no local variables."""
    logs.set_up()


@pytest.fixture
def client(store: Store) -> Iterator[TestClient]:
    """A client of the application, which answers 500 where the application would fail."""
    with TestClient(make_app(store, lambda: True), raise_server_exceptions=False) as opened:
        yield opened


@pytest.fixture
def secret(store: Store) -> str:
    """The text of a key that may post experiences and feedback."""
    scopes = ("ingest", "feedback")
    return keys.create(store, name="t", scopes=scopes, source="web", actor="t")[1]


@pytest.fixture
def post(client: TestClient, secret: str) -> Callable[..., httpx.Response]:
    """Posts a value, or bytes as they are."""

    def post(
        value: Any, path: str = "/v1/experiences", key: str = secret, **headers: str
    ) -> httpx.Response:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        given = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        given |= {name.replace("_", "-"): text for name, text in headers.items()}
        return client.post(path, content=body, headers=given)

    return post


@pytest.fixture(scope="session")
def problem() -> Callable[..., dict[str, Any]]:
    """The problem document of a response, checked for what every problem has."""

    def problem(response: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/problem+json"
        document: dict[str, Any] = response.json()
        assert {"type", "title", "status", "code", "detail"} <= document.keys()
        assert document["status"] == status
        assert document["type"].endswith(document["code"])
        assert code is None or document["code"] == code
        return document

    return problem
