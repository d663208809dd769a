"""API keys: made once, shown once, stored hashed.

`bhv_<public id>_<secret><checksum>`: the prefix and the checksum let a secret scanner find a
leaked key without asking us. The secret has 128 random bits, so SHA-256 is enough of a hash.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import zlib

import msgspec
from sqlalchemy import select

from store.engine import in_our_words
from store.errors import NotFound, Rejected
from store.events import Fact, Store
from store.records import ApiKey, now
from store.tables import api_keys

SCOPES = ("ingest", "feedback", "operator", "admin")
PREFIX = "bhv"


def create(store: Store, *, name: str, scopes: tuple[str, ...], actor: str) -> tuple[ApiKey, str]:
    """A new key and its secret text, which is shown this once and not stored."""
    for scope in scopes:
        if scope not in SCOPES:
            raise Rejected(f"There is no scope {scope!r}.", hint=f"Scopes: {', '.join(SCOPES)}.")
    public = secrets.token_hex(6)
    body = f"{PREFIX}_{public}_{secrets.token_hex(16)}"
    text = f"{body}{_checksum(body)}"
    key = ApiKey(id=public, name=name, scopes=scopes, secret_hash=_hash(text), created_at=now())
    _append(store, "key.created", key, actor)
    return key, text


def revoke(store: Store, key_id: str, *, actor: str) -> ApiKey:
    """Revokes a key; it is refused from the next request on. Safe to repeat."""
    key = _get(store, key_id)
    if key is None:
        raise NotFound(f"There is no key {key_id!r}.", hint="`bhavana keys list` shows them.")
    if key.revoked_at is not None:
        return key
    revoked = msgspec.structs.replace(key, revoked_at=now())
    _append(store, "key.revoked", revoked, actor)
    return revoked


def listed(store: Store) -> list[ApiKey]:
    """Every key, oldest first, revoked ones included."""
    query = select(api_keys.c.body).order_by(api_keys.c.position)
    with in_our_words(), store.reading.connect() as connection:
        bodies = connection.execute(query).scalars().all()
    return [msgspec.json.decode(body, type=ApiKey) for body in bodies]


def verify(store: Store, text: str) -> ApiKey | None:
    """The key that this text proves, or None: unknown, malformed, wrong or revoked."""
    prefix, _, rest = text.partition("_")
    public, _, tail = rest.partition("_")
    if prefix != PREFIX or len(tail) != 40 or _checksum(text[:-8]) != text[-8:]:
        return None
    key = _get(store, public)
    if key is None or key.revoked_at is not None:
        return None
    return key if hmac.compare_digest(key.secret_hash, _hash(text)) else None


def _get(store: Store, key_id: str) -> ApiKey | None:
    query = select(api_keys.c.body).where(api_keys.c.id == key_id)
    with in_our_words(), store.reading.connect() as connection:
        body = connection.execute(query).scalar()
    return None if body is None else msgspec.json.decode(body, type=ApiKey)


def _append(store: Store, event: str, key: ApiKey, actor: str) -> None:
    identity = f"key/{key.id}/{event}"
    store.append_one(Fact(type=event, stream=f"key/{key.id}", key=identity, noun=key), actor=actor)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
