"""What the daemon's process takes of memory does not depend on what it trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.trainer.children import ROOT
from tests.trainer.conftest import RECIPE, ROWS, WriteDataset
from trainer.base import Base
from trainer.job import write_record
from trainer.jobs import FinetuneJob

GROWTH_MB = 8.0
"""Beats, records, a thread's stack: the child takes hundreds."""

PARENT = """
import json, sys, threading
from pathlib import Path
import daemon.cli.verbs, daemon.service, daemon.report
from trainer.job import read_record
from trainer.jobs import FinetuneJob, FinetuneManifest
from trainer.launch import Start, run_job

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024

folder = Path(sys.argv[1])
job, before = read_record(folder / "order.json", FinetuneJob), peak()
beats = []
run_job("trainer.finetune", folder / "run", job, stop=threading.Event(), watch=beats.append,
        how=Start(attempts=2))
child = read_record(folder / "run" / "manifest.json", FinetuneManifest).metrics["peak_memory_mb"]
print(json.dumps({"before": before, "after": peak(), "child": child, "beats": len(beats)}))
"""


def test_training_leaves_the_parents_peak_memory_as_it_was(
    tiny_base: Base, tmp_path: Path, write_dataset: WriteDataset
) -> None:
    """A process with all that the daemon imports, before a real training job of its and after."""
    write_record(
        tmp_path / "order.json",
        FinetuneJob(
            base=tiny_base,
            recipe=RECIPE,
            dataset=write_dataset(tmp_path / "dataset", ROWS, ROWS[:2]),
            cache=str(tmp_path / "cache"),
        ),
    )

    ended = subprocess.run(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["after"] - found["before"] < GROWTH_MB
    assert found["child"] > 10 * GROWTH_MB
    assert (tmp_path / "run" / "loss.png").is_file()  # drawn, and not in the parent
    assert found["beats"] > 0
