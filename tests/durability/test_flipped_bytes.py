"""A byte that changed on the disk is found by `bhavana store verify`, or it changed nothing."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from store import tables
from tests.durability.daemons import Place, eventually
from tests.durability.load import Load
from tests.durability.recorded import contents, integrity, recorded

FLIPS = 50
LEAST_RECORDED = 200
FILES = ("bhavana.db", "bhavana.db-wal")
FILLED = (tables.events, tables.heads, tables.experiences, tables.sources, tables.api_keys)
COLUMNS = [(t.name, c.name) for t in (*FILLED, tables.secrets) for c in t.columns]


@pytest.fixture(scope="module")
def killed(nursery, tmp_path_factory) -> Path:
    """A data folder whose daemon was killed: half in the database, half in its log."""
    folder = tmp_path_factory.mktemp("killed")
    place = Place(nursery, folder / "data", folder)
    place.data.mkdir()
    for ends in ("stop", "kill"):
        with Load(place.key, prefix=ends) as load, place.start() as daemon:
            load.url = daemon.url
            eventually(lambda s=load: len(s.acknowledged) > LEAST_RECORDED, "some are recorded")
            load.finish()
            getattr(daemon, ends)()
    assert all((place.data / name).stat().st_size > 100_000 for name in FILES)
    return place.data


@pytest.fixture
def copied(nursery, killed, tmp_path):
    """Copies that folder; the copy may be damaged."""

    def copy(name: str = "copy") -> Place:
        shutil.rmtree(tmp_path / name, ignore_errors=True)
        shutil.copytree(killed, tmp_path / name)
        return Place(nursery, tmp_path / name, tmp_path)

    return copy


def _flip(path: Path, offset: int, mask: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        [byte] = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ mask]))


def _detected(place: Place) -> bool:
    ran = place.run("store", "verify")
    assert "Traceback" not in ran.stderr
    assert ran.code in (0, 2, 3, 75), ran
    assert ran.code == 0 or ran.stderr.startswith("error: "), ran
    return ran.code != 0


def test_an_undamaged_store_is_found_whole(copied):
    """Verifying what a killed daemon left says that all is well, and changes nothing."""
    before = contents(copied("before").store)
    place = copied()
    ran = place.run("store", "verify")
    assert ran.code == 0, ran.stderr
    assert contents(place.store) == before


@pytest.mark.parametrize("file", FILES)
def test_a_flipped_byte_is_found_or_harmless(copied, file):
    """Wherever it is: the damage is told by an exit code, or every row is what it was."""
    choice = random.Random(file)
    whole = contents(copied("whole").store)
    unnoticed = []
    for _ in range(FLIPS // len(FILES)):
        place = copied()
        size = (place.data / file).stat().st_size
        flip = choice.randrange(size), choice.randrange(1, 256)
        _flip(place.data / file, *flip)
        if not _detected(place) and contents(place.store) != whole:
            unnoticed.append(flip)
    assert unnoticed == []


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.75, 0.999])
def test_commits_that_sqlite_drops_without_a_word_are_missed(copied, share):
    """One byte in the log hides what comes after it, and SQLite's own check says ok."""
    hidden, place = copied("hidden"), copied()
    offset = int((place.data / FILES[1]).stat().st_size * share)
    whole = recorded(copied("whole").store)
    for damaged in (hidden, place):
        _flip(damaged.data / FILES[1], offset, 0x55)
    assert integrity(hidden.data / FILES[0]) == "ok"
    assert recorded(hidden.store).keys() < whole.keys()
    assert _detected(place)


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_a_value_that_changed_is_found(copied, table, column):
    """Also where every page and index of the file agrees with it, which SQLite calls sound."""
    place = copied()
    with closing(sqlite3.connect(place.data / FILES[0])) as connection, connection:
        last = f'SELECT rowid, "{column}" FROM {table} ORDER BY rowid DESC LIMIT 1'
        row, value = connection.execute(last).fetchone()
        change = f'UPDATE {table} SET "{column}" = ? WHERE rowid = ?'
        connection.execute(change, (_changed(value), row))
    assert integrity(place.data / FILES[0]) == "ok"
    assert _detected(place)


def _changed(value):
    """Another value of the same type, as near as can be; a text where there was none."""
    if isinstance(value, int):
        return value + 1 if value > 1 else 1 - value
    if isinstance(value, bytes):
        return value[:-1] + bytes([value[-1] ^ 1])
    return (value or "")[:-1] + ("x" if value is None or value[-1] != "x" else "y")
