"""The contract of a target: where releases go into service, and come back from.

    preflight   all that can be known before anything is changed   -> every fault at once
    publish     the release lies there, whole; nobody is served     -> its location
    probe       what was published answers as what was evaluated    -> evidence, or ProbeFailed
    activate    who answers on the line, in one step
    restore     the same for the way back: no trainer, no upload
    retire      what is no longer needed there goes

Each can be repeated, after a kill, too, and ends in the same state. `trainer.promote` calls them
in this order and writes each down in the journal before and after.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Protocol

from msgspec import Meta

from store.records import MAIN, Identifier, Line, Noun, Release, Step
from trainer.base import Base
from trainer.jobs import Observation
from trainer.questions import Answer, Question
from trainer.targets.limits import Limits


class Delivery(Noun, frozen=True, kw_only=True):
    """One release on its way to a target."""

    release: Identifier
    line: Line = MAIN
    adapter: str
    """Its folder in the archive, in PEFT's layout; a target never changes it."""
    adapter_hash: str
    base: Base


class Traffic(Noun, frozen=True, kw_only=True):
    """Who answers on a line."""

    release: Identifier | None
    """None: the untouched base."""
    canary: Identifier | None = None
    """The release on trial beside it; None: nobody is."""
    share: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """How much of the traffic the canary answers."""


def traffic_of(release: Release | None, share: float, *, shares: bool) -> Traffic:
    """Who answers where this release is recorded with this share of its line.

    Where a target does not share (`shares`) a canary answers alone.
    """
    if release is None:
        return Traffic(release=None)
    if share < 1 and shares:
        return Traffic(release=release.previous, canary=release.id, share=share)
    return Traffic(release=release.id)


class Journal(Protocol):
    """What is written down for ever of a release's way, as events; read again after a kill."""

    def note(self, release: str, step: Step, facts: Mapping[str, str]) -> None:
        """Kept and synced when this returns, such as the id that a server gave to an upload."""

    def noted(self, release: str, step: Step) -> Mapping[str, str]:
        """All facts that were noted of this step, the latest of each name; {} for none."""


class Judged(Noun, frozen=True, kw_only=True):
    """A question of the evaluation, with what was answered then."""

    question: Question
    candidate: Observation
    base: Observation


class References(Protocol):
    """What the release should answer, for a probe; computed when asked for, in a child process."""

    def judged(self) -> tuple[Judged, ...]:
        """A frozen batch of the evaluation, greedy."""

    def answers(self, questions: Collection[Question], adapter: Path | None) -> tuple[Answer, ...]:
        """What an adapter (None: the base) answers now, on this machine."""


class Target(Protocol):
    """A place where people can talk to releases, to one of each line."""

    name: str
    limits: Limits
    """What it can serve; looked at before training."""
    shares: bool
    """Whether a canary can answer a share of the traffic; where not, it answers all of it."""

    def preflight(self, delivery: Delivery) -> None:
        """Changes nothing. Raises Rejected with all faults and what to do, or Unavailable."""

    def publish(self, delivery: Delivery) -> str:
        """Puts the release there without serving it; returns its location."""

    def probe(self, delivery: Delivery, references: References) -> Mapping[str, float]:
        """Figures that show that what was published answers as it should. Raises ProbeFailed."""

    def activate(self, traffic: Traffic, line: str = MAIN) -> None:
        """Serves so from now on and has seen it; other lines serve on what they did.

        Raises NotFound for a release that is not there, and the old one serves on.
        """

    def active(self, line: str = MAIN) -> Traffic:
        """What is served on this line now, by the target's own word. Raises Unavailable."""

    def restore(self, release: str | None, line: str = MAIN) -> None:
        """Serves an earlier release, or the base, alone again. Raises as `activate` does."""

    def retire(self, keep: Collection[str], line: str = MAIN) -> tuple[str, ...]:
        """Takes the line's other releases away, never one that serves; returns which went."""
