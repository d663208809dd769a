"""The HTTP edge: FastAPI, with the ingest doors in front of it on the same application."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from daemon import bodies, docs, ingest, metrics, people
from daemon.cors import App, Receive, Scope, Send
from daemon.ingest import House
from daemon.keyring import KeyRing
from daemon.limits import Limits, LimitSettings
from daemon.problems import Document, Problem, problem_of, respond
from daemon.redaction import Redactor
from store.errors import BhavanaError, Unavailable
from store.events import Store
from store.records import Experience, Feedback
from store.redaction import RedactionSettings

VERSION = "0.1.0"
log = structlog.get_logger()


class Front:
    """The application: FastAPI, with a short cut for what is posted to an ingest door.

    FastAPI's layers cost about as much as recording an experience does.
    """

    def __init__(self, house: House, app: FastAPI) -> None:
        self.house = house
        self.app = app
        self._doors: Mapping[str, App] = ingest.doors(house)
        app.router.routes.extend(
            Route(path, door, methods=["POST", "OPTIONS"]) for path, door in self._doors.items()
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, as ASGI."""
        if scope["type"] == "http" and scope["method"] in ("POST", "OPTIONS"):
            door = self._doors.get(scope["path"])
            if door is not None:
                await door(scope, receive, send)
                return
        await self.app(scope, receive, send)


def make_app(
    store: Store,
    ready: Callable[[], bool],
    *,
    limits: LimitSettings | None = None,
    redaction: RedactionSettings | None = None,
) -> Front:
    """The application over a store; `ready` says whether the daemon takes work."""
    app = FastAPI(
        title="Bhavana",
        version=VERSION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirected POST is a puzzle for clients
    )
    ring = KeyRing(store)
    house = House(
        store,
        ring,
        Limits(limits or LimitSettings()),
        Redactor(redaction or RedactionSettings()),
        ready,
    )
    app.include_router(people.routes(store, ring))
    app.router.routes.extend(docs.routes())

    @app.get("/healthz", summary="The process answers.")
    def healthz() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", summary="The store answers and the daemon takes work.")
    def readyz() -> Response:
        if not ready():
            raise Unavailable("The daemon is starting or stopping.")
        if store.writer.fault is not None:
            raise store.writer.fault
        return JSONResponse({"status": "ready", "position": store.position()})

    @app.get("/metrics", summary="Prometheus metrics.", response_class=PlainTextResponse)
    def show_metrics() -> Response:
        metrics.POSITION.set(store.position())
        return Response(generate_latest(metrics.REGISTRY), media_type=CONTENT_TYPE_LATEST)

    @app.exception_handler(BhavanaError)
    async def ours(_: Request, error: BhavanaError) -> Response:
        return respond(problem_of(error))

    @app.exception_handler(bodies.Disconnected)
    async def gone(_request: Request, _error: bodies.Disconnected) -> Response:
        return Response(status_code=400)  # nobody is left to read it

    @app.exception_handler(RequestValidationError)
    async def of_parameters(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return respond(Problem(422, "invalid", f"{where}: {first['msg']}."))

    @app.exception_handler(HTTPException)
    async def of_http(_: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        headers = dict(error.headers or {})
        return respond(Problem(error.status_code, code, f"{error.detail}.", headers=headers))

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> Response:
        log.error("request_failed", path=request.url.path, exc_info=error)
        return respond(problem_of(BhavanaError()))

    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return Front(house, app)


# --- the OpenAPI document -----------------------------------------------------------------


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document with the doors and msgspec's schemas added to it."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        kinds = [Experience, Feedback, ingest.Result, Document, *people.SCHEMAS]
        _, schemas = msgspec.json.schema_components(
            kinds, ref_template="#/components/schemas/{name}"
        )
        known = document.setdefault("components", {}).setdefault("schemas", {})
        known.update(schemas)
        for unused in ("HTTPValidationError", "ValidationError"):
            known.pop(unused, None)
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        paths = document["paths"]
        for path, kind, summary in (
            ("/v1/experiences", "Experience", "Record experiences."),
            ("/v1/feedback", "Feedback", "Give feedback."),
        ):
            paths.setdefault(path, {})["post"] = _ingest(summary, kind)
        for operations in paths.values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
                operation["responses"]["default"] = PROBLEM
        app.openapi_schema = document
    return app.openapi_schema


def _schema(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


PROBLEM = {
    "description": "A problem (RFC 9457). 429 and 503 say in Retry-After when to send again.",
    "content": {"application/problem+json": {"schema": _schema("Document")}},
}


def _ingest(summary: str, kind: str) -> dict[str, Any]:
    item = _schema(kind)
    many = {"type": "array", "items": item, "minItems": 1, "maxItems": ingest.MAX_ITEMS}
    one_or_many = {"application/json": {"schema": {"oneOf": [item, many]}}}
    streamed = {bodies.LINES[0]: {"schema": {"type": "string", "description": "One item a line."}}}
    results = {
        "type": "object",
        "properties": {"results": {"type": "array", "items": _schema("Result")}},
        "required": ["results"],
    }

    def answer(description: str) -> dict[str, Any]:
        schema = {"oneOf": [_schema("Result"), results]}
        return {"description": description, "content": {"application/json": {"schema": schema}}}

    return {
        "summary": summary,
        "description": (
            "One object, a list, or a stream of lines with a result for each item. 2xx means "
            "kept: committed and synced. `id` may be left out; with one, sending again changes "
            "nothing."
        ),
        "tags": ["ingest"],
        "security": [{"key": []}],
        "requestBody": {"required": True, "content": one_or_many | streamed},
        "responses": {
            "201": answer("Kept."),
            "200": answer("It was there already, with the same content."),
            "207": answer("Some items were kept, others not; sending those again is useless."),
        },
    }
