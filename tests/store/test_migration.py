"""A store of an earlier version: everything in it is there afterwards."""

from __future__ import annotations

import hashlib

import pytest
from alembic import command
from sqlalchemy import text

from store import experiences, keys
from store.engine import alembic_config, open_engine
from store.events import Store
from store.log import EMPTY_CHAIN, head_of, link
from store.records import ApiKey, now, to_json

COUNT = 1_203
INSERT = text(
    "INSERT INTO events (stream, type, version, key, body, digest, recorded_at, actor) "
    "VALUES (:stream, :type, 1, :key, :body, :digest, :recorded_at, 'test')"
)


@pytest.fixture
def old(store_url, make_experience):
    """The URL of a store as the first version left it."""
    engine = open_engine(store_url, writes=True)
    config = alembic_config()
    key = ApiKey(id="abc", name="k", scopes=("ingest",), secret_hash="0", created_at=now())
    facts = [("key.created", "key/abc/key.created", key)]
    facts += [
        ("experience.recorded", f"experience/e-{i}", make_experience(f"e-{i}"))
        for i in range(COUNT)
    ]
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for kind, name, noun in facts:
            body = to_json(noun)
            row = {"stream": name, "type": kind, "key": name, "body": body}
            row["digest"] = hashlib.sha256(body).hexdigest()
            connection.execute(INSERT, row | {"recorded_at": now().isoformat()})
    engine.dispose()
    return store_url


def test_an_earlier_store_is_brought_forward(old, make_experience):
    """Experiences, keys and order are as they were, retries are still duplicates."""
    with Store(old) as store:
        assert store.position() == COUNT + 1
        assert experiences.get(store, "e-7") == make_experience("e-7")
        assert experiences.count_by_source(store) == {"web": COUNT}
        assert [key.id for key in keys.listed(store)] == ["abc"]
        again, new = experiences.record(store, [make_experience("e-7"), make_experience("new")])
        assert (again.status, again.position) == ("duplicate", 9)
        assert (new.status, new.position) == ("recorded", COUNT + 2)


def test_the_chain_reaches_over_what_was_there_before(old, make_experience):
    """As if it had been kept from the beginning, with a seal every thousand events."""
    with Store(old) as store:
        experiences.record(store, [make_experience("new")])
        chain = EMPTY_CHAIN
        with store.reading.connect() as connection:
            query = "SELECT position, type, recorded_at, actor, digest FROM events ORDER BY 1"
            for row in connection.execute(text(query)):
                chain = link(chain, *row)
                if row.position == 1_000:
                    sealed = chain
            assert head_of(connection).chain == chain
            seals = connection.execute(text("SELECT position, chain FROM seals")).all()
        assert [tuple(seal) for seal in seals] == [(1_000, sealed)]


def test_opening_it_again_changes_nothing(old):
    """The second start finds everything done."""
    with Store(old) as store:
        before = store.projections_digest()
    with Store(old) as store:
        assert store.projections_digest() == before
