"""Copies: row for row what their source is, in another database or in one file."""

from __future__ import annotations

import stat

import pytest
from sqlalchemy import select, text

from store import copies, cursors, experiences, keys, privacy, reviews, schedule
from store.errors import IntegrityError, Rejected, Unavailable
from store.events import Store, StoreReader
from store.log import SEAL_EVERY
from store.records import now
from store.tables import leases, metadata
from store.verify import verify

COUNT = SEAL_EVERY + 5


@pytest.fixture
def full(store, make_experience, make_assessment):
    """A store with something in every table that a copy takes along."""
    experiences.record(
        store, [make_experience(f"e-{i}", response="Grüße, ☃") for i in range(COUNT)]
    )
    experiences.assess(store, [make_assessment("e-1"), make_assessment("e-2", weighted=6.1)])
    key, _ = keys.create(store, name="k", scopes=("ingest",), source="web", actor="test")
    keys.note_uses(store, {key.id: now()})
    schedule.ran(store, now())
    cursors.advance(store, "webhook", 1)
    schedule.acquire(store, "this process")
    privacy.erase(store, "experience", "e-1", reason="asked", actor="test")
    assert reviews.draw(store, "panel-1", reviewer="anna", cut=0.5) is not None
    return store


@pytest.fixture(params=["sqlite", "postgresql"])
def target_url(request, store_url, tmp_path):
    """URL of an empty database to copy to: from either kind to the other, or in SQLite."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'target.db'}"
    if store_url.startswith("postgresql"):
        pytest.skip("one PostgreSQL database a test")
    return request.getfixturevalue("postgresql_url")


def _contents(store):
    """Every row of every table but leases, which belong to processes."""
    with store.reading.connect() as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(select(table))), key=repr)
            for table in metadata.sorted_tables
            if table is not leases
        }


def test_a_copy_holds_every_row_of_its_source(full, target_url):
    """Whatever the two databases are; and it is whole by itself."""
    found = copies.copy(full, target_url)
    assert (found.faults, found.events, found.erased) == ((), full.position(), 2)
    assert found.chain == verify(full).chain
    with StoreReader(target_url) as copied:
        contents = _contents(copied)
        assert contents == _contents(full)
        assert all(contents[t.name] for t in (*copies.BESIDE, *copies.COPIED[:2]))
        with copied.reading.connect() as connection:
            assert connection.execute(select(leases)).all() == []


def test_a_copy_goes_on_where_its_source_was(full, target_url, make_experience):
    """What is there is a duplicate, what was erased is not taken, what is new comes next."""
    copies.copy(full, target_url)
    again = [make_experience("e-0", response="Grüße, ☃"), make_experience("e-1")]
    with Store(target_url) as copied:
        appended = experiences.record(copied, [*again, make_experience("new")])
        assert [a.status for a in appended] == ["duplicate", "erased", "recorded"]
        assert appended[2].position == full.position() + 1
        assert verify(copied).faults == ()


def test_a_copy_keeps_how_far_its_source_once_reached(sqlite_only, full, tmp_path):
    """A log that had lost its end is no whole one because it was copied."""
    full.high_water.rise(full.position() + 2)
    url = f"sqlite:///{tmp_path / 'target.db'}"
    [fault] = copies.copy(full, url).faults
    assert "acknowledged and are gone" in fault
    with Store(url) as copied:
        assert copied.mark() == full.mark()


def test_nothing_is_copied_over_something(full, target_url, make_experience):
    """Not even over one event; what was there stays as it was."""
    with Store(target_url) as target:
        experiences.record(target, [make_experience("mine")])
        before = _contents(target)
    with pytest.raises(Rejected, match="events"):
        copies.copy(full, target_url)
    with StoreReader(target_url) as target:
        assert _contents(target) == before


def test_what_cannot_be_read_is_not_copied_in_part(full, target_url):
    """The target is as empty as before, and the error names the event."""
    with full._write.begin() as connection:
        connection.execute(text("UPDATE events SET type = 'x' WHERE position = 1003"))
    with pytest.raises(IntegrityError, match="event at 1003"):
        copies.copy(full, target_url)
    with StoreReader(target_url) as target:
        assert target.position() == 0
        assert not any(rows for name, rows in _contents(target).items() if name != "heads")


def test_faults_of_the_source_are_faults_of_the_copy(full, target_url):
    """They are equal, and nothing is hidden."""
    with full._write.begin() as connection:
        connection.execute(text("UPDATE events SET actor = 'x' WHERE position = 5"))
    assert copies.copy(full, target_url).faults == verify(full).faults != ()


# --- backups ------------------------------------------------------------------------------


@pytest.fixture
def backup_path(tmp_path):
    """Where the backup is to be; its folder holds nothing else."""
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups" / "bhavana-1.db"


def test_a_backup_is_one_private_file_that_holds_everything(full, backup_path):
    """From either database, and nothing is left beside it."""
    found = copies.backup(full, backup_path)
    assert found.faults == ()
    assert [path.name for path in backup_path.parent.iterdir()] == [backup_path.name]
    assert stat.S_IMODE(backup_path.stat().st_mode) == 0o600
    with Store(f"sqlite:///{backup_path}") as restored:
        left_out = () if full.database is None else ("leases",)
        assert {n: r for n, r in _contents(restored).items() if n not in left_out} == _contents(
            full
        )


def test_a_backup_beside_a_writer_is_one_moment(full, backup_path, make_experience, monkeypatch):
    """What is recorded while it runs is in it whole or not at all."""
    monkeypatch.setattr(copies, "PAGES", 16)
    before, told = full.position(), []

    def write(phase, *_):
        told.append(phase)
        experiences.record(full, [make_experience(f"new-{len(told)}")])

    found = copies.backup(full, backup_path, on_progress=write)
    assert told.count("copying") > 1
    assert (found.faults, found.events) == ((), before)
    assert full.position() == before + len(told)


def test_a_backup_overwrites_nothing(full, backup_path):
    """The file stays as it is."""
    backup_path.write_text("mine")
    with pytest.raises(Rejected, match="there already"):
        copies.backup(full, backup_path)
    assert backup_path.read_text() == "mine"


def test_what_a_killed_backup_left_is_no_obstacle(full, backup_path):
    """Nor does it get into the next one."""
    partial = backup_path.with_name(f"{backup_path.name}.partial")
    for end in ("", "-wal", "-shm", "-journal", ".high-water"):
        partial.with_name(f"{partial.name}{end}").write_text("rubbish")
    assert copies.backup(full, backup_path).faults == ()
    assert [path.name for path in backup_path.parent.iterdir()] == [backup_path.name]


def test_a_folder_that_is_not_there_is_told(full, tmp_path):
    """In our words."""
    with pytest.raises(Unavailable, match="No such file"):
        copies.backup(full, tmp_path / "nowhere" / "b.db")


def test_a_store_that_is_not_whole_gives_no_backup(full, backup_path):
    """A backup is trusted later, when nobody can ask any more."""
    with full._write.begin() as connection:
        connection.execute(text("UPDATE heads SET chain = 'x'"))
    with pytest.raises(IntegrityError, match="not whole"):
        copies.backup(full, backup_path)
    assert list(backup_path.parent.iterdir()) == []


def test_a_shortened_log_gives_no_backup(store_url, tmp_path, backup_path, make_experience):
    """The mark is asked, too."""
    with Store(store_url, high_water=tmp_path / "mark") as store:
        experiences.record(store, [make_experience()])
        store.high_water.rise(3)
        with pytest.raises(IntegrityError, match="2 to 3"):
            copies.backup(store, backup_path)


def test_a_restored_backup_misses_what_came_after_it(
    sqlite_only, full, backup_path, make_experience
):
    """Put in the place of the store it lies beside the mark, which knows of more."""
    copies.backup(full, backup_path)
    experiences.record(full, [make_experience("later")])
    last = full.position()
    full.close()
    backup_path.replace(full.database)
    with Store(full.url) as restored:
        [fault] = verify(restored).faults
    assert f"events at {last} were acknowledged" in fault
