"""Copies of a store: to another database, and to one file that is a backup.

A copy counts only when it was opened, verified, and found equal.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Table, func, select

from store import bulk, tables
from store.engine import in_our_words, snapshot, sqlite_module
from store.errors import IntegrityError, Rejected, Unavailable
from store.events import Store, StoreReader
from store.high_water import HighWater
from store.log import ERASED, head_of
from store.projections import KINDS, Projected, digest, project
from store.verify import Progress, Verification, verify

BATCH = 1_000
PAGES = 4_096
"""Pages of SQLite that are copied between two reports of progress."""
BESIDE = (
    tables.seals,
    tables.tombstones,
    tables.secrets,
    tables.draws,
    tables.key_uses,
    tables.schedules,
    tables.cursors,
)
"""What is copied as it is beside the events; leases belong to running processes."""
COPIED = (tables.events, tables.heads, *BESIDE, *tables.PROJECTIONS)


def copy(source: StoreReader, url: str, *, on_progress: Progress = lambda *_: None) -> Verification:
    """Copies a store into an empty database and proves that both hold the same, row for row.

    All at once: a copy that fails leaves the target empty. The verification is the target's;
    faults that it has, the source has, too. Raises Rejected when something is there already,
    IntegrityError when an event cannot be read or the proof fails.
    """
    mark = source.mark()  # before the snapshot: a commit meanwhile may raise it
    with Store(url) as target:
        with snapshot(source.reading) as original:
            target.write(lambda connection: _copy(original, connection, on_progress))
            expected = _contents(original)
        with snapshot(target.reading) as connection:
            found = _contents(connection)
        different = [name for name in expected if found[name] != expected[name]]
        if different:
            raise IntegrityError(
                f"The copy differs from its source in {', '.join(different)}.",
                hint="Do not use the copy. Please report this.",
            )
        if target.high_water is not None:
            target.high_water.rise(max(mark, target.mark(), target.position()))
        return verify(target, on_progress)


def backup(
    source: StoreReader, path: Path, on_progress: Progress = lambda *_: None
) -> Verification:
    """Copies a store into one SQLite file, beside a running daemon, and proves that it opens.

    The file is there whole or not at all, and only this user may read it. Raises Rejected when
    it is there already, Unavailable when it cannot be written, IntegrityError when the copy is
    not whole.
    """
    if path.exists():
        raise Rejected(f"{path} is there already.", hint="A backup overwrites nothing.")
    partial = path.with_name(f"{path.name}.partial")
    mark = partial.with_name(f"{partial.name}.high-water")
    with _ours(path), _removed(partial):
        partial.touch(mode=0o600)
        if source.database is None:
            found = copy(source, f"sqlite:///{partial}", on_progress=on_progress)
        else:
            with closing(HighWater(mark)) as copied_mark:
                copied_mark.rise(source.mark())  # before the copy, which may be longer
            _copy_pages(source, partial, on_progress)
            with StoreReader(f"sqlite:///{partial}") as copied:
                found = verify(copied, on_progress)
        if found.faults:
            raise IntegrityError(
                f"The backup is not made, since the copy is not whole: {found.faults[0]}",
                hint="`bhavana store verify` says what is wrong with the store.",
            )
        _sync(partial)
        partial.rename(path)
        _sync(path.parent)
    return found


def _copy(original: Connection, connection: Connection, on_progress: Progress) -> None:
    """Everything, in the target's one transaction."""
    head = head_of(connection, lock=True)
    taken = [table.name for table in (tables.events, *BESIDE) if _count(connection, table)]
    if head.position or taken:
        raise Rejected(
            f"The target holds something already: {', '.join(taken) or 'a log'}.",
            hint="Name a database that is empty or not there yet.",
        )
    total, done = _count(original, tables.events), 0
    with closing(_rows(original, tables.events)) as batches:
        for rows in batches:
            bulk.add(connection, tables.events, rows)
            project(connection, [_projected(row) for row in rows if row.body != ERASED])
            done += len(rows)
            on_progress("copying", done, total)
    connection.execute(tables.heads.delete())
    for table in (tables.heads, *BESIDE):
        with closing(_rows(original, table)) as batches:
            for rows in batches:
                bulk.add(connection, table, rows)


def _rows(connection: Connection, table: Table) -> Generator[Sequence[Row[Any]], None, None]:
    """The rows of a table in order, in batches. To be closed: PostgreSQL holds a cursor open."""
    query = select(table).order_by(*table.primary_key.columns)
    with connection.execute(query, execution_options={"yield_per": BATCH}) as result:
        yield from result.partitions()


def _projected(row: Row[Any]) -> Projected:
    try:
        noun = msgspec.json.decode(row.body, type=KINDS[row.type].noun)
    except (KeyError, TypeError, msgspec.DecodeError):
        raise IntegrityError(
            f"The event at {row.position} cannot be read, so the store cannot be copied.",
            hint="`bhavana store verify` says what is wrong with it.",
        ) from None
    return Projected(row.type, noun, row.position)


def _contents(connection: Connection) -> dict[str, tuple[int, str]]:
    """For each table how many rows it has, and their digest."""
    return {t.name: (_count(connection, t), digest(connection, t)) for t in COPIED}


def _count(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def _copy_pages(source: StoreReader, path: Path, on_progress: Progress) -> None:
    """SQLite's own online backup, inside a snapshot: writers do not make it begin again."""
    with snapshot(source.reading) as connection, closing(sqlite_module().connect(path)) as target:
        head_of(connection)  # the first query begins the snapshot
        raw = connection.connection.driver_connection
        assert raw is not None
        try:
            raw.backup(
                target,
                pages=PAGES,
                progress=lambda _, left, total: on_progress("copying", total - left, total),
            )
        except sqlite_module().Error as error:
            raise Unavailable(
                f"The copy broke off: {error}.",
                hint="Look at the room on both disks, then at `bhavana store verify`.",
            ) from error


@contextmanager
def _ours(path: Path) -> Iterator[None]:
    """Errors of the backup's own file system, in our words."""
    try:
        with in_our_words():
            yield
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror}.") from error


@contextmanager
def _removed(partial: Path) -> Iterator[None]:
    """Nothing of the unfinished file is there before, or afterwards."""
    rests = [partial.with_name(f"{partial.name}{end}") for end in ("", "-wal", "-shm", "-journal")]
    rests.append(partial.with_name(f"{partial.name}.high-water"))
    for rest in rests:
        rest.unlink(missing_ok=True)
    try:
        yield
    finally:
        for rest in rests:
            rest.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
