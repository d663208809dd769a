"""A job that does not end well is started again, told why, given up in time, or put aside."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from store.errors import Busy, ChildFailed, EthicsHalt, Unavailable
from store.records import now
from tests.trainer.children import Orders, is_gone, maker
from trainer import attempts
from trainer.attempts import Attempt, Outcome, backoff_seconds, in_vain, read_attempts
from trainer.job import Heartbeat, Job
from trainer.launch import Start, run_job

TWICE, FIVE_TIMES = Start(attempts=2), Start(attempts=5)
UNTIL = """
    tries = Path(sys.argv[1]) / "tries"
    n = len(tries.read_text()) if tries.exists() else 0
    tries.write_text("x" * (n + 1))
    job.beat("working", 1 + n, 9)
    if n < {times}: {end}
""".strip()
"""The first tries end in this way; the next one ends well."""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Makes a module with a job's skeleton around the given work; returns its name."""
    monkeypatch.setattr(attempts, "FIRST_BACKOFF_SECONDS", 0.01)
    return maker(tmp_path / "modules", monkeypatch)


def outcomes(folder: Path) -> list[Outcome]:
    """How the attempts in a folder's record ended."""
    return [a.outcome for a in read_attempts(folder).attempts]


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        ("sys.exit(75)", "again"),
        ("os.kill(os.getpid(), 9)", "crashed"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crashed"),
        ("raise OSError('unforeseen')", "crashed"),
    ],
)
def test_child_that_may_end_well_is_started_again(
    end: str, outcome: Outcome, module: Callable[[str], str], tmp_path: Path
) -> None:
    """Who asks for another try or was ended by a signal gets it, and each is on record."""
    folder, told = tmp_path / "job", list[Attempt]()
    run_job(
        module(UNTIL.format(times=2, end=end)),
        folder,
        Orders(),
        stop=threading.Event(),
        how=FIVE_TIMES,
        told=told.append,
    )
    record = read_attempts(folder).attempts
    assert outcomes(folder) == [outcome, outcome, "done"]
    assert [a.reached for a in record] == [1, 2, 3]
    assert [a.outcome for a in told] == outcomes(folder)
    assert all(a.ended_at is not None and a.began_at <= a.ended_at for a in record)
    log = (folder / "log.txt").read_text()
    assert [f"--- attempt {n}, " in log for n in (1, 2, 3, 4)] == [True, True, True, False]


@pytest.mark.parametrize("code", [2, 5, 6])
def test_child_that_will_never_end_well_is_not_started_again(
    code: int, module: Callable[[str], str], tmp_path: Path
) -> None:
    """Wrong orders, too small a machine, and changed bytes stay what they are."""
    folder = tmp_path / "job"
    with pytest.raises(ChildFailed, match=f"exit code {code} "):
        run_job(
            module(f"sys.exit({code})"), folder, Orders(), stop=threading.Event(), how=FIVE_TIMES
        )
    assert outcomes(folder) == ["failed"]


def test_attempts_that_get_no_further_are_given_up(
    module: Callable[[str], str], tmp_path: Path
) -> None:
    """So many in a row, then a person is told, with the child's last word."""
    folder = tmp_path / "job"
    work = "print('error: the card fell off the bus'); sys.exit(75)"
    with pytest.raises(ChildFailed, match="2 attempts in a row got no further") as caught:
        run_job(module(work), folder, Orders(), stop=threading.Event(), how=TWICE)
    assert outcomes(folder) == ["again", "again"]
    assert "error: the card fell off the bus" in caught.value.message


def _ended(*ends: tuple[Outcome, int]) -> list[Attempt]:
    return [
        Attempt(began_at=now(), isolation="none", outcome=outcome, reached=reached)
        for outcome, reached in ends
    ]


@pytest.mark.parametrize(
    ("ends", "count"),
    [
        ([("crashed", 0)], 1),
        ([("crashed", 0), ("crashed", 0)], 2),
        ([("crashed", 5), ("crashed", 9), ("again", 30)], 1),
        ([("crashed", 5), ("crashed", 5), ("crashed", 3)], 3),
        ([("crashed", 5), ("stopped", 2), ("crashed", 5)], 2),
        ([("crashed", 5), ("crashed", 5), ("crashed", 6), ("stalled", 6)], 2),
        ([("orphaned", 4), ("orphaned", 4)], 2),
    ],
)
def test_only_attempts_in_vain_count(ends: list[tuple[Outcome, int]], count: int) -> None:
    """A long training may be interrupted often; what counts is whether it gets on."""
    assert in_vain(_ended(*ends)) == count


def test_pause_doubles_up_to_a_limit() -> None:
    """Seconds at first, then minutes."""
    assert [backoff_seconds(n) for n in (1, 2, 3, 20)] == [5.0, 10.0, 20.0, 300.0]


def test_stop_is_heard_between_two_attempts(
    module: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that stops does not wait for the pause to end."""
    monkeypatch.setattr(attempts, "FIRST_BACKOFF_SECONDS", 600.0)
    monkeypatch.setattr(attempts, "LONGEST_BACKOFF_SECONDS", 600.0)
    stop = threading.Event()

    def watch(beat: Heartbeat) -> None:
        if beat.phase == "again in 600 s":
            stop.set()

    with pytest.raises(Unavailable, match="repeated"):
        run_job(
            module("sys.exit(75)"), tmp_path / "job", Orders(), stop=stop, watch=watch, how=TWICE
        )
    assert outcomes(tmp_path / "job") == ["again"]


def test_stopped_child_is_hung_and_is_ended(
    module: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that SIGSTOP holds beats no more and hears no SIGTERM: its group is killed.

    The attempt counts, and the next one ends well.
    """
    monkeypatch.setattr("trainer.launch.TERMINATE_SECONDS", 0.2)
    folder, pids = tmp_path / "job", list[int]()
    sleeper = "import subprocess; other = subprocess.Popen(['sleep', '600'])"
    work = UNTIL.format(
        times=1,
        end=f"{sleeper}; job.beat('held', other.pid, 0); os.kill(os.getpid(), signal.SIGSTOP)",
    )

    def watch(beat: Heartbeat) -> None:
        if beat.phase == "held":
            pids.extend([beat.pid, beat.done])
        # Only who holds still is hung: a slow start of the next attempt is none.
        monkeypatch.setattr("trainer.launch.STALL_SECONDS", 0.5 if beat.phase == "held" else 600)

    run_job(module(work), folder, Orders(), stop=threading.Event(), watch=watch, how=FIVE_TIMES)
    assert outcomes(folder) == ["stalled", "done"]
    assert read_attempts(folder).attempts[0].code == -signal.SIGKILL
    assert [is_gone(pid) for pid in pids] == [True, True]


def test_harm_in_training_puts_the_folder_aside(
    module: Callable[[str], str], tmp_path: Path
) -> None:
    """Exit code 7: nothing is started again, nothing is deleted, nothing can go on from it."""
    folder = tmp_path / "run-1"
    work = "(job.folder / 'transcript.txt').write_text('x'); print('error: it did harm')"
    for nth in ("", "-2"):
        with pytest.raises(EthicsHalt, match="it did harm") as caught:
            run_job(
                module(f"{work}; sys.exit(7)"),
                folder,
                Orders(),
                stop=threading.Event(),
                how=FIVE_TIMES,
            )
        aside = tmp_path / f"run-1.quarantined{nth}"
        assert str(aside / "log.txt") in caught.value.message
        assert not folder.exists()
        assert (aside / "transcript.txt").is_file()
        assert outcomes(aside) == ["harmed"]


def test_attempt_whose_daemon_was_killed_is_on_record(
    module: Callable[[str], str], tmp_path: Path
) -> None:
    """What was left running is told as orphaned, with the step that it reached."""
    folder = tmp_path / "job"
    folder.mkdir()
    attempts.begin(folder, "none")
    Job(folder).beat("training", 7, 9)
    run_job(module("pass"), folder, Orders(), stop=threading.Event())
    record = read_attempts(folder).attempts
    assert [(a.outcome, a.reached) for a in record] == [("orphaned", 7), ("done", 1)]


def test_step_is_known_whose_heartbeat_was_written_over(
    module: Callable[[str], str], tmp_path: Path
) -> None:
    """The furthest step is on record, though the child went on to other things at once."""
    work = "job.beat('training', 8, 8, loss=1.0); job.beat('validating', 0, 1)"
    run_job(module(work), tmp_path / "job", Orders(), stop=threading.Event())
    [attempt] = read_attempts(tmp_path / "job").attempts
    assert (attempt.reached, attempt.said) == (8, "Done.")


@pytest.mark.parametrize("ran_out", [True, False])
def test_next_attempt_can_tell_that_memory_ran_out(ran_out: bool, tmp_path: Path) -> None:
    """Once: the attempt after it knows, and the one after that does not."""
    asked = []
    for killed in (ran_out, False, False):
        attempt, _ = attempts.begin(tmp_path, "cgroup")
        asked.append(attempts.killed_for_memory(tmp_path))
        attempts.note(tmp_path, replace(attempt, outcome="crashed", code=-9, ran_out=killed))
    assert asked == [False, ran_out, False]


def test_two_never_watch_one_job(
    module: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one is told that the folder is taken; the first one's child goes on."""
    monkeypatch.setattr("trainer.job.LOCK_WAIT_SECONDS", 0.0)
    folder, name = tmp_path / "job", module("time.sleep(0.5)")
    refused: list[Busy] = []

    def watch(_: Heartbeat) -> None:
        with pytest.raises(Busy) as caught:
            run_job(name, folder, Orders(), stop=threading.Event())
        refused.append(caught.value)

    run_job(name, folder, Orders(), stop=threading.Event(), watch=watch)
    assert len(refused) == 1
    assert outcomes(folder) == ["done"]


def test_what_a_child_left_behind_ends_with_it(
    module: Callable[[str], str], tmp_path: Path
) -> None:
    """A grandchild in the job's process group does not outlive the job."""
    pids: list[int] = []
    work = (
        "import subprocess; other = subprocess.Popen(['sleep', '600'])\n"
        "    job.beat('started', other.pid, 0)\n"
        f"    seen = Path({str(tmp_path / 'seen')!r})\n"
        "    while not seen.exists(): time.sleep(0.02)"
    )

    def watch(beat: Heartbeat) -> None:
        if beat.phase == "started":
            pids.append(beat.done)
            assert os.getpgid(beat.done) == beat.pid
            (tmp_path / "seen").touch()

    run_job(module(work), tmp_path / "job", Orders(), stop=threading.Event(), watch=watch)
    assert [is_gone(pid) for pid in pids] == [True]
