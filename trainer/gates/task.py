"""What a model is asked: a suite, and how its replies come about.

Several gates may judge the same task; its questions are asked once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct

from trainer.gates.sample import Sample

Solver = Literal["generate", "read", "choose"]


class Task(Struct, frozen=True, kw_only=True):
    """A dataset of samples and a solver.

    generate: the model replies (an Answer). read: it reads the texts below, and the loss of each
    is measured, in nats per token. choose: the probability that it gives to each option of the
    sample, which sum to one; nothing else can be said, so nothing can be unparsed.
    """

    suite: str
    """File name in trainer/gates/suites."""
    solver: Solver
    texts: Callable[[Sample], Mapping[str, str]] = lambda _: {}
    """For read: named replies to the prompt."""
    max_new_tokens: int | None = None
    """For generate: how long a reply may be; None is as the configuration samples."""
    epochs: int = 1
    """For generate: how often each sample is asked, with another seed each time; the mean of the
    values counts. More than one makes sense above temperature 0 only."""

    @property
    def name(self) -> str:
        """What tells it from other tasks: suite, solver, length."""
        length = "" if self.max_new_tokens is None else f"-{self.max_new_tokens}"
        return f"{Path(self.suite).stem}-{self.solver}{length}"
