"""A store of an earlier version: everything in it is there afterwards."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from alembic import command
from sqlalchemy import text

from store import canaries, cursors, cycles, experiences, keys, reviews, taints
from store.engine import alembic_config, open_engine
from store.events import Store
from store.live import live
from store.log import EMPTY_CHAIN, head_of, link
from store.projections import Activation
from store.records import ApiKey, Cycle, Feedback, Release, now, to_json

COUNT = 1_203
INSERT = text(
    "INSERT INTO events (stream, type, version, key, body, digest, recorded_at, actor) "
    "VALUES (:stream, :type, 1, :key, :body, :digest, :recorded_at, 'test')"
)
LEFT_BY_THE_SECOND = (
    "INSERT INTO feedback (position, id, experience_id, kind) VALUES (7, 'f', 'e-1', 'thumb')"
)


def _left_by_the_first(store_url, facts):
    """A store as the first version left it, with these events."""
    engine = open_engine(store_url, writes=True)
    config = alembic_config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for kind, name, noun in facts:
            body = noun if isinstance(noun, bytes) else to_json(noun)
            row = {"stream": name, "type": kind, "key": name, "body": body}
            row["digest"] = hashlib.sha256(body).hexdigest()
            connection.execute(INSERT, row | {"recorded_at": now().isoformat()})
    return engine


@pytest.fixture
def old(store_url, make_experience):
    """The URL of a store as the first version left it."""
    key = ApiKey(id="abc", name="k", scopes=("ingest",), secret_hash="0", created_at=now())
    facts = [("key.created", "key/abc/key.created", key)]
    facts += [
        ("experience.recorded", f"experience/e-{i}", make_experience(f"e-{i}"))
        for i in range(COUNT)
    ]
    _left_by_the_first(store_url, facts).dispose()
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


def test_what_later_versions_ask_of_feedback_and_assessments_is_filled_in(
    store_url, make_experience, make_assessment
):
    """The second version did not note them; the log knows, and rows that were there do not stay."""
    thumb = Feedback(id="f", kind="thumb", value=-1, experience_id="e-1", given_at=now())
    facts = [
        ("experience.recorded", f"experience/{name}", make_experience(name))
        for name in ("e-0", "e-1", "e-2")
    ]
    facts += [
        (
            "experience.assessed",
            f"assessment/{name}/panel-1",
            make_assessment(name, doubts=("injection",) if name == "e-2" else ()),
        )
        for name in ("e-0", "e-1", "e-2")
    ]
    facts.append(("feedback.given", "feedback/f", thumb))
    engine = _left_by_the_first(store_url, facts)
    config = alembic_config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        connection.execute(text(LEFT_BY_THE_SECOND))
        connection.execute(text("INSERT INTO tallies VALUES ('feedback', 'thumb', 1)"))
    engine.dispose()
    with Store(store_url) as store:
        assert experiences.count_feedback(store) == 1
        assert reviews.count(store)["random"] == 0
        drawn = [reviews.draw(store, "panel-1", reviewer=f"person-{n}", cut=0.5) for n in range(3)]
        assert {d.experience.id for d in drawn} == {"e-0", "e-1", "e-2"}
        with store.reading.connect() as connection:
            query = "SELECT experience_id FROM assessments WHERE doubted"
            assert connection.execute(text(query)).scalars().all() == ["e-2"]
            query = "SELECT value FROM feedback"
            assert connection.execute(text(query)).scalars().all() == [-1]
        before = store.projections_digest()
        store.rebuild()
        assert store.projections_digest() == before


def _without_a_line(noun):
    """The noun as it was recorded before there were lines."""
    known = msgspec.to_builtins(noun)
    return to_json({k: v for k, v in known.items() if k not in ("line", "parent")})


def test_what_served_before_there_were_lines_serves_on_the_main_one(store_url):
    """The release in service and the cycle under way are found, also after a rebuild."""
    release = Release(
        id="release-1", cycle_id="cycle-1", run_id="run-1", evaluation_id="evaluation-1",
        target="local", location="/l", adapter_hash="a", base="b", base_hash="bh",
        previous=None, published_at=now(),
    )  # fmt: skip
    cycle = Cycle(id="cycle-2", reason="test", started_at=now(), position=2)
    activation = Activation(target="local", release_id="release-1", reason="promoted")
    facts = [
        ("release.published", "cycle/cycle-1/release.published", release),
        ("release.activated", "cycle/cycle-1/release.activated", activation),
        ("cycle.started", "cycle/cycle-2/started", cycle),
    ]
    old = [(kind, name, _without_a_line(noun)) for kind, name, noun in facts]
    _left_by_the_first(store_url, old).dispose()
    with Store(store_url) as store:
        for _ in range(2):
            assert cycles.current_release(store, "local") == release
            assert cycles.current_release(store, "local", "math") is None
            assert cycles.running(store) == cycles.last(store, "main") == cycle
            store.rebuild()


def test_who_answered_is_known_of_what_was_recorded_before_anybody_asked(
    store_url, make_experience
):
    """A store of before there were canaries: the log knows it, and no trial is under way."""
    facts = [
        ("experience.recorded", f"experience/{name}", make_experience(name, model=model))
        for name, model in (("e-1", "release-1"), ("e-2", None))
    ]
    engine = _left_by_the_first(store_url, facts)
    config = alembic_config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0006")
    engine.dispose()
    with Store(store_url) as store:
        assert live(store, "release-1", "panel-1").answers == 1
        assert canaries.undecided(store) == []
        assert taints.every(store) == {}
        assert cursors.at(store, "revocation") is None
        before = store.projections_digest()
        store.rebuild()
        assert store.projections_digest() == before
