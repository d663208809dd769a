"""Erasing what a person said, everywhere it lies: datasets first, then the store.

In this order, so that a kill in between leaves words in the store, where the wish can be
repeated, and never in a file that nothing points to any more.
"""

from __future__ import annotations

from datetime import datetime

from converters import dataset as datasets
from store import cycles, privacy
from store.events import Store
from store.records import Dataset, Identifier, Noun, now


class Receipt(Noun, frozen=True, kw_only=True):
    """What an erasure touched, for the person who asked and for whoever checks."""

    id: Identifier | None
    """Of the erasure in the log; None for a dry run, and where nothing was found."""
    scope: privacy.Scope
    dry_run: bool
    experiences: int
    feedback: int
    assessments: int
    consent_changes: int
    dataset_rows: dict[Identifier, int]
    """Rows by dataset."""
    runs: tuple[Identifier, ...]
    releases: tuple[Identifier, ...]
    """What learned from the words, and cannot unlearn them: the next cycle trains from the base
    without them."""
    write_ahead_log_emptied: bool
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
    went = privacy.where_it_went(store, found.experiences)
    rows = {
        dataset_id: datasets.forget(dataset, set(found.ids), dry_run=dry_run)
        for dataset_id in went.datasets
        if (dataset := cycles.by_id(store, Dataset, dataset_id)) is not None
    }
    erasure = None
    emptied = False
    if not dry_run:
        erasure = privacy.erase(store, scope, name, reason=reason, actor=actor)
        emptied = store.scrub()
    return Receipt(
        id=None if erasure is None else erasure.id,
        scope=scope,
        dry_run=dry_run,
        experiences=len(found.experiences),
        feedback=len(found.feedback),
        assessments=len(found.assessments),
        consent_changes=len(found.consents),
        dataset_rows=rows,
        runs=went.runs,
        releases=went.releases,
        write_ahead_log_emptied=emptied,
        remains=_remains(went, emptied or dry_run),
        at=now(),
    )


def _remains(went: privacy.Went, emptied: bool) -> tuple[str, ...]:
    remains = ["Backups made before this keep the words until they expire."]
    if went.releases:
        remains.append(f"{', '.join(went.releases)} learned from them: turn a cycle, or roll back.")
    elif went.runs:
        remains.append(f"{', '.join(went.runs)} learned from them and is not in service.")
    if not emptied:
        remains.append("A reader kept the write-ahead log from being emptied: erase again.")
    return tuple(remains)
