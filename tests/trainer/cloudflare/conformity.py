"""Holds what went over the wire against Cloudflare's published schema."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from openapi_core import OpenAPI
from openapi_core.exceptions import OpenAPIError
from openapi_core.templating.responses.exceptions import ResponseNotFound
from openapi_core.testing import MockRequest, MockResponse

from tests.cloudflare_stand_in import Exchange

CONTRACT = Path(__file__).parent / "contract" / "cloudflare-workers-ai.openapi.json"
HOST, PREFIX = "https://api.cloudflare.com", "/client/v4"


@cache
def contract() -> OpenAPI:
    """The schema, checked by itself."""
    return OpenAPI.from_path(CONTRACT)


def faults(exchanges: Iterable[Exchange]) -> Iterator[str]:
    """Where a request, or an answer that was meant to be right, breaks the schema."""
    for exchange in exchanges:
        where = f"{exchange.method} {exchange.path}"
        request = _request(exchange)
        try:
            contract().validate_request(request)
        except OpenAPIError as error:
            yield f"{where}: {_said(error)}"
            continue
        if exchange.status not in (200, 400, 404) or exchange.fault in ("page", "unsuccessful"):
            continue  # what broke on the way, or has no schema
        if exchange.operation == "list" and not _is_one_object(exchange):
            continue  # the schema knows no list here
        try:
            response = MockResponse(exchange.answer, exchange.status, content_type=exchange.media)
            contract().validate_response(request, response)
        except ResponseNotFound:
            continue
        except OpenAPIError as error:
            yield f"{where} answered {exchange.status}: {_said(error)}"


def _request(exchange: Exchange) -> MockRequest:
    authorization = {"Authorization": exchange.headers.get("authorization", "")}
    return MockRequest(
        HOST,
        exchange.method.lower(),
        PREFIX + exchange.path,
        args={name: values[0] for name, values in exchange.query.items()},
        headers=authorization,
        data=exchange.body or None,
        content_type=exchange.headers.get("content-type", ""),
    )


def _is_one_object(exchange: Exchange) -> bool:
    return bool(isinstance(json.loads(exchange.answer)["result"], dict))


def _said(error: OpenAPIError) -> str:
    causes = getattr(error.__cause__, "schema_errors", ())
    return "; ".join([str(error), *(str(cause.message) for cause in causes)])
