"""The load: `wrk` posts experiences, each with an id of its own, and says how it went."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Literal, NamedTuple

from tests.benchmarks.figures import Missing

SCRIPT = Path(__file__).parent / "post.lua"
SECONDS = 6
WARM_SECONDS = 1
Form = Literal["object", "list", "lines"]


class Load(NamedTuple):
    """What one run of wrk saw."""

    requests: int
    rate: float
    """Requests a second."""
    p50_ms: float
    p99_ms: float


def post(
    url: str,
    key: str,
    *,
    connections: int = 64,
    seconds: int = SECONDS,
    form: Form = "object",
    items: int = 1,
) -> Load:
    """Posts over this many connections, each sending again as soon as it was answered.

    Raises RuntimeError when an answer was no 2xx: then the rate would mean nothing.
    """
    if shutil.which("wrk") is None:
        raise Missing("wrk is not installed; on Debian: apt-get install wrk")
    told = {
        "BENCH_KEY": key,
        "BENCH_RUN": uuid.uuid4().hex[:8],
        "BENCH_FORM": form,
        "BENCH_ITEMS": str(items),
    }
    ran = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", SCRIPT, url],
        env=os.environ | told,
        capture_output=True,
        text=True,
        check=True,
    )
    seen = json.loads(ran.stdout.splitlines()[-1])
    if seen["errors"] or not seen["requests"]:
        raise RuntimeError(f"{url} did not answer everything with 2xx: {seen}")
    return Load(
        requests=seen["requests"],
        rate=seen["requests"] / seen["seconds"],
        p50_ms=seen["p50_us"] / 1000,
        p99_ms=seen["p99_us"] / 1000,
    )
