"""Child processes as the daemon starts them: watched, stopped, orphaned, broken.

Where only the process matters, the child is a small honest module in the test's own folder; two
tests start the real thing.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from store.errors import ChildFailed, Unavailable
from tests.trainer.children import ROOT, Orders, is_gone, maker, poll
from trainer.base import Base
from trainer.job import Heartbeat, read_record
from trainer.jobs import AnswerJob, AnswerManifest, FinetuneJob
from trainer.launch import run_job
from trainer.questions import Question, Sampling
from trainer.recipe import Recipe


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Makes a module with a job's skeleton around the given work; returns its name."""
    return maker(tmp_path / "modules", monkeypatch)


def test_runs_a_job_to_its_manifest(module: Callable[[str], str], tmp_path: Path) -> None:
    """The orders lie in the folder, the child's words in its log, its beats reach the watcher."""
    beats: list[Heartbeat] = []
    folder = tmp_path / "job"
    seen = tmp_path / "seen"

    def watch(beat: Heartbeat) -> None:
        beats.append(beat)
        seen.touch()

    work = (
        "print('hello from the child')\n"
        f"    while not Path({str(seen)!r}).exists(): time.sleep(0.02)"
    )
    run_job(module(work), folder, Orders(), stop=threading.Event(), watch=watch)
    assert (folder / "manifest.json").is_file()
    assert read_record(folder / "job.json", Orders) == Orders()
    assert "hello from the child" in (folder / "log.txt").read_text()
    assert [(b.phase, b.done, b.total) for b in beats] == [("working", 1, 2)]


def test_folder_with_a_manifest_is_not_run_again(tmp_path: Path) -> None:
    """A whole job is left as it is: nothing starts, nothing is written."""
    (tmp_path / "manifest.json").write_text("{}")
    run_job("no.such.module", tmp_path, Orders(), stop=threading.Event())
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.json"]


def test_job_without_manifest_failed(module: Callable[[str], str], tmp_path: Path) -> None:
    """Exit code 0 alone is not success."""
    with pytest.raises(ChildFailed, match="without a manifest"):
        run_job(module("sys.exit(0)"), tmp_path / "job", Orders(), stop=threading.Event())


def test_killed_child_is_told_by_its_signal(module: Callable[[str], str], tmp_path: Path) -> None:
    """A child that the kernel kills, for memory say, is not mistaken for one that gave up."""
    work = "import os; os.kill(os.getpid(), 9)"
    with pytest.raises(ChildFailed, match="signal 9"):
        run_job(module(work), tmp_path / "job", Orders(), stop=threading.Event())


def test_child_that_asks_for_another_try_is_unavailable(
    module: Callable[[str], str], tmp_path: Path
) -> None:
    """Exit code 75 is nobody's fault: the step is repeated later."""
    with pytest.raises(Unavailable, match="again"):
        run_job(module("sys.exit(75)"), tmp_path / "job", Orders(), stop=threading.Event())


def test_stop_ends_the_child(module: Callable[[str], str], tmp_path: Path) -> None:
    """A stop in the middle of work raises Unavailable, after the child is gone."""
    stop = threading.Event()
    pids: list[int] = []

    def watch(beat: Heartbeat) -> None:
        pids.append(beat.pid)
        stop.set()

    with pytest.raises(Unavailable, match="repeated"):
        run_job(module("time.sleep(600)"), tmp_path / "job", Orders(), stop=stop, watch=watch)
    assert len(pids) == 1
    assert is_gone(pids[0])
    assert not (tmp_path / "job" / "manifest.json").exists()


def test_child_that_ignores_the_stop_is_killed(
    module: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who does not end when asked kindly is ended all the same."""
    monkeypatch.setattr("trainer.launch.TERMINATE_SECONDS", 0.2)
    stop = threading.Event()
    pids: list[int] = []

    def watch(beat: Heartbeat) -> None:
        if beat.phase == "deaf":
            pids.append(beat.pid)
            stop.set()

    work = (
        "import signal; signal.signal(15, signal.SIG_IGN); job.beat('deaf', 1, 2); time.sleep(600)"
    )
    with pytest.raises(Unavailable):
        run_job(module(work), tmp_path / "job", Orders(), stop=stop, watch=watch)
    assert is_gone(pids[0])


def test_child_without_a_sign_of_life_is_ended(
    module: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hung child is ended and told as failed."""
    monkeypatch.setattr("trainer.launch.STALL_SECONDS", 0.0)
    with pytest.raises(ChildFailed, match="no sign of life"):
        run_job(module("time.sleep(600)"), tmp_path / "job", Orders(), stop=threading.Event())


def test_failure_is_told_by_this_run_not_by_an_older_one(
    module: Callable[[str], str], tmp_path: Path
) -> None:
    """The log grows over retries; the error of an earlier try is not given as the cause."""
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "log.txt").write_text("error: an old fault, long mended\n")
    with pytest.raises(ChildFailed) as caught:
        run_job(module("raise OSError('the new fault')"), folder, Orders(), stop=threading.Event())
    assert "the new fault" in caught.value.message
    assert "an old fault" not in caught.value.message


def test_child_ends_when_its_parent_is_killed(module: Callable[[str], str], tmp_path: Path) -> None:
    """A killed daemon leaves no orphan that works on, nor holds the folder's lock."""
    name = module("time.sleep(600)")
    folder = tmp_path / "job"
    code = (
        "import sys, threading\n"
        "from pathlib import Path\n"
        "from trainer.launch import run_job\n"
        "from trainer.questions import Sampling\n"
        f"run_job({name!r}, Path({str(folder)!r}), Sampling(), stop=threading.Event(),\n"
        "        watch=lambda beat: print(beat.pid, flush=True))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert not is_gone(child)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert poll(lambda: is_gone(child))
    assert not (folder / "manifest.json").exists()


def test_real_child_answers(tiny_base: Base, tmp_path: Path) -> None:
    """`python -m trainer.answers` leaves the answers in its manifest."""
    questions = tuple(Question(id=f"q-{n}", prompt="Hello?" * n) for n in (3, 1, 2))
    job = AnswerJob(
        base=tiny_base,
        adapter=None,
        cache=str(tmp_path / "cache"),
        sampling=Sampling(max_new_tokens=4),
        questions=questions,
    )
    run_job("trainer.answers", tmp_path / "job", job, stop=threading.Event())
    manifest = read_record(tmp_path / "job" / "manifest.json", AnswerManifest)
    assert [a.id for a in manifest.answers] == ["q-3", "q-1", "q-2"]


def test_real_child_that_fails_gives_its_error_line(tiny_base: Base, tmp_path: Path) -> None:
    """The cause in the child's own words reaches the parent, and only that line of the log."""
    job = FinetuneJob(
        base=tiny_base,
        recipe=Recipe(),
        dataset=str(tmp_path / "nothing"),
        cache=str(tmp_path / "cache"),
    )
    with pytest.raises(ChildFailed) as caught:
        run_job("trainer.finetune", tmp_path / "job", job, stop=threading.Event())
    message = caught.value.message
    assert message.startswith("The child ended with exit code 2 (its orders, its data or")
    missing = tmp_path / "nothing" / "train.jsonl"
    assert message.endswith(f"\nerror: The dataset has no {missing}.")


def test_starting_jobs_loads_no_torch() -> None:
    """All that the daemon imports of this package leaves torch to the children."""
    code = (
        "import sys, trainer.launch, trainer.promote, trainer.base, trainer.adapter\n"
        "import trainer.targets, trainer.gates, trainer.jobs, trainer.questions, trainer.recipe\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'peft')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
