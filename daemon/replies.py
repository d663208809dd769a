"""Brings the writer's outcomes back to the event loop, many in one wake-up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from store.writer import Outcome


class Replies:
    """Futures of one event loop that another thread fulfils.

    Waking a loop costs a system call; what one commit answers comes in one wake-up.
    """

    def __init__(self) -> None:
        self._ready: deque[tuple[asyncio.Future[Any], Outcome]] = deque()
        self._woken = False

    def expect(self) -> tuple[asyncio.Future[Any], Callable[[Outcome], None]]:
        """A future of the running loop, and what the other thread calls with its outcome."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def done(outcome: Outcome) -> None:
            self._ready.append((future, outcome))
            if not self._woken:
                self._woken = True
                with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(self._deliver)

        return future, done

    def _deliver(self) -> None:
        self._woken = False  # first: what is added from here on wakes the loop again
        while self._ready:
            future, outcome = self._ready.popleft()
            if future.done():  # nobody waits any more
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
