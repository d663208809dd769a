"""The door: streams, packed bodies, browsers, tokens and limits."""

from __future__ import annotations

import gzip
import json
import zlib
from datetime import timedelta

import pytest
from starlette.testclient import TestClient

from daemon.api import make_app
from daemon.bodies import MAX_BODY_BYTES, MAX_LINES
from daemon.limits import LimitSettings
from store import experiences, keys, privacy, sources
from store.errors import Misconfigured, QueueFull, StorageFault
from store.records import now

LINES = {"Content_Type": "application/x-ndjson"}
ORIGIN = "https://chat.example.org"
FEEDBACK = "/v1/feedback"


def lines(*items):
    """The items as NDJSON."""
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)


@pytest.fixture
def many(experience):
    """So many experiences, each with an id of its own."""
    return lambda count: [experience | {"id": f"e-{i}"} for i in range(count)]


@pytest.fixture
def publishable(store):
    """The text of a key that may stand in a page of one origin."""
    return keys.create(
        store,
        name="page",
        scopes=("ingest", "feedback"),
        source="web",
        actor="t",
        publishable=True,
        origins=(ORIGIN,),
    )[1]


# --- streams ------------------------------------------------------------------------------


def test_a_stream_gets_a_result_for_each_line(post, store, many):
    """As many as a stream may hold, in order, all kept."""
    response = post(lines(*many(1_200)), **LINES)
    assert response.status_code == 201
    found = [(r["id"], r["status"]) for r in response.json()["results"]]
    assert found == [(f"e-{i}", "recorded") for i in range(1_200)]
    assert experiences.count_by_source(store) == {"web": 1_200}
    assert post(lines(*many(1_200)), **LINES).status_code == 200


def test_lines_that_are_wrong_do_not_cost_the_others(post, experience):
    """Empty lines do not count, a last line needs no end, and every fault is told."""
    body = lines(experience) + b"\r\n\n{\n" + lines({"id": "x"}) + b"[" * 5_000 + b"\n"
    response = post(body + json.dumps(experience | {"id": "last"}).encode(), **LINES)
    assert response.status_code == 207
    found = [(r.get("id"), r["status"]) for r in response.json()["results"]]
    assert found == [
        ("e-1", "recorded"),
        (None, "invalid"),
        ("x", "invalid"),
        (None, "invalid"),
        ("last", "recorded"),
    ]


def test_a_stream_that_is_too_long_says_what_was_kept(post, problem, store, many):
    """413 carries the results of what was kept before the limit."""
    document = problem(post(lines(*many(MAX_LINES + 1)), **LINES), 413, "too_many_lines")
    kept = len(document["results"])
    assert 0 < kept <= MAX_LINES
    assert experiences.count_by_source(store) == {"web": kept}


def test_an_endless_line_is_refused(post, problem):
    """One line is not longer than one body may be."""
    problem(post(b'{"id": "' + b"x" * (MAX_BODY_BYTES + 10), **LINES), 413, "line_too_large")


def test_a_stream_of_nothing_is_refused(post, problem):
    """There is no result to give."""
    problem(post(b"\n \n", **LINES), 422, "bad_count")


# --- packed bodies ------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, LINES])
def test_a_body_may_be_packed(post, experience, headers):
    """Gzip is unpacked, for a document and for a stream."""
    packed = gzip.compress(lines(experience))
    assert post(packed, Content_Encoding="gzip", **headers).status_code == 201


@pytest.mark.parametrize("headers", [{}, LINES])
def test_a_small_body_does_not_become_a_large_one(post, problem, headers):
    """A bomb is refused before it is unpacked."""
    bomb = gzip.compress(b" " * 30_000_000, 9)
    response = post(bomb, Content_Encoding="gzip", **headers)
    assert problem(response, 413)["code"] in ("gzip_ratio", "body_too_large")


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", gzip.compress(b"{}")[:-4], gzip.compress(b"{}") + b"x", zlib.compress(b"{}")],
    ids=["nothing", "plain", "truncated", "followed", "zlib"],
)
def test_what_is_not_gzip_is_a_bad_request(post, problem, body):
    """Truncated, followed by something, or another format."""
    problem(post(body, Content_Encoding="gzip"), 400, "bad_gzip")


def test_other_encodings_are_refused(post, problem, experience):
    """The answer says which one is taken."""
    response = post(experience, Content_Encoding="br")
    problem(response, 415, "unsupported_encoding")
    assert response.headers["accept-encoding"] == "gzip"


# --- what a client may leave out ------------------------------------------------------------


def test_the_header_is_an_alias_of_the_id(post, experience):
    """Idempotency-Key makes a retry a duplicate where the item has no id."""
    del experience["id"]
    assert post(experience, Idempotency_Key="try-1").json()["id"] == "try-1"
    assert post(experience, Idempotency_Key="try-1").status_code == 200


def test_the_source_is_that_of_the_key(post, store, problem, experience):
    """It may be left out; another one is refused."""
    del experience["source"]
    post(experience)
    assert experiences.get(store, "e-1").source == "web"
    other = experience | {"id": "e-2", "source": "elsewhere"}
    assert problem(post(other), 403, "wrong_source")["pointer"] == "/source"


def test_only_an_operator_posts_for_the_house(post, store, problem, experience):
    """`exemplar` is held to milder bars, so an ordinary key may not claim it."""
    curated = experience | {"source": "exemplar"}
    problem(post(curated), 403, "wrong_source")
    operator = keys.create(store, name="o", scopes=("ingest", "operate"), actor="t")[1]
    assert post(curated, key=operator).status_code == 201


# --- text ---------------------------------------------------------------------------------


def test_text_is_kept_in_one_form(post, store, experience):
    """Decomposed and composed letters are one text, so a retry is a duplicate."""
    assert post(experience | {"response": "cafe\u0301"}).status_code == 201
    assert post(experience | {"response": "caf\u00e9"}).status_code == 200
    assert experiences.get(store, "e-1").response == "caf\u00e9"


def test_keys_that_become_one_are_refused(post, problem, experience):
    """Neither value is dropped unnoticed; a key alone is kept in NFC like any text."""
    both = {"metadata": {"caf\u00e9": 1, "cafe\u0301": 2}}
    assert problem(post(experience | both), 422, "invalid")["pointer"] == "/metadata"
    assert post(experience | {"metadata": {"cafe\u0301": 2}}).status_code == 201


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"response": "a\x1b[2J"}, "/response"),
        ({"messages": [{"role": "user", "content": "a\x9b"}]}, "/messages/0/content"),
        ({"context": {"facts": ["a", "b\x07"]}}, "/context/facts/1"),
        ({"metadata": {"a/b": "\x7f"}}, "/metadata/a~1b"),
    ],
)
def test_control_characters_are_refused_where_they_are(post, problem, experience, changes, pointer):
    """Tab and line ends are text, an escape sequence is not."""
    document = problem(post(experience | changes), 422, "control_character")
    assert document["pointer"] == pointer
    assert post(experience | {"response": "a\tb\r\n"}).status_code == 201


def test_personal_data_is_replaced_before_storing(post, store, experience):
    """A retry is still a duplicate, and the metrics count what was replaced."""
    said = experience | {"response": "Write to asha@example.org or call +44 20 7946 0958."}
    assert post(said).status_code == 201
    assert post(said).status_code == 200
    assert experiences.get(store, "e-1").response == "Write to [email] or call [phone]."
    comment = {"id": "f-1", "kind": "comment", "experience_id": "e-1", "text": "asha@example.org"}
    post(comment | {"given_at": "2026-01-02T03:04:05Z"}, FEEDBACK)
    assert experiences.feedback_on(store, "e-1")[0].text == "[email]"


def test_what_cannot_be_redacted_is_not_stored(monkeypatch, post, problem, store, experience):
    """Redaction fails closed."""
    from daemon import redaction

    def fail(*_):
        raise RuntimeError("a detector failed")

    monkeypatch.setattr(redaction, "redact", fail)
    problem(post(experience), 500)
    assert experiences.count_by_source(store) == {}


# --- browsers -----------------------------------------------------------------------------


def test_a_publishable_key_works_from_its_origin_only(post, problem, publishable, experience):
    """The answer may be read by that page; elsewhere it is refused."""
    response = post(experience, key=publishable, Origin=ORIGIN)
    assert response.status_code == 201
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert "access-control-allow-credentials" not in response.headers
    elsewhere = post(experience, key=publishable, Origin="https://evil.example")
    problem(elsewhere, 403, "wrong_origin")
    assert "access-control-allow-origin" not in elsewhere.headers
    problem(post(experience, key=publishable), 403, "wrong_origin")


def test_a_beacon_is_taken(client, publishable, experience):
    """SendBeacon can set no header: text/plain, and the key in the URL."""
    response = client.post(
        f"/v1/experiences?key={publishable}",
        content=json.dumps(experience),
        headers={"Content-Type": "text/plain;charset=UTF-8", "Origin": ORIGIN},
    )
    assert response.status_code == 201


def test_a_secret_key_in_a_url_is_refused(client, problem, secret, experience):
    """And the answer says that it should be revoked."""
    response = client.post(f"/v1/experiences?key={secret}", json=experience)
    assert "revoke" in problem(response, 401, "secret_in_url")["hint"]


@pytest.mark.parametrize(("origin", "allowed"), [(ORIGIN, True), ("https://evil.example", False)])
def test_a_preflight_is_answered_for_known_origins(client, publishable, origin, allowed):
    """Without the allow header a browser does not send."""
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    response = client.options("/v1/feedback", headers=asked)
    assert response.status_code == 204
    assert ("access-control-allow-origin" in response.headers) is allowed
    assert ("access-control-allow-headers" in response.headers) is allowed


def test_a_publishable_key_only_writes(client, problem, publishable):
    """It reads nothing, and makes no token."""
    given = {"Authorization": f"Bearer {publishable}", "Origin": ORIGIN}
    problem(client.get("/v1/experiences", headers=given), 403, "wrong_scope")
    wish = {"conversation_id": "talk-1"}
    problem(client.post("/v1/feedback-tokens", json=wish, headers=given), 403)


def test_a_feedback_token_is_for_one_conversation(client, post, problem, secret, store):
    """Made by a server's key, used by a browser, until it expires."""
    given = {"Authorization": f"Bearer {secret}"}
    wish = {"conversation_id": "talk-1", "seconds": 60}
    token = client.post("/v1/feedback-tokens", json=wish, headers=given).json()["token"]
    thumb = {"id": "f-1", "kind": "thumb", "value": 1, "given_at": "2026-01-02T03:04:05Z"}
    mine = thumb | {"conversation_id": "talk-1"}
    assert post(mine, FEEDBACK, key=token).status_code == 201
    other = thumb | {"id": "f-2", "conversation_id": "talk-2"}
    problem(post(other, FEEDBACK, key=token), 403, "wrong_conversation")
    problem(post(mine, "/v1/experiences", key=token), 403, "wrong_scope")
    problem(post(mine, FEEDBACK, key=token[:-1] + "x"), 401, "bad_key")
    ended = keys.Token(
        conversation_id="talk-1",
        key_id=keys.listed(store)[0].id,
        expires_at=now() - timedelta(seconds=1),
    )
    problem(post(mine, FEEDBACK, key=keys.sign(ended, keys.token_secret(store))), 401, "bad_key")


@pytest.mark.parametrize(("hours", "status"), [(1, 201), (-1, 401)])
def test_a_feedback_token_ends_with_its_key(post, store, hours, status):
    """However much longer it would last by itself: expired is as good as revoked."""
    ends = now() + timedelta(hours=hours)
    key, _ = keys.create(
        store, name="t", scopes=("feedback",), source="web", actor="t", expires_at=ends
    )
    token = keys.Token(
        conversation_id="talk-1", key_id=key.id, expires_at=now() + timedelta(days=1)
    )
    thumb = {"id": "f-1", "kind": "thumb", "value": 1, "given_at": "2026-01-02T03:04:05Z"}
    text = keys.sign(token, keys.token_secret(store))
    assert post(thumb | {"conversation_id": "talk-1"}, FEEDBACK, key=text).status_code == status


def test_an_expired_key_is_refused(post, problem, store, experience):
    """From the moment on that it was made for."""
    moment = now() - timedelta(seconds=1)
    text = keys.create(
        store, name="t", scopes=("ingest",), source="web", actor="t", expires_at=moment
    )[1]
    problem(post(experience, key=text), 401, "bad_key")


# --- limits -------------------------------------------------------------------------------


@pytest.fixture
def narrow(store):
    """The application with narrow limits: ten items at once for a key, two for a person."""
    limits = LimitSettings(
        key_per_second=0.01, key_burst=10, subject_per_second=0.01, subject_burst=2
    )
    return TestClient(make_app(store, lambda: True, limits=limits))


def test_a_key_may_not_send_more_than_its_share(narrow, secret, problem, many, store):
    """429 says when to send again, and nothing of that request is kept."""
    given = {"Authorization": f"Bearer {secret}"}
    assert narrow.post("/v1/experiences", json=many(10), headers=given).status_code == 201
    response = narrow.post("/v1/experiences", json=many(1), headers=given)
    problem(response, 429, "too_many_requests")
    assert int(response.headers["retry-after"]) > 1
    assert experiences.count_by_source(store) == {"web": 10}


def test_a_person_may_not_send_more_than_their_share(narrow, secret, problem, many):
    """Whoever else uses the same key is not held back."""
    given = {"Authorization": f"Bearer {secret}"}
    one, two, three, four = ({**e, "subject": "p-1"} for e in many(4))
    for item in (one, two):
        assert narrow.post("/v1/experiences", json=item, headers=given).status_code == 201
    problem(narrow.post("/v1/experiences", json=three, headers=given), 429)
    other = four | {"subject": "p-2"}
    assert narrow.post("/v1/experiences", json=other, headers=given).status_code == 201


def test_a_refused_list_costs_nobody_anything(narrow, secret, problem, many):
    """One person too often in it, and neither the key nor the others are charged."""
    given = {"Authorization": f"Bearer {secret}"}
    mine = [{**e, "subject": "p-1"} for e in many(2)]
    assert narrow.post("/v1/experiences", json=mine, headers=given).status_code == 201
    mixed = [{**e, "id": f"m-{e['id']}", "subject": f"p-{i}"} for i, e in enumerate(many(3))]
    for _ in range(9):
        problem(narrow.post("/v1/experiences", json=mixed, headers=given), 429)
    others = [item for item in mixed if item["subject"] != "p-1"]
    assert narrow.post("/v1/experiences", json=others, headers=given).status_code == 201
    crowd = [{**e, "subject": "p-9"} for e in many(3)]
    problem(narrow.post("/v1/experiences", json=crowd, headers=given), 413, "too_many_items")


def test_newcomers_are_refused_when_there_is_no_room_to_count_them(
    monkeypatch, narrow, secret, problem, many
):
    """The limits fail closed."""
    from daemon import limits

    monkeypatch.setattr(limits, "MOST_BUCKETS", 2)
    given = {"Authorization": f"Bearer {secret}"}
    first, second = ({**e, "subject": f"p-{e['id']}"} for e in many(2))
    assert narrow.post("/v1/experiences", json=first, headers=given).status_code == 201
    problem(narrow.post("/v1/experiences", json=second, headers=given), 429)


def test_a_crowd_keeps_nobody_out_once_its_buckets_are_full_again(
    monkeypatch, store, secret, experience
):
    """One key that names ever new persons does not use up the room for others."""
    from daemon import limits

    monkeypatch.setattr(limits, "MOST_BUCKETS", 10)
    wide = LimitSettings(key_per_second=1e9, subject_per_second=1e9)
    client = TestClient(make_app(store, lambda: True, limits=wide))
    given = {"Authorization": f"Bearer {secret}"}
    for i in range(30):
        item = experience | {"id": f"e-{i}", "subject": f"p-{i}"}
        assert client.post("/v1/experiences", json=item, headers=given).status_code == 201


# --- when the store cannot ------------------------------------------------------------------


@pytest.mark.parametrize("fault", [QueueFull(), StorageFault(), Misconfigured()])
def test_what_cannot_be_written_now_is_to_be_sent_again(
    monkeypatch, post, problem, store, experience, fault
):
    """503 with Retry-After, never an answer that could be taken for kept."""

    def refuse(*_):
        raise fault

    monkeypatch.setattr(store.writer, "append", refuse)
    response = post(experience)
    problem(response, 503)
    assert int(response.headers["retry-after"]) >= 1


@pytest.mark.parametrize("many", [False, True])
def test_a_file_that_is_a_database_no_more_is_no_fault_of_the_sender(
    monkeypatch, sqlite_only, post, problem, store, experience, many
):
    """A client that is told 422 throws away what it was to send again."""
    monkeypatch.setattr("daemon.keyring.BELIEVED_SECONDS", 0)
    assert post(experience).status_code == 201
    assert store.scrub()
    store.reading.dispose()  # what a connection has read already it does not read again
    with store.database.open("r+b") as file:
        file.write(b"not SQLite")
    another = experience | {"id": "e-2"}
    problem(post([another] if many else another), 503, "unavailable")


def test_what_was_erased_is_gone_for_good(post, problem, store, experience):
    """410 for one, and in a list a result that says so."""
    post(experience)
    privacy.erase(store, "experience", "e-1", reason="asked", actor="t")
    problem(post(experience), 410, "erased")
    [result] = post([experience]).json()["results"]
    assert (result["status"], result["code"]) == ("refused", "erased")


def test_a_new_source_begins_in_quarantine(store, secret):
    """Until a week is over, or somebody decides."""
    [source] = sources.listed(store)
    assert (source.name, source.tier) == ("web", "quarantined")
    tiers = sources.tiers(store, as_of=store.position(), moment=now())
    assert tiers["web"] == "quarantined"
    later = sources.tiers(store, as_of=store.position(), moment=now() + timedelta(days=8))
    assert later["web"] == "untrusted"
