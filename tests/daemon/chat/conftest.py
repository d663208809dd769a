"""A daemon that answers people, with real llama.cpp over the embedded base, and two releases.

The releases' adapters were drawn, not trained: strong enough that each has words of its own, so
that one can hear who speaks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest

from daemon.canary.watch import begun
from daemon.rollback import roll_back
from daemon.settings import load
from daemon.wiring import Parts, wire
from store import cycles, keys
from store.records import MAIN, Release, new_id, now
from tests.drawn import draw_adapter
from trainer.adapter import adapter_hash
from trainer.base import locate
from trainer.targets.target import traffic_of

pytest.importorskip("xllamacpp")

BASE = "smollm2-135m"
SERVING = {
    "BHAVANA_SERVING__ENABLED": "true",
    "BHAVANA_SERVING__THREADS": "1",
    "BHAVANA_SERVING__CONTEXT": "512",
    "BHAVANA_SERVING__MOST_TOKENS": "128",
    "BHAVANA_SERVING__RECORD": "true",
    "BHAVANA_SERVING__TRAINING_CONSENT": "asked",
}
QUESTION = "Tell me of the sea."
PATIENCE_SECONDS = 120


class House:
    """The data folder of a daemon, from outside."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.parts: Parts = wire(load(None, {"BHAVANA_DATA_DIR": str(data)}))
        self._base = locate(BASE)
        self._serves: dict[str, str] = {}

    def publish(self, seed: int, name: str = "", line: str = MAIN) -> Release:
        """A release that nobody hears yet; its words are the seed's, whatever its name."""
        name = name or f"release-{seed}"
        adapter = draw_adapter(self.data.parent / f"drawn-{name}", seed, self._base)
        digest = adapter_hash(adapter)
        self.parts.archive.keep(name, adapter, digest)
        return Release(
            id=name, cycle_id=f"cycle-{name}", run_id=f"run-{name}", location="here",
            evaluation_id=f"evaluation-{name}", target="local", adapter_hash=digest, base=BASE,
            base_hash=self._base.hash, previous=self._serves.get(line) or None, published_at=now(),
            line=line,
        )  # fmt: skip

    def serve(self, release: Release, share: float = 1.0) -> None:
        """From now on it answers, or its share; recorded, else the daemon would put it back."""
        trial = None if share == 1 else begun(self.parts, release)
        canary = trial and msgspec.structs.replace(trial, share=share)
        cycles.activate(self.parts.store, release, canary=canary)
        self.parts.target.activate(traffic_of(release, share, shares=True), release.line)
        self._serves[release.line] = release.id

    def promote(self, seed: int) -> None:
        """Publishes and serves."""
        self.serve(self.publish(seed))

    def roll_back(self) -> None:
        """The command, from outside of the daemon."""
        gone = roll_back(self.parts, reason="test", actor="t")
        self._serves[gone.line] = gone.previous or ""

    def key(self, *scopes: str, source: str | None = "web") -> str:
        """The text of a new key."""
        store = self.parts.store
        return keys.create(store, name="t", scopes=scopes, source=source, actor="t")[1]


class Answering(NamedTuple):
    """A daemon that answers, and a key for it."""

    house: House
    daemon: Any
    secret: str

    def client(self) -> httpx.Client:
        """A client that shows the key and has patience."""
        return httpx.Client(
            base_url=self.daemon.url,
            headers={"Authorization": f"Bearer {self.secret}"},
            timeout=PATIENCE_SECONDS,
            trust_env=False,
        )

    def ask(self, content: str = QUESTION, headers: Any = None, **fields: Any) -> httpx.Response:
        """Asks for a short answer."""
        with self.client() as client:
            return client.post(
                "/v1/chat/completions", json=question(content, **fields), headers=headers
            )

    def process(self) -> int:
        """The process that answers now, of however many there are."""
        [pid] = self.processes()
        return pid

    def processes(self) -> list[int]:
        """All processes that answer, or are about to."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if b"trainer.serve" in words and str(self.house.data).encode() in b" ".join(words):
                    found.append(int(entry.name))
        return found


def question(content: str = QUESTION, **fields: Any) -> dict[str, Any]:
    """The body of a request for a short answer."""
    messages = [{"role": "user", "content": content}]
    return {"model": "bhavana", "messages": messages, "max_tokens": 6} | fields


def events(text: str) -> list[Any]:
    """What a stream said, without its end mark, which it must have."""
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


Answers = Callable[..., AbstractContextManager[Answering]]


@pytest.fixture(scope="session")
def answers(serving: Any, eventually: Any) -> Answers:
    """Serves a data folder until the block ends, and begins it when somebody answers there."""

    @contextmanager
    def answering(house: House, *scopes: str, **changes: str) -> Iterator[Answering]:
        secret = house.key(*(scopes or ("chat", "ingest", "feedback", "read", "erase")))
        with serving(house.data, **(SERVING | changes)) as daemon:
            found = Answering(house, daemon, secret)

            def ready() -> bool:
                with found.client() as client:
                    return client.get("/v1/models").status_code == 200

            eventually(ready, "somebody answers")
            yield found

    return answering


@pytest.fixture(scope="session")
def at_home(
    answers: Answers, tmp_path_factory: pytest.TempPathFactory, cache_home: Path
) -> Iterator[Answering]:
    """One daemon for all that only ask; the release that was drawn from seed 1 answers."""
    house = House(tmp_path_factory.mktemp(new_id("chat")) / "data")
    house.promote(1)
    with answers(house) as found:
        yield found


def pid_alive(pid: int) -> bool:
    """Whether there is such a process still."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
