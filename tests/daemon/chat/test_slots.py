"""So many answers at once, a short line, and no slot that is lost. No model is needed."""

from __future__ import annotations

import asyncio

import pytest

from daemon.chat.settings import ServingSettings
from daemon.chat.slots import Slots
from daemon.problems import Problem

SETTINGS = ServingSettings(slots=2, most_waiting=2, wait_seconds=30)


def _run(test):
    return asyncio.run(asyncio.wait_for(test(), 30))


async def _hold(slots, settings, opened, held=None):
    async with slots.one(settings):
        if held is not None:
            held.append(len(held))
        await opened.wait()


async def _settle():
    for _ in range(5):
        await asyncio.sleep(0)


def test_who_waits_comes_in_turn():
    """In the order of their coming, each as a slot gets free."""

    async def test():
        slots, first, second = Slots(), asyncio.Event(), asyncio.Event()
        came = []
        running = [asyncio.create_task(_hold(slots, SETTINGS, first)) for _ in range(2)]
        await _settle()
        waiting = [asyncio.create_task(_hold(slots, SETTINGS, second, came)) for _ in range(2)]
        await _settle()
        assert came == []
        first.set()
        await _settle()
        assert came == [0, 1]
        second.set()
        await asyncio.gather(*running, *waiting)

    _run(test)


def test_a_line_that_is_full_takes_nobody():
    """Told at once, rather than to wait in vain."""

    async def test():
        slots, opened = Slots(), asyncio.Event()
        tasks = [asyncio.create_task(_hold(slots, SETTINGS, opened)) for _ in range(4)]
        await _settle()
        with pytest.raises(Problem) as refused:
            await _hold(slots, SETTINGS, opened)
        assert (refused.value.status, refused.value.code) == (503, "queue_full")
        assert int(refused.value.headers["Retry-After"]) > 0
        opened.set()
        await asyncio.gather(*tasks)

    _run(test)


def test_nobody_waits_for_ever():
    """After so long one is told; the line is one shorter."""

    async def test():
        slots, opened = Slots(), asyncio.Event()
        hasty = ServingSettings(slots=1, most_waiting=1, wait_seconds=0.01)
        task = asyncio.create_task(_hold(slots, hasty, opened))
        await _settle()
        for _ in range(3):
            with pytest.raises(Problem, match="No slot got free"):
                await _hold(slots, hasty, opened)
        opened.set()
        await task
        await _hold(slots, hasty, opened)

    _run(test)


def test_a_slot_outlives_whoever_gives_up():
    """Cancelled while waiting, while holding, and at the moment of getting it."""

    async def test():
        slots, opened = Slots(), asyncio.Event()
        one = ServingSettings(slots=1, most_waiting=5)
        holder = asyncio.create_task(_hold(slots, one, opened))
        await _settle()
        waiters = [asyncio.create_task(_hold(slots, one, opened)) for _ in range(3)]
        await _settle()
        waiters[0].cancel()
        await _settle()
        holder.cancel()
        await asyncio.sleep(0)  # the next one has its turn now, and does not know it yet
        waiters[1].cancel()
        opened.set()
        await asyncio.gather(holder, *waiters, return_exceptions=True)
        assert waiters[2].exception() is None
        await _hold(slots, one, opened)

    _run(test)


def test_fewer_slots_count_from_the_next_answer_on():
    """Settings may be read again while people are answered."""

    async def test():
        slots, opened, later = Slots(), asyncio.Event(), asyncio.Event()
        came = []
        tasks = [asyncio.create_task(_hold(slots, SETTINGS, opened)) for _ in range(2)]
        await _settle()
        fewer = ServingSettings(slots=1, most_waiting=5)
        waiting = [asyncio.create_task(_hold(slots, fewer, later, came)) for _ in range(2)]
        await _settle()
        opened.set()
        await asyncio.gather(*tasks)
        await _settle()
        assert came == [0]
        later.set()
        await asyncio.gather(*waiting)

    _run(test)
