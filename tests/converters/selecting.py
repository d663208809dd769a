"""Selecting from judged experiences that are recorded in a store of their own for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec

from converters import enough
from converters import selection as ours
from converters.mixture import Share
from store import experiences, reviews, sources
from store.events import Store
from store.experiences import Assessed
from store.records import Feedback, Policy, Review, now
from tests.converters.building import ALIKE

BETTER = "What a person would say."
"""The text of every correction."""


class Selected(NamedTuple):
    """What was chosen of the items, the items themselves, and the funnel."""

    chosen: tuple[Assessed, ...]
    funnel: dict[str, int]
    shares: dict[str, dict[str, Share]]


def select(
    items: Iterable[Assessed],
    policy: Policy,
    *,
    forbidden: Sequence[str] = (),
    ends: Sequence[int] = (),
    replayed: Sequence[int] = (),
    alike: bool = False,
    feedback: Sequence[Feedback] = (),
) -> Selected:
    """Records the items in their order and selects from them; `ends` as their positions are.

    `alike`: texts that are nearly the same count as the same.
    """
    policy = msgspec.structs.replace(policy, **({} if alike else ALIKE))
    with recorded(items) as (store, asked, kept):
        if feedback:
            experiences.give_feedback(store, feedback, actor="test")
        asked = msgspec.structs.replace(
            asked,
            as_of=store.position(),
            policy=policy,
            forbidden=tuple(forbidden),
            ends=tuple(sum(a.position <= end for a in kept) for end in ends),
            earlier={"train": tuple(n for n, a in enumerate(kept, 1) if a.position in replayed)},
        )
        found = ours.select(store, asked)
        chosen = []
        for position in found.rows["position"].tolist():
            item = kept[position - 1]
            text = found.better.get(item.experience.id, item.experience.response)
            experience = msgspec.structs.replace(item.experience, response=text)
            chosen.append(msgspec.structs.replace(item, experience=experience))
        return Selected(tuple(chosen), found.funnel, found.shares)


def require_enough(items: Iterable[Assessed], policy: Policy) -> None:
    """Raises NotEnoughData as a build from these items would."""
    with recorded(items) as (store, asked, _):
        policy = msgspec.structs.replace(policy, **ALIKE)
        asked = msgspec.structs.replace(asked, policy=policy)
        enough.require_enough(store, asked, ours.select(store, asked))


@contextmanager
def recorded(items: Iterable[Assessed]) -> Iterator[tuple[Store, ours.Asked, list[Assessed]]]:
    """A store that holds the items: the first at position 1, the second at 2."""
    kept = list(items)
    with TemporaryDirectory() as folder, Store(f"sqlite:///{folder}/store.db") as store:
        experiences.record(store, [a.experience for a in kept])
        for name, tier in {a.experience.source: a.tier for a in kept}.items():
            sources.change(store, name, tier, actor="test")
        experiences.assess(store, [a.assessment for a in kept])
        for a in kept:
            if a.decision is not None:
                reviews.record(store, _review(a), actor="test")
        panel = kept[0].assessment.panel if kept else "panel-1"
        asked = ours.Asked(policy=Policy(), panel=panel, as_of=store.position(), moment=now())
        yield store, asked, kept


def _review(a: Assessed) -> Review:
    assert a.decision is not None
    return Review(
        id=f"review-{a.experience.id}",
        experience_id=a.experience.id,
        decision=a.decision,
        reason="as the test says",
        text=BETTER if a.decision == "correct" else None,
        reviewer="somebody",
        reviewed_at=now(),
    )
