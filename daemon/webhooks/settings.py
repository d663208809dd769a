"""Whom to tell, and the secret that the messages are signed with."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta

from store.records import Noun

PREFIX = "whsec_"
LEAST_BYTES = 24
"""What Standard Webhooks asks of a secret."""


class WebhookSettings(Noun, frozen=True, kw_only=True):
    """Where messages about what the loop did by itself go."""

    url: str = ""
    """Empty: nowhere. Where it leads is the operator's word: no redirect is followed."""
    secret: str = ""
    """`whsec_` and at least 24 bytes in base64; several, with spaces between, while one takes the
    place of another. BHAVANA_WEBHOOK__SECRET_FILE names a file that holds it."""
    events: tuple[str, ...] = ()
    """Types of messages, such as "canary.asked"; empty: all."""
    timeout_seconds: Annotated[float, Meta(gt=0, le=60)] = 10.0

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The secrets as bytes. Raises ValueError where one is no base64."""
        return tuple(
            base64.b64decode(one.removeprefix(PREFIX), validate=True) for one in self.secret.split()
        )

    def faults(self) -> Iterator[str]:
        """What keeps messages from being sent."""
        if not self.url:
            return
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            yield "webhook.url: an http or https address is needed."
        try:
            keys = self.keys
        except (binascii.Error, ValueError):
            yield f"webhook.secret: not `{PREFIX}` and base64."
            return
        if not keys or min(map(len, keys)) < LEAST_BYTES:
            yield (
                f"webhook.secret: {LEAST_BYTES} bytes are needed; "
                f"`echo {PREFIX}$(openssl rand -base64 32)` makes one."
            )
