"""The contract of a launcher: one job folder, one command, wherever it runs.

A cluster must see the job folder, the dataset and the cache under the same paths as the daemon
does, because these stand in job.json; a folder on a shared disk, or a mounted volume.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from msgspec import Meta, field

from store.errors import Rejected
from store.records import Noun
from trainer.isolation import ResourceLimits

ROOT = Path(__file__).resolve().parents[2]
MODULE = "trainer.finetune"
TERMINATE_SECONDS = 120
"""Before a cluster ends a job it asks; so long there is for the last step and its checkpoint."""

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._,:/@-]*$")]
"""What may stand in a script's header: nothing that a shell or a scheduler would read otherwise."""


class SlurmSettings(Noun, frozen=True, kw_only=True):
    """What a Slurm cluster wants to know; empty: its own default."""

    partition: Name = ""
    account: Name = ""


class KubernetesSettings(Noun, frozen=True, kw_only=True):
    """What a Kubernetes cluster wants to know."""

    image: Name = ""
    """With this application in /opt/bhavana, as the systemd unit has it."""
    namespace: Name = "default"
    claim: Name = ""
    """The PersistentVolumeClaim that holds data_dir."""


class LaunchSettings(Noun, frozen=True, kw_only=True):
    """Where and on how much a training runs."""

    processes: Annotated[int, Meta(ge=1, le=64)] = 1
    """More than one go through `accelerate launch`, each on a GPU of its own."""
    gpus: Annotated[int, Meta(ge=0, le=64)] = 0
    """Asked of a cluster; on this machine a process takes what it finds."""
    minutes: Annotated[int, Meta(ge=0)] = 0
    """The time limit that a cluster is told; 0: its own."""
    slurm: SlurmSettings = field(default_factory=SlurmSettings)
    kubernetes: KubernetesSettings = field(default_factory=KubernetesSettings)


class Plan(Noun, frozen=True, kw_only=True):
    """One job to be launched."""

    folder: Path
    """The job folder, with its job.json."""
    data: Path
    """data_dir, in which it lies."""
    launch: LaunchSettings
    limits: ResourceLimits


def command(
    module: str, *arguments: str, processes: int = 1, python: str = sys.executable
) -> list[str]:
    """What starts a module of ours, in one process or several; its exit code says how it ended."""
    if processes == 1:
        return [python, "-m", module, *arguments]
    ranks = ["trainer.ranks", "--processes", str(processes)]
    return [python, "-m", *ranks, module, *arguments]


def training(plan: Plan, python: str = sys.executable) -> list[str]:
    """The command of the plan's job."""
    return command(MODULE, str(plan.folder), processes=plan.launch.processes, python=python)


def require_plain(path: Path) -> None:
    """Raises Rejected for a path with a line break, which no script's header can hold."""
    if any(ord(c) < 32 for c in str(path)):
        raise Rejected(f"{str(path)!r} has a control character in it; no script can name it.")
