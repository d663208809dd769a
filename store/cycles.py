"""Verbs on cycles and on the one record that each step of a cycle leaves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import msgspec
from sqlalchemy import Connection, Select, Table, select

from store import log, tables
from store.engine import in_our_words
from store.errors import Conflict
from store.events import Store, StoreReader, bodies
from store.log import Fact, Guard
from store.projections import Activation
from store.records import MAIN, Cycle, Dataset, Evaluation, Noun, Release, TrainingRun, new_id

Record = TypeVar("Record", Dataset, TrainingRun, Evaluation, Release)

STEPS: dict[type[Noun], tuple[str, Table]] = {
    Dataset: ("dataset.built", tables.datasets),
    TrainingRun: ("run.finished", tables.runs),
    Evaluation: ("evaluation.finished", tables.evaluations),
    Release: ("release.published", tables.releases),
}
"""The event and the table of each step's record."""


def start(store: Store, cycle: Cycle, fence: Guard | None = None) -> None:
    """Records that a cycle began. Raises Busy when the fence is void, as the others here do."""
    store.append_one(
        Fact(
            type="cycle.started",
            stream=f"cycle/{cycle.id}",
            key=f"cycle/{cycle.id}/started",
            noun=cycle,
        ),
        fence=fence,
    )


def finish(store: Store, cycle: Cycle, fence: Guard | None = None) -> None:
    """Records how a cycle ended."""
    store.append_one(
        Fact(
            type="cycle.finished",
            stream=f"cycle/{cycle.id}",
            key=f"cycle/{cycle.id}/finished",
            noun=cycle,
        ),
        fence=fence,
    )


def running(store: StoreReader) -> Cycle | None:
    """The cycle that began and has not ended: the one to resume."""
    return _newest(store, tables.cycles, Cycle, tables.cycles.c.state == "running")


def last(store: Store, line: str | None = None) -> Cycle | None:
    """The newest cycle, in whatever state: of this line, or of any."""
    of_line = () if line is None else (tables.cycles.c.line == line,)
    return _newest(store, tables.cycles, Cycle, *of_line)


def leave(store: Store, record: Record, fence: Guard | None = None) -> Record:
    """Leaves a step's record; the cycle has exactly one of each, and the first one stands."""
    event, _ = STEPS[type(record)]
    fact = Fact(
        type=event,
        stream=f"cycle/{record.cycle_id}",
        key=f"cycle/{record.cycle_id}/{event}",
        noun=record,
    )
    store.append_one(fact, fence=fence)
    return record


def of_cycle(store: StoreReader, kind: type[Record], cycle_id: str) -> Record | None:
    """The record that a step of this cycle left, or None when the step has not finished."""
    _, table = STEPS[kind]
    return _newest(store, table, kind, table.c.cycle_id == cycle_id)


def built(store: StoreReader) -> list[Dataset]:
    """Every dataset that was built, the newest first."""
    table = tables.datasets
    query = bodies(table).order_by(table.c.position.desc())
    with in_our_words(), store.reading.connect() as connection:
        found = connection.execute(query).scalars().all()
    return [msgspec.json.decode(body, type=Dataset) for body in found]


def every(store: StoreReader, kind: type[Record]) -> list[Record]:
    """Every record of a step, the oldest first."""
    _, table = STEPS[kind]
    with in_our_words(), store.reading.connect() as connection:
        found = connection.execute(bodies(table).order_by(table.c.position)).scalars().all()
    return [msgspec.json.decode(body, type=kind) for body in found]


def of_id(store: StoreReader, cycle_id: str) -> Cycle | None:
    """The cycle as it was last recorded; None where there is none."""
    return _newest(store, tables.cycles, Cycle, tables.cycles.c.id == cycle_id)


def newest_dataset(store: StoreReader) -> Dataset | None:
    """The dataset that was recorded last."""
    return _newest(store, tables.datasets, Dataset)


def earlier_datasets(store: StoreReader, *, before: int) -> list[Dataset]:
    """The datasets that were recorded up to a position, the oldest first."""
    table = tables.datasets
    query = bodies(table).where(table.c.position <= before).order_by(table.c.position)
    with in_our_words(), store.reading.connect() as connection:
        found = connection.execute(query).scalars().all()
    return [msgspec.json.decode(body, type=Dataset) for body in found]


def activate(
    store: Store, release: Release, fence: Guard | None = None, *, share: float = 1.0
) -> Release:
    """Leaves the release's record and notes that its target serves it, in one transaction.

    With it the override that let it in, where there is one. `share`: how much of its line's
    traffic it answers for now.

    Raises Conflict when its line has meanwhile come to serve another one than its predecessor.
    """
    activation = Activation(
        target=release.target,
        line=release.line,
        release_id=release.id,
        reason="promoted",
        share=share,
    )
    stream = f"cycle/{release.cycle_id}"
    published, *_ = store.append(
        [
            Fact(
                type="release.published",
                stream=stream,
                key=f"{stream}/release.published",
                noun=release,
            ),
            Fact(
                type="release.activated",
                stream=f"target/{release.target}",
                key=f"{stream}/release.activated",
                noun=activation,
            ),
            *_overriding(release),
        ],
        fence=_serving(release, {release.previous, release.id}, fence),
    )
    if published.status == "conflict":
        raise Conflict(f"{release.cycle_id} published another release before.")
    return release


def _overriding(release: Release) -> list[Fact]:
    if release.overridden is None:
        return []
    stream, kind = f"cycle/{release.cycle_id}", "evaluation.overridden"
    return [Fact(type=kind, stream=stream, key=f"{stream}/{kind}", noun=release.overridden)]


def roll_back(store: Store, release: Release, *, reason: str, actor: str) -> None:
    """Notes that the line of this release serves its predecessor again.

    Raises Conflict when the line serves another one than this release.
    """
    fact = Fact(
        type="release.activated",
        stream=f"target/{release.target}",
        key=f"release/{release.id}/{new_id('rolled-back')}",
        noun=Activation(
            target=release.target, line=release.line, release_id=release.previous, reason=reason
        ),
    )
    store.append_one(fact, actor=actor, fence=_serving(release, {release.id}))


def _serving(release: Release, expected: set[str | None], fence: Guard | None = None) -> Guard:
    """Raises Conflict when the release's line serves none of the expected ones."""

    def guard(connection: Connection) -> None:
        if fence is not None:
            fence(connection)
        log.head_of(connection, lock=True)  # nobody changes it between this look and the record
        found = connection.execute(_current(release.target, release.line)).scalar()
        if found not in expected:
            raise Conflict(
                f"{found or 'the base'} serves on the line {release.line} of {release.target} "
                "now: it was changed meanwhile."
            )

    return guard


class Judged(Noun, frozen=True, kw_only=True):
    """What a cycle learned from and how it was judged."""

    dataset: Dataset
    run: TrainingRun
    evaluation: Evaluation


def judged(store: Store, line: str = MAIN) -> list[Judged]:
    """Cycles of a line that ended with a verdict, promoted or held back, newest first.

    A cycle that failed after a pass is not among them: it deserves another try.
    """
    ended = tables.cycles.c
    query = (
        select(ended.id)
        .where(ended.state.in_(("promoted", "held_back")), ended.line == line)
        .order_by(ended.position.desc())
    )
    with in_our_words(), store.reading.connect() as connection:
        names = connection.execute(query).scalars().all()
    found = []
    for name in names:
        dataset = of_cycle(store, Dataset, name)
        run = of_cycle(store, TrainingRun, name)
        evaluation = of_cycle(store, Evaluation, name)
        if dataset and run and evaluation:
            found.append(Judged(dataset=dataset, run=run, evaluation=evaluation))
    return found


def by_id(store: StoreReader, kind: type[Record], record_id: str) -> Record | None:
    """A dataset, run, evaluation or release by its id."""
    _, table = STEPS[kind]
    return _newest(store, table, kind, table.c.id == record_id)


def current_release(store: StoreReader, target: str, line: str = MAIN) -> Release | None:
    """What a target serves on a line; None when it is the untouched base."""
    with in_our_words(), store.reading.connect() as connection:
        release_id = connection.execute(_current(target, line)).scalar()
    return None if release_id is None else by_id(store, Release, release_id)


def activation(store: StoreReader, target: str, line: str = MAIN) -> Activation | None:
    """The last word on what a target serves on a line; None before the first."""
    table = tables.current_releases
    where = (table.c.target == target, table.c.line == line)
    return _newest(store, table, Activation, *where)


def _current(target: str, line: str) -> Select[str]:
    table = tables.current_releases.c
    return select(table.release_id).where(table.target == target, table.line == line)


def lineage(store: Store, release_id: str | None) -> Iterator[Release]:
    """The release, its parent, the parent's parent: all whose learning is in its adapter."""
    while release_id is not None:
        release = by_id(store, Release, release_id)
        if release is None:
            return
        yield release
        release_id = release.parent


Found = TypeVar("Found", bound=Noun)


def _newest(store: StoreReader, table: Table, kind: type[Found], *where: object) -> Found | None:
    query = bodies(table).where(*where).order_by(table.c.position.desc()).limit(1)  # type: ignore[arg-type]
    with in_our_words(), store.reading.connect() as connection:
        body = connection.execute(query).scalar()
    return None if body is None else msgspec.json.decode(body, type=kind)
