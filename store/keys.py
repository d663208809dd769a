"""API keys and feedback tokens: made once, shown once; of keys only a hash is stored.

`bhv_<public id>_<secret><checksum>`, and `bhvp_` for a publishable one: the prefix and the
checksum let a secret scanner find a leaked key without asking us. The secret has 128 random
bits, so SHA-256 is enough of a hash.

`bhvt_<claims>.<signature>` is a feedback token: it is signed, not stored, and lets one browser
give feedback on one conversation until it expires.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import zlib
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import Connection, delete, insert, select

from store import sources
from store.engine import in_our_words
from store.errors import NotFound, Rejected
from store.events import Store, StoreReader, bodies
from store.log import Fact, secret
from store.records import ApiKey, Identifier, Noun, now
from store.tables import api_keys, key_uses

SCOPES = ("ingest", "feedback", "read", "review", "export", "erase", "chat", "operate", "admin")
WRITING = {"ingest", "feedback"}
"""The scopes of which a publishable key may have any: they put something into the store."""
OF_A_SOURCE = WRITING | {"chat"}
"""The scopes by which something comes into the store on behalf of a source."""
OPERATING = {"operate", "admin"}
PREFIXES = {"bhv": "secret", "bhvp": "publishable"}
TOKEN_PREFIX = "bhvt_"  # noqa: S105  # not a password
LONGEST_TOKEN = timedelta(days=30)


def create(
    store: Store,
    *,
    name: str,
    scopes: tuple[str, ...],
    actor: str,
    source: str | None = None,
    publishable: bool = False,
    origins: tuple[str, ...] = (),
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """A new key and its secret text, which is shown this once and not stored.

    A key that writes belongs to a source, unless it is an operator's. A source that is new
    begins in quarantine. Raises Rejected.
    """
    _require_sensible(scopes, source, publishable, origins)
    public = secrets.token_hex(6)
    text = _secret_text(public, publishable)
    key = ApiKey(
        id=public,
        name=name,
        scopes=scopes,
        secret_hash=_hash(text),
        created_at=now(),
        source=source,
        kind="publishable" if publishable else "secret",
        origins=origins,
        expires_at=expires_at,
    )
    if source is not None:
        sources.begin(store, source, actor=actor)
    _append(store, "key.created", key, actor)
    return key, text


def rotate(store: Store, key_id: str, *, overlap: timedelta, actor: str) -> tuple[ApiKey, str]:
    """A new key in the place of an old one, which stays valid for the overlap and then expires."""
    old = _require(store, key_id)
    if old.revoked_at is not None:
        raise Rejected(f"The key {key_id} is revoked.", hint="Make a new one instead.")
    new, text = create(
        store,
        name=old.name,
        scopes=old.scopes,
        actor=actor,
        source=old.source,
        publishable=old.kind == "publishable",
        origins=old.origins,
        expires_at=old.expires_at,
    )
    end = now() + overlap
    if old.expires_at is None or old.expires_at > end:
        _append(store, "key.changed", msgspec.structs.replace(old, expires_at=end), actor)
    return new, text


def revoke(store: Store, key_id: str, *, actor: str) -> ApiKey:
    """Revokes a key; it is refused within a second. Safe to repeat."""
    key = _require(store, key_id)
    if key.revoked_at is not None:
        return key
    revoked = msgspec.structs.replace(key, revoked_at=now())
    _append(store, "key.revoked", revoked, actor)
    return revoked


def listed(store: StoreReader) -> list[ApiKey]:
    """Every key, oldest first, revoked ones included."""
    query = bodies(api_keys)
    with in_our_words(), store.reading.connect() as connection:
        found = [
            msgspec.json.decode(body, type=ApiKey) for body in connection.execute(query).scalars()
        ]
    return sorted(found, key=lambda key: (key.created_at, key.id))


def find(store: Store, key_id: str) -> ApiKey | None:
    """The key of this public id, in whatever state."""
    query = bodies(api_keys).where(api_keys.c.id == key_id)
    with in_our_words(), store.reading.connect() as connection:
        body = connection.execute(query).scalar()
    return None if body is None else msgspec.json.decode(body, type=ApiKey)


def public_id(text: str) -> str | None:
    """The public id in a key's text; None when it is no key of ours, or mistyped."""
    prefix, _, rest = text.partition("_")
    public, _, tail = rest.partition("_")
    if prefix not in PREFIXES or len(tail) != 40 or not text.isascii():
        return None
    return public if _checksum(text[:-8]) == text[-8:] else None


def stands(key: ApiKey, moment: datetime) -> bool:
    """Whether the key is neither revoked nor expired."""
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > moment)


def proves(key: ApiKey, text: str, moment: datetime) -> bool:
    """Whether this text is the key's secret, and the key neither revoked nor expired."""
    return stands(key, moment) and hmac.compare_digest(key.secret_hash, _hash(text))


def verify(store: Store, text: str) -> ApiKey | None:
    """The key that this text proves, or None: unknown, malformed, wrong, expired or revoked."""
    public = public_id(text)
    key = None if public is None else find(store, public)
    return key if key is not None and proves(key, text, now()) else None


# --- when keys were used ------------------------------------------------------------------


def note_uses(store: Store, uses: dict[str, datetime]) -> None:
    """Records when keys were last used."""
    rows = [{"key_id": key, "last_used_at": moment.isoformat()} for key, moment in uses.items()]
    if not rows:
        return

    def write(connection: Connection) -> None:
        connection.execute(delete(key_uses).where(key_uses.c.key_id.in_(list(uses))))
        connection.execute(insert(key_uses), rows)

    store.write(write)


def uses(store: Store) -> dict[str, datetime]:
    """When each key was last used, to about a minute."""
    with in_our_words(), store.reading.connect() as connection:
        rows = connection.execute(select(key_uses.c.key_id, key_uses.c.last_used_at))
        return {row[0]: datetime.fromisoformat(row[1]) for row in rows}


# --- feedback tokens ----------------------------------------------------------------------


class Token(Noun, frozen=True, kw_only=True):
    """What a feedback token lets its bearer do: feedback on one conversation, until then."""

    conversation_id: Identifier
    key_id: Identifier
    """The key that it was made with; when that one ends, so does the token."""
    expires_at: datetime


def token_secret(store: Store) -> bytes:
    """What tokens are signed with; the store's own."""
    return store.write(lambda connection: secret(connection, "tokens"))


def sign(token: Token, signing: bytes) -> str:
    """The token's text."""
    claims = base64.urlsafe_b64encode(msgspec.json.encode(token)).rstrip(b"=")
    return f"{TOKEN_PREFIX}{claims.decode()}.{_signature(claims, signing)}"


def read_token(text: str, signing: bytes, moment: datetime) -> Token | None:
    """The token that this text proves, or None: not ours, tampered with, or expired."""
    claims, _, signature = text.removeprefix(TOKEN_PREFIX).partition(".")
    if not text.isascii() or not text.startswith(TOKEN_PREFIX):
        return None
    if not hmac.compare_digest(_signature(claims.encode(), signing), signature):
        return None
    try:
        body = base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4))
        token = msgspec.json.decode(body, type=Token)
    except (binascii.Error, msgspec.DecodeError):
        return None
    return token if token.expires_at > moment else None


def _signature(claims: bytes, signing: bytes) -> str:
    return hmac.new(signing, claims, hashlib.sha256).hexdigest()


# --- parts --------------------------------------------------------------------------------


def _require_sensible(
    scopes: tuple[str, ...], source: str | None, publishable: bool, origins: tuple[str, ...]
) -> None:
    for scope in scopes:
        if scope not in SCOPES:
            raise Rejected(f"There is no scope {scope!r}.", hint=f"Scopes: {', '.join(SCOPES)}.")
    if publishable and (not scopes or set(scopes) - WRITING):
        raise Rejected(
            "A publishable key only writes: its scopes are ingest and feedback.",
            hint="Keep every other scope to a secret key on a server.",
        )
    if publishable and not origins:
        raise Rejected(
            "A publishable key is bound to web origins.",
            hint="Add `--origin https://chat.example.org`.",
        )
    if source in sources.OURS and not OPERATING & set(scopes):
        raise Rejected(f"The source {source!r} is Bhavana's own.", hint="Choose another name.")
    if OF_A_SOURCE & set(scopes) and not OPERATING & set(scopes) and source is None:
        raise Rejected(
            "A key that posts, or by which people talk to the model, belongs to a source.",
            hint="Say which one: `--source web`. Each source has its own trust and caps.",
        )


def _secret_text(public: str, publishable: bool) -> str:
    body = f"{'bhvp' if publishable else 'bhv'}_{public}_{secrets.token_hex(16)}"
    return f"{body}{_checksum(body)}"


def _require(store: Store, key_id: str) -> ApiKey:
    key = find(store, key_id)
    if key is None:
        raise NotFound(f"There is no key {key_id!r}.", hint="`bhavana keys list` shows them.")
    return key


def _append(store: Store, event: str, key: ApiKey, actor: str) -> None:
    ends = "" if event != "key.changed" or key.expires_at is None else key.expires_at.isoformat()
    identity = f"key/{key.id}/{event}{ends and '/'}{ends}"
    store.append_one(Fact(type=event, stream=f"key/{key.id}", key=identity, noun=key), actor=actor)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
