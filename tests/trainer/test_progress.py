"""Where a job is and how it got there, read from its folder; and the pictures of it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from store.records import to_json
from tests.trainer.children import ROOT
from trainer import attempts, progress
from trainer.attempts import note
from trainer.curves import draw
from trainer.job import PROGRESS, Heartbeat, Job, write_record
from trainer.progress import (
    Progress,
    curves,
    in_words,
    latest,
    progress_of,
    seconds_left,
    steps,
)

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
PNG = b"\x89PNG\r\n\x1a\n"


def beats(count: int, *, first: int = 1, pid: int = 1, seconds: float = 2.0) -> list[Heartbeat]:
    """So many steps of a training of a hundred, one every so many seconds."""
    return [
        Heartbeat(
            pid=pid,
            phase="training",
            done=n,
            total=100,
            at=NOON + timedelta(seconds=seconds * n),
            numbers={"loss": 3.0 - n / 100, "memory_mb": 1000.0},
        )
        for n in range(first, first + count)
    ]


def write(folder: Path, told: list[Heartbeat]) -> Path:
    """A job's folder with these beats."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PROGRESS).write_bytes(b"".join(to_json(beat) + b"\n" for beat in told))
    write_record(folder / "heartbeat.json", told[-1])
    return folder


@pytest.fixture(autouse=True)
def _noon(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the moment of the twentieth step."""
    monkeypatch.setattr(progress, "now", lambda: NOON + timedelta(seconds=40))


def test_time_left_goes_by_the_pace_of_this_process() -> None:
    """Eighty steps of two seconds; an earlier attempt was slower and does not count."""
    slow, fast = beats(10, pid=1, seconds=0.1), beats(10, first=11, pid=2)
    assert seconds_left(slow + fast, fast[-1]) == 160.0
    assert seconds_left(fast[:1], fast[0]) is None


def test_time_left_shrinks_between_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a long step lasts the clock goes on, and never below nothing."""
    told = beats(20)
    monkeypatch.setattr(progress, "now", lambda: NOON + timedelta(seconds=41))
    assert seconds_left(told, told[-1]) == 159.0
    monkeypatch.setattr(progress, "now", lambda: NOON + timedelta(hours=9))
    assert seconds_left(told, told[-1]) == 0.0


def test_half_a_line_of_a_killed_process_is_skipped(tmp_path: Path) -> None:
    """The steps before it and the steps after the next line break are there."""
    folder = write(tmp_path / "run", beats(3))
    with (folder / PROGRESS).open("ab") as log:
        log.write(b'{"pid": 1, "phase": "trai\n' + to_json(beats(1, first=4)[0]) + b"\n")
    assert [beat.done for beat in steps(folder)] == [1, 2, 3, 4]


def test_pace_is_told_from_the_end_of_a_long_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A week of steps is not read twice a second: the last ones, whole lines of them, suffice."""
    folder = write(tmp_path / "run", beats(90))
    monkeypatch.setattr(progress, "TAIL_BYTES", 2_000)
    told = latest(folder)
    assert 5 < len(told) < 20
    assert told == steps(folder)[-len(told) :]


def test_step_that_was_repeated_counts_once(tmp_path: Path) -> None:
    """After a resume the last word on a step is the one that is drawn."""
    again = [replace(b, numbers={"loss": 9.0}) for b in beats(2, first=2, pid=2)]
    folder = write(tmp_path / "run", beats(3) + again)
    assert curves(folder)["loss"] == {1: 2.99, 2: 9.0, 3: 9.0}


def test_job_at_work_tells_where_it_is(tmp_path: Path) -> None:
    """Step, loss, memory, time left and when that will be."""
    folder = write(tmp_path / "run", beats(20))
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = progress_of(folder)
    assert found.line(NOON) == (
        "training 20/100, loss 2.800, 1,000 MB, 3 min left (until 12:02 UTC)"
    )
    assert found.at_work
    assert not found.is_over


def test_job_that_nobody_holds_is_not_at_work(tmp_path: Path) -> None:
    """Its last heartbeat is shown, but no time left: nothing moves."""
    found = progress_of(write(tmp_path / "run", beats(20)))
    assert (found.at_work, found.seconds_left, found.done) == (False, None, 20)
    assert not found.is_over  # a daemon goes on with it


@pytest.mark.parametrize("outcome", ["failed", "harmed", "crashed"])
def test_job_that_is_not_started_again_is_over(outcome: attempts.Outcome, tmp_path: Path) -> None:
    """And says how it ended."""
    folder = write(tmp_path / "run", beats(20))
    attempt, _ = attempts.begin(folder, "rlimit")
    note(folder, replace(attempt, outcome=outcome, said="The child ended with a bang."))
    found = progress_of(folder)
    assert (found.is_over, found.finished) == (True, False)
    assert (found.isolation, found.said) == ("rlimit", "The child ended with a bang.")


def test_folder_of_a_job_that_never_spoke(tmp_path: Path) -> None:
    """Nothing is known, and that is no error."""
    found = progress_of(tmp_path)
    assert found == Progress(job=tmp_path.name, path=str(tmp_path), at_work=False)
    assert found.line(NOON) == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (89.4, "89 s"), (90, "2 min"), (3600, "60 min"), (11_100, "3 h 5 min")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    """As a person would say them."""
    assert in_words(seconds) == words


def test_curves_are_drawn_as_pictures(tmp_path: Path) -> None:
    """loss.png from what the job's own beats left; the same numbers give the same bytes."""
    for n in range(1, 8):
        Job(tmp_path).beat("training", n, 7, loss=3 / n, learning_rate=1e-3 / n)
    Job(tmp_path).beat("training", 7, 7, validation_loss=1.5)
    [drawn] = draw(tmp_path)
    assert drawn.name == "loss.png"
    assert (before := drawn.read_bytes()).startswith(PNG)
    assert len(before) > 10_000
    draw(tmp_path)
    assert drawn.read_bytes() == before


def test_ethics_has_a_picture_of_its_own(tmp_path: Path) -> None:
    """Where the job asked probes: every number whose name begins with it."""
    for n in (10, 20, 30):
        Job(tmp_path).beat("training", n, 30, ethics_compliance=0.9, ethics_violations=0)
    assert [path.name for path in draw(tmp_path)] == ["loss.png", "ethics.png"]


def test_job_without_numbers_has_no_picture(tmp_path: Path) -> None:
    """And drawing it is no error: `python -m trainer.curves DIR` ends with 0."""
    (tmp_path / PROGRESS).write_bytes(b"half a li")
    ended = subprocess.run(
        [sys.executable, "-m", "trainer.curves", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
    assert not list(tmp_path.glob("*.png"))
