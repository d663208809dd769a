"""So many answers at once; who comes later waits in a line that is not long. For one event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from daemon.chat import figures
from daemon.chat.settings import ServingSettings
from daemon.problems import RETRY_AFTER_SECONDS, Problem


class Slots:
    """The slots of a process that answers, which all requests share."""

    def __init__(self) -> None:
        self._most = 0
        self._taken = 0
        self._line: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def one(self, settings: ServingSettings) -> AsyncIterator[None]:
        """Holds a slot in the block. Raises Problem 503 where none gets free in time."""
        self._most = settings.slots
        if self._taken < self._most:
            self._taken += 1
        else:
            await self._wait(settings)
        figures.ANSWERING.inc()
        try:
            yield
        finally:
            figures.ANSWERING.dec()
            self._give_back()

    async def _wait(self, settings: ServingSettings) -> None:
        if len(self._line) >= settings.most_waiting:
            raise _full("More wait for an answer than may.")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        figures.WAITING.inc()
        try:
            async with asyncio.timeout(settings.wait_seconds):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # it came at the same moment
                self._give_back()
            elif turn in self._line:
                self._line.remove(turn)
            if isinstance(error, TimeoutError):
                raise _full("No slot got free in time.") from error
            raise
        finally:
            figures.WAITING.dec()

    def _give_back(self) -> None:
        """To whoever waits longest."""
        while self._line and self._taken <= self._most:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._taken -= 1


def _full(message: str) -> Problem:
    return Problem(
        503,
        "queue_full",
        message,
        hint="Ask again in a moment; nothing was answered or kept.",
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
    )
