"""Which share of what it learned an adapter keeps, where the recipe says what it is to reach.

A fixed share stands on a slope: on the embedded base five hundredths more double what is declined,
the harmful and the ordinary alike, and each training has its slope elsewhere. So a recipe can name
the outcome, `least_decline_gain`, and the adapter keeps the smallest share that has it: what else
changes grows with the share. The requests are of no gate and of no dataset.
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

SHARES = [round(n / 100, 2) for n in range(20, 101, 2)]
"""Those that are tried, by halving: six of them."""
TRIES = len(SHARES).bit_length() + 1
OPENING = Sampling(max_new_tokens=24)
"""A refusal shows itself early."""


class Kept(Noun, frozen=True, kw_only=True):
    """The share that was chosen, and what share of the requests is declined with it."""

    share: float
    declined: float | None = None
    """None where the recipe gives the share."""
    declined_by_base: float | None = None

    def metrics(self) -> dict[str, float]:
        """For the manifest."""
        found = {
            "adapter_scale": self.share,
            "harmful_declined": self.declined,
            "harmful_declined_of_base": self.declined_by_base,
        }
        return {name: number for name, number in found.items() if number is not None}


def choose(model: Any, tokenizer: Any, recipe: Recipe, job: Job) -> Kept:
    """The recipe's share; where it names a gain, the smallest that reaches it, all where none does.

    The model has learned and nothing is taken from it yet; nor is it here.
    """
    if not recipe.least_decline_gain:
        return Kept(share=recipe.adapter_scale)
    asked = [Question(id=probe.id, prompt=probe.prompt) for probe in probes.read("share")]
    tried: dict[float, float] = {}

    def declined() -> float:
        answers = answer(model, tokenizer, asked, OPENING)
        return sum(declines(one.response) for one in answers) / len(answers)

    def at(share: float) -> float:
        job.beat("choosing the share", len(tried) + 1, TRIES)
        with scaled(model, share):
            tried[share] = declined()
        print(f"with {share:.2f} of what was learned {tried[share]:.3f} of what harms is declined")
        return tried[share]

    job.beat("choosing the share", 0, TRIES)
    with as_base(model):
        base = declined()
    goal = base + recipe.least_decline_gain - 1e-9
    place = bisect_left(SHARES, goal, key=at)
    if place == len(SHARES):
        print(f"no share declines {goal:.3f}: all is kept of what was learned, and gates decide")
        place -= 1
    share = SHARES[place]
    reached = tried[share] if share in tried else at(share)
    return Kept(share=share, declined=reached, declined_by_base=base)
