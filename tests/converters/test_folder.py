"""Folders that are there whole or not at all."""

from __future__ import annotations

import pytest

from converters import folder as folders
from converters.folder import discard_partial, require_vacant, write_whole
from store.errors import Conflict


def test_a_folder_is_there_when_all_of_it_is(tmp_path, monkeypatch):
    """It gets its name behind the last file, and nobody else may read it."""
    seen = []
    write = folders.write_synced

    def look(path, content):
        write(path, content)
        seen.append((path.name, (tmp_path / "out").exists()))

    monkeypatch.setattr(folders, "write_synced", look)
    write_whole(tmp_path / "out", {"b": b"2", "a": b"1"})
    assert seen == [("b", False), ("a", False)]
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == {"a": b"1", "b": b"2"}
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").stat().st_mode & 0o077 == 0


def test_what_fails_leaves_nothing(tmp_path):
    """Neither the folder nor a part of it, also when the last look fails."""

    def check():
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011  # ours
        write_whole(tmp_path / "out", {"a": b"1"}, check=check)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writing_left_is_discarded_and_nothing_else(tmp_path):
    """Another folder's parts, and what people named alike, stay."""
    for name in (".out.partial-x1", ".outer.partial-x1", "out.partial", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text("words")
    discard_partial(tmp_path / "out")
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {".outer.partial-x1", "out.partial", "out"}
    discard_partial(tmp_path / "nowhere" / "out")


def test_only_an_empty_place_is_vacant(tmp_path):
    """Not a file, nor a folder with something in it."""
    require_vacant(tmp_path / "out")
    (tmp_path / "out").mkdir()
    require_vacant(tmp_path / "out")
    (tmp_path / "out" / "mine.txt").write_text("mine")
    for taken in (tmp_path / "out", tmp_path / "out" / "mine.txt"):
        with pytest.raises(Conflict):
            require_vacant(taken)
