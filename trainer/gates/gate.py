"""The contract of a gate: how it scores one sample, and what it asks of a candidate.

A gate is data and pure functions. Asking the models is `trainer.evaluate`'s work, so a gate can
be tested, and its verdict repeated, without a model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from store.records import Noun
from trainer.gates.sample import Sample
from trainer.gates.task import Task


class Rule(Noun, frozen=True, kw_only=True):
    """What a gate asks of the candidate; from the configuration.

    Gains are in the gate's unit and in its good direction: -0.03 allows a loss of 0.03. Of a gate
    that asks for sameness a gain of -0.3 allows a change of 0.3 either way.
    """

    least_gain_over_base: float
    least_gain_over_incumbent: float
    floor: float | None = None
    """What the candidate must reach, whatever the others do; the ceiling where lower is better."""
    base_below_floor: Literal["hold", "compare"] = "compare"
    """When the untouched base misses the floor, too. hold: inconclusive. compare: the floor is
    waived, and the comparisons alone decide, which the verdict says."""
    rule: Literal["point", "lower_bound"] = "point"
    """point: the estimate must reach the bound. lower_bound: its 95 % interval must."""
    least_items: Annotated[int, Meta(ge=1)] = 20
    """Fewer items than this decide nothing."""
    least_slice_items: Annotated[int, Meta(ge=2)] = 6
    """A slice of fewer items decides nothing."""
    most_slice_drop: Annotated[float, Meta(gt=0)] = 0.5
    """No slice may lose more than this, in the gate's unit, however good the mean is."""
    second: tuple[str, ...] = ()
    """Second instruments, which must not say that the candidate is worse than is allowed."""


class Gate(Struct, frozen=True, kw_only=True):
    """One gate."""

    task: Task
    score: Callable[[Sample, Any], float | None]
    """One sample's value from what its task brought: an Answer, losses or probabilities by name.
    None when it could not be scored, which is an error of the gate."""
    by_family: Callable[[Sequence[float]], float] | None = None
    """One value from those of a family, in the order of the suite; the family is then the item."""
    metric: str
    unit: str
    higher_is_better: bool
    sameness: bool = False
    """Neither more nor less is better: the candidate may not differ by more than is allowed."""
    must_differ: bool = False
    """Values that all equal the base's mean that no adapter was applied, which is an error."""
    slice_by: Callable[[Sample], str] = lambda sample: sample.category
    property: str = ""
    """What a second instrument would measure in its place, such as "declines"."""
    rule: Rule
    """The default, for a small model on CPU; the configuration may ask for more."""
