"""A store of a million experiences: how long the questions that people wait for take.

Every experience is assessed and every tenth has feedback, as after months in service; all of it
is recorded through the store's own verbs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec

from daemon import report
from daemon.settings import Settings
from scorers.panel import combine, panel_id
from store import experiences
from store.engine import sqlite_module
from store.events import Store
from store.records import PRINCIPLES, Experience, Feedback, Finding
from tests.benchmarks import servers
from tests.benchmarks.figures import Figure, figure, interleaved, percentile
from tests.benchmarks.samples import MOMENT, samples

COUNT = 1_000_000
BATCH = 1_000
SOURCES = ("web", "forum", "practice", "exemplar")
CALLS = 100
MOST_MS = 100
COUNTS = (
    "SELECT source, count(*) FROM experiences GROUP BY source",
    "SELECT count(*) FROM feedback",
    "SELECT label, count(*) FROM assessments GROUP BY label",
)


def large(folder: Path) -> list[Figure]:
    """p99 of `bhavana status` and of a page of the list, beside bare counts and a bare answer."""
    data = folder / "large"
    data.mkdir()
    settings = Settings(data_dir=str(data))
    with Store(settings.store_url) as store:
        _fill(store, settings)
    with servers.daemon(data, scope="admin") as server, Store(settings.store_url) as store:
        bare = sqlite_module().connect(data / "bhavana.db")
        status, counts = interleaved(
            _p99(lambda: report.status(store, settings)),
            _p99(lambda: [bare.execute(query).fetchall() for query in COUNTS]),
        )
        bare.close()
        headers = {"Authorization": f"Bearer {server.key}"}
        with httpx.Client(base_url=server.url, headers=headers, trust_env=False) as client:

            def page() -> None:
                answer = client.get("/v1/experiences", params={"limit": 50}).raise_for_status()
                assert answer.json()

            pages, alive = interleaved(
                _p99(page), _p99(lambda: client.get("/healthz").raise_for_status())
            )
    return [
        figure(
            f"p99 of status at {COUNT:,}",
            "ms",
            status,
            "three bare counts",
            counts,
            asked="ours <=",
            bar=MOST_MS,
        ),
        figure(
            f"p99 of a page of the list at {COUNT:,}",
            "ms",
            pages,
            "/healthz",
            alive,
            asked="ours <=",
            bar=MOST_MS,
        ),
    ]


def _fill(store: Store, settings: Settings) -> None:
    panel = panel_id(settings.panel)
    for start in range(0, COUNT, BATCH):
        batch = [
            msgspec.structs.replace(e, source=SOURCES[n % len(SOURCES)], conversation_id=f"c-{n}")
            for n, e in enumerate(samples(f"large-{start}", BATCH))
        ]
        experiences.record(store, batch)
        findings = _findings(start // BATCH % 11)
        experiences.assess(store, [combine(e, findings, settings.panel, panel) for e in batch])
        experiences.give_feedback(store, [_thumb(e) for e in batch[::10]], actor="bench")


def _findings(points: int) -> list[Finding]:
    """What a scorer might say of every principle."""
    return [
        Finding(scorer="bench", version="1", dimension=name, value=float(points))
        for name in PRINCIPLES
    ]


def _thumb(e: Experience) -> Feedback:
    return Feedback(id=f"thumb-{e.id}", kind="thumb", given_at=MOMENT, experience_id=e.id, value=1)


def _p99(ask: Callable[[], object]) -> Callable[[], float]:
    """The 99th percentile of some calls, in milliseconds."""

    def run() -> float:
        took = []
        for _ in range(CALLS):
            started = time.perf_counter()
            ask()
            took.append((time.perf_counter() - started) * 1000)
        return percentile(took, 99)

    return run
