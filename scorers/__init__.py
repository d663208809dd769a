"""Scorers: what a response did to the person, found out with evidence. The roster is here.

A new scorer is one file with `load()` and one line in SCORERS. Importing this package loads
neither torch nor transformers: the daemon's own process asks for versions, the worker for scores.
It knows nothing of training, selection or HTTP.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import NamedTuple

from scorers import antijudge, forms, guards, heads
from scorers.scorer import Scorer
from scorers.settings import PanelSettings
from store.errors import Misconfigured


class Entry(NamedTuple):
    """A scorer on the roster: its version is known without loading it."""

    module: str
    version: Callable[[PanelSettings], str]
    dear: bool = False
    """Asked after the others, and only about what the cascade of the settings lets through."""

    def load(self, settings: PanelSettings) -> Scorer:
        """The scorer, ready; imports what it needs only now, models included."""
        scorer: Scorer = importlib.import_module(self.module).load(settings)
        return scorer


def _heads_of(name: str) -> Callable[[PanelSettings], str]:
    return lambda settings: heads.version(name, settings.heads)


SCORERS: dict[str, Entry] = {
    "antijudge": Entry("scorers.antijudge", lambda _: antijudge.version()),
    "acts": Entry("scorers.acts", _heads_of("acts")),
    "harm": Entry("scorers.harm", _heads_of("harm")),
    "principles": Entry("scorers.principles", _heads_of("principles")),
    "guard": Entry("scorers.guard", guards.version, dear=True),
    "judge": Entry("scorers.judge", lambda panel: forms.version(panel.judge), dear=True),
}


def chosen(settings: PanelSettings) -> dict[str, Entry]:
    """The scorers at work, by name, in the order of the roster. Raises Misconfigured."""
    if unknown := sorted(set(settings.scorers) - SCORERS.keys()):
        raise Misconfigured(
            f"panel.scorers: there is no scorer {', '.join(unknown)}.",
            hint=f"There are {', '.join(SCORERS)}.",
        )
    return {name: entry for name, entry in SCORERS.items() if name in settings.scorers}


def versions(settings: PanelSettings) -> dict[str, str]:
    """The version of every scorer at work, by name."""
    return {name: entry.version(settings) for name, entry in chosen(settings).items()}
