"""The contract of a scorer. It does not know which scorers exist or how findings are combined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from store.records import HARMS, Experience, Finding

HARMFUL_COMPLIANCE = "harmful_compliance"
"""A further key of Assessment.harm: the public labels say that an answer does harm, not how."""
REFUSAL = "refusal"
"""Whether the response declines what it was asked, 0..1. No harm, and no merit."""
PROMPT_HARM = "prompt_harm"
"""Whether the request is harmful in itself, 0..1, whatever was answered."""
HARM_DIMENSIONS = (*HARMS, HARMFUL_COMPLIANCE)


class Scorer(Protocol):
    """Says something about responses, with evidence, or abstains with a reason.

    `score` is deterministic and answers with one tuple per experience, in order. A dimension
    that it cannot judge is a Finding with value None and a reason, never a guess.
    """

    @property
    def name(self) -> str:
        """What the roster and the findings call it."""
        ...

    @property
    def version(self) -> str:
        """Changes whenever the behaviour can change, so that assessments name their origin."""
        ...

    def score(self, experiences: Sequence[Experience]) -> list[tuple[Finding, ...]]:
        """Findings for every experience, in order."""
        ...
