"""What another policy would change: a replay of the steps by columns, under both policies.

It reads no words and changes nothing. What the steps by words and the caps would drop is not
known here; how large a dataset would be is told by how much of the last one they left.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import field
from sqlalchemy import ColumnElement, Row, Subquery, case, func, literal, not_, or_
from sqlalchemy import select as query

from converters.selection import Asked
from converters.steps import KEPT, STEPS
from store import cycles, policies
from store.candidates import candidates
from store.engine import in_our_words
from store.events import StoreReader
from store.records import Dataset, Label, Noun, Policy

EXAMPLES = 5
"""Of the gained and of the lost at most so many are shown."""
REPLAYED = frozenset(
    ("max_harm", "min_weighted", "labels", "curated_max_harm", "curated_min_weighted", "phase")
)
"""Values of the policy that the steps by columns go by."""
KINDS = ("source", "category", "difficulty")


class Both(Noun, frozen=True, kw_only=True):
    """How many there are now, and how many there would be."""

    now: int = 0
    then: int = 0


class Example(Noun, frozen=True, kw_only=True):
    """An experience that would be gained or lost, without its words."""

    id: str
    position: int
    source: str
    category: str | None
    difficulty: str | None
    actual_harm: float | None
    weighted: float | None
    label: Label | None


class Moved(Noun, frozen=True, kw_only=True):
    """Experiences that only one of the two policies keeps."""

    count: int = 0
    steps: dict[str, int] = field(default_factory=dict)
    """By the step of the other policy that drops them."""
    examples: tuple[Example, ...] = ()
    """The newest of as many different kinds as possible."""


class Projection(Noun, frozen=True, kw_only=True):
    """How many rows a dataset would have, if words and caps took the share that they last took."""

    rows: Both
    dataset: str
    """The one whose share it is, built under the policy of its time."""
    kept: int
    """What the steps by columns left for it."""
    selected: int
    """What it holds of them."""


class Tryout(Noun, frozen=True, kw_only=True):
    """What would change. Of rows that the panel assessed, by the steps that need no words."""

    as_of: int
    """Position of the log."""
    changed: dict[str, policies.Values]
    """The values of the policy that differ."""
    not_replayed: tuple[str, ...]
    """Those of them that these steps do not go by: they choose by words or among rows."""
    recorded: int
    kept: Both
    gained: Moved
    lost: Moved
    source: dict[str, Both]
    category: dict[str, Both]
    """"" where nobody said, as in the next."""
    difficulty: dict[str, Both]
    projection: Projection | None
    """None before the first dataset."""


def try_policy(store: StoreReader, asked: Asked, tried: Policy) -> Tryout:
    """What would change if the policy that is asked with were the one that is tried."""
    table = candidates(store, asked.panel, as_of=asked.as_of, moment=asked.moment)
    with in_our_words(), store.reading.connect() as connection:
        recorded = connection.execute(query(func.count()).select_from(table)).scalar_one()
        groups = connection.execute(_grouped(table, asked.policy, tried)).all()
        gained = [group for group in groups if group.now != KEPT]
        lost = [group for group in groups if group.then != KEPT]
        places = [g.newest for some in (gained, lost) for g in _newest(some)]
        found = connection.execute(_at(table, places)).mappings().all()
    examples = {row["position"]: Example(**row) for row in found}
    kept = _both(groups)
    changed = policies.difference(asked.policy, tried)
    return Tryout(
        as_of=asked.as_of,
        changed=changed,
        not_replayed=tuple(name for name in changed if name not in REPLAYED),
        recorded=recorded,
        kept=kept,
        gained=_told(gained, examples),
        lost=_told(lost, examples),
        projection=_projected(cycles.newest_dataset(store), kept),
        **{kind: _by(groups, kind) for kind in KINDS},
    )


# --- the question -------------------------------------------------------------------------


def _grouped(table: Subquery, policy: Policy, tried: Policy) -> Any:
    """How many of each kind either policy keeps, and which step of the other drops them.

    `now` and `then`: the step that drops them, KEPT where none does. What both drop alike is
    asked once, and so is the rest: the offset keeps a database from asking it again wherever it
    is named.
    """
    both = {name: (drops(table.c, policy), drops(table.c, tried)) for name, drops in STEPS.items()}
    alike = [not_(one) for one, other in both.values() if one.compare(other)]
    unlike = {name: pair for name, pair in both.items() if not pair[0].compare(pair[1])}

    def step(which: int) -> ColumnElement[str]:
        named = [(pair[which], literal(name)) for name, pair in unlike.items()]
        return case(*named, else_=literal(KEPT)) if named else literal(KEPT)

    kinds = (table.c[kind] for kind in KINDS)
    columns = (step(0).label("now"), step(1).label("then"), *kinds, table.c.position)
    kept = or_(step(0) == KEPT, step(1) == KEPT)  # first: it drops the most, and asks no set
    c = query(*columns).where(kept, *alike).offset(0).subquery().c
    keys = (c.now, c.then, *(c[kind] for kind in KINDS))
    return query(*keys, func.count().label("n"), func.max(c.position).label("newest")).group_by(
        *keys
    )


def _at(table: Subquery, positions: Iterable[int]) -> Any:
    columns = (table.c[name] for name in Example.__struct_fields__)
    return query(*columns).where(table.c.position.in_(list(positions)))


# --- the answer ---------------------------------------------------------------------------

Group = Row[Any]


def _both(groups: Iterable[Group]) -> Both:
    kept = list(groups)
    return Both(
        now=sum(group.n for group in kept if group.now == KEPT),
        then=sum(group.n for group in kept if group.then == KEPT),
    )


def _by(groups: Iterable[Group], kind: str) -> dict[str, Both]:
    of: dict[str, list[Group]] = {}
    for group in groups:
        of.setdefault(getattr(group, kind) or "", []).append(group)
    return {name: _both(of[name]) for name in sorted(of)}


def _newest(groups: Iterable[Group]) -> list[Group]:
    return sorted(groups, key=lambda group: -group.newest)[:EXAMPLES]


def _told(groups: list[Group], examples: dict[int, Example]) -> Moved:
    steps: dict[str, int] = {}
    for group in groups:
        step = group.now if group.then == KEPT else group.then
        steps[step] = steps.get(step, 0) + group.n
    return Moved(
        count=sum(steps.values()),
        steps=steps,
        examples=tuple(examples[group.newest] for group in _newest(groups)),
    )


def _projected(dataset: Dataset | None, kept: Both) -> Projection | None:
    """By the newest dataset's funnel; None where it says nothing."""
    if dataset is None:
        return None
    funnel = dataset.funnel
    left = funnel.get("recorded", 0) - sum(funnel.get(name, 0) for name in STEPS)
    if left <= 0:
        return None
    share = funnel.get("selected", 0) / left
    return Projection(
        rows=Both(now=round(kept.now * share), then=round(kept.then * share)),
        dataset=dataset.id,
        kept=left,
        selected=funnel.get("selected", 0),
    )
