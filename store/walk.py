"""A walk through the log from its first event: digests, identities, the chain, and a replay."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, select, type_coerce
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.types import NullType

from store import experiences, refits, reviews, tables, tags
from store.log import EMPTY_CHAIN, ERASED, ERASED_STREAM, SEAL_EVERY, Fact, Head, link
from store.losses import ACCEPT, Gap, without
from store.projections import KINDS, Projected, project
from store.records import ApiKey, Erasure, Noun

BATCH = 1_000
VERSION = 1
BACKUP = "Keep a copy of the data folder, then restore the newest backup that verifies."
ERASE = "Erase it again, or restore a backup."

Identity = Callable[[Any], tuple[str, str | None]]
"""Stream and key that follow from a noun; None for a key that does not."""


def _of(fact: Callable[[Any], Fact]) -> Identity:
    return lambda noun: (fact(noun).stream, fact(noun).key)


def _same(prefix: str) -> Identity:
    return lambda noun: (f"{prefix}/{noun.id}", f"{prefix}/{noun.id}")


def _step(kind: str) -> Identity:
    return lambda record: (f"cycle/{record.cycle_id}", f"cycle/{record.cycle_id}/{kind}")


def _cycle(ends: str) -> Identity:
    return lambda cycle: (f"cycle/{cycle.id}", f"cycle/{cycle.id}/{ends}")


def _key(key: ApiKey) -> tuple[str, None]:
    return f"key/{key.id}", None


IDENTITY: dict[str, Identity] = {
    "experience.recorded": _of(experiences.recorded),
    "feedback.given": _of(experiences.given),
    "consent.changed": _of(experiences.consent_changed),
    "experience.assessed": lambda a: (
        f"experience/{a.experience_id}",
        f"assessment/{a.experience_id}/{a.panel}",
    ),
    "experience.reviewed": _of(reviews.reviewed),
    "experience.tagged": _of(tags.tagged),
    "experience.erased": _same("erasure"),
    "loss.accepted": lambda loss: ("losses", f"loss/{loss.first}-{loss.last}"),
    "source.changed": lambda source: (f"source/{source.name}", None),
    "dataset.built": _step("dataset.built"),
    "run.finished": _step("run.finished"),
    "evaluation.finished": _step("evaluation.finished"),
    "evaluation.overridden": _step("evaluation.overridden"),
    "release.published": _step("release.published"),
    "release.step": lambda step: (f"release/{step.release}", None),
    "release.activated": lambda activation: (f"target/{activation.target}", None),
    "heads.refitted": _of(refits.refitted),
    "cycle.started": _cycle("started"),
    "cycle.finished": _cycle("finished"),
    "policy.changed": lambda _: ("policy", None),
    "key.created": _key,
    "key.changed": _key,
    "key.revoked": _key,
}
"""What the verbs give each kind of event: neither is in the chain, so it is compared."""

_COLUMNS = [c for c in tables.events.c if c.name != "body"]
_AFTER = (
    # The body without its column's type, which would not survive a damaged value.
    select(*_COLUMNS, type_coerce(tables.events.c.body, NullType()).label("body"))
    .where(tables.events.c.position > bindparam("after"))
    .order_by(tables.events.c.position)
    .limit(bindparam("size"))
)
_DECODERS = {name: msgspec.json.Decoder(kind.noun) for name, kind in KINDS.items()}


class Walk:
    """What the events add up to, as far as they can be read.

    `found` is told of each fault: its kind, and a sentence that says what to do.
    """

    def __init__(
        self,
        replica: Connection,
        seals: dict[int, str],
        accepted: Sequence[Gap],
        found: Callable[[str, str], None],
    ) -> None:
        self.events = 0
        self.erased = 0
        self.position = 0
        self.chain = EMPTY_CHAIN
        self.replayed = True
        """Whether every event could be replayed into the replica."""
        self._replica = replica
        self._seals = dict(seals)
        self._accepted = accepted
        self._found = found
        self._sealed_until = 0
        self._gaps: list[Gap] = []
        self._emptied: set[int] = set()
        self._to_be_empty: set[int] = set()

    def through(self, connection: Connection) -> Iterator[int]:
        """Reads the log to its end; yields how many events were read, now and then.

        Raises what the driver does at the first event that cannot be read, ValueError where they
        are out of order, which would never end.
        """
        size = BATCH
        while True:
            try:
                rows = connection.execute(_AFTER, {"after": self.position, "size": size}).all()
            except DBAPIError:
                self.replayed = False
                if size == 1:
                    self._found("event", f"No event after {self.position} can be read. {BACKUP}")
                    raise
                size = 1  # to come as near to the damage as can be
                continue
            if not rows:
                return
            self._replay([event for row in rows if (event := self._event(row)) is not None])
            yield self.events

    def finish(self, head: Head, mark: int) -> None:
        """Compares the end of the walk with what is recorded of the log's end."""
        end = max(head.position, mark)
        if self.position < end:
            self._gaps.append(Gap(self.position + 1, end))
        if head.position < self.position:
            self._found(
                "head", f"The log goes to {self.position}, its head to {head.position}. {BACKUP}"
            )
        elif head.position == self.position:
            self._compare(head.chain)
        for gap in self._gaps:
            for part in without(gap, self._accepted):
                self._found(
                    "missing", f"The events at {part} were acknowledged and are gone. {ACCEPT}"
                )
        for position in self._seals:
            if not self._lost_within(Gap(position, position)):
                self._found("seal", f"The seal at {position} has no event. {BACKUP}")
        unexplained = self._emptied - self._to_be_empty
        for position in sorted(unexplained if self.replayed else ()):  # else one may be unread
            self._found(
                "erased", f"The event at {position} is empty, but no erasure says so. {BACKUP}"
            )
        for position in sorted(self._to_be_empty - self._emptied):
            if not self._lost_within(Gap(position, position)):
                self._found("erased", f"The event at {position} was erased and is back. {ERASE}")

    def _event(self, row: Row[*tuple[Any, ...]]) -> Projected | None:
        """The event, for the replay; None where there is nothing to replay."""
        if row.position <= self.position:
            self._found("event", f"Events after {self.position} are out of order. {BACKUP}")
            self.replayed = False
            raise ValueError("out of order")
        if row.position > self.position + 1:
            self._gaps.append(Gap(self.position + 1, row.position - 1))
        self.events += 1
        self.position = row.position
        self.chain = link(
            self.chain, row.position, row.type, row.recorded_at, row.actor, row.digest
        )
        if row.position % SEAL_EVERY == 0 or row.position in self._seals:
            self._compare(self._seals.pop(row.position, None))
        if row.stream == ERASED_STREAM and row.body == ERASED:
            self.erased += 1
            self._emptied.add(row.position)
            return None
        try:
            noun = _noun(row)
        except ValueError as error:
            self._found("event", f"The event at {row.position} {error}. {BACKUP}")
            self.replayed = False
            return None
        if isinstance(noun, Erasure):
            self._to_be_empty.update(noun.positions)
        return Projected(row.type, noun, row.position)

    def _replay(self, events: Sequence[Projected]) -> None:
        try:
            project(self._replica, events)
        except SQLAlchemyError:
            if self.replayed:
                first, last = events[0].position, events[-1].position
                self._found(
                    "replay", f"Events from {first} to {last} contradict each other. {BACKUP}"
                )
            self.replayed = False

    def _compare(self, recorded: str | None) -> None:
        """The chain against the one written down here; from here on, the one written down."""
        since = Gap(self._sealed_until + 1, self.position)
        if recorded is None:
            self._found("seal", f"There is no seal at {self.position}. {BACKUP}")
        elif recorded != self.chain and not self._lost_within(since):
            self._found(
                "chain",
                f"The chain over the events at {since} is not the one that was sealed: one of "
                f"them was changed. {BACKUP}",
            )
        self._sealed_until = self.position
        self.chain = recorded or self.chain

    def _lost_within(self, span: Gap) -> bool:
        """Whether something in there is missing, which is told by itself and breaks the chain."""
        lost = (*self._gaps, *self._accepted)
        return any(gap.first <= span.last and span.first <= gap.last for gap in lost)


def _noun(row: Row[*tuple[Any, ...]]) -> Noun:
    """What the event says. Raises ValueError with what is wrong, without what people said."""
    kind = KINDS.get(row.type)
    if kind is None or row.version != VERSION:
        raise ValueError("is of a kind or version that this Bhavana does not know")
    if not isinstance(row.body, bytes) or hashlib.sha256(row.body).hexdigest() != row.digest:
        raise ValueError("does not say what was recorded: its body has another digest")
    try:
        noun: Noun = _DECODERS[row.type].decode(row.body)
    except msgspec.DecodeError:
        raise ValueError(f"holds no valid {kind.noun.__name__}") from None
    stream, key = IDENTITY[row.type](noun)
    if row.stream != stream or (key is not None and row.key != key):
        raise ValueError("has the key or the stream of another one")
    return noun
