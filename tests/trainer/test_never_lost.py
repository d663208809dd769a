"""A training that is killed, stopped or starved, for real, ends as one that was left in peace."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from safetensors.torch import load_file

from store.orphans import EXIT_RETRYABLE
from tests.trainer.children import TRAINING_SECONDS, Nursery, step_of, wait_for_step
from trainer.base import Base
from trainer.checkpoints import MARK
from trainer.job import read_record, write_record
from trainer.jobs import FinetuneJob, FinetuneManifest
from trainer.memory import FILE, Thrift
from trainer.recipe import Recipe

FEW_KILLS, KILLS = 3, 10


@pytest.fixture
def job(
    tiny_base: Base, rows: list[Any], recipe: Recipe, tmp_path: Path, write_dataset: Any
) -> Callable[..., Path]:
    """Writes a job of forty steps; its folder."""
    dataset = write_dataset(tmp_path / "dataset", (rows * 2)[:20], rows[:2])

    def write(name: str, **changes: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        learned_from = changes.pop("dataset", dataset)
        wanted = {"num_train_epochs": 8.0, "save_steps": 3.0, "micro_batch_size": 2} | changes
        order = FinetuneJob(
            base=tiny_base,
            recipe=msgspec.structs.replace(recipe, **wanted),
            dataset=learned_from,
            cache=str(tmp_path / "cache"),
        )
        write_record(folder / "job.json", order)
        return folder

    return write


@pytest.mark.parametrize(
    ("kills", "dropout"),
    [
        (FEW_KILLS, 0.1),
        pytest.param(KILLS, 0.1, marks=pytest.mark.slow),
        pytest.param(KILLS, 0.0, marks=pytest.mark.slow),
    ],
)
def test_killed_again_and_again_it_ends_with_the_same_adapter(
    nursery: Nursery, job: Callable[..., Path], kills: int, dropout: float
) -> None:
    """SIGKILL at random steps, also while a checkpoint is written: the same bytes in the end."""
    draw = random.Random(20261122)
    folder, peaceful = job("killed", lora_dropout=dropout), job("peaceful", lora_dropout=dropout)
    reached = 0
    for _ in range(kills):
        since = time.time_ns()
        pid = nursery.start(folder)
        wait_for_step(folder, min(reached + draw.randint(1, 4), 39), since)
        time.sleep(draw.uniform(0, 0.05))  # a step takes about as long
        os.kill(pid, signal.SIGKILL)
        assert nursery.ended() == -signal.SIGKILL
        reached = step_of(folder)
    assert not (folder / "manifest.json").exists()
    for one in (folder, peaceful):
        nursery.start(one)
        assert nursery.ended() == 0, (one / "log.txt").read_text()[-2000:]
    killed, whole = (
        read_record(one / "manifest.json", FinetuneManifest) for one in (folder, peaceful)
    )
    assert killed.adapter_hash == whole.adapter_hash
    told = ("train_loss", "validation_loss", "kl_to_base", "optimizer_steps")
    assert {n: killed.metrics[n] for n in told} == {n: whole.metrics[n] for n in told}
    log = (folder / "log.txt").read_text()
    assert log.count("goes on from step") >= kills // 2  # or nothing was resumed at all
    assert "goes on from step" not in (peaceful / "log.txt").read_text()
    assert not (folder / "checkpoints").exists()


def test_sigterm_keeps_a_checkpoint_and_asks_to_be_started_again(
    nursery: Nursery, job: Callable[..., Path]
) -> None:
    """Exit code 75 after the step that was under way, from which the next try goes on."""
    folder, peaceful = job("stopped", save_steps=100.0), job("peaceful", save_steps=100.0)
    pid = nursery.start(folder)
    wait_for_step(folder, 5, 0)
    os.kill(pid, signal.SIGTERM)
    assert nursery.ended() == EXIT_RETRYABLE
    [checkpoint] = (folder / "checkpoints").iterdir()
    assert (checkpoint / MARK).is_file()
    step = int(checkpoint.name.removeprefix("checkpoint-"))
    assert 5 <= step < 40
    assert f"error: Stopped after step {step} of 40." in (folder / "log.txt").read_text()
    for one in (folder, peaceful):
        nursery.start(one)
        assert nursery.ended() == 0
    assert f"goes on from step {step} of 40" in (folder / "log.txt").read_text()
    stopped, whole = (
        read_record(one / "manifest.json", FinetuneManifest) for one in (folder, peaceful)
    )
    assert stopped.adapter_hash == whole.adapter_hash


def test_killed_after_the_last_step_it_does_not_train_again(
    nursery: Nursery, job: Callable[..., Path]
) -> None:
    """From the last checkpoint only what follows the training is done, to the same adapter."""
    folder = job("late", num_train_epochs=2.4)  # of which the last step is inside an epoch
    nursery.start(folder)
    assert nursery.ended() == 0
    manifest = read_record(folder / "manifest.json", FinetuneManifest)
    again = job("again", num_train_epochs=2.4)
    pid = nursery.start(again)
    deadline = time.monotonic() + TRAINING_SECONDS
    last = again / "checkpoints" / "checkpoint-12" / MARK
    while not last.is_file() and time.monotonic() < deadline:
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    assert nursery.ended() == -signal.SIGKILL
    assert not (again / "manifest.json").exists()
    nursery.start(again)
    assert nursery.ended() == 0
    resumed = read_record(again / "manifest.json", FinetuneManifest)
    assert "goes on from step 12 of 12" in (again / "log.txt").read_text()
    assert resumed.adapter_hash == manifest.adapter_hash
    assert resumed.metrics["train_loss"] == manifest.metrics["train_loss"]


def test_another_dataset_is_not_gone_on_with(nursery: Nursery, job: Callable[..., Path]) -> None:
    """What was erased since the last try has taught the checkpoint, so it begins anew."""
    folder = job("erased")
    pid = nursery.start(folder)
    wait_for_step(folder, 5, 0)
    os.kill(pid, signal.SIGTERM)
    assert nursery.ended() == EXIT_RETRYABLE
    path = folder.parent / "dataset" / "train.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    nursery.start(folder)
    assert nursery.ended() == 0
    log = (folder / "log.txt").read_text()
    assert "is thrown away: it is of another job, dataset or version" in log
    assert "goes on from step" not in log


def test_out_of_memory_it_is_tried_again_with_less(
    nursery: Nursery, job: Callable[..., Path], turn: Any, write_dataset: Any, tmp_path: Path
) -> None:
    """Under a real limit: a smaller micro-batch, preflight's or a later try's, the same steps."""
    long = write_dataset(tmp_path / "long", [turn("word " * 900, "Hi")] * 256)
    wanted: dict[str, Any] = {
        "dataset": long,
        "max_length": 1024,
        "micro_batch_size": 128,
        "effective_batch_size": 128,
        "num_train_epochs": 1.0,
    }
    starved, peaceful = job("starved", **wanted), job("peaceful", **wanted)
    codes = []
    while not codes or codes[-1] == EXIT_RETRYABLE:
        nursery.start(starved, megabytes=900)
        codes.append(nursery.ended())
        assert len(codes) < 6, (starved / "log.txt").read_text()[-2000:]
    assert codes[-1] == 0, (starved / "log.txt").read_text()[-2000:]
    thrift = read_record(starved / FILE, Thrift)
    assert thrift.micro_batch_size < 128
    nursery.start(peaceful)
    assert nursery.ended() == 0
    ours, whole = (
        read_record(one / "manifest.json", FinetuneManifest).metrics for one in (starved, peaceful)
    )
    assert ours["micro_batch_size"] == thrift.micro_batch_size < whole["micro_batch_size"] == 128
    assert ours["optimizer_steps"] == whole["optimizer_steps"] == 2
    assert ours["train_loss"] == pytest.approx(whole["train_loss"], abs=1e-4)
    weights, theirs = (
        load_file(one / "adapter" / "adapter_model.safetensors") for one in (starved, peaceful)
    )
    assert all((weights[n] - theirs[n]).abs().max() < 1e-3 for n in theirs)
