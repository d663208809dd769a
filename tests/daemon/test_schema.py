"""The door against its own description: generated requests, every answer as /openapi.json says.

Schemathesis draws requests from the document that the real daemon serves, those that fit it and
those that do not. Each answer must be no 5xx, have a status that the document lists for the
operation by its number, and the content type, headers and body that it describes for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation, BaseSchema
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
DOORS = ("/v1/experiences", "/v1/feedback")
CASES = {GenerationMode.POSITIVE: 875, GenerationMode.NEGATIVE: 375}
"""In one part for one door. One that does not fit the document takes four times as long to draw
as one that does. Both modes and both doors make 2,500 in a part."""
PARTS, SLOW_PARTS = 2, 20
FEW = 3
"""Lists and maps hold at most this many when they are drawn: the time goes into the drawing, and
long ones are on the roster of hostile requests."""


class Door(NamedTuple):
    """What the running daemon describes, and a session with a key that may use it."""

    schema: BaseSchema
    session: requests.Session
    log: Callable[[], str]

    def operation(self, path: str, method: str) -> APIOperation:
        """One operation of the description."""
        return self.schema[path][method]

    def check(self, case: Case) -> None:
        """Sends one request and holds the answer against the description."""
        response = case.call(session=self.session, allow_redirects=False)
        case.validate_response(response, checks=CHECKS)


@pytest.fixture(scope="module")
def door(serving, tmp_path_factory) -> Iterator[Door]:
    """The real daemon, with a key that may ingest and give feedback."""
    data = tmp_path_factory.mktemp("schema") / "data"
    data.mkdir()
    with Store(f"sqlite:///{data / 'bhavana.db'}") as store:
        _, key = keys.create(
            store, name="schema", scopes=("ingest", "feedback"), source="schema", actor="test"
        )
    with serving(data) as daemon, requests.Session() as session:
        session.trust_env = False
        document = daemon.get("/openapi.json").json()
        session.headers["Authorization"] = f"Bearer {key}"
        schema = schemathesis.openapi.from_dict(_shortened(document))
        schema.config.update(base_url=daemon.url)
        yield Door(schema, session, daemon.log)


def _shortened(value):
    """The document with shorter lists and maps."""
    if isinstance(value, list):
        return [_shortened(child) for child in value]
    if not isinstance(value, dict):
        return value
    copy = {key: _shortened(child) for key, child in value.items()}
    if copy.get("type") == "array":
        copy["maxItems"] = FEW
    if copy.get("type") == "object" and isinstance(copy.get("additionalProperties"), dict):
        copy["maxProperties"] = FEW
    return copy


@pytest.mark.parametrize("path", DOORS)
@pytest.mark.parametrize("mode", CASES, ids=lambda mode: mode.value)
@pytest.mark.parametrize(
    "part",
    [*range(PARTS), *(pytest.param(n, marks=pytest.mark.slow) for n in range(PARTS, SLOW_PARTS))],
)
def test_the_door_answers_as_it_is_described(door, path, mode, part):
    """5,000 requests in a usual run, 50,000 in a slow one; the same ones each time."""

    @seed(part)
    @settings(
        max_examples=CASES[mode],
        phases=[Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=door.operation(path, "POST").as_strategy(generation_mode=mode))
    def holds(case):
        door.check(case)

    holds()
    assert "Traceback" not in door.log()


def test_every_operation_that_is_only_read_answers_as_it_is_described(door):
    """Health, readiness, metrics and what else takes no body."""
    reads = [op.ok() for op in door.schema.get_all_operations() if op.ok().method == "get"]
    assert len(reads) >= 3
    for operation in reads:
        door.check(operation.Case())
