"""Delivers messages at least once each, in the order of the log, over restarts.

A cursor in the store says up to which event everything was taken by the other side. It moves
after the answer, so that a kill in between tells the same once more, under the same id.
"""

from __future__ import annotations

import time
from datetime import timedelta
from urllib.parse import urlsplit

import httpx
import structlog

from daemon.webhooks import message as messages
from daemon.webhooks.settings import WebhookSettings
from daemon.wiring import Parts
from store import cursors, schedule
from store.errors import Busy, Unavailable
from store.events import Store, StoreReader
from store.records import Event, now

NAME = "webhook"
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 5.0, 3_600.0
PATIENCE = timedelta(days=3)
"""So long a message is tried; then it is passed over, so that those behind it are heard."""
FAR = 1_000
"""Events that are read in vain before the cursor is moved past them."""
log = structlog.get_logger()


class Courier:
    """Who delivers, for the daemon's clock. Of several daemons on one store one does."""

    def __init__(self) -> None:
        self._wait = FIRST_WAIT_SECONDS
        self._not_before = 0.0

    def deliver(self, parts: Parts) -> int:
        """Tells what is new; returns how many messages were taken. Call it as often as you like.

        Never raises for the other side, nor for a busy store: it is tried again later, each time
        after a longer wait.
        """
        settings = parts.settings.webhook
        if not settings.url or time.monotonic() < self._not_before:
            return 0
        try:
            if not _is_news(parts.store):
                return 0
            with schedule.keeping(parts.store, parts.holder, NAME):
                return self._tell(parts, settings)
        except Busy:
            return 0
        except Unavailable as error:
            log.warning("webhook_waits", error=str(error), retry_seconds=self._wait)
            self._not_before = time.monotonic() + self._wait
            self._wait = min(2 * self._wait, LONGEST_WAIT_SECONDS)
            return 0

    def _tell(self, parts: Parts, settings: WebhookSettings) -> int:
        """Raises Unavailable at the first message that is not taken, and not too old."""
        store, taken = parts.store, 0
        with _client(settings) as client:
            for event in store.follow(cursors.at(store, NAME) or 0, types=messages.TOLD):
                if parts.stop.is_set():
                    break
                taken += self._told(client, settings, event)
                cursors.advance(store, NAME, event.position)
        return taken

    def _told(self, client: httpx.Client, settings: WebhookSettings, event: Event) -> bool:
        message = messages.of(event)
        if message is None or (settings.events and message.type not in settings.events):
            return False
        try:
            _send(client, settings, message)
        except Unavailable as error:
            if now() - event.recorded_at < PATIENCE:
                raise
            log.error("webhook_given_up", message=message.id, type=message.type, error=str(error))  # noqa: TRY400
            return False
        self._wait = FIRST_WAIT_SECONDS
        log.info("webhook_delivered", message=message.id, type=message.type)
        return True


def _is_news(store: Store) -> bool:
    """Whether there may be something to tell; moves the cursor past what there is not."""
    end, after = store.position(), cursors.at(store, NAME)
    if after is None:  # what was before there was anybody to tell is not told
        cursors.advance(store, NAME, end)
        return False
    news = next(store.follow(after, types=messages.TOLD), None) is not None
    if not news and end > after + FAR:
        cursors.advance(store, NAME, end)
    return news


def waiting(store: StoreReader, settings: WebhookSettings) -> list[Event]:
    """What is still to be told, the oldest first; nothing where nobody is to be told."""
    after = cursors.at(store, NAME)
    if not settings.url or after is None:
        return []
    told = ((event, messages.of(event)) for event in store.follow(after, types=messages.TOLD))
    return [
        event
        for event, message in told
        if message and (not settings.events or message.type in settings.events)
    ]


def _client(settings: WebhookSettings) -> httpx.Client:
    # Neither a redirect nor a proxy of the environment leads it anywhere else.
    return httpx.Client(timeout=settings.timeout_seconds, follow_redirects=False, trust_env=False)


def _send(client: httpx.Client, settings: WebhookSettings, message: messages.Message) -> None:
    """One attempt. Raises Unavailable where it is not taken."""
    host = urlsplit(settings.url).hostname  # the rest of an address may be a secret
    try:
        answer = client.post(
            settings.url,
            content=message.body,
            headers=dict(messages.headers(message, settings.keys, now())),
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(f"{host} does not take {message.id}: {type(error).__name__}.") from error
    if not answer.is_success:
        raise Unavailable(f"{host} answered {answer.status_code} to {message.id}.")
