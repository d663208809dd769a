"""Outcomes on their way from the writer's thread to an event loop."""

from __future__ import annotations

import asyncio

from daemon.replies import Replies
from store.errors import Unavailable


def test_an_event_loop_that_is_closed_hears_nothing_and_disturbs_nobody():
    """A slow disk may outlast the time that a stop is given."""

    async def ask():
        return replies.expect()

    replies = Replies()
    future, done = asyncio.run(ask())
    done([])
    done(Unavailable())
    assert not future.done()
