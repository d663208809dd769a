"""The edge against its own description: generated requests, each answer as /openapi.json says.

Schemathesis draws requests from the document that the real daemon serves, those that fit it and
those that do not. Each answer must be no 5xx, have a status that the document names for the
operation, and the content type, the headers and the body that it describes for that status.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from store import keys
from store.events import Store

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
LINES = "application/x-ndjson"
DOORS = ("/v1/experiences", "/v1/feedback")
FITTING, UNFITTING = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
FEW_CASES = {UNFITTING: 50, FITTING: 250}
CASES = {UNFITTING: 400, FITTING: 2100}
"""Of one door in one part. One that does not fit takes ten times as long to draw."""
SLOW_PARTS = range(10)
OTHER_CASES = 20
FEW = 3
"""A list or a map in a request holds at most this many. The time goes into drawing them, and long
ones are on the roster of hostile requests."""
SCOPES = ("ingest", "feedback", "operate", "read", "erase")
"""With operate, a key may name any source, so that more than refusals is seen."""


@schemathesis.serializer(LINES)
def _as_lines(_: Any, value: Any) -> bytes:
    """The items of a list, one a line."""
    items = value if isinstance(value, list) else [value]
    return "\n".join(json.dumps(item, default=str) for item in items).encode()


class Edge(NamedTuple):
    """What the running daemon describes, and a session with a key."""

    url: str
    document: dict[str, Any]
    session: requests.Session
    log: Callable[[], str]

    def operations(self, document: dict[str, Any]) -> list[APIOperation]:
        """The operations of a document, sent to this daemon."""
        schema = schemathesis.openapi.from_dict(document)
        schema.config.update(base_url=self.url)
        return [found.ok() for found in schema.get_all_operations()]

    def check(self, operation: APIOperation, mode: GenerationMode, cases: int, number: int) -> None:
        """Sends drawn requests, the same ones for the same number, and checks the answers."""

        @seed(number)
        @settings(
            max_examples=cases,
            phases=[Phase.generate],
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def holds(case: Case) -> None:
            response = case.call(session=self.session, allow_redirects=False)
            case.validate_response(response, checks=CHECKS)

        holds()


@pytest.fixture(scope="module")
def edge(serving, tmp_path_factory) -> Iterator[Edge]:
    """The real daemon, and a key to all that is tried here."""
    data = tmp_path_factory.mktemp("schema") / "data"
    data.mkdir()
    with Store(f"sqlite:///{data / 'bhavana.db'}") as store:
        _, key = keys.create(store, name="schema", scopes=SCOPES, source="schema", actor="test")
    with serving(data) as daemon, requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {key}"
        document = daemon.get("/openapi.json").json()
        yield Edge(daemon.url, _without_security(document), session, daemon.log)


def _without_security(document: dict[str, Any]) -> dict[str, Any]:
    """The document without the need of a key: the session has one, and no draw takes it away."""
    for operations in document["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)
    return document


@pytest.fixture(scope="module")
def doors(edge) -> dict[str, APIOperation]:
    """The ingest routes, by path, with short lists in what they take.

    JSON Schema cannot say what the lines of a stream hold: they are drawn as a list is.
    """
    document = copy.deepcopy(edge.document)
    document["components"] = _shortened(document["components"])
    document["paths"] = {path: {"post": document["paths"][path]["post"]} for path in DOORS}
    for operations in document["paths"].values():
        body = operations["post"]["requestBody"] = _shortened(operations["post"]["requestBody"])
        _one, many = body["content"]["application/json"]["schema"]["oneOf"]
        body["content"][LINES]["schema"] = many
        del body["content"]["text/plain"]  # a string that holds JSON is hardly ever drawn
    return {operation.path: operation for operation in edge.operations(document)}


def _shortened(value: Any) -> Any:
    """A schema with shorter lists and maps."""
    if isinstance(value, list):
        return [_shortened(child) for child in value]
    if not isinstance(value, dict):
        return value
    short = {key: _shortened(child) for key, child in value.items()}
    if short.get("type") == "array":
        short["maxItems"] = FEW
    if short.get("type") == "object" and isinstance(short.get("additionalProperties"), dict):
        short["maxProperties"] = FEW
    return short


@pytest.mark.parametrize("path", DOORS)
@pytest.mark.parametrize("mode", CASES, ids=lambda mode: mode.value)
@pytest.mark.parametrize(
    ("cases", "part"),
    [
        pytest.param(FEW_CASES, 0, id="few"),
        *(pytest.param(CASES, n, id=str(n), marks=pytest.mark.slow) for n in SLOW_PARTS),
    ],
)
def test_a_door_answers_as_it_is_described(edge, doors, path, mode, cases, part):
    """600 requests in a usual run and 50,000 in the slow parts; the same ones each time."""
    edge.check(doors[path], mode, cases[mode], part)
    assert "Traceback" not in edge.log()


def test_every_other_operation_answers_as_it_is_described(edge):
    """Health, metrics, and the routes about people."""
    others = [
        o for o in edge.operations(edge.document) if o.method != "post" or o.path not in DOORS
    ]
    assert len(others) >= 3
    for operation in others:
        edge.check(operation, FITTING, OTHER_CASES, 0)
        with suppress(Unsatisfiable):  # some take nothing that could fail to fit
            edge.check(operation, UNFITTING, OTHER_CASES, 0)
    assert "Traceback" not in edge.log()
