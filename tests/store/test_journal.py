"""The journal of releases: every line, in order, whoever writes it."""

from __future__ import annotations

import pytest

from store import journal
from store.errors import Busy
from store.records import ReleaseStep, now
from store.verify import verify
from trainer.journal import StoreJournal, UnwrittenJournal


def step(release: str, state: str = "noted", **facts: str) -> ReleaseStep:
    """A line about a publication."""
    return ReleaseStep(
        release=release, target="local", line="main", step="publish", state=state, facts=facts,
        at=now(),
    )  # fmt: skip


def test_all_lines_of_a_release_are_found_and_no_other(store):
    """However many there are, and whatever stands between them in the log."""
    for number in range(2 * journal.BATCH + 1):
        journal.write(store, step("release-1", n=str(number)))
        if number % 40 == 0:
            journal.write(store, step("release-10"))
    found = [line.facts["n"] for line in journal.of_release(store, "release-1")]
    assert found == [str(number) for number in range(2 * journal.BATCH + 1)]
    assert len(journal.of_release(store, "release-10")) == 3
    assert journal.of_release(store, "release-2") == []
    assert verify(store).faults == ()


def test_two_writers_lose_no_line(store, monkeypatch):
    """The one that comes second takes the next number."""
    journal.write(store, step("release-1", n="1"))
    monkeypatch.setattr(journal, "of_release", lambda *_: [])  # it looked before the other wrote
    journal.write(store, step("release-1", n="2"))
    monkeypatch.undo()
    assert [line.facts["n"] for line in journal.of_release(store, "release-1")] == ["1", "2"]


def test_nothing_is_written_behind_a_void_fence(store):
    """A step that another daemon may be taking is not begun."""

    def void(_):
        raise Busy("another took over")

    entered = []
    with pytest.raises(Busy), StoreJournal(store, "local", void).taking("r-1", "main", "publish"):
        entered.append(True)
    assert (entered, journal.of_release(store, "r-1")) == ([], [])


def test_what_a_target_noted_is_there_after_a_kill(store):
    """The latest of each name, of that step alone; a dry run reads it and adds nothing."""
    notes = StoreJournal(store, "local")
    notes.note("release-1", "publish", {"id": "a", "state": "half"})
    notes.note("release-1", "publish", {"state": "whole"})
    notes.note("release-1", "probe", {"id": "b"})
    assert StoreJournal(store, "local").noted("release-1", "publish") == {
        "id": "a", "state": "whole",
    }  # fmt: skip
    assert notes.noted("release-2", "publish") == {}
    dry = UnwrittenJournal(store)
    dry.note("release-1", "publish", {"state": "told"})
    assert dry.noted("release-1", "publish") == {"id": "a", "state": "told"}
    assert notes.noted("release-1", "publish")["state"] == "whole"
