"""On what the figures were measured, so that they can be read later."""

from __future__ import annotations

import os
import platform
import statistics
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from store.engine import sqlite_module
from store.records import now

LIBRARIES = ("starlette", "fastapi", "uvicorn", "uvloop", "msgspec", "sqlalchemy", "psycopg")


def folder() -> str:
    """Where to measure: a real disk, as /tmp often is none. TMPDIR overrules."""
    return os.environ.get("TMPDIR", "/var/tmp")


def describe(place: Path) -> dict[str, str]:
    """Date, processor and how busy it is, disk, kernel and versions."""
    versions = [f"{name} {version(name)}" for name in LIBRARIES if find_spec(name)]
    return {
        "date": now().isoformat(timespec="seconds"),
        "cpu": f"{os.cpu_count()} x {_cpu()}",
        "load": f"{os.getloadavg()[0]:.2f} before the first benchmark",
        "sync": f"{_sync_ms(place):.2f} ms, median fdatasync of 4 KB",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": ", ".join([*versions, f"sqlite {sqlite_module().sqlite_version}"]),
    }


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _sync_ms(place: Path) -> float:
    took = []
    with (place / "sync").open("wb", buffering=0) as file:
        for _ in range(100):
            file.write(b"x" * 4096)
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - started) * 1000)
    return statistics.median(took)
