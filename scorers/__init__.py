"""Scorers: what a response did to the person, found out with evidence. The roster is here.

A new scorer is one file with `load()` and one line in SCORERS. Importing this package loads
neither torch nor transformers: the daemon's own process asks for versions, the worker for scores.
It knows nothing of training, selection or HTTP.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from scorers import antijudge, heads
from scorers.scorer import Scorer


class Entry(NamedTuple):
    """A scorer on the roster: its version is known without loading it."""

    module: str
    version: Callable[[], str]

    def load(self) -> Scorer:
        """The scorer, ready; imports what it needs only now, models included."""
        scorer: Scorer = importlib.import_module(self.module).load()
        return scorer


SCORERS: dict[str, Entry] = {
    "antijudge": Entry("scorers.antijudge", antijudge.version),
    "harm": Entry("scorers.harm", partial(heads.version, "harm")),
    "principles": Entry("scorers.principles", partial(heads.version, "principles")),
}


def versions() -> dict[str, str]:
    """The version of every scorer on the roster, by name."""
    return {name: entry.version() for name, entry in SCORERS.items()}
