"""The OpenAPI document: what FastAPI knows of its routes, and the doors, which it does not know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from daemon import bodies, dry_run, evaluations, ingest, people
from daemon.chat import describe as chat
from daemon.problems import Document
from daemon.results import Result
from store.records import Experience, Feedback

Schema = dict[str, Any]
GIVEN_AT_THE_DOOR = ("id", "source")
"""What a sender may leave out, and a record always has."""
PROBLEMS = {
    400: "Not valid JSON, or not valid gzip.",
    401: "No key, or one that is unknown, expired or revoked.",
    403: "A key that may not do this, or not from this origin or for this source.",
    413: "More bytes, lines or items than are taken at once.",
    415: "Another media type, charset or encoding.",
    422: "Valid JSON that is no such item; `pointer` says where.",
    429: "More than this key or person may send; Retry-After says when to go on.",
    503: "Nothing can be kept now; Retry-After says when to send again.",
}
"""What a door may answer; a problem of a single item."""
OF_ONE = {
    409: "One item: recorded before with other content.",
    410: "One item: it was erased on a person's wish and is not taken again.",
}


def describe(app: FastAPI) -> Schema:
    """The document, with every schema that it refers to."""
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    of_routes = (*people.SCHEMAS, *dry_run.SCHEMAS, *evaluations.SCHEMAS, *chat.SCHEMAS)
    kinds = [Experience, Feedback, Result, Document, *of_routes]
    _, schemas = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    known = document.setdefault("components", {}).setdefault("schemas", {})
    known.update(schemas)
    for unused in ("HTTPValidationError", "ValidationError"):
        known.pop(unused, None)
    document["components"]["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer"},
        "publishable": {
            "type": "apiKey",
            "in": "query",
            "name": "key",
            "description": "A publishable key or a feedback token, for beacons; never a secret.",
        },
    }
    for path, kind, summary in (
        ("/v1/experiences", "Experience", "Record experiences."),
        ("/v1/feedback", "Feedback", "Give feedback."),
    ):
        known[f"New{kind}"] = _new(known[kind])
        document["paths"].setdefault(path, {})["post"] = _door(summary, f"New{kind}")
    document["paths"].update(chat.paths())
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].setdefault("default", _problem("A problem (RFC 9457)."))
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
    return document


def _new(schema: Schema) -> Schema:
    """An item as it is sent: what the door fills in may be left out."""
    required = [name for name in schema["required"] if name not in GIVEN_AT_THE_DOOR]
    return schema | {
        "title": f"New{schema['title']}",
        "required": required,
        "description": "As it is sent. Without an id it is given one, and sending it again records "
        "it again; the source, where there is one, is the key's.",
    }


def _door(summary: str, kind: str) -> Schema:
    item = _ref(kind)
    many = {"type": "array", "items": item, "minItems": 1, "maxItems": ingest.MAX_ITEMS}
    one_or_many = {"schema": {"oneOf": [item, many]}}
    results = {
        "type": "object",
        "properties": {"results": {"type": "array", "items": _ref("Result")}},
        "required": ["results"],
    }
    answered: Sequence[tuple[int, str]] = (
        (201, "Kept."),
        (200, "It was there already, with the same content."),
        (207, "Some items were kept, others not; sending those again is useless."),
    )
    schema = {"oneOf": [_ref("Result"), results]}
    kept = {
        str(status): {
            "description": description,
            "content": {bodies.JSON: {"schema": schema}},
        }
        for status, description in answered
    }
    return {
        "summary": summary,
        "description": (
            "One object, a list, or a stream of lines with a result for each item. 2xx means "
            "kept: committed and synced. The body may be packed (`Content-Encoding: gzip`)."
        ),
        "tags": ["ingest"],
        "security": [{"key": []}, {"publishable": []}],
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "The id of a single item that has none.",
                "schema": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                bodies.JSON: one_or_many,
                bodies.LINES[0]: {
                    "schema": {"type": "string", "description": "One item a line, as JSON."}
                },
                bodies.BEACON: {
                    "schema": {"type": "string", "description": "The JSON of a browser's beacon."}
                },
            },
        },
        "responses": kept
        | {str(status): _problem(text) for status, text in (PROBLEMS | OF_ONE).items()},
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _problem(description: str) -> Schema:
    return {
        "description": description,
        "content": {"application/problem+json": {"schema": _ref("Document")}},
    }
