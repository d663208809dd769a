"""The processes under load: the real daemon and the reference, each in a folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE_SECONDS = 60.0
TICKS = os.sysconf("SC_CLK_TCK")
UNBOUND = {
    "BHAVANA_LIMITS__KEY_PER_SECOND": "1000000",
    "BHAVANA_LIMITS__KEY_BURST": "1000000000",
}
"""The limits are counted, but the load may come from one key."""
NEW_KEY = ("keys", "create", "--name", "bench", "--source", "bench", "--json")


class Server(NamedTuple):
    """A server that answers, and a key for it."""

    process: subprocess.Popen[str]
    url: str
    key: str

    def memory_mb(self) -> float:
        """Its resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        kilobytes = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(kilobytes.split()[1]) / 1024

    def cpu_seconds(self) -> float:
        """The processor time that it used, its threads' included."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / TICKS


@contextmanager
def daemon(
    data: Path, changes: Mapping[str, str] | None = None, *, scope: str = "ingest"
) -> Iterator[Server]:
    """`python -m daemon serve` over a data folder, with a real key of this scope."""
    data.mkdir(parents=True, exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("BHAVANA_", "XDG_"))}
    kept |= {k: v for k, v in os.environ.items() if k == "XDG_CACHE_HOME"}
    own = {"BHAVANA_DATA_DIR": str(data), "BHAVANA_SERVER__PORT": "0", "HOME": str(data)}
    environment = kept | {"PYTHONPATH": str(ROOT)} | own | UNBOUND | dict(changes or {})
    made = _run(*NEW_KEY, "--scope", scope, **environment)
    key = json.loads(made)["key"]
    with (data / "stderr.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "daemon", "serve"],
            cwd=ROOT,
            env=environment,
            stderr=log,
            text=True,
        )
    with _ended(process):
        yield Server(process, _ready(process, data), key)


@contextmanager
def reference(folder: Path) -> Iterator[Server]:
    """The bare program of references.py."""
    folder.mkdir(parents=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.references", str(folder / "raw.db")],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with _ended(process):
        assert process.stdout is not None
        yield Server(process, process.stdout.readline().strip(), "none")


def _run(*arguments: str, **environment: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "daemon", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode != 0:
        raise RuntimeError(f"bhavana {' '.join(arguments)} failed: {ran.stderr}")
    return ran.stdout


def _ready(process: subprocess.Popen[str], data: Path) -> str:
    """Its address, once it takes work."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    address = data / "daemon.json"
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
        try:
            url: str = json.loads(address.read_bytes())["url"]
            with httpx.Client(trust_env=False, timeout=5) as client:
                if client.get(f"{url}/readyz").status_code == 200:
                    return url
        except (FileNotFoundError, httpx.TransportError):
            continue
    raise RuntimeError(f"The daemon did not start: {(data / 'stderr.log').read_text()[-2000:]}")


@contextmanager
def _ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """Ends the process afterwards: kindly, then firmly."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
