"""The writer's thread: it outlives its callers, and where it ends nobody waits for it."""

from __future__ import annotations

import threading

import pytest

from store import experiences
from store.errors import Unavailable
from store.log import line


def _gone(_):
    raise RuntimeError("Event loop is closed")


def test_a_caller_that_is_gone_keeps_no_other_waiting(store, make_experience):
    """The lines of both are kept, and the one that still listens hears of its own."""
    go_on, heard = threading.Event(), threading.Event()
    threading.Thread(target=lambda: store.write(lambda _: go_on.wait(10))).start()
    for name, done in (("a", _gone), ("b", lambda _: heard.set())):
        store.append_soon([line(experiences.recorded(make_experience(name)), "test")], done)
    go_on.set()
    assert heard.wait(10)
    [again] = experiences.record(store, [make_experience("a")])
    assert again.status == "duplicate"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_where_the_thread_ends_by_itself_its_callers_are_told(store, make_experience, monkeypatch):
    """Whoever waits hears it, and so does everybody who comes later, and /readyz."""
    busy, go_on, heard = threading.Event(), threading.Event(), []

    def end(_):
        busy.set()
        go_on.wait(10)
        raise SystemError

    monkeypatch.setattr(store.writer, "_commit", end)
    store.append_soon([line(experiences.recorded(make_experience("a")), "test")], heard.append)
    assert busy.wait(10)
    store.append_soon([line(experiences.recorded(make_experience("b")), "test")], heard.append)
    go_on.set()
    store.writer._thread.join(10)
    assert [type(outcome) for outcome in heard] == [Unavailable]
    assert isinstance(store.writer.fault, Unavailable)
    assert not store.writer.alive()
    with pytest.raises(Unavailable, match="closed"):
        experiences.record(store, [make_experience("c")])
