"""Models are asked by several processes: the same is observed, and what was kept stays kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from store.orphans import EXIT_RETRYABLE
from tests.trainer.children import ROOT, is_gone, poll
from trainer import observe
from trainer.evaluate import evaluate
from trainer.gates import tasks
from trainer.job import read_heartbeat, read_record
from trainer.jobs import EvaluateJob, EvaluateManifest

pytestmark = pytest.mark.filterwarnings("ignore:::transformers", "ignore:::torch", "ignore:::peft")

WriteJob = Callable[..., Path]


ALL_ITEMS = ("-m", "trainer.evaluate")
FEW_ITEMS = (str(Path(__file__).with_name("few_items.py")),)


def start(folder: Path, code: Sequence[str] = ALL_ITEMS) -> subprocess.Popen[bytes]:
    """The evaluation in a process of its own, as by hand."""
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", *code, str(folder)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def children(pid: int) -> list[int]:
    """The processes that a process has started and that ask: not what helps multiprocessing."""
    told = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [
        int(child)
        for child in told.split()
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def kept(folder: Path) -> set[Path]:
    """What has been observed so far."""
    cache = Path(read_record(folder / "job.json", EvaluateJob).cache)
    return set((cache / "observations").glob("[!.]*.jsonl"))


def test_two_processes_observe_what_one_does(
    evaluate_job: WriteJob, tmp_path: Path, short_suites: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdicts are the same; each try has a cache of its own, so both really ask."""
    monkeypatch.setenv("FEW_ITEMS", str(short_suites))
    found = []
    for processes in (1, 2):
        cache = tmp_path / f"cache-{processes}"
        folder = evaluate_job(str(processes), cache=str(cache), processes=processes)
        if processes == 1:
            evaluate(folder)
        else:
            with start(folder, FEW_ITEMS) as process:
                assert process.wait() == 0, (folder / "log.txt").read_text()
        manifest = read_record(folder / "manifest.json", EvaluateManifest)
        found.append((manifest.verdicts, {path.name for path in kept(folder)}))
    assert found[0] == found[1]


@pytest.mark.slow
def test_two_roles_that_are_one_model_are_asked_once(
    evaluate_job: WriteJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base judged against itself takes as long as the base."""
    folder = evaluate_job(candidate=None, candidate_hash="", cache=str(tmp_path / "cache"))
    task = read_record(folder / "job.json", EvaluateJob)
    asked: list[str] = []
    monkeypatch.setattr(
        observe, "_ask_all", lambda _, __, wanted, ___: asked.extend(p.task for p in wanted)
    )
    with pytest.raises(FileNotFoundError):  # nobody has asked
        observe.observe(task, {"base": None, "candidate": None}, lambda *_: None)
    assert sorted(asked) == sorted({one.name for one in tasks()})


def test_killed_process_that_asks_is_told_and_nothing_is_lost(evaluate_job: WriteJob) -> None:
    """Of two that ask one is killed: start it again, and what was observed is not asked again.

    And where the evaluation itself is killed, no process goes on asking.
    """
    folder = evaluate_job(processes=2)
    with start(folder) as process:
        assert poll(lambda: bool(kept(folder)))
        one, other = children(process.pid)
        os.kill(one, signal.SIGKILL)
        assert process.wait() == EXIT_RETRYABLE, (folder / "log.txt").read_text()
        assert poll(lambda: is_gone(other))
    assert "evaluation_processes" in (folder / "log.txt").read_text()
    before = kept(folder)
    beat = read_heartbeat(folder)
    assert beat is not None
    with start(folder) as process:
        assert poll(lambda: len(kept(folder)) > len(before))
        askers = children(process.pid)
        process.kill()
        assert poll(lambda: all(is_gone(pid) for pid in askers))
    times = {path: path.stat().st_mtime_ns for path in kept(folder)}
    time.sleep(0.01)
    with start(folder) as process:
        assert process.wait() == 0, (folder / "log.txt").read_text()
    assert {path: path.stat().st_mtime_ns for path in times} == times
