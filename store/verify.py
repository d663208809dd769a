"""Whether the store is whole: every check there is, in one snapshot, and what to do next.

Nothing is changed, and no fault hides another: each check goes on where it can.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Connection, create_engine, func, select

from store import losses, tables
from store.engine import in_our_words, snapshot, sqlite_module
from store.errors import BhavanaError, IntegrityError, StorageFault, Unavailable
from store.events import StoreReader
from store.log import ANY_TOMBSTONE, ERASED_STREAM, Head, head_of, secret_is_whole
from store.losses import Gap
from store.projections import digest
from store.records import Noun
from store.walk import BACKUP, Walk

MOST_OF_A_KIND = 20
"""So many faults of one kind are told in full; the others are counted."""
REBUILD = "Stop the daemon and run `bhavana store rebuild`."

Progress = Callable[[str, int, int], None]
"""Told the phase, how much is done, and of how much."""


class Verification(Noun, frozen=True, kw_only=True):
    """What a store was found to hold, and everything that is wrong with it."""

    events: int
    erased: int
    seals: int
    head: int
    chain: str
    """SHA-256 over the whole log, computed anew. Noted elsewhere, it shows any later change."""
    high_water: int | None
    """None where no mark is kept, or it cannot be read."""
    faults: tuple[str, ...]
    """Each says what is wrong, where, and what to do."""


def verify(store: StoreReader, on_progress: Progress = lambda *_: None) -> Verification:
    """Checks the database, every event, the chain, the mark, and the projections by a replay.

    Beside a running daemon, too. Raises Unavailable when a server does not answer.
    """
    faults = _Faults(server=store.database is None)
    mark = _mark(store, faults)  # before the snapshot: a commit meanwhile may raise it
    head = Head(0, "")
    seals: dict[int, str] = {}
    accepted: list[Gap] = []
    with (
        snapshot(store.reading) as connection,
        _any_text(connection),
        _replica() as replica,
    ):
        if store.database is not None:
            on_progress("SQLite's own check", 0, 1)
            with faults.met("The database"):
                _integrity(connection, faults)
        with faults.met("The end of the log"):
            head = head_of(connection)
            seals = {row.position: row.chain for row in connection.execute(select(tables.seals))}
            accepted = losses.accepted(connection)
        walk = Walk(replica, seals, accepted, faults.add)
        with faults.met("The log"):
            for done in walk.through(connection):
                on_progress("events", done, max(head.position, done))
            walk.finish(head, mark or 0)
        with faults.met("The table tombstones"):
            _tombstones(connection, faults)
        with faults.met("The table secrets"):
            _secrets(connection, faults)
        on_progress("projections", 0, 1)
        _projections(connection, replica, walk.replayed, faults)
    return Verification(
        events=walk.events,
        erased=walk.erased,
        seals=len(seals),
        head=head.position,
        chain=walk.chain,
        high_water=mark,
        faults=faults.listed(),
    )


class _Faults:
    """What is wrong, by kind."""

    def __init__(self, *, server: bool) -> None:
        self._server = server
        self._sentences: list[str] = []
        self._counts: Counter[str] = Counter()

    def add(self, kind: str, sentence: str) -> None:
        self._counts[kind] += 1
        if self._counts[kind] <= MOST_OF_A_KIND:
            self._sentences.append(sentence)

    @contextmanager
    def met(self, where: str) -> Iterator[None]:
        """Makes a storage error inside the block a fault. A server that is away is not one."""
        try:
            with in_our_words():
                yield
        except BhavanaError as error:
            away = isinstance(error, Unavailable) and not isinstance(error, StorageFault)
            if self._server and away:
                raise
            self.add("storage", f"{where} cannot be read: {error.message} {BACKUP}")
        except (TypeError, ValueError) as error:  # a value that its column cannot have
            self.add("storage", f"{where} cannot be read: {type(error).__name__}. {BACKUP}")

    def listed(self) -> tuple[str, ...]:
        more = [
            f"{count - MOST_OF_A_KIND} more faults of this kind: {kind}."
            for kind, count in self._counts.items()
            if count > MOST_OF_A_KIND
        ]
        return (*self._sentences, *more)


def _mark(store: StoreReader, faults: _Faults) -> int | None:
    if store.high_water is None:
        return None
    try:
        return store.high_water.read()
    except IntegrityError as error:
        faults.add("mark", f"{error.message} If all else is well, remove the file.")
        return None


def _integrity(connection: Connection, faults: _Faults) -> None:
    for found in connection.exec_driver_sql("PRAGMA integrity_check").scalars():
        if found != "ok":
            faults.add("SQLite", f"SQLite's own check says: {found}. {BACKUP}")


def _tombstones(connection: Connection, faults: _Faults) -> None:
    events = tables.events.c
    known = select(tables.tombstones.c.hash)
    hash_of = func.substr(events.key, len(ERASED_STREAM) + 2)
    query = select(func.count()).where(events.stream == ERASED_STREAM, hash_of.not_in(known))
    count = connection.execute(query).scalar_one()
    if count:
        faults.add(
            "tombstones",
            f"{count} erased events have no tombstone, so that their ids would be taken again. "
            f"{BACKUP}",
        )


def _secrets(connection: Connection, faults: _Faults) -> None:
    found = {row.name: row.value for row in connection.execute(select(tables.secrets))}
    for name, value in found.items():
        if not secret_is_whole(name, value):
            faults.add("secrets", f"The secret {name} was changed. {BACKUP}")
    if "salt" not in found and connection.execute(ANY_TOMBSTONE).first() is not None:
        faults.add(
            "secrets",
            "The secret salt is gone, so that the ids of what was erased would be taken again. "
            f"{BACKUP}",
        )


def _projections(
    connection: Connection, replica: Connection, replayed: bool, faults: _Faults
) -> None:
    """Compares the tables with a replay of the same log; without a whole replay, it cannot."""
    if not replayed:
        faults.add(
            "projection", "The projections were not compared: not all of the log can be replayed."
        )
        return
    for table in tables.PROJECTIONS:
        with faults.met(f"The table {table.name}"):
            if digest(connection, table) != digest(replica, table):
                faults.add("projection", f"The table {table.name} differs from the log. {REBUILD}")


@contextmanager
def _any_text(connection: Connection) -> Iterator[None]:
    """Lets SQLite give text that is not UTF-8 any more, so that the rows around it can be read."""
    if connection.dialect.name != "sqlite":
        yield
        return
    raw = connection.connection.driver_connection
    assert raw is not None
    raw.text_factory = lambda text: text.decode(errors="replace")
    try:
        yield
    finally:
        raw.text_factory = str


@contextmanager
def _replica() -> Iterator[Connection]:
    """Empty projections in a file that is gone afterwards."""
    with TemporaryDirectory(prefix="bhavana-") as folder:
        engine = create_engine(f"sqlite:///{Path(folder) / 'replica.db'}", module=sqlite_module())
        try:
            with engine.begin() as connection:
                tables.metadata.create_all(connection, tables=tables.PROJECTIONS)
                yield connection
        finally:
            engine.dispose()
