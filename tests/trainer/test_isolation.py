"""What a job's child may take and know: limits that hold, and an environment without secrets."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from store.errors import ChildFailed
from tests.trainer.children import ROOT, Orders, maker
from tests.trainer.conftest import RECIPE, WriteDataset, turn
from trainer import isolation
from trainer.attempts import read_attempts
from trainer.base import Base
from trainer.isolation import MIB, Cell, DataLimit, Group, ResourceLimits, Scope, cell, environment
from trainer.job import read_record
from trainer.jobs import FinetuneJob, FinetuneManifest
from trainer.launch import Start, run_job

HELD = ResourceLimits(memory_mb=256)
SECRETS = {
    "BHAVANA_STORE__URL": "postgresql://u:hush-hush@h/d",
    "BHAVANA_PANEL__JUDGE__API_KEY": "hush-hush",
    "AWS_SECRET_ACCESS_KEY": "hush-hush",
    "OPENAI_API_KEY": "hush-hush",
    "CREDENTIALS_DIRECTORY": "/run/hush-hush",
    "NOTIFY_SOCKET": "/run/hush-hush",
    "WANDB_API_KEY": "hush-hush",
}


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Makes a module with a job's skeleton around the given work; returns its name."""
    return maker(tmp_path / "modules", monkeypatch)


@pytest.fixture
def unmanaged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without systemd and without a delegated control group."""
    monkeypatch.setattr(isolation, "_systemd_works", lambda: False)
    monkeypatch.setattr(isolation, "CGROUPS", tmp_path / "none")


@pytest.fixture
def delegated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder laid out as systemd delegates a control group: names only, no kernel behind it."""
    monkeypatch.setattr(isolation, "_systemd_works", lambda: False)
    monkeypatch.setattr(isolation, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(isolation, "OWN_CGROUP", tmp_path / "own")
    service = tmp_path / "cgroup" / "system.slice" / "bhavana.service"
    (service / "daemon").mkdir(parents=True)
    (tmp_path / "cgroup" / "cgroup.controllers").touch()
    (tmp_path / "own").write_text("1:name=systemd:/x\n0::/system.slice/bhavana.service/daemon\n")
    try:
        os.setxattr(service, "user.delegate", b"1")
    except OSError:
        pytest.skip("this file system keeps no extended attributes")
    return service


def test_secrets_do_not_reach_the_child() -> None:
    """What is not needed is not passed on; what torch and Hugging Face need is."""
    needed = {"PATH": "/bin", "HF_HOME": "/hf", "HF_TOKEN": "t", "CUDA_VISIBLE_DEVICES": "0"}
    found = environment(ResourceLimits(cpus=3), SECRETS | needed)
    assert {n: found[n] for n in needed} == needed
    assert "hush-hush" not in str(found)
    assert found["OMP_NUM_THREADS"] == "3"
    assert found["BHAVANA_PARENT_PID"] == str(os.getpid())


def test_what_a_job_asks_for_reaches_it() -> None:
    """A reporter's variables are passed where it is at work, and nothing else with them."""
    found = environment(ResourceLimits(), SECRETS, also=("WANDB_",))
    assert found["WANDB_API_KEY"] == "hush-hush"
    assert not {n for n in SECRETS if n != "WANDB_API_KEY"} & set(found)


@pytest.mark.usefixtures("unmanaged")
def test_real_child_sees_no_secret(
    module: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment of the process that was started, as the kernel shows it."""
    for name, text in SECRETS.items():
        monkeypatch.setenv(name, text)
    work = "(job.folder / 'seen').write_bytes(Path('/proc/self/environ').read_bytes())"
    run_job(module(work), tmp_path / "job", Orders(), stop=threading.Event())
    seen = (tmp_path / "job" / "seen").read_text()
    assert "hush-hush" not in seen
    assert f"BHAVANA_PARENT_PID={os.getpid()}" in seen


@pytest.mark.usefixtures("unmanaged")
@pytest.mark.parametrize("where", ["python", "torch"])
def test_child_that_takes_too_much_memory_dies_and_the_parent_is_told_the_knob(
    where: str, module: Callable[[str], str], tmp_path: Path
) -> None:
    """A gigabyte where 400 MB are allowed: refused in the child; the message names the setting."""
    limits = ResourceLimits(memory_mb=400)
    taken = {"python": "x = bytearray(1 << 30)", "torch": "import torch; x = torch.ones(1 << 28)"}
    folder = tmp_path / "job"
    with pytest.raises(ChildFailed, match="more than the 400 MB of") as no:
        run_job(
            module(taken[where]), folder, Orders(), stop=threading.Event(), how=Start(limits=limits)
        )
    assert "trainer.limits.memory_mb" in no.value.message
    assert no.value.hint is not None
    assert "micro_batch_size" in no.value.hint
    [attempt] = read_attempts(folder).attempts
    assert (attempt.isolation, attempt.outcome) == ("rlimit", "crashed")
    assert "400 MB by rlimit" in (folder / "log.txt").read_text()


@pytest.mark.usefixtures("unmanaged")
def test_torch_lives_within_a_limit_that_is_large_enough(
    module: Callable[[str], str], tmp_path: Path
) -> None:
    """What is counted is what is used: torch and 300 MB of numbers fit into 800 MB."""
    work = "import torch; x = torch.ones(300 << 18); assert float(x.sum()) > 0"
    how = Start(limits=ResourceLimits(memory_mb=800, cpus=1))
    run_job(module(work), tmp_path / "job", Orders(), stop=threading.Event(), how=how)


@pytest.mark.usefixtures("unmanaged")
def test_child_gets_so_many_processors(module: Callable[[str], str], tmp_path: Path) -> None:
    """As many as are asked for, of those that we may use, and torch as many threads."""
    work = (
        "import torch\n    seen = (len(os.sched_getaffinity(0)), torch.get_num_threads())\n"
        "    (job.folder / 'seen').write_text(repr(seen))"
    )
    how = Start(limits=ResourceLimits(cpus=1))
    run_job(module(work), tmp_path / "job", Orders(), stop=threading.Event(), how=how)
    assert (tmp_path / "job" / "seen").read_text() == "(1, 1)"


@pytest.mark.usefixtures("unmanaged")
def test_best_cell_of_a_machine_without_any_means_is_the_rlimit() -> None:
    """And where nothing is asked, nothing holds but the group and the priority."""
    with cell(HELD, "run-1") as found:
        assert type(found) is DataLimit
    with cell(ResourceLimits(cpus=1), "run-1") as found:
        assert (type(found), found.level) == (Cell, "none")


def test_delegated_group_takes_the_limits_and_the_child(delegated: Path) -> None:
    """The files that the kernel reads, in a group of the job's own below the service's."""
    with cell(HELD, "run-1") as found, subprocess.Popen(["sleep", "600"]) as child:
        assert type(found) is Group
        group = delegated / "job-run-1"
        assert found.folder == group
        found.hold(child.pid)
        child.kill()
        child.wait()
        assert {p.name: p.read_text() for p in group.iterdir()} == {
            "memory.max": str(256 * MIB),
            "memory.swap.max": "0",
            "memory.oom.group": "1",
            "cpu.weight": "20",
            "io.weight": "20",
            "cgroup.procs": str(child.pid),
        }
        (group / "memory.events").write_text("low 0\nmax 3\noom 1\noom_kill 0\n")
        assert not found.ran_out()
        (group / "memory.events").write_text("low 0\nmax 3\noom 1\noom_kill 2\n")
        assert found.ran_out()
        for path in group.iterdir():  # the kernel's files go with the group
            path.unlink()
    assert not group.exists()


@pytest.mark.parametrize("mark", [None, b"0"])
def test_group_that_was_not_delegated_is_left_alone(delegated: Path, mark: bytes | None) -> None:
    """That we may write into somebody's control group does not make it ours."""
    os.removexattr(delegated, "user.delegate")
    if mark is not None:
        os.setxattr(delegated, "user.delegate", mark)
    with cell(HELD, "run-1") as found:
        assert type(found) is DataLimit
    assert [p.name for p in delegated.iterdir()] == ["daemon"]


def test_group_that_takes_no_limits_is_no_cell(
    delegated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service whose control groups are read-only falls back to the rlimit and leaves nothing."""

    def refuses(self: Group) -> None:
        self.folder.mkdir()
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Group, "make", refuses)
    with cell(HELD, "run-1") as found:
        assert type(found) is DataLimit
    assert not (delegated / "job-run-1").exists()


def test_scope_is_asked_of_systemd_and_runs_the_command_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a stand-in that notes its arguments and becomes the command, as systemd-run --scope does.

    The process that we started is the job itself, so that its pid is the one to watch.
    """
    fake = tmp_path / "systemd-run"
    fake.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n'
        'while [ "$1" != -- ]; do shift; done; shift; exec "$@"\n'
    )
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(isolation, "_systemd_works", lambda: True)
    with cell(HELD, "run-1") as found:
        assert type(found) is Scope
        code = "import os; print(os.getpid())"
        with subprocess.Popen(
            found.command([sys.executable, "-c", code]), stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            assert int(child.stdout.read()) == child.pid
    asked = (tmp_path / "asked").read_text().split()
    assert {"--scope", "--property=MemoryMax=256M", "--property=MemorySwapMax=0"} <= set(asked)
    assert ("--system" in asked) == (os.geteuid() == 0)


@pytest.mark.skipif(not isolation.BOOTED_BY_SYSTEMD.is_dir(), reason="systemd does not run here")
def test_real_scope_ends_a_child_that_takes_too_much(
    module: Callable[[str], str], tmp_path: Path
) -> None:
    """The kernel kills in the scope, and this process lives."""
    if not isolation._systemd_works():
        pytest.skip("this user may make no scope")
    folder = tmp_path / "job"
    with pytest.raises(ChildFailed):
        run_job(
            module("x = bytearray(1 << 30)"),
            folder,
            Orders(),
            stop=threading.Event(),
            how=Start(limits=HELD),
        )
    assert [a.isolation for a in read_attempts(folder).attempts] == ["systemd"]


@pytest.mark.skipif(
    isolation.delegated_cgroup() is None, reason="no control group was delegated to these tests"
)
def test_real_group_ends_a_child_that_takes_too_much(
    module: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel kills in the group, says so, and this process lives."""
    monkeypatch.setattr(isolation, "_systemd_works", lambda: False)
    folder = tmp_path / "job"
    with pytest.raises(ChildFailed, match=r"trainer\.limits\.memory_mb"):
        run_job(
            module("x = bytearray(1 << 30)"),
            folder,
            Orders(),
            stop=threading.Event(),
            how=Start(limits=HELD),
        )
    assert [a.isolation for a in read_attempts(folder).attempts] == ["cgroup"]


def test_trainer_dies_before_the_daemon(module: Callable[[str], str], tmp_path: Path) -> None:
    """When memory runs out the kernel takes the job: its score is far above a daemon's, 0."""
    work = (
        "(job.folder / 'seen').write_text(Path('/proc/self/oom_score_adj').read_text().strip()"
        " + ' ' + str(os.nice(0)))"
    )
    run_job(module(work), tmp_path / "job", Orders(), stop=threading.Event())
    score, nice = map(int, (tmp_path / "job" / "seen").read_text().split())
    assert score == 500
    assert nice >= min(19, os.nice(0) + 10)


def test_isolation_loads_nothing_heavy() -> None:
    """The daemon imports it: no torch, no accelerate, no matplotlib, no YAML."""
    code = (
        "import sys, trainer.launch, trainer.launchers, trainer.progress, trainer.reporters\n"
        "heavy = ('torch', 'accelerate', 'matplotlib', 'yaml', 'psutil', 'tensorboard')\n"
        "sys.exit(any(m in sys.modules for m in heavy))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.usefixtures("unmanaged")
def test_training_that_takes_too_much_finds_what_fits(
    tiny_base: Base, tmp_path: Path, write_dataset: WriteDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused memory, it is done with a smaller micro-batch: preflight's, or a later attempt's."""
    monkeypatch.setattr("trainer.attempts.FIRST_BACKOFF_SECONDS", 0.01)
    rows = [turn(f"What is {n}?", "I am glad you ask." + " Gladly." * 60) for n in range(16)]
    batches = {"effective_batch_size": 16, "micro_batch_size": 16, "num_train_epochs": 1.0}
    job = FinetuneJob(
        base=tiny_base,
        recipe=replace(RECIPE, max_length=256, **batches),
        dataset=write_dataset(tmp_path / "dataset", rows),
        cache=str(tmp_path / "cache"),
    )
    folder = tmp_path / "run"
    how = Start(attempts=7, limits=ResourceLimits(memory_mb=1200, cpus=1))
    run_job("trainer.finetune", folder, job, stop=threading.Event(), how=how)
    ended = [attempt.outcome for attempt in read_attempts(folder).attempts]
    assert ended[-1] == "done"
    assert set(ended[:-1]) <= {"again"}
    assert read_record(folder / "manifest.json", FinetuneManifest).metrics["micro_batch_size"] < 16
