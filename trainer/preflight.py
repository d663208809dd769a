"""Whether a training run fits this machine, and with what thrift it begins. Loads no torch.

What is free (free.py) and what is asked for (demand.py) make a plan: with which micro-batch to
begin. `trainer.rehearsal` then takes one real step of the worst length and corrects it. The
effective batch never changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from store.errors import DoesNotFit
from store.records import Noun
from trainer.demand import Demand, Worst
from trainer.free import Memory
from trainer.memory import Thrift

FILE = "preflight.json"
USABLE = 0.9
"""Share of the free memory that a run may plan with; other processes live here, too."""


class Plan(Noun, frozen=True, kw_only=True):
    """With what to begin, and why."""

    memory: Memory
    tries: tuple[Thrift, ...]
    """In order; the first is estimated to fit."""
    estimates: tuple[int, ...]
    """Bytes for each of them."""
    as_configured: bool
    """The first is what the recipe says."""


class Preflight(Noun, frozen=True, kw_only=True):
    """What preflight found and decided: part of the run's manifest."""

    verdict: Literal["fits", "tight"]
    """tight: it fits with more thrift than the recipe's. What does not fit is not trained."""
    memory: Memory
    estimated_bytes: int
    measured_bytes: int
    """Peak of the worst step, with the optimiser's moments that come later."""
    thrift: Thrift
    worst: Worst
    step_seconds: float
    """Forward and backward of the worst micro-batch."""
    eta_seconds: float
    """Of all steps, by tokens, at the worst step's pace."""

    def said(self) -> str:
        """In one line, for the log."""
        return (
            f"preflight: {self.verdict}, {self.measured_bytes / 1e9:.2f} GB of "
            f"{self.memory.free_bytes / 1e9:.2f} GB free ({self.memory.source}), estimated "
            f"{self.estimated_bytes / 1e9:.2f}; micro_batch_size {self.thrift.micro_batch_size}, "
            f"activation checkpointing {'on' if self.thrift.activation_checkpointing else 'off'}, "
            f"about {self.eta_seconds / 60:.0f} min"
        )


def tries(begin: Thrift) -> Iterator[Thrift]:
    """With what a run may be tried: as it is, and then with ever less memory."""
    thrift: Thrift | None = begin
    while thrift is not None:
        yield thrift
        thrift = thrift.more()


def plan(asked: Demand, memory: Memory, begin: Thrift) -> Plan:
    """What to try, from the first that is estimated to fit. Raises DoesNotFit."""
    tried = tuple(tries(begin))
    estimates = tuple(asked.estimate(thrift) for thrift in tried)
    room = memory.free_bytes * USABLE
    for index, needed in enumerate(estimates):
        if needed <= room:
            return Plan(
                memory=memory,
                tries=tried[index:],
                estimates=estimates[index:],
                as_configured=index == 0,
            )
    raise does_not_fit(asked, memory, estimates[-1])


def does_not_fit(asked: Demand, memory: Memory, needed: int) -> DoesNotFit:
    """The refusal, naming the knobs that are left."""
    knobs = []
    if not asked.recipe.load_in_4bit and asked.recipe.init_lora_weights != "pissa":
        knobs.append("load_in_4bit = true")
    knobs.append(f"max_length below {asked.worst.length}")
    return DoesNotFit(
        f"Training needs {needed / 1e9:.1f} GB with one sequence at a time and activation "
        f"checkpointing; {memory.free_bytes / 1e9:.1f} GB are free ({memory.source}).",
        hint=f"Set trainer.recipe: {', or '.join(knobs)}; or name a smaller base.",
    )
