"""`make bench`: our figures, each beside a reference measured in the same run, as a ratio.

`python -m tests.benchmarks [NAME ...] [--large] [--json FILE]`; without names, all but the large.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import to_builtins

from store.records import to_json
from tests.benchmarks import machine
from tests.benchmarks.beside_training import beside_training
from tests.benchmarks.figures import Figure, Missing, table
from tests.benchmarks.ingest import bulk, single
from tests.benchmarks.large import large
from tests.benchmarks.postgresql import postgresql
from tests.benchmarks.record import antijudge, rebuild, record
from tests.benchmarks.slow_disk import slow_disk

BENCHMARKS: dict[str, Callable[[Path], list[Figure]]] = {
    "single": single,
    "bulk": bulk,
    "postgresql": postgresql,
    "slow_disk": slow_disk,
    "beside_training": beside_training,
    "record": record,
    "rebuild": rebuild,
    "antijudge": antijudge,
    "large": large,
}
LARGE = ("large",)
"""Takes minutes and gigabytes: only when asked for."""


def main() -> int:
    """Runs what was asked and prints it; 1 when a bar is not held."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--large", action="store_true", help="a store of a million, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    asked = parser.parse_args()
    unknown = set(asked.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(BENCHMARKS)}")
    names = asked.names or [n for n in BENCHMARKS if asked.large or n not in LARGE]
    figures: list[Figure] = []
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="bhavana-bench-", dir=machine.folder()) as name:
        about = machine.describe(Path(name))
        print("\n".join(f"{key:10} {value}" for key, value in about.items()), end="\n\n")
        for benchmark in names:
            started = time.monotonic()
            try:
                folder = Path(name) / benchmark
                folder.mkdir()
                figures += BENCHMARKS[benchmark](folder)
            except Missing as error:
                missing[benchmark] = str(error)
            print(f"{benchmark}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    print("\n".join(table(figures)))
    for benchmark, reason in missing.items():
        print(f"{benchmark}: not measured, {reason}")
    if asked.json is not None:
        rows = [to_builtins(f) | {"ratio": f.ratio, "held": f.held} for f in figures]
        asked.json.write_bytes(to_json({**about, "figures": rows, "not_measured": missing}))
    return int(any(f.held is False for f in figures))


if __name__ == "__main__":
    sys.exit(main())
