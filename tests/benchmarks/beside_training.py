"""The door while a real training job of the embedded base runs on the same processors."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tests.benchmarks import servers
from tests.benchmarks.figures import Figure, figure, interleaved
from tests.benchmarks.load import WARM_SECONDS, post
from tests.benchmarks.samples import samples
from trainer import base as bases
from trainer import launch
from trainer.job import write_record
from trainer.jobs import FinetuneJob
from trainer.recipe import Recipe

PATIENCE_SECONDS = 300.0
MORE_THAN_ENOUGH = Recipe(num_train_epochs=1000.0)


def beside_training(folder: Path) -> list[Figure]:
    """p99 of single events while the job trains, beside the same while it is stopped."""
    with _training(folder) as child, servers.daemon(folder / "data") as server:
        post(server.url, server.key, seconds=WARM_SECONDS)

        def trains() -> float:
            child.send_signal(signal.SIGCONT)
            time.sleep(WARM_SECONDS)
            return post(server.url, server.key).p99_ms

        def rests() -> float:
            child.send_signal(signal.SIGSTOP)
            return post(server.url, server.key).p99_ms

        busy, quiet = interleaved(trains, rests)
        if child.poll() is not None:
            raise RuntimeError("The training ended before the measurement did.")
        niceness = os.getpriority(os.PRIO_PROCESS, child.pid)
    return [
        figure(
            f"p99 beside training (nice {niceness})",
            "ms",
            busy,
            "p99 without training",
            quiet,
            asked="ratio <=",
            bar=3,
        )
    ]


@contextmanager
def _training(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A job as the daemon starts one, when it has made its first step; ended unfinished."""
    job = folder / "run"
    job.mkdir(parents=True)
    order = FinetuneJob(
        base=bases.locate("smollm2-135m"),
        recipe=MORE_THAN_ENOUGH,
        dataset=str(_dataset(folder / "dataset")),
        cache=str(folder / "cache"),
    )
    write_record(job / "job.json", order)
    with (job / "log.txt").open("ab") as log:
        child = launch.start("trainer.finetune", str(job), stdout=log)
    try:
        _wait_for_a_step(child, job)
        yield child
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGCONT)  # a stopped process hears no SIGTERM
        launch.end(child)


def _dataset(folder: Path) -> Path:
    folder.mkdir()
    with (folder / "train.jsonl").open("wb") as file:
        for e in samples("train", 100):
            answer = {"role": "assistant", "content": e.response}
            file.write(msgspec.json.encode({"messages": [*e.messages, answer]}) + b"\n")
    (folder / "validation.jsonl").touch()
    return folder


def _wait_for_a_step(child: subprocess.Popen[bytes], job: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and child.poll() is None:
        beat = launch.read_heartbeat(job)
        if beat is not None and beat.phase == "training" and beat.done > 0:
            return
        time.sleep(launch.POLL_SECONDS)
    raise RuntimeError(f"The job does not train: {(job / 'log.txt').read_text()[-2000:]}")
