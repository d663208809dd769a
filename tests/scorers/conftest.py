"""What the scorers' tests share: experiences in one line, and the panel at work in this process."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from scorers import chosen
from scorers.panel import combine
from scorers.scorer import Scorer
from scorers.settings import PanelSettings
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
    """Every scorer that is at work unless somebody says otherwise, loaded once."""
    return {name: entry.load(PanelSettings()) for name, entry in chosen(PanelSettings()).items()}


@pytest.fixture(scope="session")
def judge(scorers: dict[str, Scorer]) -> Judge:
    """The whole panel on one exchange."""

    def assess(user: str, response: str, vulnerability: Vulnerability | None = None) -> Assessment:
        item = _make(user, response, vulnerability=vulnerability)
        findings = [f for scorer in scorers.values() for f in scorer.score([item])[0]]
        return combine(item, findings, PanelSettings(), "panel")

    return assess
