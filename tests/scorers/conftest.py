"""What the scorers' tests share: experiences in one line, and the panel at work in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest

from scorers import chosen
from scorers.panel import combine
from scorers.scorer import Scorer
from scorers.settings import GuardSettings, PanelSettings
from store.records import Assessment, Context, Experience, Message, Vulnerability

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

MakeExperience = Callable[..., Experience]
Judge = Callable[..., Assessment]


def _make(
    user: str, response: str, *, name: str = "e-1", vulnerability: Vulnerability | None = None
) -> Experience:
    role = "user" if user else "system"
    return Experience(
        id=name,
        occurred_at=MOMENT,
        source="test",
        messages=(Message(role=role, content=user or "You are kind."),),
        response=response,
        context=Context(vulnerability=vulnerability),
    )


@pytest.fixture(name="experience")
def _experience() -> MakeExperience:
    """Makes an experience from a question and an answer; an empty question makes no user turn."""
    return _make


@pytest.fixture(scope="session")
def scorers() -> dict[str, Scorer]:
    """Every scorer of the default panel, loaded once."""
    return {name: entry.load(PanelSettings()) for name, entry in chosen(PanelSettings()).items()}


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For tiny models: several threads would only wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_guard(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., PanelSettings]:
    """Makes a panel of nothing but a tiny random guard of a family, written once."""
    from tests.scorers import tiny_guards  # loads torch

    @cache
    def folder(family: str, template: str | None, certain: tuple[str, ...]) -> str:
        place = tmp_path_factory.mktemp(family)
        return str(tiny_guards.write(place, family, template=template, certain=certain))

    def make(
        family: str, *, template: str | None = None, certain: tuple[str, ...] = (), **changes: Any
    ) -> PanelSettings:
        # No least mass: what has learned nothing keeps to no form.
        usual = {"dtype": "float32", "device": "cpu", "least_mass": 0.0}
        named: Any = {"family": family, "model": folder(family, template, certain)}
        return PanelSettings(scorers=("guard",), guard=GuardSettings(**(usual | named | changes)))

    return make


@pytest.fixture(scope="session")
def judge(scorers: dict[str, Scorer]) -> Judge:
    """The whole panel on one exchange."""

    def assess(user: str, response: str, vulnerability: Vulnerability | None = None) -> Assessment:
        item = _make(user, response, vulnerability=vulnerability)
        findings = [f for scorer in scorers.values() for f in scorer.score([item])[0]]
        return combine(item, findings, PanelSettings(), "panel")

    return assess
