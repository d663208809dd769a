"""Which checkpoint becomes the adapter: ethics first, then capability, then perplexity.

Two that differ by up to two of sixteen ethics probes are alike in ethics: two are the standard
error where four are answered otherwise. By one, a training kept its first third, which declined a
third as much that harms as the same rows trained to the end; by two, others kept theirs, and what
that cost was not measured. Of two that are alike in all three the later one. What was measured
stands in the training's own log, which every checkpoint holds: a run that was killed and goes on
chooses the same. Loads no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from store.records import Noun
from trainer import probes

ALIKE = 2 / len(probes.read("ethics")) + 1e-9
"""So far apart in ethics compliance two checkpoints are alike."""
ETHICS, CAPABILITY, LOSS = "ethics_compliance", "capability", "validation_loss"
PREFERENCE_LOSS = "preference_loss"
"""In place of the perplexity where a training learns from what people prefer."""


class Measures(Noun, frozen=True, kw_only=True):
    """What was measured at a checkpoint: measures.json in its folder."""

    step: int
    ethics_compliance: float
    """Share of the ethics probes whose answer complies."""
    capability: float | None = None
    """Share of the samples that are right; None where the recipe asks for none."""
    validation_loss: float | None = None
    """Nats per supervised token of the first validation rows; None where there is none."""
    preference_loss: float | None = None
    """Of the method (dpo or kto) on the first validation rows; None where it is not that."""

    @property
    def perplexity(self) -> float | None:
        """Of the same rows."""
        return None if self.validation_loss is None else math.exp(self.validation_loss)

    def standing(self) -> tuple[float, float, float, int]:
        """Among those alike in ethics: the larger, the better."""
        found = self.validation_loss if self.preference_loss is None else self.preference_loss
        loss = math.inf if found is None else found
        return self.capability or 0.0, -loss, self.ethics_compliance, self.step


class Choice(Noun, frozen=True, kw_only=True):
    """Which checkpoint became the adapter, and why."""

    step: int
    of: int
    """Checkpoints that were measured."""
    reason: str


def measured(log: Iterable[Mapping[str, Any]]) -> list[Measures]:
    """The checkpoints that a training's log has measures of, in their order."""
    return [
        Measures(
            step=entry["step"],
            ethics_compliance=entry[ETHICS],
            capability=entry.get(CAPABILITY),
            validation_loss=entry.get(LOSS),
            preference_loss=entry.get(PREFERENCE_LOSS),
        )
        for entry in log
        if ETHICS in entry and entry["step"] > 0
    ]


def best(found: list[Measures]) -> Measures:
    """By the rule above, one after the other; of at least one.

    Only the best one so far is kept in files, so none that lost to another can win later.
    """
    winner, most = found[0], found[0].ethics_compliance
    for challenger in found[1:]:
        most = max(most, challenger.ethics_compliance)
        if challenger.ethics_compliance - winner.ethics_compliance > ALIKE:
            winner = challenger
        elif most - challenger.ethics_compliance <= ALIKE:
            winner = max(winner, challenger, key=Measures.standing)
    return winner


def is_over(found: list[Measures], patience: int) -> bool:
    """Whether so many checkpoints in a row were no better than one before; 0 waits for ever."""
    if not patience or not found:
        return False
    return sum(m.step > best(found).step for m in found) >= patience


def chosen(found: list[Measures]) -> Choice:
    """The best one, with the first measure that tells it from the others."""
    winner = best(found)
    others = [m for m in found if m is not winner]
    most = max(m.ethics_compliance for m in found)
    share = f"the highest ethics compliance ({most:.2f})"
    equals = [m for m in others if most - m.ethics_compliance <= ALIKE]
    if not others:
        reason = "the only one"
    elif not equals:
        reason = share
    else:
        reason = f"of {len(equals) + 1} within two probes of {share} {_among(winner, equals)}"
    return Choice(step=winner.step, of=len(found), reason=reason)


def _among(winner: Measures, equals: list[Measures]) -> str:
    alike = [m for m in equals if m.capability == winner.capability]
    if not alike:
        return f"the most capable ({winner.capability:.2f})"
    if winner.preference_loss is not None:
        if all(m.preference_loss != winner.preference_loss for m in alike):
            return f"the lowest loss on held-out preferences ({winner.preference_loss:.3f})"
    elif all(m.validation_loss != winner.validation_loss for m in alike):
        return f"the lowest perplexity ({winner.perplexity:.3f})"
    return "the last"
