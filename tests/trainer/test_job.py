"""The job folder from the child's side: lock, records, heartbeat, and how main() ends."""

from __future__ import annotations

import fcntl
import sys
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pytest

from store.errors import Busy, Misconfigured
from store.orphans import EXIT_RETRYABLE
from trainer.adapter import FILES, adapter_hash
from trainer.base import Base
from trainer.gates import GATES
from trainer.job import (
    PROGRESS,
    Heartbeat,
    Job,
    read_heartbeat,
    read_record,
    write_atomically,
    write_record,
)
from trainer.jobs import AnswerJob, EvaluateJob, FinetuneJob
from trainer.questions import Question, Sampling
from trainer.recipe import Recipe

NOWHERE = Base(name="nowhere", kind="folder", location="/nonexistent", hash="0")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that finds the folder taken does not wait."""
    monkeypatch.setattr("trainer.job.LOCK_WAIT_SECONDS", 0.0)
    monkeypatch.setattr("trainer.job.CHECK_SECONDS", 0.01)


@pytest.fixture
def taken(tmp_path: Path) -> Iterator[Path]:
    """A job folder that somebody works in."""
    folder = tmp_path / "job"
    folder.mkdir()
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


@pytest.mark.usefixtures("impatient")
def test_second_worker_is_busy(taken: Path) -> None:
    """Two never work in one folder; the second one is told that it may try later."""
    with pytest.raises(Busy, match="job"), Job(taken).working():
        pytest.fail("two workers are in")


@pytest.mark.usefixtures("impatient")
def test_lock_is_free_after_work(tmp_path: Path) -> None:
    """Whether the work ended well or badly, the next worker gets in; the folder is made."""
    job = Job(tmp_path / "new" / "job")
    with pytest.raises(ValueError, match="bad end"), job.working():
        raise ValueError("bad end")
    for _ in range(2):
        with job.working():
            assert (job.folder / "lock").is_file()


def test_second_worker_waits_for_the_first(tmp_path: Path) -> None:
    """Within the waiting time the second worker begins when the first one is done."""
    order: list[str] = []
    inside, leave = threading.Event(), threading.Event()

    def first() -> None:
        with Job(tmp_path).working():
            inside.set()
            leave.wait(20)
            order.append("first")

    worker = threading.Thread(target=first)
    worker.start()
    assert inside.wait(20)
    threading.Timer(0.05, leave.set).start()
    with Job(tmp_path).working():
        order.append("second")
    worker.join()
    assert order == ["first", "second"]


def _orders(kind: str, folder: Path) -> Any:
    cache = str(folder / "cache")
    if kind == "answers":
        questions = (Question(id="q", prompt="Hello?"),)
        return AnswerJob(
            base=NOWHERE, adapter=None, cache=cache, sampling=Sampling(), questions=questions
        )
    if kind == "finetune":
        return FinetuneJob(base=NOWHERE, recipe=Recipe(), dataset=str(folder), cache=cache)
    for name in FILES:
        (folder / name).write_bytes(b"{}")
    return EvaluateJob(
        base=NOWHERE,
        candidate=str(folder),
        candidate_hash=adapter_hash(folder),
        incumbent=None,
        rules={name: gate.rule for name, gate in GATES.items()},
        cache=cache,
    )


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("module", ["answers", "finetune", "evaluate"])
def test_busy_child_asks_to_be_started_again(
    module: str, taken: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Busy means try later, so the child ends with the exit code that its parent retries on."""
    write_record(taken / "job.json", _orders(module, taken))
    monkeypatch.setattr(sys, "argv", [module, str(taken)])
    main: Callable[[], int] = import_module(f"trainer.{module}").main
    assert main() == EXIT_RETRYABLE
    assert "error: Another process works on" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["answers", "finetune", "evaluate"])
def test_folder_without_orders_ends_with_an_error_line(
    module: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A person who names the wrong folder reads one line, not a traceback."""
    monkeypatch.setattr(sys, "argv", [module, str(tmp_path)])
    main: Callable[[], int] = import_module(f"trainer.{module}").main
    assert main() == 2
    assert capsys.readouterr().err == f"error: There is no {tmp_path / 'job.json'}.\n"


def test_write_replaces_whole_and_leaves_no_partial(tmp_path: Path) -> None:
    """The new content stands alone in the folder under its name."""
    path = tmp_path / "file.json"
    write_atomically(path, b"long first content")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert [p.name for p in tmp_path.iterdir()] == ["file.json"]


def test_failed_write_keeps_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk fails midway, the reader still finds the old file, whole."""
    path = tmp_path / "file.json"
    write_atomically(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert not list(tmp_path.glob("*.partial"))


def test_readers_never_see_half_a_file(tmp_path: Path) -> None:
    """A reader beside a busy writer finds one content or the other, never a mixture or nothing."""
    path = tmp_path / "file"
    contents = (b"a" * 70_000, b"b" * 90_000)
    write_atomically(path, contents[0])
    done = threading.Event()

    def write() -> None:
        for n in range(20):
            write_atomically(path, contents[n % 2])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert path.read_bytes() in contents
    writer.join()


def test_record_round_trip(tmp_path: Path) -> None:
    """What was written as a noun is read as the same noun, unknown values as unknown."""
    question = Question(id="q-1", prompt="Größe?\n\u2028“quoted”")
    write_record(tmp_path / "q.json", question)
    assert read_record(tmp_path / "q.json", Question) == question


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"id": 3}', b'{"id": "\xff"}'])
def test_damaged_record_is_misconfigured(tmp_path: Path, content: bytes) -> None:
    """The message names the file that cannot be read as what it should be."""
    path = tmp_path / "job.json"
    path.write_bytes(content)
    with pytest.raises(Misconfigured, match=r"job\.json"):
        read_record(path, Question)


def test_heartbeat_says_where_the_job_is(tmp_path: Path) -> None:
    """None before the first beat; then the last one with its numbers."""
    assert read_heartbeat(tmp_path) is None
    Job(tmp_path).beat("training", 1, 9, loss=2.5)
    Job(tmp_path).beat("training", 2, 9, loss=2.25)
    beat = read_heartbeat(tmp_path)
    assert isinstance(beat, Heartbeat)
    assert (beat.phase, beat.done, beat.total) == ("training", 2, 9)
    assert (beat.numbers["loss"], beat.numbers["memory_mb"] > 1) == (2.25, True)


def test_beats_with_numbers_are_kept_for_the_curves(tmp_path: Path) -> None:
    """One line each; a beat without numbers leaves none, and what is not finite is left out."""
    job = Job(tmp_path)
    job.beat("loading", 0, 1)
    job.beat("training", 1, 9, loss=2.5, grad_norm=float("nan"))
    job.beat("training", 2, 9, loss=2.25)
    kept = [msgspec.json.decode(x, type=Heartbeat) for x in _lines(tmp_path / PROGRESS)]
    assert [(b.done, b.numbers["loss"]) for b in kept] == [(1, 2.5), (2, 2.25)]
    assert "grad_norm" not in kept[0].numbers


def test_of_several_ranks_the_first_holds_and_speaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others of one job neither wait for its lock nor write over its heartbeat."""
    job = Job(tmp_path)
    with job.working():
        job.beat("training", 1, 9, loss=2.5)
        monkeypatch.setenv("RANK", "1")
        with Job(tmp_path).working():
            Job(tmp_path).beat("training", 7, 9, loss=1.0)
    beat = read_heartbeat(tmp_path)
    assert beat is not None
    assert beat.done == 1
    assert len(_lines(tmp_path / PROGRESS)) == 1


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()
