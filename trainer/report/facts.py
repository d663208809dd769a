"""All that a report stands on: an evaluation, what came of it, and those before it."""

from __future__ import annotations

from msgspec import Struct

from store import cycles
from store.errors import NotFound
from store.events import StoreReader
from store.records import Evaluation, Outcome, Release, TrainingRun

MOST_EARLIER = 40
"""So many evaluations are in a trend: the newest."""


class Facts(Struct, frozen=True):
    """An evaluation among the others."""

    evaluation: Evaluation
    run: TrainingRun | None
    release: Release | None
    """What it became; None where it was held back."""
    history: tuple[Evaluation, ...]
    """The evaluations up to this one, the oldest first."""
    released: frozenset[str]
    """Those of them that were promoted."""

    @property
    def summary(self) -> str:
        """How it ended, in a sentence."""
        verdicts = self.evaluation.verdicts
        held = [v for v in verdicts if v.outcome is not Outcome.PASS]
        if not verdicts:
            return "No gate was asked."
        count = f"{len(held)} of {len(verdicts)} gates did not pass"
        if not held:
            return "Every gate passed." if self.release else "Every gate passed; not promoted."
        return f"{count}; promoted by a person." if self.release else f"Held back: {count}."


def facts_of(store: StoreReader, evaluation_id: str) -> Facts:
    """What is known of an evaluation. Raises NotFound."""
    every = cycles.every(store, Evaluation)
    at = next((n for n, e in enumerate(every) if e.id == evaluation_id), None)
    if at is None:
        raise NotFound(
            f"There is no evaluation {evaluation_id!r}.", hint="`bhavana evaluations list`."
        )
    return Facts(
        evaluation=every[at],
        run=cycles.by_id(store, TrainingRun, every[at].run_id),
        release=cycles.of_cycle(store, Release, every[at].cycle_id),
        history=tuple(every[max(0, at + 1 - MOST_EARLIER) : at + 1]),
        released=frozenset(r.evaluation_id for r in cycles.every(store, Release)),
    )
