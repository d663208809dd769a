"""Lines of releases in the configuration: `[lines.math]` and what comes with its stage.

The main line is what [policy], [trainer] and [gates] say. Another line is the same but for its
mixture, recipe and gates. Who may be learned from is one policy for all lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from msgspec import Meta, field

from store.records import MAIN, Name, Noun, Weight
from trainer.gates.gate import Rule
from trainer.recipe import Recipe
from trainer.stages import STAGES, StageName

RELEASE = "release-"
"""How the ids of releases begin."""


class LineSettings(Noun, frozen=True, kw_only=True):
    """One line of releases, each gated against the line's own incumbent."""

    stage: StageName | None = None
    """Where mixture and gates come from; without one they are [policy]'s and [gates]."""
    parent: str = ""
    """What its training begins with: the release in service of the line of this name (`main`, or
    its own, to go on with its own adapter), or a release by its id; empty: the untouched base."""
    rebase_every: Annotated[int, Meta(ge=1)] = 4
    """A line that goes on with its own adapter begins with the untouched base again after so many
    releases: what is trained on and on drifts, and cannot be made again from its data."""
    mixture: dict[Name, Weight] = field(default_factory=dict)
    """In place of policy.mixture; empty: the stage's."""
    recipe: Recipe = field(default_factory=Recipe)
    """What is not set here is as in [trainer.recipe]."""
    gates: dict[str, Rule] = field(default_factory=dict)
    """What is not set here is as in [gates], raised to what the stage asks for."""


def before_its_own(merged: Mapping[str, Any], stage: StageName | None) -> dict[str, Any]:
    """A line's values as long as its section sets none: the main line's, and the stage's rules."""
    gates = STAGES[stage].stricter(merged["gates"]) if stage in STAGES else merged["gates"]
    return {
        "stage": None,
        "parent": "",
        "rebase_every": LineSettings().rebase_every,
        "mixture": {},
        "recipe": dict(merged["trainer"]["recipe"]),
        "gates": {name: dict(rule) for name, rule in gates.items()},
    }


def mixture_of(line: str, settings: LineSettings, of_main: Mapping[str, float]) -> dict[str, float]:
    """The mixture in force: the line's own, else its stage's, else the main line's."""
    if settings.mixture or settings.stage is None:
        return settings.mixture or dict(of_main)
    return STAGES[settings.stage].mixture_of(line)


def circular(lines: Mapping[str, LineSettings]) -> Iterator[str]:
    """Says which lines begin with each other's releases, one after the other in a ring."""
    for line in lines:
        way = [line]
        while (settings := lines.get(way[-1])) and (parent := settings.parent) in (MAIN, *lines):
            if parent == way[-1]:
                break  # its own
            if parent in way:
                if parent == line == min(way):  # told once
                    yield f"lines.{line}.parent: {' -> '.join([*way, parent])} is a ring."
                break
            way.append(parent)
