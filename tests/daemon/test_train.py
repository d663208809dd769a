"""`bhavana train`: where a training is, live, and how it would be run elsewhere."""

from __future__ import annotations

import fcntl
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from daemon import report, training
from daemon.cli import main
from daemon.cli.verbs import app
from daemon.settings import load
from daemon.wiring import open_store
from trainer import attempts
from trainer.attempts import note
from trainer.job import Job, write_atomically

RUN = "run-0198c2000000"


@pytest.fixture
def data(tmp_path, monkeypatch):
    """An empty data folder, which the verbs use."""
    monkeypatch.setenv("BHAVANA_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(training, "FOLLOW_SECONDS", 0.02)
    return tmp_path


@pytest.fixture
def run(data):
    """The folder of a training run that has begun."""
    return begun(data / "runs" / RUN)


def begun(folder: Path) -> Path:
    """A run's folder with its orders and a first step."""
    folder.mkdir(parents=True)
    (folder / "job.json").write_text("{}")
    attempts.begin(folder, "rlimit")
    Job(folder).beat("training", 1, 40, loss=2.5)
    return folder


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Somebody works in the folder."""
    with (folder / "watcher.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def ask(*arguments: str):
    """What the verb prints and its exit code, apart for the two streams."""
    return CliRunner().invoke(app, ["train", *arguments])


def test_nothing_trained_yet_says_what_to_do(data, monkeypatch, capsys):
    """Training is a step of a cycle: the verb says which verb turns one."""
    monkeypatch.setattr("sys.argv", ["bhavana", "train"])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert "Nothing was ever trained" in said
    assert "bhavana cycle" in said


def test_unknown_run_is_told_with_those_there_are(run, monkeypatch, capsys):
    """And no path leads out of the runs."""
    for name in ("run-9", "../releases", "."):
        monkeypatch.setattr("sys.argv", ["bhavana", "train", "--run", name])
        with pytest.raises(SystemExit):
            main()
        assert f"There are {RUN}." in capsys.readouterr().err


def test_newest_run_is_shown(run, data):
    """Where it is, how it is held, and that one can stay with it; those put aside are not it."""
    begun(data / "runs" / "run-0297.quarantined")
    begun(data / "runs" / "run-0098")
    with held(run):
        seen = ask()
    assert seen.exit_code == 0
    assert f"{RUN}: training 1/40, loss 2.500" in seen.output
    assert "held by rlimit" in seen.output
    assert "--follow" in seen.output


def test_run_that_failed_ends_with_3_and_its_reason(run):
    """A script can tell."""
    attempt, _ = attempts.begin(run, "none")
    note(run, replace(attempt, outcome="failed", said="The child ended with exit code 5."))
    seen = ask()
    assert seen.exit_code == 3
    assert "The child ended with exit code 5." in seen.output


def test_run_that_lost_its_daemon_says_who_goes_on(run):
    """Nobody holds it, and it is not over."""
    seen = ask("--follow")
    assert seen.exit_code == 0
    assert "nobody works on it" in seen.output
    assert "bhavana serve" in seen.output


def test_follow_shows_a_line_now_and_then_and_ends_with_the_job(run, monkeypatch):
    """Where there is no terminal, a line each few seconds; then how it ended, and its pictures."""
    monkeypatch.setattr("daemon.cli.train.LINE_SECONDS", 0.0)
    steps = iter(range(2, 41))
    original = training.progress_of

    def steps_on(folder: Path):
        if (step := next(steps, None)) is not None:
            Job(folder).beat("training", step, 40, loss=2.5 - step / 100)
        else:
            (folder / "loss.png").touch()
            write_atomically(folder / "manifest.json", b"{}")
        return original(folder)

    monkeypatch.setattr(training, "progress_of", steps_on)
    with held(run):
        seen = ask("--follow")
    lines = seen.stderr.splitlines()
    assert seen.exit_code == 0
    assert lines[0].startswith("training 2/40, loss 2.480")
    assert any("left (until" in line for line in lines)
    assert f"{RUN}: done" in seen.stdout
    assert str(run / "loss.png") in seen.stdout
    assert "\r" not in seen.stderr


def test_follow_waits_through_the_pause_between_two_attempts(run):
    """The one that watches holds the folder, so the job is not taken for lost."""
    seen: list[str] = []
    over = threading.Event()

    def follow() -> None:
        seen.extend(p.phase for p in training.follow(run))
        over.set()

    with held(run):
        follower = threading.Thread(target=follow)
        follower.start()
        assert not over.wait(0.5)
        write_atomically(run / "manifest.json", b"{}")
        assert over.wait(20)
    follower.join()
    assert len(seen) > training.PATIENCE


def test_status_shows_the_training_that_is_under_way(run, data):
    """With its step and loss; a training that nobody holds is not shown as one."""
    settings = load(None, {"BHAVANA_DATA_DIR": str(data)})
    with open_store(settings) as store:
        with held(run):
            assert f"training     {RUN}: training 1/40, loss 2.500" in report.status_text(
                store, settings
            )
            assert report.status(store, settings)["training"]["done"] == 1
        assert report.status(store, settings)["training"] is None
        assert "\ntraining " not in report.status_text(store, settings)


def test_json_holds_the_numbers(run):
    """For programs."""
    found = json.loads(ask("--json").stdout)
    assert (found["job"], found["done"], found["numbers"]["loss"]) == (RUN, 1, 2.5)


@pytest.mark.parametrize("launcher", ["local", "accelerate", "slurm"])
def test_dry_run_prints_what_the_launcher_would_run(run, launcher):
    """For the newest run, and nothing else on stdout, so that it can be piped."""
    seen = ask("--launcher", launcher, "--dry-run")
    assert seen.exit_code == 0
    assert str(run) in seen.stdout


def test_dry_run_reads_limits_and_launch_of_the_settings(run, monkeypatch):
    """The settings of this installation stand in the script."""
    monkeypatch.setenv("BHAVANA_TRAINER__LIMITS__MEMORY_MB", "4096")
    monkeypatch.setenv("BHAVANA_TRAINER__LAUNCH__SLURM__PARTITION", "long")
    script = ask("--launcher", "slurm", "--dry-run").stdout
    assert "#SBATCH --mem=4096M\n" in script
    assert "#SBATCH --partition=long\n" in script


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--launcher", "ray", "--dry-run"], "no launcher 'ray'"),
        (["--launcher", "slurm"], "only prints"),
        (["--dry-run"], "which launcher"),
        (["--launcher", "kubernetes", "--dry-run"], "trainer.launch.kubernetes.image"),
    ],
)
def test_what_a_launcher_cannot_do_is_told(run, arguments, said, monkeypatch, capsys):
    """With the next step, never a traceback."""
    monkeypatch.setattr("sys.argv", ["bhavana", "train", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert said in error
    assert "next: " in error


def test_reporter_that_is_not_installed_is_told_with_how_to_install_it():
    """W&B is set up by whoever wants it; without the package nothing starts."""
    from store.errors import Misconfigured
    from trainer import reporters

    if not reporters.not_installed(["wandb"]):
        pytest.skip("wandb is installed here")
    with pytest.raises(Misconfigured, match="pip install wandb"):
        load(None, {"BHAVANA_TRAINER__REPORT_TO": '["wandb"]'})
    with pytest.raises(Misconfigured, match=r"trainer\.report_to"):
        load(None, {"BHAVANA_TRAINER__REPORT_TO": '["mlflow"]'})
    assert load(None, {}).trainer.report_to == ("tensorboard",)
