"""`accelerate launch`: one process for each GPU of this machine, which share every step."""

from __future__ import annotations

import shlex
import sys

from trainer.launchers.launcher import MODULE, ROOT, Plan


def options(processes: int) -> list[str]:
    """Everything is said, so that nobody's `accelerate config` decides.

    `--multi_gpu` is what starts ranks, without a GPU, too; precision is the recipe's; port 0 is a
    free one.
    """
    return [
        "--multi_gpu",
        *("--num_processes", str(processes)),
        *("--num_machines", "1"),
        *("--main_process_port", "0"),
        *("--mixed_precision", "no"),
        *("--dynamo_backend", "no"),
    ]


def show(plan: Plan) -> str:
    """The command, to be run by hand. The daemon's own goes through trainer.ranks."""
    launch = [sys.executable, "-m", "accelerate.commands.launch"]
    job = ["--module", MODULE, str(plan.folder)]
    return (
        f"cd {shlex.quote(str(ROOT))} && "
        f"{shlex.join([*launch, *options(max(2, plan.launch.processes)), *job])}\n"
    )
