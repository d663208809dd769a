"""Conversations from a file come in by the door's own rules.

Not over HTTP: the limits there hold off a flood, which an operator's own history is not. But what
the door does to each item is done here by the same functions: NFC, no control characters,
redaction by source, words that may not be stored judged before they are dropped; and a new source
begins in quarantine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from converters.imports.exchange import named
from converters.imports.files import Found
from daemon.ingest import MAX_ITEMS, Judge, admitted, judged_aside
from daemon.redaction import Redactor
from daemon.results import CONFLICT, ERASED
from daemon.texts import normal
from store import experiences, sources
from store.errors import BhavanaError
from store.events import Store
from store.log import line
from store.records import Experience, Noun

Told = Callable[[int], None]
"""Told how many experiences are done."""


class Fault(Noun, frozen=True, kw_only=True):
    """A place of the file that did not come in, and why."""

    place: str
    reason: str


class Imported(Noun, frozen=True, kw_only=True):
    """What became of the experiences of a file."""

    recorded: int
    duplicates: int
    """There already, with the same content."""
    faults: tuple[Fault, ...]


class _Ready(NamedTuple):
    place: str
    experience: Experience
    """As it is stored."""
    aside: Sequence[Experience]
    """The same with its words, where they are not."""


def faults_of(found: Iterator[Found], redact: Redactor, told: Told) -> list[Fault]:
    """Everything in the file that could not come in. Records nothing."""
    faults: list[Fault] = []
    for done, _ in enumerate(_ready(found, redact, faults), 1):
        told(done)
    return faults


def bring_in(
    store: Store,
    found: Iterator[Found],
    redact: Redactor,
    judge: Judge,
    *,
    source: str,
    actor: str,
    told: Told,
) -> Imported:
    """Records what can come in, and says of the rest why it does not. Safe to repeat.

    Raises Unavailable; what was recorded before that stays.
    """
    if source not in sources.OURS:
        sources.begin(store, source, actor=actor)
    faults: list[Fault] = []
    counts: Counter[str] = Counter()
    batch: list[_Ready] = []

    def keep() -> None:
        lines = [line(experiences.recorded(one.experience), actor) for one in batch]
        if aside := [e for one in batch for e in one.aside]:
            lines += judged_aside(judge(aside))
        appended = store.writer.append_and_wait(lines)
        for one, done in zip(batch, appended, strict=False):  # the panel's word comes behind them
            counts[done.status] += 1
            if done.status in _REFUSED:
                faults.append(Fault(place=one.place, reason=_REFUSED[done.status]))
        told(counts.total())
        batch.clear()

    for ready in _ready(found, redact, faults):
        batch.append(ready)
        if len(batch) == MAX_ITEMS:
            keep()
    if batch:
        keep()
    return Imported(
        recorded=counts["recorded"], duplicates=counts["duplicate"], faults=tuple(faults)
    )


_REFUSED = {"conflict": CONFLICT, "erased": ERASED}


def _ready(found: Iterator[Found], redact: Redactor, faults: list[Fault]) -> Iterator[_Ready]:
    """What can come in: of a place, all or nothing. The faults are added to the list."""
    for one in found:
        if one.fault is not None:
            faults.append(Fault(place=one.place, reason=one.fault))
            continue
        some: list[_Ready] = []
        try:
            for experience in one.experiences:
                aside: list[Experience] = []
                item = named(admitted(normal(experience), experience.source, redact, aside))
                some.append(_Ready(one.place, item, [replace(e, id=item.id) for e in aside]))
        except BhavanaError as error:
            faults.append(Fault(place=one.place, reason=error.message))
            continue
        yield from some
