"""The routes about what people said: listed, read, consented, erased, traced."""

from __future__ import annotations

import pytest

from store import experiences, keys
from store.records import now


@pytest.fixture
def ask(client, store):
    """Sends a request with a key of these scopes."""

    def ask(method, path, *scopes, json=None):
        text = keys.create(store, name="t", scopes=scopes, source="web", actor="t")[1]
        return client.request(method, path, json=json, headers={"Authorization": f"Bearer {text}"})

    return ask


@pytest.fixture
def five(store, make_experience):
    """Five experiences of two people."""
    items = [make_experience(f"e-{i}", subject=f"p-{i % 2}") for i in range(5)]
    experiences.record(store, items)
    return items


def test_a_list_is_paged_newest_first_and_holds_no_words(ask, five):
    """`next_before` leads on to the end."""
    first = ask("GET", "/v1/experiences?limit=3", "read").json()
    assert [e["id"] for e in first["experiences"]] == ["e-4", "e-3", "e-2"]
    assert "kindness" not in str(first)
    rest = ask("GET", f"/v1/experiences?limit=3&before={first['next_before']}", "read").json()
    assert [e["id"] for e in rest["experiences"]] == ["e-1", "e-0"]
    assert rest["next_before"] is None


def test_a_list_is_narrowed(ask, five):
    """By person, source or conversation."""
    found = ask("GET", "/v1/experiences?subject=p-1", "read").json()["experiences"]
    assert [e["id"] for e in found] == ["e-3", "e-1"]
    assert ask("GET", "/v1/experiences?source=x", "read").json()["experiences"] == []


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "before=0", "before=x", "limit="])
def test_a_list_has_bounds(ask, problem, query):
    """A parameter out of its bounds is a problem that names it."""
    assert (
        query.split("=")[0]
        in problem(ask("GET", f"/v1/experiences?{query}", "read"), 422)["detail"]
    )


@pytest.mark.parametrize("query", ["source=%00", "subject=%00", "conversation_id=a%00"])
def test_no_store_is_asked_for_what_it_cannot_hold(ask, problem, query):
    """PostgreSQL has no U+0000 in its text: 422 on both."""
    assert "pattern" in problem(ask("GET", f"/v1/experiences?{query}", "read"), 422)["detail"]
    for method, path in (("GET", ""), ("GET", "/lineage"), ("DELETE", "")):
        problem(ask(method, f"/v1/experiences/%00{path}", "read", "erase"), 422, "invalid")


def test_one_is_read_with_its_feedback(ask, five, problem):
    """And 404 where there is none."""
    shown = ask("GET", "/v1/experiences/e-1", "read").json()
    assert shown["experience"]["response"] == five[1].response
    assert shown["feedback"] == []
    problem(ask("GET", "/v1/experiences/none", "read"), 404, "not_found")
    problem(ask("GET", "/v1/experiences/none/lineage", "read"), 404, "not_found")
    assert ask("GET", "/v1/experiences/e-1/lineage", "read").json() == {
        "datasets": [],
        "runs": [],
        "adapters": [],
        "releases": [],
        "refits": [],
    }


def test_consent_is_withdrawn_and_counts(ask, five, store, make_assessment):
    """From the next selection on; a repeat with the same id changes nothing."""
    wish = {"id": "c-1", "scope": "subject", "scope_id": "p-1", "training": False}
    wish["changed_at"] = now().isoformat()
    assert ask("POST", "/v1/consent", "feedback", json=wish).status_code == 201
    assert ask("POST", "/v1/consent", "feedback", json=wish).status_code == 200
    experiences.assess(store, [make_assessment(e.id) for e in five])
    found = experiences.assessed(store, "panel-1", as_of=store.position(), moment=now())
    assert {a.experience.id for a in found if not a.consented} == {"e-1", "e-3"}


def test_a_wish_without_a_moment_may_be_repeated(ask, problem, store):
    """Under its id it is one change, made when it first came; another under it is a conflict."""
    wish = {"id": "c-1", "scope": "subject", "scope_id": "p-1", "training": False}
    statuses = [ask("POST", "/v1/consent", "feedback", json=wish).status_code for _ in range(2)]
    assert statuses == [201, 200]
    problem(ask("POST", "/v1/consent", "feedback", json=wish | {"scope_id": "p-2"}), 409)
    assert len(list(store.follow(types=["consent.changed"]))) == 1


COVERED = [
    {"scope": "experience", "scope_id": "e-1"},
    {"scope": "conversation", "scope_id": "talk"},
    {"scope": "subject", "scope_id": "anna"},
]


@pytest.mark.parametrize("covered", COVERED)
def test_consent_is_given_for_the_own_source_only(ask, problem, store, make_experience, covered):
    """A key of one source never makes what another recorded teachable; withdrawing it may."""
    give, withdraw = covered | {"training": True}, covered | {"training": False}

    def record(name, source):
        item = make_experience(name, source=source, conversation_id="talk", subject="anna")
        experiences.record(store, [item])

    problem(ask("POST", "/v1/consent", "feedback", json=give), 403, "wrong_source")
    record("e-1", "web")
    assert ask("POST", "/v1/consent", "feedback", json=give).status_code == 201
    record("e-2", "forum")
    theirs = give | ({"scope_id": "e-2"} if covered["scope"] == "experience" else {})
    problem(ask("POST", "/v1/consent", "feedback", json=theirs), 403, "wrong_source")
    assert ask("POST", "/v1/consent", "feedback", json=withdraw).status_code == 201
    assert ask("POST", "/v1/consent", "feedback", "operate", json=theirs).status_code == 201


def test_a_person_is_erased_after_a_dry_run(ask, five, problem):
    """The receipt counts; afterwards nothing is found, and one by DELETE, too."""
    wish = {"scope": "subject", "scope_id": "p-1", "dry_run": True}
    dry = ask("POST", "/v1/erasures", "erase", json=wish).json()
    done = ask("POST", "/v1/erasures", "erase", json=wish | {"dry_run": False}).json()
    assert (dry["experiences"], dry["id"]) == (2, None)
    assert done["experiences"] == 2
    assert done["id"]
    problem(ask("GET", "/v1/experiences/e-1", "read"), 404)
    assert ask("DELETE", "/v1/experiences/e-0", "erase").json()["experiences"] == 1
    problem(ask("DELETE", "/v1/experiences/e-0", "erase"), 404)


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v1/experiences", "ingest"),
        ("GET", "/v1/experiences/e-1", "feedback"),
        ("POST", "/v1/erasures", "read"),
        ("DELETE", "/v1/experiences/e-1", "read"),
        ("POST", "/v1/consent", "read"),
        ("POST", "/v1/feedback-tokens", "ingest"),
    ],
)
def test_each_route_needs_its_scope(ask, five, problem, method, path, scope):
    """403 names it; nothing happens."""
    problem(ask(method, path, scope, json={}), 403, "wrong_scope")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, ""),
        ({"scope": "all"}, "/scope"),
        ({"scope": "subject", "scope_id": "a b"}, "/scope_id"),
    ],
)
def test_a_wish_that_is_wrong_is_pointed_at(ask, problem, body, pointer):
    """Nobody is erased by a typing error."""
    assert problem(ask("POST", "/v1/erasures", "erase", json=body), 422)["pointer"] == pointer


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"changed_at": "0001-01-01T00:00:00+14:00"}, "/changed_at"),
        ({"changed_at": "9999-12-31T23:59:59-14:00"}, "/changed_at"),
        ({"changed_at": "2026-01-02T03:04:05"}, "/changed_at"),
        ({"policy": "2026\x1b[2J"}, "/policy"),
    ],
)
def test_a_wish_is_held_to_the_rules_of_the_door(ask, problem, store, changes, pointer):
    """Its moment has a counterpart in UTC, and its texts hold no control characters."""
    wish = {"scope": "subject", "scope_id": "p-1", "training": False}
    document = problem(ask("POST", "/v1/consent", "feedback", json=wish | changes), 422)
    assert document["pointer"] == pointer
    assert list(store.follow(types=["consent.changed"])) == []


def test_one_moment_and_one_text_is_one_wish(ask):
    """Whatever its zone and its form, a repeat is a repeat."""
    wish = {"id": "c-1", "scope": "subject", "scope_id": "p-1", "training": False}
    first = {"changed_at": "2026-01-02T03:04:05Z", "policy": "caf\u00e9"}
    again = {"changed_at": "2026-01-02T05:04:05+02:00", "policy": "cafe\u0301"}
    assert ask("POST", "/v1/consent", "feedback", json=wish | first).status_code == 201
    assert ask("POST", "/v1/consent", "feedback", json=wish | again).status_code == 200
