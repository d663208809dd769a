"""Who is calling: keys and feedback tokens as the HTTP edge meets them.

A key that was looked up is believed for half a second, so a revocation counts within one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from starlette.concurrency import run_in_threadpool

from daemon.problems import Problem
from store import keys
from store.events import Store
from store.records import ApiKey, now

BELIEVED_SECONDS = 0.5
MOST_BELIEVED = 10_000
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="bhavana"'}


class Caller(NamedTuple):
    """Who calls, proven: a key, or a token that a key made for one conversation."""

    key: ApiKey
    conversation: str | None = None
    """The one conversation that a feedback token is for."""

    @property
    def actor(self) -> str:
        """How the log names the caller."""
        return f"key:{self.key.id}"

    @property
    def operates(self) -> bool:
        """Whether this is an operator's key, which may name any source."""
        return bool(keys.OPERATING & set(self.key.scopes))

    def may(self, scope: str) -> bool:
        """Whether the caller has this scope."""
        if self.conversation is not None:
            return scope == "feedback"
        return scope in self.key.scopes or "admin" in self.key.scopes


class KeyRing:
    """Proves callers against the store's keys. For one event loop and its worker threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._signing = keys.token_secret(store)
        self._believed: dict[str, tuple[ApiKey | None, float]] = {}
        self._origins: tuple[frozenset[str], float] = (frozenset(), 0.0)
        self._used: dict[str, datetime] = {}

    async def caller(self, headers: Mapping[bytes, bytes], query: bytes, scope: str) -> Caller:
        """The caller of a request, who may do this. Raises Problem 401 or 403."""
        text, in_url = _presented(headers, query)
        if in_url and text.startswith("bhv_"):
            raise Problem(
                401,
                "secret_in_url",
                "A secret key does not belong in a URL: servers on the way write it down.",
                hint="Send it as `Authorization: Bearer`, or use a publishable key. Revoke this "
                "one: `bhavana keys revoke`.",
                headers=CHALLENGE,
            )
        caller = await self._proven(text)
        _require_origin(caller.key, headers.get(b"origin"))
        _require_scope(caller, scope)
        self._used[caller.key.id] = now()
        return caller

    async def allows(self, origin: bytes) -> bool:
        """Whether a page of this origin may call at all: some publishable key names it."""
        known, until = self._origins
        if until < time.monotonic():
            listed = await run_in_threadpool(keys.listed, self._store)
            known = frozenset(o for k in listed if k.revoked_at is None for o in k.origins)
            self._origins = (known, time.monotonic() + BELIEVED_SECONDS)
        return origin.decode("latin-1") in known

    def make_token(self, token: keys.Token) -> str:
        """The text of a feedback token."""
        return keys.sign(token, self._signing)

    def note_uses(self) -> None:
        """Writes down when keys were last used."""
        used, self._used = self._used, {}
        keys.note_uses(self._store, used)

    async def _proven(self, text: str) -> Caller:
        moment = now()
        conversation = None
        if text.startswith(keys.TOKEN_PREFIX):
            token = keys.read_token(text, self._signing, moment)
            key = None if token is None else await self._find(token.key_id)
            if token is not None and key is not None and keys.stands(key, moment):
                return Caller(key, token.conversation_id)
            raise _unproven("This feedback token is unknown or expired, or its key has ended.")
        public = keys.public_id(text)
        key = None if public is None else await self._find(public)
        if key is None or not keys.proves(key, text, moment):
            raise _unproven("This API key is unknown, malformed, expired or revoked.")
        return Caller(key, conversation)

    async def _find(self, public: str) -> ApiKey | None:
        found = self._believed.get(public)
        if found is not None and found[1] > time.monotonic():
            return found[0]
        key = await run_in_threadpool(keys.find, self._store, public)
        if len(self._believed) >= MOST_BELIEVED:
            self._believed.clear()
        self._believed[public] = (key, time.monotonic() + BELIEVED_SECONDS)
        return key


def _presented(headers: Mapping[bytes, bytes], query: bytes) -> tuple[str, bool]:
    """(the key's text, whether it came in the URL). Raises Problem 401 where there is none."""
    scheme, _, text = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() == "bearer" and text.strip():
        return text.strip(), False
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if name == b"key" and value:
            return value.decode("latin-1"), True
    raise Problem(
        401,
        "missing_key",
        "This needs an API key.",
        hint="Send `Authorization: Bearer <key>`; `bhavana keys create` makes one.",
        headers=CHALLENGE,
    )


def _unproven(message: str) -> Problem:
    return Problem(401, "bad_key", message, headers=CHALLENGE)


def _require_origin(key: ApiKey, origin: bytes | None) -> None:
    """A publishable key is in everybody's hands; browsers say honestly where they stand."""
    if key.kind == "publishable" and (origin or b"").decode("latin-1") not in key.origins:
        raise Problem(
            403,
            "wrong_origin",
            "This publishable key is bound to other web origins.",
            hint=f"It may be used from {', '.join(key.origins)}.",
        )


def _require_scope(caller: Caller, scope: str) -> None:
    if not caller.may(scope):
        raise Problem(
            403,
            "wrong_scope",
            f"This key has the scopes {', '.join(caller.key.scopes)}; {scope} is needed.",
            hint=f"Make one with `bhavana keys create --scope {scope}`.",
        )
