"""A stand-in server, a target on it, and two releases that say something else than the base."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ollama_stand_in.server import StandIn
from tests.trainer.ollama.adapters import (
    Notes,
    TorchReferences,
    adapter,
    delivery,
    place,
    tiny_base,
)
from trainer.base import Base
from trainer.targets.http import Tell
from trainer.targets.ollama.settings import OllamaSettings
from trainer.targets.ollama.target import OllamaTarget
from trainer.targets.target import Delivery

REAL = os.environ.get("BHAVANA_TEST_OLLAMA", "")
MakeTarget = Callable[..., OllamaTarget]


@pytest.fixture(scope="session")
def base(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """A tiny base in a GGUF file."""
    return tiny_base(tmp_path_factory.mktemp("tiny-gguf"), tokenizer)


@pytest.fixture(scope="session")
def other_base(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """Another one of the same shape."""
    return tiny_base(tmp_path_factory.mktemp("other-gguf"), tokenizer, seed=2)


@pytest.fixture(scope="session")
def references(base: Base, tmp_path_factory: pytest.TempPathFactory) -> TorchReferences:
    """What the trained models say."""
    return TorchReferences(base, tmp_path_factory.mktemp("references"))


@pytest.fixture(scope="session")
def first(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Delivery:
    """A release."""
    return delivery("release-1", adapter(tmp_path_factory.mktemp("first"), base, 1), base)


@pytest.fixture(scope="session")
def second(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Delivery:
    """The next one."""
    return delivery("release-2", adapter(tmp_path_factory.mktemp("second"), base, 2), base)


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[StandIn]:
    """A server of the latest era."""
    with StandIn(tmp_path / "ollama") as server:
        yield server


@pytest.fixture
def notes() -> Notes:
    """What targets of this test noted."""
    return Notes()


@pytest.fixture
def make(stand_in: StandIn, tmp_path: Path, notes: Notes) -> MakeTarget:
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
