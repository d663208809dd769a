"""The ingest endpoint: 2xx means kept, retries do not double, and every fault is told well."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from daemon.bodies import MAX_BODY_BYTES
from daemon.ingest import MAX_ITEMS
from store import experiences, keys

EXPERIENCES, FEEDBACK = "/v1/experiences", "/v1/feedback"
THUMB = {
    "id": "f-1",
    "experience_id": "e-1",
    "kind": "thumb",
    "value": 1,
    "given_at": "2026-01-02T03:04:05Z",
}


def results(response):
    """The results of a list of which something was not kept."""
    assert response.status_code == 207, response.text
    return response.json()["results"]


# --- what is kept -------------------------------------------------------------------------


def test_a_new_experience_is_created_at_a_position(post, store, experience):
    """201 names the id, the status and the position at which it stands in the log."""
    response = post(experience)
    assert response.status_code == 201
    assert response.json() == {"id": "e-1", "status": "recorded", "position": store.position()}
    kept = experiences.get(store, "e-1")
    assert (kept.response, kept.consent.training) == ("Good morning", False)


def test_sending_again_changes_nothing(post, store, experience):
    """The same content under the same id answers 200 with the first position."""
    first = post(experience)
    again = post(experience)
    assert again.status_code == 200
    assert again.json() == first.json() | {"status": "duplicate"}
    assert again.json()["position"] == store.position()


def test_the_same_moment_in_another_zone_is_the_same_experience(post, experience):
    """A retry through a frontend in another time zone is no conflict."""
    post(experience)
    assert post(experience | {"occurred_at": "2026-01-02T05:04:05+02:00"}).status_code == 200


def test_other_content_under_the_same_id_is_a_conflict(problem, post, store, experience):
    """409 says what to do, and the first content stands."""
    post(experience)
    document = problem(post(experience | {"response": "Other"}), 409, "conflict")
    assert "another id" in document["hint"]
    assert experiences.get(store, "e-1").response == "Good morning"


def test_a_list_gets_a_result_for_each_item(post, experience):
    """Results come in the order of the items; one new item makes it a 201."""
    post(experience)
    response = post([experience, experience | {"id": "e-2"}])
    assert response.status_code == 201
    results = response.json()["results"]
    assert [(r["id"], r["status"]) for r in results] == [("e-1", "duplicate"), ("e-2", "recorded")]
    assert post([experience, experience | {"id": "e-2"}]).status_code == 200


def test_a_list_keeps_what_it_can(post, store, experience):
    """207 says for each item what became of it and why, and the good ones are kept."""
    post(experience)
    items = [
        experience | {"response": "Other"},
        experience | {"id": "e-2"},
        experience | {"id": "e-3", "response": ""},
        experience | {"id": "e-4", "source": "elsewhere"},
    ]
    response = post(items)
    assert response.status_code == 207
    results = response.json()["results"]
    assert [(r["id"], r["status"]) for r in results] == [
        ("e-1", "conflict"),
        ("e-2", "recorded"),
        ("e-3", "invalid"),
        ("e-4", "refused"),
    ]
    assert (results[2]["pointer"], results[3]["code"]) == ("/response", "wrong_source")
    assert experiences.get(store, "e-2").response == "Good morning"
    assert experiences.count_by_source(store) == {"web": 2}


def test_an_id_is_given_where_the_client_sent_none(post, store, experience):
    """Each send without an id is an experience of its own."""
    del experience["id"]
    first, second = post(experience), post(experience)
    assert (first.status_code, second.status_code) == (201, 201)
    names = {response.json()["id"] for response in (first, second)}
    assert len(names) == 2
    assert all(experiences.get(store, name) for name in names)


def test_the_largest_list_is_taken(post, store, experience):
    """As many items as the limit says are kept at once."""
    items = [experience | {"id": f"e-{i}"} for i in range(MAX_ITEMS)]
    assert post(items).status_code == 201
    assert experiences.count_by_source(store) == {"web": MAX_ITEMS}


def test_the_actor_is_the_key(post, store, experience):
    """The log says which key an experience came with."""
    post(experience)
    [event] = store.follow(types=["experience.recorded"])
    assert event.actor == f"key:{keys.listed(store)[0].id}"


def test_posting_at_once_keeps_each_once(post, store, experience):
    """Frontends that retry at the same time get one 201 for each id and 200 otherwise."""
    names = [f"e-{i % 5}" for i in range(20)]
    with ThreadPoolExecutor(4) as pool:
        responses = list(pool.map(lambda name: post(experience | {"id": name}), names))
    assert sorted(r.status_code for r in responses) == [200] * 15 + [201] * 5
    assert experiences.count_by_source(store) == {"web": 5}


def test_feedback_may_come_before_its_experience(problem, post, store):
    """Feedback is kept with 201, again with 200, and conflicts like experiences do."""
    assert post(THUMB, FEEDBACK).status_code == 201
    assert post(THUMB, FEEDBACK).status_code == 200
    problem(post(THUMB | {"value": -1}, FEEDBACK), 409, "conflict")
    [kept] = experiences.feedback_on(store, "e-1")
    assert kept.value == 1


# --- what is refused ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"value": 2}, "/value"),
        ({"value": None}, "/value"),
        ({"kind": "rating", "value": 6}, "/value"),
        ({"kind": "comment"}, "/text"),
        ({"kind": "preference", "text": "x", "value": 0}, "/value"),
        ({"kind": "outcome", "value": -1.5}, "/value"),
        ({"kind": "like"}, "/kind"),
        ({"given_at": "2026-01-02T03:04:05"}, "/given_at"),
        ({"experience_id": "a b"}, "/experience_id"),
    ],
)
def test_feedback_must_fit_its_kind(problem, post, store, changes, pointer):
    """422 points at the fault; in a list the item's result does."""
    assert problem(post(THUMB | changes, FEEDBACK), 422)["pointer"] == pointer
    good, bad = results(post([THUMB, THUMB | {"id": "f-2"} | changes], FEEDBACK))
    assert (good["status"], bad["status"], bad["pointer"]) == ("recorded", "invalid", pointer)
    assert experiences.count_feedback(store) == 1


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"nonsense": 1}, ""),
        ({"context": {"moood": "calm"}}, "/context"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "/messages/0/role"),
        ({"messages": []}, "/messages"),
        ({"response": ""}, "/response"),
        ({"occurred_at": "2026-01-02T03:04:05"}, "/occurred_at"),
        ({"occurred_at": "yesterday"}, "/occurred_at"),
        ({"id": "a b"}, "/id"),
        ({"id": "a\n"}, "/id"),
        ({"id": None}, "/id"),
        ({"consent": {"training": "yes"}}, "/consent/training"),
    ],
)
def test_a_fault_is_pointed_at(problem, post, store, changes, pointer, experience):
    """422 carries an RFC 6901 pointer into the caller's document, a list into the item."""
    document = problem(post(experience | changes), 422, "invalid")
    assert document["pointer"] == pointer
    assert experiences.count_by_source(store) == {}
    good, bad = results(post([experience, experience | {"id": "e-2"} | changes]))
    assert (good["status"], bad["status"], bad["pointer"]) == ("recorded", "invalid", pointer)
    assert experiences.count_by_source(store) == {"web": 1}


def test_a_number_beyond_a_double_is_refused(problem, post):
    """1e999 is JSON, but no number that could be kept."""
    problem(post(b'{"metadata": {"a": 1e999}}'), 422, "invalid")


@pytest.mark.parametrize("metadata", [{"a": [1]}, {"": 1}, {"x" * 129: 1}])
def test_a_fault_in_the_metadata_is_pointed_at(problem, post, metadata, experience):
    """Keys of the caller's own make no broken pointer: it leads into the metadata."""
    document = problem(post(experience | {"metadata": metadata}), 422, "invalid")
    pointers = {"/metadata"} | {f"/metadata/{key}" for key in metadata}
    assert document["pointer"] in pointers
    assert "$." not in document["detail"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"id": }',
        b"[1, 2",
        b'{"response": NaN}',
        b'{"response": Infinity}',
        b'{"response": "\xff"}',
        b'{"response": "\xed\xa0\x80"}',
        b'{"response": "\x00"}',
        b'{"response": "\\ud800"}',
        b'{"response": "\\udc00\\ud800"}',
        b"[" * 100_000,
        b'{"context":' * 10_000 + b"1" + b"}" * 10_000,
    ],
)
def test_what_is_not_json_is_a_bad_request(problem, post, body):
    """Broken text, lone surrogates, NaN and bottomless nesting are 400, never 5xx."""
    problem(post(body), 400, "bad_json")


@pytest.mark.parametrize("value", [None, 3, "text", True, {}])
def test_json_that_is_no_experience_is_unprocessable(problem, post, value):
    """Something else than an experience is 422, and in a list a result that says so."""
    problem(post(value), 422, "invalid")
    [result] = results(post([value]))
    assert result["status"] == "invalid"


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_moment_outside_the_calendar_is_pointed_at(problem, post, moment, experience):
    """A time that has no counterpart in UTC is the caller's fault, not ours."""
    document = problem(post(experience | {"occurred_at": moment}), 422, "invalid")
    assert document["pointer"] == "/occurred_at"
    document = problem(post(THUMB | {"given_at": moment}, FEEDBACK), 422, "invalid")
    assert document["pointer"] == "/given_at"


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "a\0b"},
        {"response": "a\0b"},
        {"messages": [{"role": "user", "content": "a\0"}]},
        {"metadata": {"a\0": 1}},
    ],
)
def test_a_nul_character_is_refused(problem, post, changes, experience):
    """PostgreSQL cannot keep U+0000 in text, so no store takes it."""
    problem(post(experience | changes), 422, "invalid")


def test_an_empty_and_an_overlong_list_are_refused(problem, post, store, experience):
    """A list holds 1 to 500 items; the problem says how many this one holds."""
    assert "this one 0" in problem(post([]), 422, "bad_count")["detail"]
    items = [experience | {"id": f"e-{i}"} for i in range(MAX_ITEMS + 1)]
    document = problem(post(items), 422, "bad_count")
    assert f"this one {MAX_ITEMS + 1}" in document["detail"]
    assert document["hint"]
    assert experiences.count_by_source(store) == {}


def test_a_body_over_the_limit_is_refused(problem, post, experience):
    """A body of one byte more than the limit is 413, the limit itself is read."""
    fill = MAX_BODY_BYTES - len(json.dumps([experience]))
    padded = json.dumps([experience]).encode() + b" " * fill
    assert post(padded).status_code == 201
    document = problem(post(padded + b" "), 413, "body_too_large")
    assert "1,000,000" in document["detail"]


@pytest.mark.parametrize("media", ["text/html", "application/x-www-form-urlencoded", ""])
def test_another_media_type_is_refused(problem, post, media, experience):
    """415 says what is taken."""
    document = problem(post(experience, **{"Content-Type": media}), 415)
    assert "application/json" in document["detail"]


def test_json_with_a_character_set_is_taken(post, experience):
    """Parameters of the media type do not matter, nor does its case."""
    media = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert post(experience, **media).status_code == 201


# --- who may ------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer ", "Basic abc", "Bearer bhv_a_b"])
def test_without_a_valid_key_nothing_is_taken(problem, post, store, given, experience):
    """401 challenges for a bearer key, whatever was sent instead of one."""
    response = post(experience, Authorization=given)
    problem(response, 401)
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert experiences.count_by_source(store) == {}


def test_a_header_that_is_no_text_is_refused(problem, post, experience):
    """Bytes that are no ASCII prove no key."""
    problem(post(experience, Authorization="Bearer \u00e9\u00ff".encode("latin-1")), 401)


def test_a_revoked_key_is_refused(problem, post, store, secret, experience):
    """Within a second, however busy the key is."""
    assert post(experience).status_code == 201
    keys.revoke(store, keys.listed(store)[0].id, actor="test")
    time.sleep(1)
    problem(post(experience), 401, "bad_key")


def test_a_key_needs_the_scope_of_the_route(problem, post, store, experience):
    """403 names the scope that is missing; admin may do everything."""
    only = keys.create(store, name="t", scopes=("ingest",), source="web", actor="t")[1]
    admin = keys.create(store, name="t", scopes=("admin",), actor="t")[1]
    assert post(experience, key=only).status_code == 201
    document = problem(post(THUMB, FEEDBACK, key=only), 403, "wrong_scope")
    assert "feedback" in document["detail"]
    assert post(THUMB, FEEDBACK, key=admin).status_code == 201


def test_the_key_is_asked_for_before_the_body(problem, post):
    """A stranger learns nothing about what a body should look like."""
    problem(post(b"{", key="bhv_a_b"), 401)
