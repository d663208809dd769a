"""How much one key and one person may send: token buckets, in memory, failing closed."""

from __future__ import annotations

import math
import time
from typing import Annotated

from msgspec import Meta

from daemon.problems import Problem
from store.records import ApiKey, Noun

MOST_BUCKETS = 100_000
"""Buckets kept; when all of them are in use, newcomers are refused rather than let through."""

Rate = Annotated[float, Meta(gt=0)]
Burst = Annotated[int, Meta(ge=1)]


class LimitSettings(Noun, frozen=True, kw_only=True):
    """Items a second in the long run, and how many at once."""

    key_per_second: Rate = 5_000
    key_burst: Burst = 50_000
    publishable_per_second: Rate = 20
    publishable_burst: Burst = 200
    """All visitors of a page share its publishable key."""
    subject_per_second: Rate = 1
    subject_burst: Burst = 120
    """One person, by the pseudonym that the frontend sends."""


class Limits:
    """The buckets of one process. Not for several threads at once."""

    def __init__(self, settings: LimitSettings) -> None:
        self.settings = settings
        self._buckets: dict[str, tuple[float, float]] = {}
        """By name: what is left, and when that was counted."""

    def take_for(self, key: ApiKey, items: int) -> None:
        """Takes items from the key's bucket. Raises Problem 429."""
        s = self.settings
        if key.kind == "publishable":
            self._take(f"key/{key.id}", items, s.publishable_per_second, s.publishable_burst)
        else:
            self._take(f"key/{key.id}", items, s.key_per_second, s.key_burst)

    def take_of(self, key: ApiKey, subject: str, items: int = 1) -> None:
        """Takes items from a person's bucket at this key's source. Raises Problem 429."""
        s = self.settings
        name = f"subject/{key.source or key.id}/{subject}"
        self._take(name, items, s.subject_per_second, s.subject_burst)

    def _take(self, name: str, items: int, rate: float, burst: int) -> None:
        moment = time.monotonic()
        left, counted = self._buckets.get(name, (float(burst), moment))
        left = min(burst, left + (moment - counted) * rate)
        if name not in self._buckets and len(self._buckets) >= MOST_BUCKETS:
            self._forget_idle(moment)
        if len(self._buckets) >= MOST_BUCKETS and name not in self._buckets:
            raise _too_many("Too many senders at once.", 60)
        if left < items:
            self._buckets[name] = (left, moment)
            if items > burst:
                raise Problem(
                    413,
                    "too_many_items",
                    f"At most {burst} items may come at once here, these are {items}.",
                    hint="Send them in parts.",
                )
            kind = name.partition("/")[0]
            raise _too_many(f"This {kind} sends more than it may.", (items - left) / rate)
        self._buckets[name] = (left - items, moment)

    def _forget_idle(self, moment: float) -> None:
        """Drops the buckets that nobody used for an hour: they are full again."""
        self._buckets = {n: b for n, b in self._buckets.items() if moment - b[1] < 3600}


def _too_many(message: str, seconds: float) -> Problem:
    wait = max(1, math.ceil(seconds))
    return Problem(
        429,
        "too_many_requests",
        message,
        hint=f"Send again in {wait} s; nothing was kept.",
        headers={"Retry-After": str(wait)},
    )
