"""A job in two processes through `accelerate launch`: gloo on processors, in the place of GPUs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace
from safetensors.torch import load_file

from store.errors import EthicsHalt, Unavailable
from tests.trainer.children import ROOT, Orders, is_gone, maker, poll
from tests.trainer.conftest import RECIPE, ROWS, WriteDataset
from trainer.attempts import read_attempts
from trainer.base import Base
from trainer.isolation import ResourceLimits
from trainer.job import Heartbeat, read_record
from trainer.jobs import FinetuneJob, FinetuneManifest
from trainer.launch import Start, run_job

TOGETHER = Start(processes=2)
NOTE_PID = "(job.folder / ('pid-' + os.environ['RANK'])).write_text(str(os.getpid()))"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Makes a module with a job's skeleton around the given work; returns its name."""
    return maker(tmp_path / "modules", monkeypatch)


def pids(folder: Path) -> list[int]:
    """Of the ranks that have noted theirs."""
    return [int(text) for p in sorted(folder.glob("pid-*")) if (text := p.read_text())]


def test_two_ranks_share_one_job(module: Callable[[str], str], tmp_path: Path) -> None:
    """They find each other, and the first one speaks for both."""
    beats: list[Heartbeat] = []
    work = (
        "import torch, torch.distributed as others\n"
        "    others.init_process_group('gloo')\n"
        "    sum = torch.tensor([others.get_rank() + 1])\n"
        "    others.all_reduce(sum)\n"
        "    job.beat('summed', int(sum), 9)\n"
        "    others.barrier()\n"
        "    others.destroy_process_group()"
    )
    run_job(
        module(work),
        tmp_path / "job",
        Orders(),
        stop=threading.Event(),
        watch=beats.append,
        how=TOGETHER,
    )
    assert (beats[-1].phase, beats[-1].done) == ("summed", 3)
    assert [a.outcome for a in read_attempts(tmp_path / "job").attempts] == ["done"]


def test_exit_code_is_that_of_the_rank_that_failed(
    module: Callable[[str], str], tmp_path: Path
) -> None:
    """Also where it is not the first one; accelerate alone would say 1."""
    work = "if os.environ['RANK'] == '1': sys.exit(7)\n    time.sleep(600)"
    with pytest.raises(EthicsHalt):
        run_job(module(work), tmp_path / "job", Orders(), stop=threading.Event(), how=TOGETHER)


def test_stop_reaches_every_rank(module: Callable[[str], str], tmp_path: Path) -> None:
    """Each is asked to end, and all are gone when the call returns."""
    stop, folder = threading.Event(), tmp_path / "job"

    def watch(beat: Heartbeat) -> None:
        if beat.phase == "both":
            stop.set()

    work = (
        f"{NOTE_PID}\n"
        "    while len(list(job.folder.glob('pid-*'))) < 2: time.sleep(0.02)\n"
        "    job.beat('both', 1, 1)\n"
        "    time.sleep(600)"
    )
    with pytest.raises(Unavailable, match="repeated"):
        run_job(module(work), folder, Orders(), stop=stop, watch=watch, how=TOGETHER)
    assert [is_gone(pid) for pid in pids(folder)] == [True, True]


def test_ranks_end_when_the_daemon_is_killed(module: Callable[[str], str], tmp_path: Path) -> None:
    """Each process ends when the one above it is gone, down to the last."""
    name, folder = module(f"{NOTE_PID}; time.sleep(600)"), tmp_path / "job"
    code = (
        "import threading\nfrom pathlib import Path\n"
        "from trainer.launch import Start, run_job\nfrom trainer.questions import Sampling\n"
        f"run_job({name!r}, Path({str(folder)!r}), Sampling(), stop=threading.Event(),\n"
        "        how=Start(processes=2))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=dict(os.environ)) as parent:
        assert poll(lambda: len(pids(folder)) == 2)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert poll(lambda: all(map(is_gone, pids(folder))))


def test_two_ranks_train_the_adapter_of_one(
    tiny_base: Base, tmp_path: Path, write_dataset: WriteDataset
) -> None:
    """Each takes its half of every effective batch; what comes out differs by rounding only."""
    recipe = replace(RECIPE, micro_batch_size=1, num_train_epochs=2.0)
    job = FinetuneJob(
        base=tiny_base,
        recipe=recipe,
        dataset=write_dataset(tmp_path / "dataset", ROWS, ROWS[:2]),
        cache=str(tmp_path / "cache"),
    )
    trained = []
    for how in (Start(limits=ResourceLimits(cpus=1)), TOGETHER):
        folder = tmp_path / f"run-{how.processes}"
        run_job("trainer.finetune", folder, job, stop=threading.Event(), how=how)
        trained.append(load_file(folder / "adapter" / "adapter_model.safetensors"))
        assert read_record(folder / "manifest.json", FinetuneManifest).metrics["train_rows"] == 12
    one, two = trained
    assert one.keys() == two.keys()
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-3
    assert max(float(weights.abs().max()) for weights in one.values()) > 1e-2
