"""Opens the database: SQLite pragmas, PostgreSQL, migrations, and storage faults in our words."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from store.errors import Misconfigured, Unavailable

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
BUSY_TIMEOUT_SECONDS = 10.0


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
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, pool_pre_ping=True)
    if not parsed.database or ":memory:" in parsed.database or parsed.query:
        raise Misconfigured(
            "store.url names no plain file.", hint="An in-memory store keeps nothing."
        )
    _require_writable(Path(str(parsed.database)))
    engine = create_engine(parsed, connect_args={"timeout": BUSY_TIMEOUT_SECONDS})

    @event.listens_for(engine, "connect")
    def _pragmas(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        if not writes:
            connection.execute("PRAGMA query_only=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


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
def in_our_words() -> Iterator[None]:
    """Turns the driver's storage faults into Unavailable, so that no caller sees a traceback."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise Unavailable(f"The store cannot answer now: {error.orig}.") from error
    except DBAPIError as error:
        if "not a database" in str(error.orig):
            raise Misconfigured("The store's file is not a Bhavana database.") from error
        if error.connection_invalidated:
            raise Unavailable(f"The connection to the store was lost: {error.orig}.") from error
        raise


def alembic_config() -> Config:
    """Alembic's settings without an alembic.ini."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def migrate(engine: Engine) -> None:
    """Brings the schema to the newest revision; safe to repeat, and a no-op when it is there."""
    config = alembic_config()
    with in_our_words(), engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
