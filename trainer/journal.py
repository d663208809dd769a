"""The journal of a promotion: each step as an event before it is begun and after it ended.

A kill leaves a step that was begun and not ended: it is done again, or undone, and each target's
own notes say what it had done by then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from store import journal
from store.errors import BhavanaError, Busy, Unavailable
from store.events import Store, StoreReader
from store.log import Guard
from store.records import Line, ReleaseStep, Step, now

LONGEST_FAULT = 1_000
Notes = dict[tuple[str, Step], dict[str, str]]


class StoreJournal:
    """In the event store, for ever."""

    def __init__(self, store: Store, target: str, fence: Guard | None = None) -> None:
        """`fence`: the proof that this process may begin a step; void, nothing more is begun."""
        self._store = store
        self._target = target
        self._fence = fence

    def note(self, release: str, step: Step, facts: Mapping[str, str]) -> None:
        """Kept and synced when this returns. Not fenced: what a server did, it did."""
        self._write(release, None, step, "noted", facts)

    def noted(self, release: str, step: Step) -> Mapping[str, str]:
        """All facts that were noted of this step, the latest of each name; {} for none."""
        return noted(self._store, release, step)

    @contextmanager
    def taking(self, release: str, line: Line, step: Step) -> Iterator[dict[str, str]]:
        """Writes the step down before and after; what the block adds is kept as its outcome.

        A way back is taken even where the store takes no line of it now: people come first.
        Raises Busy before the step where the fence is void.
        """
        facts: dict[str, str] = {}
        with _unless(step == "restore"):
            self._write(release, line, step, "begun", {}, self._fence)
        try:
            yield facts
        except Exception as error:
            said = error.message if isinstance(error, BhavanaError) else str(error)
            fault = {"error": type(error).__name__, "said": said[:LONGEST_FAULT]}
            self._write(release, line, step, "failed", facts | fault)
            raise
        with _unless(step == "restore"):
            self._write(release, line, step, "done", facts)

    def _write(
        self,
        release: str,
        line: Line | None,
        step: Step,
        state: Any,
        facts: Mapping[str, str],
        fence: Guard | None = None,
    ) -> None:
        written = ReleaseStep(
            release=release,
            target=self._target,
            line=line,
            step=step,
            state=state,
            facts=dict(facts),
            at=now(),
        )
        journal.write(self._store, written, fence)


class UnwrittenJournal:
    """For looks and dry runs: reads a store's journal, where there is one, and keeps nothing."""

    def __init__(self, store: StoreReader | None = None) -> None:
        self._store = store
        self._notes: Notes = {}

    def note(self, release: str, step: Step, facts: Mapping[str, str]) -> None:
        """Known until this process ends."""
        self._notes.setdefault((release, step), {}).update(facts)

    def noted(self, release: str, step: Step) -> Mapping[str, str]:
        """What the store's journal and this one say."""
        found = {} if self._store is None else noted(self._store, release, step)
        return dict(found) | self._notes.get((release, step), {})


@contextmanager
def _unless(can_do_without: bool) -> Iterator[None]:
    try:
        yield
    except Busy:
        raise
    except Unavailable:
        if not can_do_without:
            raise


def noted(store: StoreReader, release: str, step: Step) -> Mapping[str, str]:
    """All facts that the store's journal has noted of a step, the latest of each name."""
    facts: dict[str, str] = {}
    for line in journal.of_release(store, release):
        if line.state == "noted" and line.step == step:
            facts |= line.facts
    return facts
