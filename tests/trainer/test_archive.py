"""The archive keeps an adapter whole, once, and unlike nothing but itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.errors import IntegrityError, NotFound, Unavailable
from tests.contracts.targets import taking_files_up_to, write_adapter
from trainer.adapter import FILES, adapter_hash
from trainer.targets.archive import Archive


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """An archive whose folder is not there yet."""
    return Archive(tmp_path / "releases")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter as a training leaves it."""
    return write_adapter(tmp_path / "run", "one")


def test_a_release_is_a_copy(archive: Archive, adapter: Path) -> None:
    """What happens to the training's folder afterwards does not reach it; keeping it repeats."""
    expected = adapter_hash(adapter)
    kept = archive.keep("release-1", adapter, expected)
    (adapter / FILES[1]).unlink()
    assert archive.adapter("release-1") == kept
    assert archive.keep("release-1", adapter, expected) == kept
    assert adapter_hash(kept) == expected


def test_other_bytes_under_the_same_id_are_refused(
    archive: Archive, adapter: Path, tmp_path: Path
) -> None:
    """A release is immutable: a second adapter under its id changes nothing."""
    kept = archive.keep("release-1", adapter, adapter_hash(adapter))
    other = write_adapter(tmp_path / "other", "two")
    with pytest.raises(IntegrityError):
        archive.keep("release-1", other, adapter_hash(other))
    assert adapter_hash(kept) == adapter_hash(adapter)


def test_bytes_that_were_not_evaluated_leave_nothing(archive: Archive, adapter: Path) -> None:
    """An adapter unlike its hash is refused, and the right one can still be kept."""
    with pytest.raises(IntegrityError):
        archive.keep("release-1", adapter, "0" * 64)
    assert list(archive.folder.iterdir()) == []
    archive.keep("release-1", adapter, adapter_hash(adapter))


def test_an_adapter_that_is_not_there_is_told(archive: Archive, tmp_path: Path) -> None:
    """A folder without the two files is an integrity error, and leaves no release."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(IntegrityError, match="lacks"):
        archive.keep("release-1", tmp_path / "empty", "0" * 64)
    with pytest.raises(NotFound):
        archive.adapter("release-1")


def test_leftovers_of_a_kill_are_no_obstacle(archive: Archive, adapter: Path) -> None:
    """A copy that was killed midway is simply made again."""
    partial = archive.folder / ".release-1.partial"
    partial.mkdir(parents=True)
    (partial / FILES[0]).write_bytes(b"half")
    (partial / "other").write_bytes(b"older version's file")
    kept = archive.keep("release-1", adapter, adapter_hash(adapter))
    assert {p.name for p in kept.iterdir()} == set(FILES)
    assert [p.name for p in archive.folder.iterdir()] == ["release-1"]


def test_a_disk_that_takes_no_more_is_told(archive: Archive, adapter: Path) -> None:
    """With what to do about it; half a copy is not left in the way, and later it succeeds."""
    (adapter / FILES[1]).write_bytes(b"w" * 100_000)
    expected = adapter_hash(adapter)
    with taking_files_up_to(50_000), pytest.raises(Unavailable, match=r"cannot be written.*room"):
        archive.keep("release-1", adapter, expected)
    assert list(archive.folder.iterdir()) == []
    assert adapter_hash(archive.keep("release-1", adapter, expected)) == expected
