"""How fast the panel and the anti-judge are, and the door while a worker assesses."""

from __future__ import annotations

import itertools
import json
import re
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from scorers.antijudge import load as load_antijudge
from scorers.assess import BATCH, Worker, worker
from scorers.embedding import encoder
from scorers.labelled import HOUSE
from scorers.settings import PanelSettings
from scorers.worker import Panel
from store.records import Experience, Message, now
from tests.benchmarks import servers
from tests.benchmarks.figures import Figure, figure, interleaved
from tests.benchmarks.load import WARM_SECONDS, post
from tests.benchmarks.record import rate

EXCHANGES = 512
THREADS = 2
"""The issue asks for two processors."""


def exchanges() -> list[Experience]:
    """Real ones, no two alike: the house rows."""
    rows = [json.loads(line) for path in HOUSE for line in path.read_text().splitlines()]
    return [
        Experience(
            id=row["id"],
            occurred_at=now(),
            source="bench",
            messages=(Message(role="user", content=row["prompt"]),),
            response=row["response"],
        )
        for row in rows
    ]


def antijudge(_folder: Path) -> list[Figure]:
    """All groups of rules, on one processor."""
    scorer = load_antijudge(PanelSettings())
    items = exchanges()

    def words() -> int:
        return len([re.findall(r"\w+", e.response) for e in items])

    ours, split = interleaved(lambda: rate(lambda: len(scorer.score(items))), lambda: rate(words))
    name = "splitting into words"
    return [figure("anti-judge", "texts/s", ours, name, split, asked="ours >=", bar=3_000)]


def panel(_folder: Path) -> list[Figure]:
    """The embedded panel beside its encoder alone, which is what it waits for."""
    torch.set_num_threads(THREADS)
    loaded, model = Panel(PanelSettings()), encoder()
    items = exchanges()[:EXCHANGES]
    texts = [text for e in items for text in (e.last_user_turn, e.response)]

    def assessed() -> int:
        model.forget()
        for start in range(0, len(items), BATCH):
            loaded.assess(items[start : start + BATCH])
        return len(items)

    def embedded() -> int:
        model.forget()
        model.embed(texts)
        return len(items)

    ours, bare = interleaved(lambda: rate(assessed), lambda: rate(embedded))
    name = "the encoder alone"
    return [figure("panel", "experiences/s", ours, name, bare, asked="ours >=", bar=15)]


def beside_assessing(folder: Path) -> list[Figure]:
    """p99 of single events while a worker assesses, beside the same while it is stopped."""
    with _assessing() as child, servers.daemon(folder / "data") as server:
        post(server.url, server.key, seconds=WARM_SECONDS)

        def works() -> float:
            child.process.send_signal(signal.SIGCONT)
            time.sleep(WARM_SECONDS)
            return post(server.url, server.key).p99_ms

        def rests() -> float:
            child.process.send_signal(signal.SIGSTOP)
            return post(server.url, server.key).p99_ms

        busy, quiet = interleaved(works, rests)
    name = "p99 without"
    return [figure("p99 beside assessing", "ms", busy, name, quiet, asked="ratio <=", bar=1.1)]


@contextmanager
def _assessing() -> Iterator[Worker]:
    """A worker as a cycle starts one, fed for as long as the block lasts."""
    items = exchanges()
    with worker(PanelSettings(), patient=True) as child:
        child.assess(items[:BATCH])  # it is loaded
        ended = threading.Event()
        feeder = threading.Thread(target=_feed, args=(child, items, ended))
        feeder.start()
        try:
            yield child
        finally:
            ended.set()
            child.process.send_signal(signal.SIGCONT)  # or the feeder would wait for ever
            feeder.join()


def _feed(child: Worker, items: Sequence[Experience], ended: threading.Event) -> None:
    for start in itertools.cycle(range(0, len(items), BATCH)):
        if ended.is_set():
            return
        child.assess(items[start : start + BATCH])
