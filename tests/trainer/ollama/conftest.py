"""A stand-in server, a target on it, and two releases that say something else than the base."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ollama_stand_in.server import StandIn
from tests.tiny_releases import Foretold, Prepared, delivery, place, prepared
from trainer.base import Base
from trainer.journal import UnwrittenJournal
from trainer.targets.ollama.settings import OllamaSettings
from trainer.targets.ollama.target import OllamaTarget
from trainer.targets.place import Tell
from trainer.targets.target import Delivery

MakeTarget = Callable[..., OllamaTarget]


@pytest.fixture(scope="session")
def ready(cache_home: Path) -> Prepared:
    """Two bases, three adapters, and what their models say."""
    return prepared(cache_home)


@pytest.fixture(scope="session")
def base(ready: Prepared) -> Base:
    """A tiny base in a GGUF file."""
    return ready.base


@pytest.fixture(scope="session")
def other_base(ready: Prepared) -> Base:
    """Another one of the same shape."""
    return ready.other_base


@pytest.fixture(scope="session")
def references(ready: Prepared) -> Foretold:
    """What the first release should say."""
    return Foretold(ready.positions["one"])


@pytest.fixture(scope="session")
def first(ready: Prepared) -> Delivery:
    """A release."""
    return delivery("release-1", Path(ready.adapters["one"]), ready.base)


@pytest.fixture(scope="session")
def second(ready: Prepared) -> Delivery:
    """The next one."""
    return delivery("release-2", Path(ready.adapters["two"]), ready.base)


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[StandIn]:
    """A server of the latest era."""
    with StandIn(tmp_path / "ollama") as server:
        yield server


@pytest.fixture
def notes() -> UnwrittenJournal:
    """What targets of this test noted."""
    return UnwrittenJournal()


@pytest.fixture
def make(stand_in: StandIn, tmp_path: Path, notes: UnwrittenJournal) -> MakeTarget:
    """Opens the target, each time anew; it does not wait long for a server."""

    def target(tell: Tell | None = None, **changes: Any) -> OllamaTarget:
        patient: dict[str, Any] = {"url": stand_in.url, "keep": 0, "retry_seconds": 0.0}
        settings = OllamaSettings(**(patient | changes))
        return OllamaTarget(place(tmp_path, settings, notes, tell))

    return target


@pytest.fixture
def target(make: MakeTarget) -> OllamaTarget:
    """The target, opened once."""
    return make()
