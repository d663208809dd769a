"""Rewriting SQLite's database: nothing deleted is left in a page, and nothing kept is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing

import pytest

from store import experiences, rewrite
from store.engine import sqlite_module
from store.events import Store
from tests.durability.faults import ANY, ENOSPC, Faults, compiled

TRACE = "what was moved and then deleted"
KILLED = 9

CHILD = """
import os, signal, sys
from store import rewrite
from store.events import Store

asked = rewrite._version
calls = []

def version(reader):
    calls.append(reader)
    if sys.argv[2] == "kill" and len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return asked(reader)

rewrite._version = version
with Store(sys.argv[1]) as store:
    print(store.scrub(), store.writer.fault)
"""


@pytest.fixture
def url(tmp_path):
    """A store in SQLite."""
    return f"sqlite:///{tmp_path / 'bhavana.db'}"


@pytest.fixture
def filled(url, make_experience):
    """A store with some hundred pages."""
    with Store(url) as store:
        items = [make_experience(f"e-{i}", f"Question {i}. " * 20) for i in range(500)]
        experiences.record(store, items)
        yield store


def _leave_a_trace(store):
    """Rows that were deleted without being overwritten, as those are that SQLite moved before."""
    with closing(sqlite_module().connect(store.database, isolation_level=None)) as connection:
        connection.execute("PRAGMA secure_delete=OFF")
        connection.execute("INSERT INTO secrets (name, value) VALUES ('trace', ?)", (TRACE,))
        connection.execute("DELETE FROM secrets WHERE name = 'trace'")


def _text_in_files(store):
    folder = store.database.parent
    found = b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())
    return found.decode(errors="ignore")


def _child(url, what="go", **environment):
    return subprocess.run(
        [sys.executable, "-c", CHILD, url, what],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def _last_line(ended):
    return ended.stdout.splitlines()[-1]


def test_what_lies_in_a_page_beside_its_rows_goes(filled):
    """Not seen by any query, and there for whoever reads the file."""
    before = filled.projections_digest()
    _leave_a_trace(filled)
    assert TRACE in _text_in_files(filled)
    assert filled.scrub()
    assert TRACE not in _text_in_files(filled)
    assert filled.projections_digest() == before
    assert not list(filled.database.parent.glob("*-rewritten-*"))


def test_readers_and_the_writer_go_on_afterwards(filled, make_experience):
    """A reader that had begun sees what it saw; what comes after gets the next position."""
    end = filled.position()
    following = filled.follow()
    first = next(following)
    assert filled.scrub()
    assert [first.position, *(event.position for event in following)] == list(range(1, end + 1))
    experiences.record(filled, [make_experience("later")])
    assert filled.position() == end + 1
    assert filled.writer.fault is None


def test_what_another_process_writes_meanwhile_is_kept(filled, url, monkeypatch, make_experience):
    """The rewriting is given up, and done when it is asked for again."""
    asked, calls = rewrite._version, []

    def version(reader):
        found = asked(reader)
        calls.append(found)
        if len(calls) == 1:
            with Store(url) as other:
                experiences.record(other, [make_experience("meanwhile")])
        return found

    monkeypatch.setattr(rewrite, "_version", version)
    assert not filled.scrub()
    assert experiences.get(filled, "meanwhile").id == "meanwhile"
    assert filled.scrub()
    assert experiences.get(filled, "meanwhile").id == "meanwhile"


def test_killed_halfway_the_store_is_as_it_was(filled, url):
    """And the file beside it, in which everybody's words are, goes with the next one."""
    before = filled.projections_digest()
    assert _child(url, "kill").returncode == -KILLED
    assert list(filled.database.parent.glob("*-rewritten-*"))
    assert filled.projections_digest() == before
    assert filled.scrub()
    assert filled.projections_digest() == before
    assert not list(filled.database.parent.glob("*-rewritten-*"))


def test_without_room_it_is_put_off_and_the_store_serves(filled, url, tmp_path):
    """A full disk is no fault of the store's: nothing had to be written."""
    before = filled.projections_digest()
    faults = Faults(tmp_path / "orders", filled.database.with_name("bhavana.db-rewritten-"))
    faults.arm(kinds=ANY, nth=1, error=ENOSPC, forever=True)
    preloaded = {"LD_PRELOAD": str(compiled(tmp_path))}
    ended = _child(url, **preloaded, **faults.environment)
    assert faults.failed
    assert _last_line(ended) == "False None"
    assert filled.projections_digest() == before
    faults.disarm()
    assert _last_line(_child(url, **preloaded, **faults.environment)) == "True None"
    assert filled.projections_digest() == before
