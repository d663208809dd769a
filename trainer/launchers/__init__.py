"""The roster of launchers. A new one is one file here and one line below."""

from __future__ import annotations

from collections.abc import Callable

from trainer.launchers import accelerate, kubernetes, local, slurm
from trainer.launchers.launcher import Plan

LAUNCHERS: dict[str, Callable[[Plan], str]] = {
    "local": local.show,
    "accelerate": accelerate.show,
    "slurm": slurm.show,
    "kubernetes": kubernetes.show,
}
"""By name, what a person runs or submits to have a job done: a command, a script, a manifest."""
