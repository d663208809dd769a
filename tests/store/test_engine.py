"""The database underneath: durable, migrated, and faults told in our words."""

from __future__ import annotations

import subprocess
import sys
import traceback

import pytest
from alembic import command
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import NullPool, create_engine, insert, make_url, select, text
from sqlalchemy.exc import DBAPIError, OperationalError
from structlog.testing import capture_logs

from store import experiences
from store.bulk import STREAMED
from store.engine import (
    alembic_config,
    in_our_words,
    migrate,
    newest_revision,
    open_engine,
    revision,
)
from store.errors import Misconfigured, StorageFault, Unavailable
from store.events import Store
from store.tables import events

FULL = 2  # SQLite's number for synchronous=FULL


def _pragma(engine, name):
    with engine.connect() as connection:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


def test_committed_means_on_disk(sqlite_only, store):
    """The writing engine keeps a write-ahead log and syncs it at every commit."""
    assert _pragma(store._write, "journal_mode") == "wal"
    assert _pragma(store._write, "synchronous") == FULL
    assert _pragma(store._write, "query_only") == 0


def test_the_reading_engine_refuses_writes(sqlite_only, store):
    """Queries cannot change anything, even by mistake."""
    assert _pragma(store.reading, "query_only") == 1
    with pytest.raises(OperationalError, match="readonly"), store.reading.begin() as connection:
        connection.execute(text("DELETE FROM events"))


def test_migrations_and_tables_agree(store):
    """`alembic check` finds nothing that a migration would still have to change."""
    config = alembic_config()
    with store._write.begin() as connection:
        config.attributes["connection"] = connection
        command.check(config)


def test_the_revision_is_the_one_that_alembic_knows(store):
    """We read it without Alembic: the newest by a file's name, the database's by its table."""
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    assert newest_revision() == head
    with store.reading.connect() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    assert revision(store.reading) == found == head


def test_an_empty_database_has_no_revision(tmp_path):
    """Nobody migrated it yet."""
    engine = open_engine(f"sqlite:///{tmp_path / 'empty.db'}", writes=True)
    assert revision(engine) is None
    engine.dispose()


def test_migrating_again_changes_nothing(store, make_experience):
    """Migrating an up-to-date store keeps what is in it."""
    experiences.record(store, [make_experience()])
    migrate(store._write)
    assert experiences.get(store, "e-1") == make_experience()


def test_a_path_that_cannot_be_written_is_misconfigured(tmp_path):
    """The error names the path and says what to set; a file stands where a folder should."""
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "below" / "store.db"
    with pytest.raises(Misconfigured) as caught:
        Store(f"sqlite:///{path}")
    assert str(path) in caught.value.message
    assert "data_dir" in caught.value.hint


def test_a_folder_is_no_store(tmp_path):
    """A URL that names a folder is misconfigured and says so."""
    with pytest.raises(Misconfigured, match="directory"):
        Store(f"sqlite:///{tmp_path}")


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "",
        "sqlite://",
        "sqlite:///:memory:",
        "foo://host/db",
        "sqlite+foo:///x.db",
        "postgresql+psycopg://user@host:port/db",
    ],
)
def test_a_bad_url_is_misconfigured_with_a_next_step(url, tmp_path, monkeypatch):
    """Whatever is wrong with the URL, the error is ours and has a hint."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Misconfigured) as caught:
        Store(url)
    assert caught.value.hint


def test_a_bad_url_does_not_show_its_password():
    """Errors end up in logs, and a password has no place there."""
    with pytest.raises(Misconfigured) as caught:
        Store("postgresql//user:hunter2@host/db")
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_no_database_is_told_in_our_words(tmp_path):
    """A text file where the store should be was named by mistake, and stays as it is."""
    path = tmp_path / "store.db"
    path.write_text("This was never a database.\n" * 100)
    with pytest.raises(Misconfigured, match="not a Bhavana database"):
        Store(f"sqlite:///{path}")
    assert path.read_text().startswith("This was never")


def test_a_database_that_is_none_any_more_is_damaged(sqlite_only, store):
    """Once it was open nobody named it by mistake: the disk did that."""
    assert store.scrub()
    store.reading.dispose()
    with store.database.open("r+b") as file:
        file.write(b"not SQLite")
    with pytest.raises(StorageFault, match="damaged"):
        store.position()


def test_a_database_that_does_not_answer_is_unavailable(unused_tcp_port):
    """A PostgreSQL that is not there is to be tried again later."""
    with pytest.raises(Unavailable, match="cannot answer now"):
        Store(f"postgresql+psycopg://u@127.0.0.1:{unused_tcp_port}/db?connect_timeout=5")


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_cannot_hold_all_text_is_misconfigured(postgresql_url, encoding):
    """At once, not when somebody first writes a character that it lacks."""
    narrow = make_url(postgresql_url).set(database=f"narrow_{encoding.lower()}")
    admin = create_engine(postgresql_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with admin.connect() as connection:
        made = f"ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
        connection.execute(text(f"CREATE DATABASE {narrow.database} {made}"))
    try:
        with pytest.raises(Misconfigured, match=encoding) as caught:
            Store(narrow.render_as_string(hide_password=False))
        assert "UTF8" in caught.value.hint
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {narrow.database} WITH (FORCE)"))


def test_a_database_that_turned_read_only_is_unavailable(postgresql_url, make_experience):
    """As after a failover: the writer says so until it may write again."""
    turn = "SET SESSION CHARACTERISTICS AS TRANSACTION READ"
    with Store(postgresql_url) as store:
        store.write(lambda c: c.exec_driver_sql(f"{turn} ONLY"))
        for count in (1, 2 * STREAMED):
            items = [make_experience(f"e-{i}") for i in range(count)]
            with pytest.raises(Unavailable, match="cannot answer now"):
                experiences.record(store, items)
            assert isinstance(store.writer.fault, Unavailable)
        store.write(lambda c: c.exec_driver_sql(f"{turn} WRITE"))
        assert {a.status for a in experiences.record(store, items)} == {"recorded"}


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("25006", Unavailable),
        ("25P03", Unavailable),
        ("XX001", StorageFault),
        ("XX002", StorageFault),
    ],
)
def test_what_postgresql_cannot_help_is_no_fault_of_the_program(state, kind):
    """Whatever psycopg calls it: what passes is to be tried again, and damage is damage."""
    errors = pytest.importorskip("psycopg.errors")
    with pytest.raises(Unavailable) as caught, in_our_words():
        raise DBAPIError("SELECT", None, errors.lookup(state)())
    assert type(caught.value) is kind


def test_faults_of_the_database_do_not_repeat_what_people_said(store, make_experience):
    """An error of the driver ends up in a log, so it must not carry the row's content."""
    experiences.record(store, [make_experience(response="I told nobody but you.")])
    with store.reading.connect() as connection:
        row = connection.execute(select(events)).one()._asdict()
    with pytest.raises(DBAPIError) as caught, store._write.begin() as connection:
        connection.execute(insert(events).values(row))
    assert "nobody but you" not in str(caught.value)


FULL_DISK = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '53100'; END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON experiences FOR EACH ROW EXECUTE FUNCTION refuse()
"""
FORBIDDEN = "ALTER TABLE experiences ADD CONSTRAINT refused CHECK (source <> 'web')"


@pytest.mark.parametrize("refusal", [FULL_DISK, FORBIDDEN])
@pytest.mark.parametrize("count", [1, 2 * STREAMED])
def test_no_error_of_postgresql_quotes_a_row(postgresql_url, make_experience, refusal, count):
    """Foreseen or not: its detail and its context hold the row, which is of a person."""
    items = [make_experience(f"e-{i}", subject="somebody") for i in range(count)]
    with Store(postgresql_url) as store:
        store.write(lambda c: c.exec_driver_sql(refusal))
        with pytest.raises((Unavailable, DBAPIError), match="refused") as caught:
            experiences.record(store, items)
    assert "somebody" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("opening", [False, True])
def test_where_the_database_is_stays_among_those_who_run_it(opening):
    """Whoever starts the daemon is told, and the log, but nobody who asks an open one."""
    psycopg = pytest.importorskip("psycopg")
    fault = psycopg.OperationalError("connection to db.internal as bob failed")
    with (
        capture_logs() as logged,
        pytest.raises(Unavailable, match=r"cannot answer now: \w+") as caught,
        in_our_words(opening=opening),
    ):
        raise OperationalError("SELECT", None, fault)
    assert ("db.internal" in str(caught.value)) == opening
    assert ("db.internal" in str(logged)) != opening


def _in_another_process(url, code):
    """What a process of its own prints with `store` open on this URL."""
    whole = f"from store.events import Store\nwith Store({url!r}) as store:\n    {code}"
    ran = subprocess.run(
        [sys.executable, "-c", whole], capture_output=True, text=True, check=True, timeout=60
    )
    return ran.stdout.strip()


def test_another_process_that_comes_and_goes_costs_nothing(
    sqlite_only, store, tmp_path, make_experience
):
    """SQLite's locks hold while a store is open: nobody else removes the log it writes to."""
    _in_another_process(store.url, "store.position()")
    assert (tmp_path / "store.db-wal").exists()
    experiences.record(store, [make_experience()])
    assert _in_another_process(store.url, "print(store.position())") == "1"


def test_a_second_store_in_the_same_process_costs_nothing(
    sqlite_only, store, tmp_path, make_experience
):
    """Opening and closing another one here does not drop the locks of the first."""
    Store(store.url).close()
    _in_another_process(store.url, "store.position()")
    assert (tmp_path / "store.db-wal").exists()
    experiences.record(store, [make_experience()])
    assert _in_another_process(store.url, "print(store.position())") == "1"
