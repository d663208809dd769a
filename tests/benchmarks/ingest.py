"""The door under load: single events, and many in one request."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from store import experiences
from store.events import Store
from tests.benchmarks import servers
from tests.benchmarks.figures import Figure, figure, interleaved
from tests.benchmarks.load import WARM_SECONDS, post
from tests.benchmarks.references import insert_raw, open_raw
from tests.benchmarks.samples import rows
from tests.benchmarks.servers import Server

BULK_CONNECTIONS = 4
BULK_ITEMS = 500
RAW_ROWS = 50_000
RAW_BATCH = 1_000


class Run(NamedTuple):
    """One run of a server under load."""

    rate: float
    p99_ms: float
    cpu_us: float
    """Its processor time for each request."""
    memory_mb: float


class Bulk(NamedTuple):
    """One run of many events a request, or of bare rows."""

    rate: float
    """Events a second."""
    cpu_us: float
    """Processor time for each event; without that of a database server."""


def measured(server: Server) -> Run:
    """A few seconds of single events, after a second that does not count."""
    post(server.url, server.key, seconds=WARM_SECONDS)
    before = server.cpu_seconds()
    load = post(server.url, server.key)
    used = server.cpu_seconds() - before
    return Run(load.rate, load.p99_ms, used / load.requests * 1e6, server.memory_mb())


def daemon_run(folder: Path, changes: Mapping[str, str] | None = None) -> Callable[[], Run]:
    """Measures a fresh daemon at each call."""
    calls = itertools.count()

    def run() -> Run:
        data = folder / f"ours-{next(calls)}"
        with servers.daemon(data, changes) as server:
            found = measured(server)
        shutil.rmtree(data)
        return found

    return run


def reference_run(folder: Path) -> Callable[[], Run]:
    """Measures a fresh reference at each call."""
    calls = itertools.count()

    def run() -> Run:
        data = folder / f"reference-{next(calls)}"
        with servers.reference(data) as server:
            found = measured(server)
        shutil.rmtree(data)
        return found

    return run


def single(folder: Path) -> list[Figure]:
    """One event a request, 64 connections, through everything the door does."""
    ours, bare = interleaved(daemon_run(folder), reference_run(folder))
    name = "bare Starlette + SQLite"

    def of(value: Callable[[Run], float]) -> tuple[list[float], str, list[float]]:
        return [value(r) for r in ours], name, [value(r) for r in bare]

    return [
        figure(
            "single ingest, 64 connections",
            "req/s",
            *of(lambda r: r.rate),
            asked="ratio >=",
            bar=0.5,
        ),
        figure("its p99", "ms", *of(lambda r: r.p99_ms), asked="ours <=", bar=25),
        figure("its processor time a request", "us", *of(lambda r: r.cpu_us)),
        figure(
            "resident memory after it", "MB", *of(lambda r: r.memory_mb), asked="ours <=", bar=200
        ),
    ]


def bulk(folder: Path) -> list[Figure]:
    """500 events a request, 4 connections, beside what SQLite takes at most."""
    ours, bare = interleaved(bulk_run(folder), _raw_run(folder))
    name = f"bare rows, {RAW_BATCH:,} a commit"
    return [
        figure(
            f"bulk ingest, {BULK_ITEMS} a request",
            "events/s",
            [r.rate for r in ours],
            name,
            [r.rate for r in bare],
            asked="ratio >=",
            bar=0.35,
        ),
        figure(
            "its processor time an event",
            "us",
            [r.cpu_us for r in ours],
            name,
            [r.cpu_us for r in bare],
        ),
    ]


def bulk_run(folder: Path, stores: Sequence[str] = ()) -> Callable[[], Bulk]:
    """Measures a fresh daemon at each call; checks that the store holds what it answered for.

    `stores`: URLs of empty databases, one for each call; none: SQLite in the data folder.
    """
    urls = iter(stores)
    calls = itertools.count()

    def run() -> Bulk:
        data = folder / f"bulk-{next(calls)}"
        url = next(urls, f"sqlite:///{data / 'bhavana.db'}")
        with servers.daemon(data, {"BHAVANA_STORE__URL": url}) as server:
            before = server.cpu_seconds()
            load = post(
                server.url,
                server.key,
                connections=BULK_CONNECTIONS,
                form="lines",
                items=BULK_ITEMS,
            )
            used = server.cpu_seconds() - before
        events = load.requests * BULK_ITEMS
        with Store(url) as store:
            kept = sum(experiences.count_by_source(store).values())
        if kept < events:
            raise RuntimeError(f"{events} events were acknowledged, but {kept} are stored.")
        shutil.rmtree(data)
        return Bulk(load.rate * BULK_ITEMS, used / events * 1e6)

    return run


def _raw_run(folder: Path) -> Callable[[], Bulk]:
    """Bodies made beforehand, unique ids, synchronous=FULL."""
    made = rows("raw", RAW_ROWS)

    def run() -> Bulk:
        path = folder / "raw.db"
        connection = open_raw(path)
        started, used = time.perf_counter(), time.process_time()
        for start in range(0, RAW_ROWS, RAW_BATCH):
            insert_raw(connection, made[start : start + RAW_BATCH])
        seconds, used = time.perf_counter() - started, time.process_time() - used
        connection.close()
        path.unlink()
        return Bulk(RAW_ROWS / seconds, used / RAW_ROWS * 1e6)

    return run
