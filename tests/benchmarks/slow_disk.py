"""The door on a disk whose every sync takes 4 ms longer, as on an ordinary cloud volume."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.benchmarks import servers
from tests.benchmarks.figures import Figure, Missing, figure, interleaved
from tests.benchmarks.ingest import daemon_run
from tests.benchmarks.load import WARM_SECONDS, post

SOURCE = Path(__file__).parent / "slow_sync.c"
ADDED_US = 4_000


def slow_disk(folder: Path) -> list[Figure]:
    """Single events with the 4 ms, beside the same without."""
    slowed = {"LD_PRELOAD": str(_library(folder)), "SLOW_SYNC_US": str(ADDED_US)}
    with servers.daemon(folder / "check", slowed) as server:
        one = post(server.url, server.key, connections=1, seconds=WARM_SECONDS)
    if one.p50_ms < ADDED_US / 1000:
        raise RuntimeError(f"The syncs were not slowed: {one}.")
    slow, quick = interleaved(daemon_run(folder / "slow", slowed), daemon_run(folder / "quick"))
    name = "ours without them"
    return [
        figure(
            "single ingest, 4 ms added to each sync",
            "req/s",
            [r.rate for r in slow],
            name,
            [r.rate for r in quick],
            asked="ratio >=",
            bar=0.3,
        ),
        figure("its p99", "ms", [r.p99_ms for r in slow], name, [r.p99_ms for r in quick]),
    ]


def _library(folder: Path) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        raise Missing("there is no C compiler; on Debian: apt-get install gcc libc6-dev")
    library = folder / "slow_sync.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", library, SOURCE, "-ldl"]
    subprocess.run(command, check=True)
    return library
