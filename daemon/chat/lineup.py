"""Who answers: for each line the release in service, and beside it the one on trial."""

from __future__ import annotations

import hashlib

from store.records import MAIN, Noun
from trainer.targets.target import Traffic

ALIASES = {"bhavana": MAIN}
"""Names that a client may call a line by besides its own."""


class Voice(Noun, frozen=True, kw_only=True):
    """Who answers one request."""

    line: str
    release: str | None
    """None: the untouched base."""
    on_trial: bool = False


class Lineup(Noun, frozen=True, kw_only=True):
    """The traffic of every line at one moment."""

    traffic: dict[str, Traffic]

    @property
    def answering(self) -> frozenset[str]:
        """Every release that somebody may hear now."""
        both = ((t.release, t.canary) for t in self.traffic.values())
        return frozenset(release for pair in both for release in pair if release is not None)

    def line(self, model: str) -> str | None:
        """The line that a client calls by this name; None where there is none."""
        name = ALIASES.get(model, model)
        return name if name in self.traffic else None

    def voice(self, line: str, who: str) -> Voice:
        """Who answers this conversation or person: always the same while the traffic is."""
        traffic = self.traffic[line]
        if traffic.canary is not None and lot(traffic.canary, who) < traffic.share:
            return Voice(line=line, release=traffic.canary, on_trial=True)
        return Voice(line=line, release=traffic.release)


def lot(canary: str, who: str) -> float:
    """What this one draws, in [0, 1): the same for one canary, and another for the next."""
    drawn = hashlib.sha256(f"{canary}/{who}".encode()).digest()
    return int.from_bytes(drawn[:8]) / 2**64
