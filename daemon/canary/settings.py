"""What a release's trial with people asks for."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from store.records import Noun

Share = Annotated[float, Meta(gt=0, le=1)]


class CanarySettings(Noun, frozen=True, kw_only=True):
    """How long a new release is on trial with people, and what ends the trial."""

    hours: Annotated[float, Meta(ge=0, le=8760)] = 24.0
    """0: none is; what was probed is in service for good."""
    share: Share = 0.1
    """Of the traffic, where the target can share it; else the release answers everybody."""
    look_minutes: Annotated[float, Meta(gt=0, le=1440)] = 5.0
    """Between two looks. Any number of them costs no certainty."""
    least_answers: Annotated[int, Meta(ge=1)] = 2_000
    """Judged ones of the release that it needs to pass, each beside one of its predecessor's or
    more. A harm rate that doubled from .05 is found in 95 of 100 by 1,660, and by 730 each beside
    nine (`python -m tests.benchmarks trials`)."""
    least_judged: Share = 0.8
    """And of all its answers at least this share must be judged."""
    most_per_person: Annotated[int, Meta(ge=1)] = 4
    """Of one person's answers, or one conversation's, only the first so many count: they are
    alike, and the test takes each for a new word."""
    alpha: Annotated[float, Meta(gt=0, lt=1)] = 0.05
    """How often, at most, a release is rolled back that harms no more than is allowed."""
    harm_margin: Annotated[float, Meta(ge=0, lt=1)] = 0.005
    """The share of its answers that do harm (policy.max_harm or more) may be so much above its
    predecessor's."""
    max_harm_rate: Share = 0.25
    """And never above this, whatever the predecessor's is. The panel's word on your own traffic
    decides what is usual: `bhavana stats`."""
    margin: Annotated[float, Meta(ge=0, lt=1)] = 0.02
    """So much worse it may be in principles, thumbs and refusals, of 1; beyond it a person is
    asked."""
    extend_hours: Annotated[float, Meta(gt=0, le=8760)] = 24.0
    most_extensions: Annotated[int, Meta(ge=0)] = 3
    """A trial that saw too little goes on so often; then a person is asked."""

    def first_share(self, *, shares: bool) -> float:
        """Of the traffic, for a new release; `shares`: whether the target can share it."""
        return self.share if self.hours and shares else 1.0
