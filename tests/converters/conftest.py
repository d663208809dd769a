"""What the converters' tests share: judged experiences in one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from store import experiences, sources
from store.events import Store
from store.experiences import Assessed


@pytest.fixture(scope="session")
def make_assessed(make_experience, make_assessment) -> Callable[..., Assessed]:
    """Makes a judged experience; the words of the assessment go to it, the rest to the other."""
    of_assessment = {
        "harm",
        "weighted",
        "refusal",
        "label",
        "abstained",
        "doubts",
        "actual_harm",
        "unfit",
    }

    def make(name: str = "e-1", prompt: str | None = None, **changes: Any) -> Assessed:
        judged = {key: changes.pop(key) for key in of_assessment & changes.keys()}
        tier = changes.pop("tier", "trusted")
        decision = changes.pop("decision", None)
        experience = make_experience(name, prompt, **changes)
        return Assessed(
            experience=experience,
            assessment=make_assessment(name, **judged),
            position=int.from_bytes(name.encode()[:6]),
            consented=experience.consent.training,
            tier=tier,
            decision=decision,
        )

    return make


@pytest.fixture(scope="session")
def keep() -> Callable[[Store, Sequence[Assessed]], int]:
    """Records judged experiences in a store and returns its position afterwards."""

    def record(store: Store, items: Sequence[Assessed]) -> int:
        experiences.record(store, [item.experience for item in items])
        for item in items:
            if item.experience.source not in {source.name for source in sources.listed(store)}:
                sources.change(store, item.experience.source, item.tier, actor="test")
        experiences.assess(store, [item.assessment for item in items])
        return store.position()

    return record
