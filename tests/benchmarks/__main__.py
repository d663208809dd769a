"""`make bench`: our figures, each beside a reference measured in the same run, as a ratio.

`python -m tests.benchmarks [NAME ...] [--large] [--json FILE]`; without names, all but the large.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec import to_builtins

from store.records import to_json
from tests.benchmarks import machine
from tests.benchmarks.beside_training import beside_training
from tests.benchmarks.dataset import dataset
from tests.benchmarks.figures import Figure, Missing, table
from tests.benchmarks.ingest import bulk, single
from tests.benchmarks.large import large
from tests.benchmarks.near import near, near_large
from tests.benchmarks.postgresql import postgresql
from tests.benchmarks.promotion import promotion
from tests.benchmarks.record import rebuild, record
from tests.benchmarks.scoring import antijudge, beside_assessing, panel
from tests.benchmarks.slow_disk import slow_disk
from tests.benchmarks.training import training

BENCHMARKS: dict[str, Callable[[Path], list[Figure]]] = {
    "single": single,
    "bulk": bulk,
    "postgresql": postgresql,
    "slow_disk": slow_disk,
    "beside_training": beside_training,
    "training": training,
    "promotion": promotion,
    "record": record,
    "rebuild": rebuild,
    "antijudge": antijudge,
    "panel": panel,
    "beside_assessing": beside_assessing,
    "near": near,
    "large": large,
    "dataset": dataset,
    "near_large": near_large,
}
LARGE = ("training", "large", "dataset", "near_large")
"""Take minutes and gigabytes: only when asked for."""


class Results(NamedTuple):
    """What was measured, and what was not."""

    figures: list[Figure]
    missing: dict[str, str]
    """By benchmark: which tool is not there."""
    failed: dict[str, str]
    """By benchmark: why its figures would mean nothing."""


def main() -> int:
    """Runs what was asked and prints it; 1 when a bar is not held or a benchmark failed."""
    asked = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    with tempfile.TemporaryDirectory(prefix="bhavana-bench-", dir=machine.folder()) as name:
        about = machine.describe(Path(name))
        print("\n".join(f"{key:10} {value}" for key, value in about.items()), end="\n\n")
        found = _measured(asked.names, Path(name))
    print("\n".join(table(found.figures)))
    for benchmark, reason in (found.missing | found.failed).items():
        print(f"{benchmark}: not measured, {reason}")
    if asked.json is not None:
        rows = [to_builtins(f) | {"ratio": f.ratio, "held": f.held} for f in found.figures]
        told = {"figures": rows, "missing": found.missing, "failed": found.failed}
        asked.json.write_bytes(to_json(about | told))
    return int(bool(found.failed) or any(f.held is False for f in found.figures))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--large", action="store_true", help="a store of a million, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    asked = parser.parse_args()
    unknown = set(asked.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(BENCHMARKS)}")
    usual = [name for name in BENCHMARKS if name not in LARGE]
    wanted = {*(asked.names or usual), *(LARGE if asked.large else ())}
    asked.names = [name for name in BENCHMARKS if name in wanted]
    return asked


def _measured(names: Sequence[str], place: Path) -> Results:
    """Every benchmark in a folder of its own; one that fails leaves the others' figures."""
    found = Results([], {}, {})
    for name in names:
        started = time.monotonic()
        folder = place / name
        folder.mkdir()
        try:
            found.figures.extend(BENCHMARKS[name](folder))
        except Missing as error:
            found.missing[name] = str(error)
        except Exception as error:  # noqa: BLE001
            found.failed[name] = f"{type(error).__name__}: {error}"
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    return found


if __name__ == "__main__":
    sys.exit(main())
