"""The log itself: how facts become rows, each once, in one order, chained so that changes show.

Everything here runs inside the writer's transaction.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets as random
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

import msgspec
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    bindparam,
    cast,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSON as JSON_TEXT

from store import bulk, tables
from store.projections import Projected, project
from store.records import Noun, now, to_json

Guard = Callable[[Connection], None]
"""Asked inside the transaction before anything is recorded; raises to prevent it."""
SECRET_BYTES = 28
"""224 random bits, and a checksum of 32 by which a damaged one is found."""
LOG = "log"
SEAL_EVERY = 1_000
"""Positions between two seals."""
EMPTY_CHAIN = "0" * 64
VERSION = 1
"""Of the form that nouns have in the log."""
ERASED_STREAM = "erased"
ERASED = b"null"
"""The body of an event whose words are gone; the row, its position and its digest stay."""


HEAD = select(tables.heads.c.position, tables.heads.c.chain).where(tables.heads.c.name == LOG)
LOCKED_HEAD = HEAD.with_for_update()
NEW_HEAD = (
    update(tables.heads)
    .where(tables.heads.c.name == LOG)
    .values(position=bindparam("end"), chain=bindparam("link"))
)
DRAWN = text(
    "INSERT INTO secrets (name, value) VALUES (:name, :value) ON CONFLICT (name) DO NOTHING"
)
BURIED = text("INSERT INTO tombstones (hash) VALUES (:hash) ON CONFLICT (hash) DO NOTHING")
ANY_TOMBSTONE = select(tables.tombstones.c.hash).limit(1)
"""Made once: to build a statement costs more than to run it."""


class Fact(Noun, frozen=True, kw_only=True):
    """Something to be recorded. `key` is its identity: the same key is the same fact."""

    type: str
    stream: str
    key: str
    noun: Noun
    about: str | None = None
    """What this one belongs to or speaks of: where that was erased, this is not taken."""
    along_with: str | None = None
    """The key of the fact without which this one means nothing: recorded in one transaction with
    it, or not at all."""


class Appended(NamedTuple):
    """What became of a fact: recorded now, there already, not taken, or erased before."""

    position: int
    status: Literal["recorded", "duplicate", "conflict", "erased"]


class Line(NamedTuple):
    """A fact with its bytes, made before it queues, so that the writer only writes."""

    fact: Fact
    body: bytes
    digest: str
    actor: str


class Head(NamedTuple):
    """The end of the log: the last position given, and the chain up to it."""

    position: int
    chain: str


def line(fact: Fact, actor: str) -> Line:
    """The fact as it will stand in the log."""
    body = to_json(fact.noun)
    return Line(fact, body, hashlib.sha256(body).hexdigest(), actor)


def link(chain: str, position: int, kind: str, recorded_at: str, actor: str, digest: str) -> str:
    """The chain after one more event: SHA-256 over the chain before it and what never changes.

    The body is in it by its digest only, so erasing words does not break the chain.
    """
    linked = f"{chain}|{position}|{kind}|{recorded_at}|{actor}|{digest}"
    return hashlib.sha256(linked.encode()).hexdigest()


def append(connection: Connection, lines: Sequence[Line], *, after: int = 0) -> list[Appended]:
    """Records the lines; one result each. Positions given are above `after`, too.

    A line whose key is there with the same content is a duplicate; with other content it is a
    conflict and is not recorded, while the others are.
    """
    head = head_of(connection, lock=True)
    position, chain = max(head.position, after), head.chain
    known = _known(connection, [entry.fact.key for entry in lines])
    erased = _erased(
        connection,
        [e.fact.key for e in lines if e.fact.key not in known]
        + [e.fact.about for e in lines if e.fact.about is not None],
    )
    recorded_at = now().isoformat(timespec="microseconds")
    results: list[Appended] = []
    fresh: set[str] = set()
    rows: list[bulk.Row] = []
    projected: list[Projected] = []
    seals: list[bulk.Row] = []
    for entry in lines:
        fact = entry.fact
        if fact.key in erased or fact.about in erased:
            results.append(Appended(0, "erased"))
            continue
        if fact.along_with is not None and fact.along_with not in fresh:
            results.append(Appended(0, "conflict"))
            continue
        found = known.get(fact.key)
        if found is not None:
            same = found[1] == entry.digest
            results.append(Appended(found[0], "duplicate" if same else "conflict"))
            continue
        position += 1
        known[fact.key] = (position, entry.digest)
        fresh.add(fact.key)
        chain = link(chain, position, fact.type, recorded_at, entry.actor, entry.digest)
        if position % SEAL_EVERY == 0:
            seals.append((position, chain))
        rows.append(
            (
                *(position, fact.stream, fact.type, VERSION, fact.key, entry.body),
                *(entry.digest, recorded_at, entry.actor),
            )
        )
        projected.append(Projected(fact.type, fact.noun, position))
        results.append(Appended(position, "recorded"))
    if rows:
        bulk.add(connection, tables.events, rows)
        project(connection, projected)
        if seals:
            bulk.add(connection, tables.seals, seals)
        connection.execute(NEW_HEAD, {"end": position, "link": chain})
    return results


def head_of(connection: Connection, *, lock: bool = False) -> Head:
    """The end of the log. Locked, no other process appends until this transaction ends."""
    row = connection.execute(LOCKED_HEAD if lock else HEAD).first()
    return Head(0, EMPTY_CHAIN) if row is None else Head(*row)


def _known(connection: Connection, keys: Sequence[str]) -> dict[str, tuple[int, str]]:
    events = tables.events.c
    query = select(events.key, events.position, events.digest)
    rows = connection.execute(query.where(_among(connection, events.key)), {"listed": _list(keys)})
    return {row[0]: (row[1], row[2]) for row in rows}


def _among(connection: Connection, column: ColumnElement[str]) -> ColumnElement[bool]:
    """The column is one of the `listed`, which come as one JSON list.

    An IN over parameters would be another statement for each number of them.
    """
    listed: BindParameter[str] = bindparam("listed")
    if connection.dialect.name == "sqlite":
        return column.in_(select(func.json_each(listed).table_valued("value").c.value))
    texts = func.json_array_elements_text(cast(listed, JSON_TEXT)).table_valued("value")
    return column.in_(select(texts.c.value))


def _list(values: Iterable[str]) -> str:
    return msgspec.json.encode(list(values)).decode()


# --- what was erased ----------------------------------------------------------------------


def salt(connection: Connection) -> bytes:
    """The store's own random salt, drawn when it is first asked for."""
    return secret(connection, "salt")


def secret(connection: Connection, name: str) -> bytes:
    """A random value of the store's own, the same each time; drawn in this transaction if new."""
    column = tables.secrets.c
    query = select(column.value).where(column.name == name)
    value = connection.execute(query).scalar()
    if value is None:
        drawn = random.token_hex(SECRET_BYTES)
        connection.execute(DRAWN, {"name": name, "value": drawn + _checksum(name, drawn)})
        value = connection.execute(query).scalar_one()  # maybe another process was first
    return bytes.fromhex(value[: SECRET_BYTES * 2])


def secret_is_whole(name: str, value: str) -> bool:
    """Whether a row of the table of secrets holds what was drawn under this name."""
    drawn, checksum = value[: SECRET_BYTES * 2], value[SECRET_BYTES * 2 :]
    return checksum == _checksum(name, drawn)


def _checksum(name: str, drawn: str) -> str:
    return f"{zlib.crc32(f'{name}/{drawn}'.encode()):08x}"


def tombstone(salt: bytes, key: str) -> str:
    """What stands for the key of an erased fact: it can be compared, not read."""
    return hmac.digest(salt, key.encode(), "sha256").hex()


def bury(connection: Connection, hashes: Iterable[str]) -> None:
    """What these tombstones stand for is not taken any more. Safe to repeat."""
    rows = [{"hash": stone} for stone in hashes]
    if rows:
        connection.execute(BURIED, rows)


def _erased(connection: Connection, keys: Iterable[str]) -> set[str]:
    """Those of the keys whose facts were erased."""
    stones = tables.tombstones.c.hash
    if connection.execute(ANY_TOMBSTONE).first() is None:
        return set()
    salted = salt(connection)
    hashes = {tombstone(salted, key): key for key in keys}
    query = select(stones).where(_among(connection, stones))
    rows = connection.execute(query, {"listed": _list(hashes)})
    return {hashes[row[0]] for row in rows}
