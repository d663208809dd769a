"""Erasing what people said, everywhere it lies: datasets, then the store, then datasets again.

Datasets first, so that a kill in between leaves words in the store, where the erasure can be
repeated, and never in a file that nothing points to any more; and again afterwards, for one that
was recorded meanwhile. A dataset that is recorded later is looked at by the cycle that made it.
Words are erased when a person wishes it, and when they were kept for as long as they may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog

from converters import dataset as datasets
from daemon.settings import RetentionSettings
from daemon.wiring import Parts
from store import cycles, privacy, retention, schedule
from store.errors import BhavanaError
from store.events import Store
from store.records import Dataset, Erasure, Identifier, Noun, now

log = structlog.get_logger()


class Receipt(Noun, frozen=True, kw_only=True):
    """What an erasure touched, for the person who asked and for whoever checks."""

    id: Identifier | None
    """Of the erasure in the log; None for a dry run, and where nothing was found."""
    scope: privacy.Scope
    dry_run: bool
    experiences: int
    feedback: int
    assessments: int
    reviews: int
    tags: int
    consent_changes: int
    dataset_rows: dict[Identifier, int]
    """Rows by dataset."""
    runs: tuple[Identifier, ...]
    releases: tuple[Identifier, ...]
    """What learned from the words, and cannot unlearn them: the next cycle trains from the base
    without them."""
    refits: tuple[Identifier, ...]
    """Whose heads learned from what a person decided on them."""
    write_ahead_log_emptied: bool
    """Once the database was rewritten, so that no page keeps a trace, either."""
    remains: tuple[str, ...]
    """What a person still has to see to."""
    at: datetime


class Retained(Noun, frozen=True, kw_only=True):
    """What an erasure by age touched."""

    ids: tuple[Identifier, ...]
    """Of the erasures in the log, each of a batch; none for a dry run."""
    dry_run: bool
    consented: int
    """Experiences that may be learned from and were kept for as long as that class is."""
    unconsented: int
    dataset_rows: dict[Identifier, int]
    """Rows by dataset."""
    runs: tuple[Identifier, ...]
    releases: tuple[Identifier, ...]
    refits: tuple[Identifier, ...]
    write_ahead_log_emptied: bool
    """Once the database was rewritten, so that no page keeps a trace, either."""
    remains: tuple[str, ...]
    """What a person still has to see to."""
    at: datetime


def erase(
    store: Store,
    scope: privacy.Scope,
    name: str,
    *,
    reason: str,
    actor: str,
    dry_run: bool = False,
) -> Receipt:
    """Erases an experience, a conversation or all of a person, and says what was touched.

    Safe to repeat: what is gone is not found again. Raises Unavailable.
    """
    found = privacy.find(store, scope, name)
    learned_from = (*found.experiences, *found.feedback, *found.reviews)
    went, rows = _forget(store, learned_from, set(found.ids), dry_run=dry_run)
    erasure = None
    emptied = False
    if not dry_run:
        erasure = privacy.erase(store, scope, name, reason=reason, actor=actor)
        emptied = store.scrub()
        went, more = _forget(store, learned_from, set(found.ids))
        rows |= {name: count for name, count in more.items() if name not in rows}
    return Receipt(
        id=None if erasure is None else erasure.id,
        scope=scope,
        dry_run=dry_run,
        experiences=len(found.experiences),
        feedback=len(found.feedback),
        assessments=len(found.assessments),
        reviews=len(found.reviews),
        tags=len(found.tags),
        consent_changes=len(found.consents),
        dataset_rows=rows,
        runs=went.runs,
        releases=went.releases,
        refits=went.refits,
        write_ahead_log_emptied=emptied,
        remains=_remains(went, emptied or dry_run),
        at=now(),
    )


def retain(
    store: Store,
    settings: RetentionSettings,
    *,
    moment: datetime,
    actor: str,
    dry_run: bool = False,
) -> Retained:
    """Erases what was kept for as long as its class is, like any erasure.

    A dataset that is still in use is no reason to keep words. Safe to repeat. Raises
    Unavailable.
    """
    old = {
        consented: retention.aged(store, before=moment - timedelta(days=days), consented=consented)
        for consented, days in settings.classes
    }
    some = [one for found in old.values() for one in found]
    positions, ids = [one.position for one in some], {one.id for one in some}
    went, rows = _forget(store, positions, ids, dry_run=dry_run)
    erasures: list[Erasure] = []
    for consented, days in () if dry_run else settings.classes:
        erasures += retention.erase_aged(
            store,
            old[consented],
            before=moment - timedelta(days=days),
            consented=consented,
            reason=f"older than {days} days, {'with' if consented else 'without'} consent",
            actor=actor,
        )
    emptied = bool(erasures) and store.scrub()
    if erasures:
        went, more = _forget(store, positions, ids)
        rows |= {name: count for name, count in more.items() if name not in rows}
    return Retained(
        ids=tuple(erasure.id for erasure in erasures),
        dry_run=dry_run,
        consented=len(old.get(True, ())),
        unconsented=len(old.get(False, ())),
        dataset_rows=rows,
        runs=went.runs,
        releases=went.releases,
        refits=went.refits,
        write_ahead_log_emptied=emptied,
        remains=_remains(went, emptied or not erasures) if some else (),
        at=moment,
    )


def retain_daily(parts: Parts) -> None:
    """For the daemon's clock: erases what is too old, once a day; call it as often as you like.

    Never raises: what fails is logged, and tried again at the next call.
    """
    moment = now()
    try:
        planned = schedule.schedule(parts.store, schedule.RETENTION)
        if not parts.settings.retention.classes or (planned and planned.next_run_at > moment):
            return
        done = retain(parts.store, parts.settings.retention, moment=moment, actor="retention")
        schedule.ran(parts.store, moment + timedelta(days=1), schedule.RETENTION)
    except BhavanaError as error:
        log.warning("retention_failed", error=str(error))
    else:
        log.info("retained", consented=done.consented, unconsented=done.unconsented)


def _forget(
    store: Store, positions: Sequence[int], ids: set[str], *, dry_run: bool = False
) -> tuple[privacy.Went, dict[Identifier, int]]:
    """Where experiences, and what was said of them, went; how many rows each dataset lost."""
    went = privacy.where_it_went(store, positions)
    return went, {
        dataset_id: datasets.forget(dataset, ids, positions, dry_run=dry_run)
        for dataset_id in went.datasets
        if (dataset := cycles.by_id(store, Dataset, dataset_id)) is not None
    }


def _remains(went: privacy.Went, emptied: bool) -> tuple[str, ...]:
    remains = ["Backups made before this keep the words until they expire."]
    if went.releases:
        remains.append(f"{', '.join(went.releases)} learned from them: turn a cycle, or roll back.")
    elif went.runs:
        remains.append(f"{', '.join(went.runs)} learned from them and is not in service.")
    if went.refits:
        remains.append(f"{', '.join(went.refits)} learned from them: the next refit does without.")
    if not emptied:
        remains.append(
            "SQLite's files may still hold some bytes: a reader or another writer was at work, or "
            "the disk has not three times the room of the database. Erase again."
        )
    return tuple(remains)
