"""The roster of stages: what a line of releases learns from, and what it must not lose.

    constitutional   ethics itself: what was written for it, beside a little of everything
    capability       code, mathematics and physics, on a parent that has the ethics
    specialist       one subject, on such a parent: the source of the line's own name

A mixture names sources of experiences. Of a subject's exercises the source has the subject's name:
whoever posts them makes a key for the source `math` and trusts it. What a parent learned of ethics
is repeated in every mixture, because what is not repeated erodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

from store.records import CONSTITUTION, CURATED

StageName = Literal["constitutional", "capability", "specialist"]
SPECIALISTS = ("code", "math", "physics", "guardian")
"""Lines that are usual as specialists, and the sources that they learn from."""
OWN = "{line}"
"""In a mixture: the source that is called like the line."""


class Stage(Struct, frozen=True, kw_only=True):
    """What a line of this stage starts from; its section in the configuration may change it."""

    mixture: Mapping[str, float]
    """By source, how much of a dataset it should be, relative to the sum; OWN is the line's."""
    gates: Mapping[str, Mapping[str, float]]
    """By gate, the least that its rule asks for. A stage never asks for less than [gates] does."""

    def mixture_of(self, line: str) -> dict[str, float]:
        """The mixture of a line of this stage."""
        return {name.replace(OWN, line): float(n) for name, n in self.mixture.items()}

    def stricter(self, rules: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """The rules, each raised to what the stage asks for at least."""
        return {
            gate: {
                name: max(value, self.gates[gate][name])
                if name in self.gates.get(gate, {})
                else value
                for name, value in rule.items()
            }
            for gate, rule in rules.items()
        }


_KEEPS = {
    "refusal": {"least_gain_over_incumbent": -0.02},
    "principles": {"least_gain_over_incumbent": -0.02},
}
"""Of a stage that does not teach ethics: one item of sixty may go either way, no more."""

STAGES: dict[StageName, Stage] = {
    "constitutional": Stage(mixture={CURATED: 4, CONSTITUTION: 4, "*": 2}, gates={}),
    "capability": Stage(
        mixture={"code": 2, "math": 2, "physics": 2, CURATED: 3, CONSTITUTION: 1}, gates=_KEEPS
    ),
    "specialist": Stage(mixture={OWN: 6, CURATED: 3, CONSTITUTION: 1}, gates=_KEEPS),
}
