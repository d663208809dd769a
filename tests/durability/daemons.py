"""Real daemons for the fault tests: started in a fraction of a second, killed, and looked at."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

import httpx

from tests import canaries

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE_SECONDS = 60.0


def eventually(holds: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """Waits until something holds and returns it; fails when it takes too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(0.005)
    raise AssertionError(f"in {seconds:.0f} s it did not happen: {what}")


class Ran(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    stdout: str
    stderr: str


class Nursery:
    """Gives birth to daemons (see nursery.py). Closing it ends every one that is still alive."""

    def __init__(self, **environment: str) -> None:
        """The environment counts from before the interpreter's start, as LD_PRELOAD needs."""
        # One thread, so that forking is safe; numpy's library would start others.
        own = {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.durability.nursery"],
            cwd=ROOT,
            env=os.environ | own | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._answer() == 1, "the nursery has threads, which a fork would lose"

    def close(self) -> None:
        """Ends the nursery and every child of it."""
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()

    def order(self, **order: Any) -> Any:
        """Tells the nursery something and returns its answer."""
        assert self._process.stdin is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the nursery died"
        return json.loads(line)


class Process:
    """A command that runs. Leaving its `with` block kills it, if it still lives."""

    def __init__(self, nursery: Nursery, pid: int, log: Path | None) -> None:
        """`log` is searched for canaries when it has ended."""
        self.pid = pid
        self._nursery = nursery
        self._log = log
        self._code: int | None = None

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it lives."""
        if self._code is None:
            self._code = self._nursery.order(reap=self.pid)
            if self._code is not None and self._log is not None:
                canaries.assert_unspoken(self._log.read_text())
        return self._code

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Its exit code, once it has ended."""
        eventually(lambda: self.poll() is not None, f"process {self.pid} ends", seconds)
        assert self._code is not None
        return self._code

    def signal(self, number: int) -> None:
        """Sends a signal; none to a process that has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and waits for the end."""
        self.signal(signal.SIGKILL)
        self.wait()

    def freeze(self) -> None:
        """SIGSTOP, and waits until every thread of it stands still."""
        self.signal(signal.SIGSTOP)
        tasks = Path(f"/proc/{self.pid}/task")
        eventually(lambda: all(_stands(task) for task in tasks.iterdir()), "all threads stand")

    def thaw(self) -> None:
        """SIGCONT: it goes on."""
        self.signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def _stands(task: Path) -> bool:
    return (task / "stat").read_text().rpartition(") ")[2].startswith("T")


class Daemon(Process):
    """A daemon that listens."""

    url = ""

    def get(self, path: str) -> httpx.Response:
        """Asks it."""
        with httpx.Client(trust_env=False, timeout=30) as client:
            return client.get(self.url + path)

    def unready(self) -> bool:
        """Whether it has ended or says that it takes no work."""
        try:
            return self.get("/readyz").status_code == 503
        except httpx.TransportError:
            return self.poll() is not None

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()


class Place:
    """A data folder with its store, over which daemons are started one after another."""

    def __init__(
        self, nursery: Nursery, data: Path, logs: Path, *, store: str = "", first: str = ""
    ) -> None:
        """`logs` lies elsewhere: no fault of the data folder's disk may reach it."""
        self.data = data
        self.store = store or f"sqlite:///{data / 'bhavana.db'}"
        self.log = logs / f"{data.name}.log"
        self._nursery = nursery
        self._first = first
        self._key = ""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("BHAVANA_", "XDG_"))}
        kept |= {k: v for k, v in os.environ.items() if k == "XDG_CACHE_HOME"}
        self.environment = kept | {
            "HOME": str(logs),
            "BHAVANA_DATA_DIR": str(data),
            "BHAVANA_STORE__URL": self.store,
            "BHAVANA_SERVER__PORT": "0",
            "BHAVANA_LOG_FORMAT": "json",
        }

    @property
    def key(self) -> str:
        """The secret of a key that may post experiences; made at the first call."""
        if not self._key:
            made = self.run("keys", "create", "--scope", "ingest", "--source", "load")
            assert made.code == 0, made.stderr
            self._key = made.stdout.strip()
        return self._key

    def spawn(self, *arguments: str, output: Path | None = None) -> Daemon:
        """Starts a command and does not wait for anything."""
        pid = self._nursery.order(
            arguments=arguments,
            environment=self.environment,
            stdout=str(output or self.log),
            stderr=str(output.with_suffix(".err") if output else self.log),
            first=self._first,
        )
        return Daemon(self._nursery, pid, None if output else self.log)

    def start(self) -> Daemon:
        """Starts the daemon and waits until it listens."""
        daemon = self.spawn("serve")
        listens = eventually(
            lambda: self.address_of(daemon) or daemon.poll() is not None, "listens"
        )
        assert daemon.poll() is None, self.log.read_text()[-3000:]
        daemon.url = listens
        return daemon

    def run(self, *arguments: str) -> Ran:
        """Runs a command to its end."""
        output = self.log.with_name(f"{self.data.name}-{time.monotonic_ns()}.out")
        with self.spawn(*arguments, output=output) as process:
            code = process.wait()
        return Ran(code, output.read_text(), output.with_suffix(".err").read_text())

    def tracebacks(self) -> int:
        """How many tracebacks the daemons logged."""
        return self.log.read_text().count("Traceback (most recent call last)")

    def address_of(self, daemon: Daemon) -> str | None:
        """Where this daemon listens; None while it does not."""
        try:
            found = json.loads((self.data / "daemon.json").read_bytes())
        except FileNotFoundError:
            return None
        return found["url"] if found["pid"] == daemon.pid else None
