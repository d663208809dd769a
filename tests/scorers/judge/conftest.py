"""A judge at the stand-in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scorers.judge import Judge
from scorers.settings import Cascade, JudgeSettings, PanelSettings
from tests.scorers.judge.asking import (
    MakePanel,
)
from tests.scorers.judge.stand_in import StandIn


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    """An endpoint that does what the test says."""
    with StandIn() as served:
        yield served


@pytest.fixture
def panel(stand_in: StandIn, tmp_path: Path) -> MakePanel:
    """A panel with a judge at the stand-in; impatient, so that faults cost no time."""

    def make(**changes: Any) -> PanelSettings:
        given = {
            "url": stand_in.url + ("/v1" if changes.get("protocol") != "ollama" else ""),
            "model": "judge-1",
            "cache": str(tmp_path / "cache"),
            "dimensions": ("harshness", "karuna"),
            "retry_seconds": 0.0,
            "retries": 2,
            "timeout_seconds": 20.0,
        } | changes
        return PanelSettings(
            scorers=("antijudge", "judge"),
            cascade=Cascade(all=True),
            judge=JudgeSettings(**given),
        )

    return make


@pytest.fixture
def judge(panel: MakePanel) -> Iterator[Callable[..., Judge]]:
    """Makes judges, and closes them."""
    made: list[Judge] = []

    def make(**changes: Any) -> Judge:
        made.append(Judge(panel(**changes)))
        return made[-1]

    yield make
    for one in made:
        one.close()
