"""`python -m trainer.curves DIR`: a job's curves as pictures, drawn from its progress.jsonl.

loss.png shows loss, learning rate, speed and memory; ethics.png what the probes found, where the
job asked any. A process of its own: matplotlib is large, and a picture must not hold up a cycle.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from store.errors import BhavanaError
from trainer.progress import curves

Points = Mapping[int, float]
Panel = tuple[str, str, tuple[str, ...]]
"""Title, unit, and the numbers that are drawn in it where they are there."""

LOSS: tuple[Panel, ...] = (
    ("loss", "nats per token", ("loss", "validation_loss", "kl_to_base")),
    ("learning rate", "", ("learning_rate",)),
    ("speed", "tokens per second", ("tokens_per_second",)),
    ("memory", "MB", ("memory_mb", "gpu_memory_mb")),
)
REWARDS = ("rewards/margins", "rewards/chosen", "rewards/rejected", "validation_rewards/margins")
PREFERENCE: tuple[Panel, ...] = (
    ("loss", "", ("loss", "preference_loss")),
    ("rewards", "", REWARDS),
    ("drift", "nats per token", ("kl_to_base",)),
    *LOSS[1:],
)
"""Of a training by what people prefer, whose loss is not one of tokens."""
ETHICS_PREFIX = "ethics"
COLORS = ("#3b7a57", "#b5651d", "#5b7c99", "#7d5ba6", "#a63d40")
FEW = 2
"""A curve of fewer points is drawn as dots."""


def draw(folder: Path) -> list[Path]:
    """Draws what there is and returns the pictures. The same numbers give the same bytes."""
    found = curves(folder)
    ethics = tuple(sorted(name for name in found if name.startswith(ETHICS_PREFIX)))
    drawn = []
    for name, panels in (
        ("loss.png", PREFERENCE if any(one in found for one in REWARDS) else LOSS),
        ("ethics.png", (("ethics probes", "", ethics),)),
    ):
        shown = [(t, unit, some) for t, unit, names in panels if (some := _of(found, names))]
        if shown:
            _save(folder / name, shown)
            drawn.append(folder / name)
    return drawn


def _of(found: Mapping[str, Points], names: tuple[str, ...]) -> dict[str, Points]:
    return {name: found[name] for name in names if name in found}


def _save(path: Path, panels: list[tuple[str, str, dict[str, Points]]]) -> None:
    from matplotlib.figure import Figure  # here: only who draws needs it

    figure = Figure(figsize=(9, 3 * len(panels)), layout="constrained")
    for axes, (title, unit, some) in zip(
        figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True
    ):
        _panel(axes, title, unit, some)
    # Without the version of the library, which would be in the bytes.
    figure.savefig(path, dpi=100, metadata={"Software": None})


def _panel(axes: Any, title: str, unit: str, some: Mapping[str, Points]) -> None:
    for color, (name, points) in zip(COLORS * len(some), some.items(), strict=False):
        marker = "o" if len(points) <= FEW else ""
        label = name.replace("_", " ")
        axes.plot(list(points), list(points.values()), marker=marker, color=color, label=label)
    axes.set(title=title, xlabel="step", ylabel=unit)
    axes.locator_params(axis="x", integer=True)
    if len(some) > 1:
        axes.legend()


def main() -> int:
    """The exit code: 0 drawn, 2 for one of our errors."""
    parser = argparse.ArgumentParser(prog="python -m trainer.curves", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="job folder")
    arguments = parser.parse_args()
    try:
        for path in draw(arguments.folder):
            print(path)
    except BhavanaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
