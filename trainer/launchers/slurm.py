"""A Slurm batch script: `bhavana train --launcher slurm --dry-run | sbatch`.

Slurm asks the job to end two minutes before its time is up; the job keeps a checkpoint and ends
with 75, and the script puts it into the queue again.
"""

from __future__ import annotations

import shlex

from store.orphans import EXIT_RETRYABLE
from trainer.launchers.launcher import ROOT, TERMINATE_SECONDS, Plan, require_plain, training

MOST_REQUEUES = 50
"""A job that asks to be started again more often than this never ends."""


def show(plan: Plan) -> str:
    """The script. Raises Rejected where a path cannot stand in it."""
    for path in (plan.folder, ROOT):
        require_plain(path)
    header = "\n".join(f"#SBATCH --{name}={_quoted(text)}" for name, text in _asked(plan).items())
    return f"""#!/bin/bash
{header}
#SBATCH --requeue
# {plan.folder.name}: this checkout and {plan.data} must lie on a disk that the nodes share.
set -u
cd {shlex.quote(str(ROOT))} || exit 1
export HF_HUB_DISABLE_TELEMETRY=1 PYTHONUNBUFFERED=1
srun {shlex.join(training(plan))}
code=$?
if [ "$code" -eq {EXIT_RETRYABLE} ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {MOST_REQUEUES} ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


def _asked(plan: Plan) -> dict[str, str]:
    launch, limits = plan.launch, plan.limits
    asked = {
        "job-name": plan.folder.name,
        "output": str(plan.folder / "slurm").replace("%", "%%") + "-%j.txt",
        "open-mode": "append",
        "nodes": "1",
        "ntasks": "1",
        "signal": f"TERM@{TERMINATE_SECONDS}",  # to srun's processes, not to this shell
        "cpus-per-task": str(limits.cpus or ""),
        "mem": f"{limits.memory_mb}M" if limits.memory_mb else "",
        "gres": f"gpu:{launch.gpus}" if launch.gpus else "",
        "time": str(launch.minutes or ""),
        "partition": launch.slurm.partition,
        "account": launch.slurm.account,
    }
    return {name: text for name, text in asked.items() if text}


def _quoted(text: str) -> str:
    """As sbatch reads a header line, which is as a shell would."""
    return shlex.quote(text)
