"""Opens the database: which SQLite, its pragmas, PostgreSQL, migrations, faults in our words.

SQLite 3.7.0 to 3.51.2 can corrupt a database when one connection checkpoints while another
starts its write-ahead log over. Two things keep that from happening: a newer library is used
where one is installed, and no connection checkpoints by itself. Only `checkpoint` does, in a
mode that holds the write lock meanwhile.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from store.errors import Misconfigured, StorageFault, Unavailable

if TYPE_CHECKING:
    from alembic.config import Config

log = structlog.get_logger()
MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
BUSY_TIMEOUT_SECONDS = 10.0
RESET_BUG = ((3, 7, 0), (3, 51, 3))
"""The first SQLite with the bug above, and the first without it again."""
ONE_CONNECTION: dict[str, Any] = {"pool_size": 1, "max_overflow": 0}
MIGRATION_LOCK = 0x62686176
"""PostgreSQL's advisory lock while the schema changes; any number of our own."""
NO_DATABASE = 26
BROKEN_STORAGE = {10: "disk I/O error", 11: "malformed database", NO_DATABASE: "not a database"}
"""SQLite's primary result codes after which nothing may be acknowledged any more."""
BROKEN_STATES = {"XX001": "data corrupted", "XX002": "index corrupted"}
"""The same for PostgreSQL, by SQLSTATE."""
PASSING_STATES = {
    "25006": "read-only transaction",
    "25P03": "idle in transaction too long",
    "25P04": "transaction too long",
}
"""States that pass, as after a failover, though psycopg does not count them as operational."""


def sqlite_module() -> ModuleType:
    """The SQLite to use: a separately installed one where that is newer, else Python's own."""
    try:
        from pysqlite3 import dbapi2
    except ImportError:
        return sqlite3
    installed: ModuleType = dbapi2
    return max((sqlite3, installed), key=lambda module: module.sqlite_version_info)


def has_reset_bug(version: tuple[int, ...]) -> bool:
    """Whether this version of SQLite can corrupt a log that is reset while it is checkpointed."""
    first, fixed = RESET_BUG
    return first <= version < fixed


def open_engine(url: str, *, writes: bool) -> Engine:
    """An engine on the store. On SQLite: WAL and synchronous=FULL, so committed means kept.

    The writing engine takes the write lock when a transaction begins, so that a transaction
    never fails halfway because it started as a reader; the reading one cannot write.
    """
    try:
        parsed = make_url(url)
        parsed.get_dialect().import_dbapi()
    except ImportError as error:
        raise Misconfigured(
            f"The driver for store.url is not installed: {error}.",
            hint="For PostgreSQL, install `psycopg[binary]`.",
        ) from error
    except (SQLAlchemyError, ValueError) as error:
        # The URL itself is not shown: it may hold a password.
        raise Misconfigured(
            "store.url is not a database URL that we know.",
            hint="Write sqlite:////absolute/path/bhavana.db or postgresql+psycopg://user@host/db.",
        ) from error
    if parsed.get_backend_name() == "postgresql":
        return _postgresql(parsed, writes=writes)
    if parsed.get_backend_name() != "sqlite":
        raise Misconfigured(
            f"store.url names {parsed.get_backend_name()}, which is not supported.",
            hint="Write sqlite:////absolute/path/bhavana.db or postgresql+psycopg://user@host/db.",
        )
    if not parsed.database or ":memory:" in parsed.database or parsed.query:
        raise Misconfigured(
            "store.url names no plain file.", hint="An in-memory store keeps nothing."
        )
    _require_writable(Path(str(parsed.database)))
    engine = create_engine(
        parsed,
        module=sqlite_module(),
        hide_parameters=True,  # errors end up in logs, and what people said must not
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS},
        **(ONE_CONNECTION if writes else {}),
    )

    @event.listens_for(engine, "connect")
    def _pragmas(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA secure_delete=ON")
        if not writes:
            connection.execute("PRAGMA query_only=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgresql(url: URL, *, writes: bool) -> Engine:
    """Psycopg 3. `json` columns come as the bytes that were stored, not as parsed values."""
    settings = "" if writes else "-c default_transaction_read_only=on"
    engine = create_engine(
        url,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={"options": settings, "connect_timeout": 5},
        **(ONE_CONNECTION if writes else {}),
    )

    @event.listens_for(engine, "connect", insert=True)  # first: the dialect asks in text, too
    def _holds_any_text(connection: Any, _record: Any) -> None:
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            connection.close()
            raise Misconfigured(
                f"The store's database has the encoding {encoding}, which cannot hold all text.",
                hint="Make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0.",
            )

    @event.listens_for(engine, "connect")
    def _plain_json(connection: Any, _record: Any) -> None:
        from psycopg.types.json import set_json_loads

        set_json_loads(lambda text: text, connection)

    return engine


def wal_of(database: Path) -> Path:
    """SQLite's write-ahead log of this database."""
    return database.with_name(f"{database.name}-wal")


def checkpoint(engine: Engine, *, wait: bool = False) -> bool:
    """Copies SQLite's write-ahead log into the database and starts the log over; True if done.

    TRUNCATE holds the write lock meanwhile, and leaves an empty file, by whose size the writer
    sees when the next one is due. Without `wait`, readers that are under way are not waited
    for: what they still need is copied the next time. Raises StorageFault, Unavailable.
    """
    timeout = int(BUSY_TIMEOUT_SECONDS * 1000)
    with in_our_words(), engine.connect() as connection:
        raw = connection.connection.driver_connection  # a checkpoint cannot run in a transaction
        assert raw is not None
        with raw_errors(connection, "wal_checkpoint"):
            raw.execute(f"PRAGMA busy_timeout={timeout if wait else 0}")
            [busy, _, _] = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            raw.execute(f"PRAGMA busy_timeout={timeout}")
    return not busy


@contextmanager
def raw_errors(connection: Connection, what: str) -> Iterator[None]:
    """Makes errors of the driver's own connection SQLAlchemy's, for `in_our_words` around it.

    Operational what is so to the driver: a full disk must not pass as a fault of the program,
    nor a fault of the program as something that goes away by waiting.
    """
    driver = connection.dialect.loaded_dbapi
    try:
        yield
    except (driver.OperationalError, driver.InterfaceError) as error:
        raise OperationalError(what, None, error) from error
    except driver.Error as error:
        raise DBAPIError(what, None, error) from error


def _require_writable(path: Path) -> None:
    # An existing database is never opened here: closing any descriptor of the file would drop
    # every lock that SQLite holds on it in this process, and acknowledged rows with them.
    fault = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.touch()
    except OSError as error:
        fault = error.strerror
    if fault is None and path.is_dir():
        fault = "it is a directory"
    if fault is None and not os.access(path, os.W_OK):
        fault = "permission denied"
    if fault is not None:
        raise Misconfigured(
            f"The store's file {path} cannot be written: {fault}.",
            hint="Make the folder writable for this user, or set store.url or data_dir.",
        )


@contextmanager
def in_our_words(*, opening: bool = False) -> Iterator[None]:
    """Turns the driver's storage faults into ours, so that no caller sees a traceback.

    `opening`: a file that is no database was then named by mistake; later it is damage. And
    whoever opens may read where the database is; later the message may go to anybody.
    """
    try:
        yield
    except DBAPIError as error:
        _forget_rows(error)
        code = (getattr(error.orig, "sqlite_errorcode", None) or 0) & 0xFF
        state = getattr(error.orig, "sqlstate", None)
        if opening and code == NO_DATABASE:
            raise Misconfigured("The store's file is not a Bhavana database.") from error
        broken = code in BROKEN_STORAGE or state in BROKEN_STATES
        passing = isinstance(error, OperationalError | InterfaceError) or state in PASSING_STATES
        if not (broken or passing or error.connection_invalidated):
            raise
        said = str(error.orig) if opening else _without_address(error)
        if broken:
            raise StorageFault(
                f"The store's disk or file is damaged: {said}.",
                hint="Look at the disk, then `bhavana store verify`.",
            ) from error
        if passing:
            raise Unavailable(f"The store cannot answer now: {said}.") from error
        raise Unavailable(f"The connection to the store was lost: {said}.") from error
    except UnicodeDecodeError as error:  # SQLite quotes a damaged schema in its message
        raise StorageFault(
            "The store's disk or file is damaged: its schema is no text.",
            hint="Look at the disk, then `bhavana store verify`.",
        ) from error


def _forget_rows(error: DBAPIError) -> None:
    """Leaves what the server says first: its detail and its context quote rows, and are logged."""
    diagnosis = getattr(error.orig, "diag", None)
    if diagnosis is not None and diagnosis.message_primary is not None:
        assert error.orig is not None
        error.orig.args = (diagnosis.message_primary,)
        error.args = (f"({type(error.orig).__name__}) {diagnosis.message_primary}",)


def _without_address(error: DBAPIError) -> str:
    """What the driver says; where that is not the server's word it names host and user: logged."""
    diagnosis = getattr(error.orig, "diag", None)
    if diagnosis is None or diagnosis.message_primary is not None:
        return str(error.orig)
    log.warning("database_not_reached", error=str(error.orig))
    return type(error.orig).__name__


def alembic_config() -> Config:
    """Alembic's settings without an alembic.ini."""
    from alembic.config import Config  # loads much that only a migration needs

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees the database as it is at its first query, whatever is written
    meanwhile. Raises Unavailable, StorageFault.
    """
    with in_our_words(), engine.connect() as connection:
        if engine.dialect.name == "postgresql":  # in SQLite every transaction is one
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection


def newest_revision() -> str:
    """The revision of the schema that this version needs: Alembic's head, as files are named."""
    return max(path.name for path in (MIGRATIONS / "versions").glob("*_*.py")).partition("_")[0]


def revision(engine: Engine) -> str | None:
    """The revision of the schema that the database has; None for an empty one.

    Raises Misconfigured for a file that is no database.
    """
    with in_our_words(opening=True), engine.connect() as connection:
        return _revision(connection)


def _revision(connection: Connection) -> str | None:
    """As Alembic keeps it; asked by hand, as Alembic itself takes long to load."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def require_newest(engine: Engine) -> None:
    """Raises Misconfigured when the schema is not of the revision that this version needs."""
    found, newest = revision(engine), newest_revision()
    if found != newest:
        raise Misconfigured(
            f"The store's schema is at revision {found or 'none'}; this version needs {newest}.",
            hint="Keep a copy of the store, then run `bhavana store migrate`.",
        )


def migrate(engine: Engine, after: Callable[[Connection], object] = lambda _: None) -> bool:
    """Brings the schema to the newest revision; True when it had to. Safe to repeat.

    `after` runs in the same transaction when something was migrated.
    """
    newest = newest_revision()
    with in_our_words(opening=True), engine.begin() as connection:
        if engine.dialect.name == "postgresql":  # two daemons may start at once
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
        if _revision(connection) == newest:
            return False
        from alembic import command
        from alembic.util import CommandError

        config = alembic_config()
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise Misconfigured(
                f"The store's schema cannot be brought to revision {newest}: {error}.",
                hint="A newer version made it, or it is damaged: use that version, or a backup.",
            ) from error
        after(connection)
    return True
