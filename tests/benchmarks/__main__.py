"""`make bench`: our figures, each beside a reference measured in the same run, as a ratio."""

from __future__ import annotations

import re
import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from scorers.antijudge import read
from scorers.antijudge import refusal as find_refusal
from store import experiences
from store.events import Store
from store.records import Consent, Experience, Message, now, to_json

ROWS = 1_000
BATCH = 100
REPEATS = 3


def items(prefix: str) -> list[Experience]:
    """Experiences of about 1.4 KB."""
    return [
        Experience(
            id=f"{prefix}-{i}",
            occurred_at=now(),
            source="bench",
            messages=(Message(role="user", content=f"{i} " + "what should I do? " * 30),),
            response="You could begin with the smallest step. " * 20,
            consent=Consent(training=True),
        )
        for i in range(ROWS)
    ]


def rate(work: Callable[[], object]) -> float:
    """Rows a second, the median of a few runs."""
    rates = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        rates.append(ROWS / (time.perf_counter() - started))
    return sorted(rates)[REPEATS // 2]


def raw_sqlite(folder: Path, size: int) -> Callable[[], None]:
    """The physical limit here: bare rows of the same bytes, synchronous=FULL, `size` a commit."""
    connection = sqlite3.connect(folder / f"raw-{size}.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE raw (id TEXT PRIMARY KEY, body BLOB)")
    calls = iter(range(1_000))

    def work() -> None:
        rows = [(e.id, to_json(e)) for e in items(f"raw-{next(calls)}")]
        for start in range(0, ROWS, size):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO raw VALUES (?, ?)", rows[start : start + size])
            connection.execute("COMMIT")

    return work


def ours(store: Store, size: int) -> Callable[[], None]:
    """The same rows through the log and its projections."""
    calls = iter(range(1_000))

    def work() -> None:
        rows = items(f"ours-{size}-{next(calls)}")
        for start in range(0, ROWS, size):
            experiences.record(store, rows[start : start + size])

    return work


def show(name: str, figure: float, reference_name: str, reference: float) -> None:
    """One line: the figure, its reference and their ratio."""
    print(
        f"{name:42} {figure:10,.0f}/s   {reference_name:38} {reference:10,.0f}/s"
        f"   ratio {figure / reference:.3f}"
    )


def main() -> None:
    """Runs every benchmark."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Store(f"sqlite:///{folder / 'store.db'}") as store:
            for size in (1, BATCH):
                limit = rate(raw_sqlite(folder, size))
                show(f"record, {size} a commit", rate(ours(store, size)), "bare SQLite rows", limit)
            started = time.perf_counter()
            replayed = store.rebuild()
            show("rebuild", replayed / (time.perf_counter() - started), "bare SQLite rows", limit)
    texts: Sequence[Experience] = items("text")
    words = rate(lambda: [re.findall(r"\w+", e.response) for e in texts])
    patterns = rate(lambda: [find_refusal(read(e.last_user_turn, e.response)) for e in texts])
    show("anti-judge's refusal patterns", patterns, "splitting into words", words)


if __name__ == "__main__":
    main()
