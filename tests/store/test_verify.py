"""Verifying: a whole store has no fault, and each damage is told with its place and what to do."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from store import experiences, keys, privacy, refits, reviews
from store.events import Store, StoreReader
from store.log import SEAL_EVERY
from store.projections import KINDS
from store.records import ConsentChange, Feedback, Refit, Review, now
from store.verify import MOST_OF_A_KIND, verify
from store.walk import BATCH, IDENTITY


@pytest.fixture
def full(store, make_experience, make_assessment):
    """Several kinds of events, some of them erased. Positions: 1 to 9 are experiences."""
    experiences.record(store, [make_experience(f"e-{i}", subject="s") for i in range(1, 10)])
    experiences.assess(store, [make_assessment(f"e-{i}") for i in range(1, 10)])
    moment = now()
    thumb = Feedback(id="f", kind="thumb", value=1, experience_id="e-2", given_at=moment)
    experiences.give_feedback(store, [thumb], actor="test")
    change = ConsentChange(id="c", scope="subject", scope_id="s", training=False, changed_at=moment)
    experiences.change_consent(store, change, actor="test")
    key, _ = keys.create(store, name="k", scopes=("ingest",), source="web", actor="test")
    keys.revoke(store, key.id, actor="test")
    privacy.erase(store, "experience", "e-9", reason="asked", actor="test")
    return store


@pytest.fixture
def sealed(store, make_experience):
    """A log that is long enough for a seal and for two batches."""
    count = max(SEAL_EVERY, BATCH) + 3
    experiences.record(store, [make_experience(f"e-{i}") for i in range(1, count + 1)])
    return store


def _damage(store, *statements):
    with store._write.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_a_whole_store_has_no_fault(full):
    """The counts are those of the log, and the chain is the head's."""
    found = verify(full)
    assert found.faults == ()
    assert found.events == found.head == full.position()
    assert found.erased == 2  # the experience and its assessment
    with full.reading.connect() as connection:
        assert found.chain == connection.execute(text("SELECT chain FROM heads")).scalar()


def test_an_empty_store_has_no_fault(store):
    """Nothing was recorded, and nothing is missing."""
    found = verify(store)
    assert (found.events, found.head, found.faults) == (0, 0, ())


def test_a_long_log_is_read_to_its_end(sealed):
    """Over seals and batches; progress ends at the last event."""
    told = []
    found = verify(sealed, lambda *progress: told.append(progress))
    assert (found.faults, found.seals) == ((), 1)
    assert ("events", found.events, found.events) in told


DAMAGES = {
    "digest": (["UPDATE events SET digest = 'f' WHERE position = 2"], ["at 2 ", "sealed"]),
    "key": (["UPDATE events SET key = 'experience/x' WHERE position = 2"], ["at 2 has the key"]),
    "stream": (["UPDATE events SET stream = 'x' WHERE position = 2"], ["at 2 has the key"]),
    "feedback": (["UPDATE events SET key = 'x' WHERE position = 19"], ["at 19 has the key"]),
    "consent": (["UPDATE events SET stream = 'x' WHERE position = 20"], ["at 20 has the key"]),
    "assessed": (["UPDATE events SET stream = 'x' WHERE position = 11"], ["at 11 has the key"]),
    "source": (["UPDATE events SET stream = 'x' WHERE position = 21"], ["at 21 has the key"]),
    "made key": (["UPDATE events SET stream = 'x' WHERE position = 22"], ["at 22 has the key"]),
    "erasure": (["UPDATE events SET key = 'x' WHERE position = 24"], ["at 24 has the key"]),
    "actor": (["UPDATE events SET actor = 'x' WHERE position = 2"], ["sealed"]),
    "time": (["UPDATE events SET recorded_at = '2020' WHERE position = 2"], ["sealed"]),
    "kind": (
        ["UPDATE events SET type = 'x.y' WHERE position = 2"],
        ["at 2 is of a kind", "sealed"],
    ),
    "other kind": (
        ["UPDATE events SET type = 'policy.changed' WHERE position = 2"],
        ["at 2 holds no valid Policy", "sealed"],
    ),
    "version": (["UPDATE events SET version = 2 WHERE position = 2"], ["at 2 is of a kind"]),
    "gone": (
        ["DELETE FROM events WHERE position = 3"],
        ["at 3 were acknowledged", "experiences", "tallies"],
    ),
    "end gone": (
        [
            "DELETE FROM events WHERE position > 18",
            "DELETE FROM feedback",
            "DELETE FROM consents",
            "DELETE FROM erasures",
            "DELETE FROM sources",
            "DELETE FROM api_keys",
        ],
        ["at 19 to 24 were acknowledged", "at 9 is empty", "at 18 is empty", "tallies"],
    ),
    "head behind": (["UPDATE heads SET position = 20"], ["goes to 24, its head to 20"]),
    "head ahead": (["UPDATE heads SET position = 26"], ["at 25 to 26 were acknowledged"]),
    "head changed": (["UPDATE heads SET chain = 'x'"], ["events at 1 to 24 is not the one"]),
    "head gone": (["DELETE FROM heads"], ["goes to 24, its head to 0"]),
    "seal invented": (["INSERT INTO seals VALUES (5, 'x')"], ["at 1 to 5 is", "at 6 to 24 is"]),
    "seal too far": (["INSERT INTO seals VALUES (1000, 'x')"], ["seal at 1000 has no event"]),
    "emptied": (
        [
            "UPDATE events SET stream = 'erased', body = {null} WHERE position = 4",
            "DELETE FROM experiences WHERE position = 4",
        ],
        ["have no tombstone", "at 4 is empty, but no erasure", "tallies"],
    ),
    "emptied badly": (
        ["UPDATE events SET body = {null} WHERE position = 4"],
        ["at 4 does not say what was recorded"],
    ),
    "tombstone gone": (["DELETE FROM tombstones"], ["2 erased events have no tombstone"]),
    "secret changed": (
        ["UPDATE secrets SET value = 'x' || SUBSTR(value, 2)"],
        ["secret salt was changed"],
    ),
    "secret renamed": (
        ["UPDATE secrets SET name = 'pepper'"],
        ["secret pepper was changed", "secret salt is gone"],
    ),
    "secret gone": (["DELETE FROM secrets"], ["secret salt is gone"]),
    "projection": (["UPDATE experiences SET source = 'x' WHERE position = 2"], ["experiences"]),
    "projected twice": (["INSERT INTO erasures VALUES (99, 'x')"], ["table erasures differs"]),
    "tally": (["UPDATE tallies SET n = n + 1 WHERE name = 'source'"], ["table tallies differs"]),
    "projection gone": (["DELETE FROM api_keys"], ["table api_keys differs"]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_damage_is_told(full, damage):
    """What, where and what to do; and of a damage without consequences nothing else."""
    statements, expected = DAMAGES[damage]
    sqlite = full.database is not None
    null = "CAST('null' AS BLOB)" if sqlite else "'null'"
    _damage(full, *(statement.format(null=null) for statement in statements))
    faults = [
        fault for fault in verify(full).faults if not fault.startswith("The projections were not")
    ]
    assert len(faults) == len(expected), faults
    for words in expected:
        assert [words in fault for fault in faults].count(True) == 1, (words, faults)
    assert all("bhavana" in f or "backup" in f for f in faults)


def test_words_that_were_changed_are_told(full):
    """A body that is another valid one has another digest, and what was said is not repeated."""
    body = "REPLACE(CAST(body AS TEXT), 'kindness', 'cruelty')"
    body = f"CAST({body} AS BLOB)" if full.database else f"({body})::json"
    _damage(full, f"UPDATE events SET body = {body} WHERE position = 2")
    faults = verify(full).faults
    assert "The event at 2 does not say what was recorded" in faults[0]
    assert not [fault for fault in faults if "cruelty" in fault or "e-2" in fault]


def test_a_damage_in_one_stretch_does_not_blame_the_next(sealed):
    """After a seal that differs the chain goes on from the seal."""
    _damage(sealed, "UPDATE events SET actor = 'x' WHERE position = 7")
    [fault] = verify(sealed).faults
    assert f"events at 1 to {SEAL_EVERY} is" in fault


def test_a_seal_that_is_gone_is_told(sealed):
    """Each thousandth event has one."""
    _damage(sealed, "DELETE FROM seals")
    [fault] = verify(sealed).faults
    assert f"no seal at {SEAL_EVERY}" in fault


def test_words_that_came_back_are_told(full):
    """An erased event that holds words again was not erased: somebody put it back."""
    with full.reading.connect() as connection:
        where = "stream <> 'erased' AND position = 1"
        query = text(f"SELECT body, stream, digest FROM events WHERE {where}")
        body, stream, digest = connection.execute(query).one()
    with full._write.begin() as connection:
        connection.execute(
            text(
                "UPDATE events SET body = :body, stream = :stream, key = 'experience/e-9', "
                "digest = :digest WHERE position = 9"
            ),
            {
                "body": bytes(body) if full.database else bytes(body).decode(),
                "stream": stream,
                "digest": digest,
            },
        )
    assert [f for f in verify(full).faults if "at 9 " in f and "key or the stream" in f]


def test_many_faults_of_a_kind_are_counted(full, make_experience):
    """The first ones are told in full, so that others still show."""
    _damage(
        full,
        "DELETE FROM tombstones",
        "UPDATE events SET digest = 'x' WHERE position < 9",
        "UPDATE events SET version = 2 WHERE type = 'experience.assessed'",
    )
    experiences.record(full, [make_experience(f"more-{i}") for i in range(30)])
    _damage(full, "UPDATE events SET digest = 'x' WHERE position > 24")
    faults = verify(full).faults
    assert sum("The event at" in fault for fault in faults) == MOST_OF_A_KIND
    [more] = [fault for fault in faults if "more faults of this kind: event" in fault]
    assert more.startswith(f"{8 + 8 + 30 - MOST_OF_A_KIND} more")
    assert [fault for fault in faults if "tombstone" in fault]


def test_a_log_shorter_than_its_mark_is_told(store_url, tmp_path, make_experience):
    """Even when nothing in the database itself is wrong."""
    with Store(store_url, high_water=tmp_path / "mark") as store:
        experiences.record(store, [make_experience("a"), make_experience("b")])
        store.high_water.rise(5)
        found = verify(store)
    assert found.high_water == 5
    [fault] = found.faults
    assert "The events at 3 to 5 were acknowledged and are gone" in fault
    assert "accept-loss" in fault


def test_a_damaged_mark_is_told_and_the_rest_is_checked(store_url, tmp_path, make_experience):
    """It hides no other fault."""
    mark = tmp_path / "mark"
    with Store(store_url, high_water=mark) as store:
        experiences.record(store, [make_experience("a")])
    mark.write_text("12x")
    with StoreReader(store_url, high_water=mark) as store:
        found = verify(store)
    assert (found.events, found.high_water) == (1, None)
    [fault] = found.faults
    assert str(mark) in fault


def test_what_is_recorded_meanwhile_is_no_fault(full, make_experience):
    """Everything is compared as it was at one moment, while others write."""
    before = full.position()

    def write(*_):
        experiences.record(full, [make_experience(f"new-{full.position()}")])

    found = verify(full, write)
    assert full.position() > before
    assert found.faults == ()
    assert found.events == found.head <= before + 1


def test_verifying_needs_only_a_reader(full):
    """And changes nothing."""
    before = full.projections_digest(), list(full.follow())
    with StoreReader(full.reading.url.render_as_string(hide_password=False)) as reader:
        assert verify(reader).faults == ()
    assert (full.projections_digest(), list(full.follow())) == before


@pytest.mark.parametrize("column", ["key", "stream"])
def test_a_review_and_a_refit_under_another_name_are_told(full, column):
    """A decision that was moved to another experience would be learned from."""
    moment = now()
    review = Review(
        id="r", experience_id="e-1", decision="accept", reason="Fine", reviewer="anna",
        reviewed_at=moment,
    )  # fmt: skip
    reviews.record(full, review, actor="test")
    refit = Refit(
        id="r", outcome="held_back", reason="no better", serves="", stands_on="0", reviews=1,
        random=0, labels_digest="0", figures={}, finished_at=moment,
    )  # fmt: skip
    refits.record(full, refit)
    assert verify(full).faults == ()
    _damage(full, f"UPDATE events SET {column} = position || 'x' WHERE position > 24")
    for position, fault in zip((25, 26), verify(full).faults, strict=False):
        assert f"at {position} has the key or the stream of another one" in fault


def test_every_kind_of_event_has_an_identity_to_compare():
    """A new kind is verified like the others."""
    assert IDENTITY.keys() == KINDS.keys()


# --- files of SQLite that were damaged ----------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET actor = CAST(x'ff61' AS TEXT) WHERE position = 2",
        "UPDATE events SET body = 5000000000 WHERE position = 2",
        "UPDATE events SET body = 'text' WHERE position = 2",
        "INSERT INTO losses VALUES (99, 'x', 98)",
        "DROP TABLE seals",
        "DROP TABLE api_keys",
    ],
)
def test_values_that_no_column_may_hold_are_faults(sqlite_only, full, statement):
    """No text that is not UTF-8, no number for a body, no missing table ends the check."""
    _damage(full, statement)
    found = verify(full)
    assert found.events == 24
    assert found.faults != ()


def test_a_page_that_is_overwritten_is_told(sqlite_only, sealed, tmp_path):
    """SQLite's own check and the first event that cannot be read; nothing is raised."""
    assert sealed.scrub()
    sealed.close()
    path = tmp_path / "store.db"
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2 // 4096 * 4096)
        file.write(b"\xff" * 4096 * 4)
    with StoreReader(sealed.url) as reader:
        faults = verify(reader).faults
    assert [fault for fault in faults if "SQLite's own check says" in fault]
    assert [fault for fault in faults if "No event after" in fault]
