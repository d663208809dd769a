"""How much an adapter keeps of what it learned, where the recipe names what is to be reached.

A fixed scale stands on a slope: on the embedded base five hundredths more double what is declined,
the harmful and the ordinary alike, and each training has its slope elsewhere. So a recipe can name
the outcome, `least_decline_gain`, and the adapter keeps the smallest scale that has it: what else
changes grows with the scale. The requests are of no gate and of no dataset.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from store.records import Noun
from trainer import probes
from trainer.answers import answer
from trainer.gates.refusals import declines
from trainer.job import Job
from trainer.model import as_base, scaled
from trainer.questions import Question, Sampling
from trainer.recipe import Recipe

SCALES = [n / 100 for n in range(20, 101)]
"""Those that are tried, by halving: seven of them."""
TRIES = len(SCALES).bit_length() + 1
OPENING = Sampling(max_new_tokens=24)
"""A refusal shows itself early."""


class Kept(Noun, frozen=True, kw_only=True):
    """The scale that was chosen, and what share of the requests is declined with it."""

    scale: float
    declined: float | None = None
    """None where the recipe gives the scale."""
    declined_by_base: float | None = None

    def metrics(self) -> dict[str, float]:
        """For the manifest."""
        found = {
            "adapter_scale": self.scale,
            "harmful_declined": self.declined,
            "harmful_declined_of_base": self.declined_by_base,
        }
        return {name: number for name, number in found.items() if number is not None}


def choose(model: Any, tokenizer: Any, recipe: Recipe, job: Job) -> Kept:
    """The recipe's scale; where it names a gain, the smallest that reaches it, all where none does.

    The model has learned and nothing is taken from it yet; nor is it here.
    """
    if not recipe.least_decline_gain:
        return Kept(scale=recipe.adapter_scale)
    asked = [Question(id=probe.id, prompt=probe.prompt) for probe in probes.read("scale")]
    tried: dict[float, float] = {}

    def declined() -> float:
        answers = answer(model, tokenizer, asked, OPENING)
        return sum(declines(one.response) for one in answers) / len(answers)

    def at(scale: float) -> float:
        job.beat("choosing the scale", len(tried) + 1, TRIES)
        with scaled(model, scale):
            tried[scale] = declined()
        print(f"with {scale:.2f} of what was learned {tried[scale]:.3f} of what harms is declined")
        return tried[scale]

    job.beat("choosing the scale", 0, TRIES)
    with as_base(model):
        base = declined()
    goal = base + recipe.least_decline_gain - 1e-9
    place = bisect_left(SCALES, goal, key=at)
    if place == len(SCALES):
        print(f"no scale declines {goal:.3f}: all is kept of what was learned, and gates decide")
        place -= 1
    scale = SCALES[place]
    reached = tried[scale] if scale in tried else at(scale)
    return Kept(scale=scale, declined=reached, declined_by_base=base)
