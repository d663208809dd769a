"""A byte that changed on the disk is found by `bhavana store verify`, or it changed nothing."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tests.durability.daemons import Place, eventually
from tests.durability.load import Load
from tests.durability.recorded import contents, integrity, recorded

FLIPS = 50
LEAST_RECORDED = 200
FILES = ("bhavana.db", "bhavana.db-wal")


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
