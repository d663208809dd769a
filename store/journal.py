"""The journal of releases: what was begun with each at a target, and how it ended.

Read again after a kill. The keys are numbered, so that a release's lines are found by them,
whatever else the log holds.
"""

from __future__ import annotations

from itertools import count

import msgspec
from sqlalchemy import select

from store import tables
from store.engine import in_our_words
from store.events import Store, StoreReader
from store.log import Fact, Guard
from store.records import ReleaseStep

BATCH = 50


def write(store: Store, step: ReleaseStep, fence: Guard | None = None) -> None:
    """Adds a line; it is synced when this returns. Raises Busy when the fence is void."""
    for number in count(len(of_release(store, step.release)) + 1):
        fact = Fact(
            type="release.step",
            stream=f"release/{step.release}",
            key=_key(step.release, number),
            noun=step,
        )
        [appended] = store.append([fact], fence=fence)
        if appended.status != "conflict":  # else somebody wrote this line just now: the next one
            return


def of_release(store: StoreReader, release: str) -> list[ReleaseStep]:
    """All lines about a release, the oldest first."""
    events, found = tables.events.c, list[ReleaseStep]()
    while len(found) % BATCH == 0:
        keys = [_key(release, len(found) + n) for n in range(1, BATCH + 1)]
        query = select(events.body).where(events.key.in_(keys)).order_by(events.position)
        with in_our_words(), store.reading.connect() as connection:
            bodies = connection.execute(query).scalars().all()
        if not bodies:
            break
        found += [msgspec.json.decode(body, type=ReleaseStep) for body in bodies]
    return found


def _key(release: str, number: int) -> str:
    return f"release/{release}/step/{number}"
