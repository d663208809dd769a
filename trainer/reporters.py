"""Where a training's numbers go besides its own progress.jsonl: TensorBoard, Weights & Biases.

transformers writes to both; here is what they must be told. TensorBoard's event files lie in the
job folder and leave it for nobody; W&B is a service on the network and off until somebody sets
it up.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from store.errors import Misconfigured

Reporter = Literal["tensorboard", "wandb"]
VARIABLES = {"wandb": ("WANDB_",)}
"""Prefixes of the environment variables that a reporter needs, its key (WANDB_API_KEY) among them;
they reach the child only where it is asked for."""
INSTALL = {
    "tensorboard": "Run `make setup`, or take it out of trainer.report_to.",
    "wandb": "Run `pip install wandb` in this environment and give WANDB_API_KEY.",
}


def not_installed(wanted: Sequence[str]) -> list[str]:
    """What is wrong where a reporter's package is not there, with the next step."""
    return [
        f"trainer.report_to: {name} is not installed. {INSTALL[name]}"
        for name in wanted
        if importlib.util.find_spec(name) is None
    ]


def variables(wanted: Sequence[str]) -> tuple[str, ...]:
    """Prefixes of the variables that these reporters need."""
    return tuple(prefix for name in wanted for prefix in VARIABLES.get(name, ()))


def reporting_to(wanted: Sequence[str], folder: Path) -> list[str]:
    """What transformers' report_to is given, after it was told to write into the job's folder.

    An attempt goes on in the same run of W&B. Raises Misconfigured.
    """
    if problems := not_installed(wanted):
        raise Misconfigured(" ".join(problems))
    for name, text in told(folder).items():
        os.environ.setdefault(name, text)
    return list(wanted)


def told(folder: Path) -> dict[str, str]:
    """By name what transformers reads from the environment, of which a job has its own."""
    return {
        "TENSORBOARD_LOGGING_DIR": str(folder / "tensorboard"),
        "WANDB_DIR": str(folder),
        "WANDB_PROJECT": "bhavana",
        "WANDB_RUN_ID": folder.name,
        "WANDB_RESUME": "allow",
    }
