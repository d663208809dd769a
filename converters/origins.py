"""Where experiences come from and what they are about, as numbers in the rows of a selection.

It stands beside their words and is read with them: fetched as columns, the names of a million
that are then dropped would take longer than the words of what is kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable
from itertools import count

import numpy as np

from converters.mixture import NO_NAME
from converters.reading import Said
from converters.rows import NOBODY, Keys, Mask, Rows, key
from converters.split import lot
from store.records import CURATED, PRACTICE, WRITTEN
from store.sources import OURS


class Origins:
    """Writes them into the rows, and learns the names as they come up."""

    def __init__(self, trusted: Container[str]) -> None:
        """`trusted` says which sources are."""
        self._trusted = trusted
        self._sources, self._categories, self._difficulties = _Numbers(), _Numbers(), _Numbers()

    def write(self, rows: Rows, some: Said) -> None:
        """Writes into the rows who said this, where, and what it was about."""
        places, found = some.places, some.found
        names = [spoken.source for spoken in found]
        source = self._sources.of(names)
        rows["source"][places] = source
        about = [spoken.context for spoken in found]
        rows["category"][places] = self._categories.of(c.category or NO_NAME for c in about)
        rows["difficulty"][places] = self._difficulties.of(c.difficulty or NO_NAME for c in about)
        rows["person"][places] = [
            NOBODY if s.source in OURS or s.subject is None else key(s.source, s.subject)
            for s in found
        ]
        talks = [spoken.conversation for spoken in found]
        rows["conversation"][places] = [key(*talk) for talk in zip(names, talks, strict=True)]
        rows["lot"][places] = [lot(talk) for talk in talks]
        rows["trusted"][places] = self._among(self._trusted, source)
        rows["curated"][places] = self._among((CURATED,), source)
        rows["practised"][places] = self._among((PRACTICE,), source)
        rows["written"][places] = self._among(WRITTEN, source) | rows["corrected"][places]

    def names(self) -> dict[str, dict[int, str]]:
        """Of `source`, `category` and `difficulty`: the name of each number in the rows."""
        return {
            "source": self._sources.names(),
            "category": self._categories.names(),
            "difficulty": self._difficulties.names(),
        }

    def _among(self, names: Container[str], source: Keys) -> Mask:
        """Which of the sources are among these."""
        return np.array([name in names for name in self._sources.names().values()], bool)[source]


class _Numbers:
    """A number for each name, in the order in which they come up."""

    def __init__(self) -> None:
        self._known: defaultdict[str, int] = defaultdict(count().__next__)

    def of(self, names: Iterable[str]) -> Keys:
        return np.array([self._known[name] for name in names], int)

    def names(self) -> dict[int, str]:
        return {number: name for name, number in self._known.items()}
