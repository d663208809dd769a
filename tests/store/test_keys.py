"""API keys: proven by their text, of which the store holds only a hash."""

from __future__ import annotations

import pytest

from store import keys
from store.errors import NotFound, Rejected


@pytest.fixture
def made(store):
    """A key and its secret text."""
    return keys.create(store, name="frontend", scopes=("ingest",), source="web", actor="test")


def test_a_key_is_proven_by_its_text(store, made):
    """The text gives back the key, with its name and scopes."""
    key, text = made
    assert keys.verify(store, text) == key
    assert (key.name, key.scopes, key.revoked_at) == ("frontend", ("ingest",), None)
    assert keys.listed(store) == [key]


def test_a_revoked_key_is_refused(store, made):
    """Revoking works at once, may be repeated, and keeps the key in the list."""
    key, text = made
    revoked = keys.revoke(store, key.id, actor="test")
    assert keys.verify(store, text) is None
    assert keys.revoke(store, key.id, actor="test") == revoked
    assert keys.listed(store) == [revoked]
    assert revoked.revoked_at is not None


def test_revoking_an_unknown_key_is_not_found(store):
    """The error says where the known ones are shown."""
    with pytest.raises(NotFound, match="keys list"):
        keys.revoke(store, "0000", actor="test")


def test_an_unknown_scope_is_refused_with_the_known_ones(store):
    """No key is made, and the message lists the scopes there are."""
    with pytest.raises(Rejected, match=r"ingest, feedback, read"):
        keys.create(store, name="x", scopes=("ingest", "root"), actor="test")
    assert keys.listed(store) == []


def test_every_single_changed_character_is_refused(store, made):
    """Whichever character of a key is changed, it proves nothing."""
    _, text = made
    for place, letter in enumerate(text):
        other = "0" if letter != "0" else "1"
        assert keys.verify(store, text[:place] + other + text[place + 1 :]) is None


def test_a_changed_secret_with_a_right_checksum_is_refused(store, made):
    """The checksum finds typing errors; only the hash proves a key."""
    _, text = made
    body = text[:-9] + ("0" if text[-9] != "0" else "1")
    assert keys.verify(store, body + keys._checksum(body)) is None


@pytest.mark.parametrize(
    "text",
    ["", "_", "bhv_", "bhv__", "bhv_" + "a" * 200, "x" * 10_000, "bhv_\0_\0", "bhv_é_" + "ü" * 40],
)
def test_malformed_text_is_refused(store, made, text):
    """Text that is no key at all gives None, never an error."""
    assert keys.verify(store, text) is None


def test_a_key_of_another_store_is_refused(store, tmp_path, made):
    """A well-formed key that was never made here is unknown."""
    from store.events import Store

    with Store(f"sqlite:///{tmp_path / 'other.db'}") as other:
        assert keys.verify(other, made[1]) is None


def test_the_secret_is_nowhere_in_the_database_files(sqlite_only, store, tmp_path, made):
    """Neither the file nor its write-ahead log holds the secret part of the key."""
    secret = made[1].rpartition("_")[2].encode()
    store.close()  # closing a file of an open database would drop its locks
    files = [path for path in tmp_path.iterdir() if path.name.startswith("store.db")]
    assert files
    held = b"".join(path.read_bytes() for path in files)
    assert made[0].id.encode() in held
    assert secret not in held
    assert secret[:32] not in held
