"""How much one key and one person may send: token buckets, in memory, failing closed."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
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
        self._buckets: dict[str, tuple[float, float, float]] = {}
        """By name: what is left, when that was counted, and when it will be full again."""

    def take(self, key: ApiKey, items: int, subjects: Mapping[str, int]) -> None:
        """Takes items from the key's bucket, and of each person's at its source.

        All or nothing: a request that is refused has cost nobody anything. Raises Problem 429,
        and 413 for more than could ever come at once.
        """
        s = self.settings
        rate, burst = (
            (s.publishable_per_second, s.publishable_burst)
            if key.kind == "publishable"
            else (s.key_per_second, s.key_burst)
        )
        source = key.source or key.id
        wanted = [(f"key/{key.id}", items, rate, burst)]
        wanted += [
            (f"subject/{source}/{name}", count, s.subject_per_second, s.subject_burst)
            for name, count in subjects.items()
        ]
        moment = time.monotonic()
        left = {name: self._left(name, rate, burst, moment) for name, _, rate, burst in wanted}
        for name, count, rate, burst in wanted:
            if count > burst:
                raise Problem(
                    413,
                    "too_many_items",
                    f"At most {burst} items of one {name.partition('/')[0]} may come at once, "
                    f"these are {count}.",
                    hint="Send them in parts.",
                )
            if left[name] < count:
                kind = name.partition("/")[0]
                raise _too_many(f"This {kind} sends more than it may.", (count - left[name]) / rate)
        for name, count, rate, burst in wanted:
            now_left = left[name] - count
            self._buckets[name] = (now_left, moment, moment + (burst - now_left) / rate)

    def _left(self, name: str, rate: float, burst: int, moment: float) -> float:
        """What is in a bucket now. Raises Problem 429 when there is no room for a new one."""
        known = self._buckets.get(name)
        if known is not None:
            return min(burst, known[0] + (moment - known[1]) * rate)
        if len(self._buckets) >= MOST_BUCKETS:
            self._forget_full(moment)
            if len(self._buckets) >= MOST_BUCKETS:
                raise _too_many("Too many senders at once.", 60)
        return float(burst)

    def _forget_full(self, moment: float) -> None:
        """Drops the buckets that are full again, which is what a new one is.

        So one key that names ever new persons keeps nobody out: by the defaults an item holds a
        person's bucket for a second, in which a key sends 55,000 at most.
        """
        self._buckets = {n: b for n, b in self._buckets.items() if b[2] > moment}


def _too_many(message: str, seconds: float) -> Problem:
    wait = max(1, math.ceil(seconds))
    return Problem(
        429,
        "too_many_requests",
        message,
        hint=f"Send again in {wait} s; nothing was kept.",
        headers={"Retry-After": str(wait)},
    )
