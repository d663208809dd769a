"""The log without HTTP: recording and rebuilding."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path

from store import experiences
from store.events import Store
from tests.benchmarks.figures import Figure, figure, interleaved
from tests.benchmarks.references import insert_raw, open_raw
from tests.benchmarks.samples import rows, samples

ROWS = 1_000


def record(folder: Path) -> list[Figure]:
    """Experiences through the log and its projections, 1 and 100 a commit."""
    figures = []
    with Store(f"sqlite:///{folder / 'store.db'}") as store:
        for size in (1, 100):
            ours, bare = interleaved(_ours(store, size), _bare(folder, size))
            name = "bare SQLite rows"
            figures.append(figure(f"record, {size} a commit", "events/s", ours, name, bare))
    return figures


def rebuild(folder: Path) -> list[Figure]:
    """Replaying the log into its projections."""
    with Store(f"sqlite:///{folder / 'store.db'}") as store:
        for n in range(10):
            experiences.record(store, samples(f"rebuild-{n}", ROWS))
        ours, bare = interleaved(lambda: rate(store.rebuild), _bare(folder, ROWS))
    return [figure("rebuild", "events/s", ours, "bare SQLite rows", bare)]


def rate(work: Callable[[], int]) -> float:
    """What `work` does a second; it returns how much it did."""
    started = time.perf_counter()
    return work() / (time.perf_counter() - started)


def _ours(store: Store, size: int) -> Callable[[], float]:
    calls = itertools.count()

    def run() -> float:
        items = samples(f"{size}-{next(calls)}", ROWS)

        def work() -> int:
            for start in range(0, ROWS, size):
                experiences.record(store, items[start : start + size])
            return ROWS

        return rate(work)

    return run


def _bare(folder: Path, size: int) -> Callable[[], float]:
    """The physical limit here: the same bytes as bare rows, `size` a commit."""
    connection = open_raw(folder / f"raw-{size}.db")
    calls = itertools.count()

    def run() -> float:
        made = rows(f"{size}-{next(calls)}", ROWS)

        def work() -> int:
            for start in range(0, ROWS, size):
                insert_raw(connection, made[start : start + size])
            return ROWS

        return rate(work)

    return run
