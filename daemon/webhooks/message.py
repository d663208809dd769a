"""Which events are told, as what, and signed. Pure.

Standard Webhooks (standardwebhooks.com, specification 1.0.0): the body is signed together with
the message's id and the moment of the attempt, `v1,` and base64 of HMAC-SHA256. The id is the
same at every attempt, so that who hears a message twice can tell.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from store.projections import KINDS
from store.records import Canary, Cycle, Event, Refit, to_json

TOLD = (
    *("canary.changed", "release.published", "release.activated", "release.tainted"),
    *("cycle.finished", "heads.refitted"),
)
"""Events of which there may be something to tell: what the loop does by itself."""
LEFT_OUT = {"members"}
"""Of a refit: thousands of positions, which say nothing elsewhere."""


class Message(msgspec.Struct, frozen=True):
    """What is told of one event."""

    id: str
    type: str
    body: bytes


def of(event: Event) -> Message | None:
    """The message about an event; None where there is nothing to tell."""
    noun = msgspec.json.decode(event.body, type=KINDS[event.type].noun)
    kind = _kind(event, noun)
    if kind is None:
        return None
    data = {k: v for k, v in msgspec.to_builtins(noun).items() if k not in LEFT_OUT}
    said = {"type": kind, "timestamp": event.recorded_at, "data": data}
    name = hashlib.sha256(event.key.encode()).hexdigest()[:16]
    return Message(f"msg-{event.position}-{name}", kind, to_json(said))


def _kind(event: Event, noun: Any) -> str | None:
    match noun:
        case Canary(state="watching"):
            return "canary.started"
        case Canary(state=state):
            return f"canary.{state}"
        case Cycle(state="failed" | "held_back" as state):
            return f"cycle.{state}"
        case Refit(outcome="promoted" | "withdrawn" as outcome):
            return f"heads.{outcome}"
        case Cycle() | Refit():
            return None
    if event.type == "release.activated":  # a promotion is told by what it published
        return "release.rolled_back" if "/rolled-back" in event.key else None
    return "release.promoted" if event.type == "release.published" else event.type


def headers(message: Message, keys: Iterable[bytes], moment: datetime) -> Mapping[str, str]:
    """The headers of one attempt, with a signature by each key."""
    seconds = str(int(moment.timestamp()))
    signed = f"{message.id}.{seconds}.".encode() + message.body
    signatures = (base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys)
    return {
        "Content-Type": "application/json",
        "webhook-id": message.id,
        "webhook-timestamp": seconds,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
