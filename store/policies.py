"""Verbs on the policy as the log has it: what was recorded last, a change, and all of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import select

from store import tables
from store.engine import in_our_words
from store.events import Store, StoreReader
from store.log import Fact
from store.records import PHASES, Noun, Policy, PolicyChange


class Values(Noun, frozen=True, kw_only=True):
    """What a value was, and what it became."""

    before: Any
    after: Any


class Recorded(Noun, frozen=True, kw_only=True):
    """A policy that was recorded, with what it changed."""

    position: int
    recorded_at: datetime
    actor: str
    reason: str
    policy: Policy
    changed: dict[str, Values]
    """By name, of the policy before it; of the defaults, for the first one."""


def change(store: Store, policy: Policy, *, reason: str, actor: str = "bhavana") -> bool:
    """Records the policy when it differs from what was recorded last; True when it did."""
    last = newest(store)
    if last is not None and last.policy == policy:
        return False
    store.append_one(
        Fact(
            type="policy.changed",
            stream="policy",
            key=f"policy/{store.position()}",
            noun=PolicyChange(**msgspec.structs.asdict(policy), reason=reason),
        ),
        actor=actor,
    )
    return True


def newest(store: StoreReader) -> Recorded | None:
    """The policy that was recorded last; None before the first."""
    found = changes(store)
    return found[-1] if found else None


def changes(store: StoreReader) -> list[Recorded]:
    """Every policy that was recorded, the oldest first."""
    events, policies = tables.events.c, tables.policies.c
    query = (
        select(events.position, events.recorded_at, events.actor, events.body)
        .join(tables.policies, policies.position == events.position)
        .order_by(policies.position)
    )
    with in_our_words(), store.reading.connect() as connection:
        rows = connection.execute(query).all()
    return list(_compared(rows))


def difference(before: Policy, after: Policy) -> dict[str, Values]:
    """The values that differ, by name."""
    return {
        name: Values(before=getattr(before, name), after=getattr(after, name))
        for name in Policy.__struct_fields__
        if getattr(before, name) != getattr(after, name)
    }


def _compared(rows: Any) -> Iterator[Recorded]:
    before = Policy()
    for position, recorded_at, actor, body in rows:
        found = msgspec.json.decode(body, type=PolicyChange)
        yield Recorded(
            position=position,
            recorded_at=datetime.fromisoformat(recorded_at),
            actor=actor,
            reason=found.reason,
            policy=found.policy,
            changed=difference(before, found.policy),
        )
        before = found.policy


OF_THE_PHASE = frozenset(
    name for policy in PHASES.values() for name in difference(Policy(), policy) if name != "phase"
)
"""Values that a phase brings with it."""
