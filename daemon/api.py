"""The HTTP edge: FastAPI with the ingest routes on the same application, health and metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.responses import Response

from daemon import ingest, metrics
from daemon.problems import Problem, problem_of, respond
from store.errors import BhavanaError, Unavailable
from store.events import Store
from store.records import Experience, Feedback

VERSION = "0.1.0"
log = structlog.get_logger()


def make_app(store: Store, ready: Callable[[], bool]) -> FastAPI:
    """The application over a store; `ready` says whether the daemon takes work."""
    app = FastAPI(title="Bhavana", version=VERSION, docs_url=None, redoc_url=None)
    app.router.routes.extend(ingest.routes(store))

    @app.get("/healthz", summary="The process answers.")
    def healthz() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", summary="The store answers and the daemon takes work.")
    def readyz() -> Response:
        if not ready():
            raise Unavailable("The daemon is starting or stopping.")
        return JSONResponse({"status": "ready", "position": store.position()})

    @app.get("/metrics", summary="Prometheus metrics.")
    def show_metrics() -> Response:
        metrics.POSITION.set(store.position())
        return Response(generate_latest(metrics.REGISTRY), media_type=CONTENT_TYPE_LATEST)

    @app.exception_handler(BhavanaError)
    async def ours(_: Request, error: BhavanaError) -> Response:
        return respond(problem_of(error))

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
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document with the msgspec routes added to it."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        kinds = [Experience, Feedback, ingest.Result]
        references, schemas = msgspec.json.schema_components(
            kinds, ref_template="#/components/schemas/{name}"
        )
        document.setdefault("components", {}).setdefault("schemas", {}).update(schemas)
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        experience, feedback, result = references
        document["paths"]["/v1/experiences"] = _operation("Record experiences.", experience, result)
        document["paths"]["/v1/feedback"] = _operation("Give feedback.", feedback, result)
        app.openapi_schema = document
    return app.openapi_schema


def _operation(summary: str, item: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    def content(schema: dict[str, Any]) -> dict[str, Any]:
        return {"application/json": {"schema": schema}}

    many = {"type": "array", "items": item, "maxItems": ingest.MAX_ITEMS}
    results = {"type": "object", "properties": {"results": {"type": "array", "items": result}}}
    kept = {"description": "Kept.", "content": content({"oneOf": [result, results]})}
    return {
        "post": {
            "summary": summary,
            "description": "`id` may be left out; with one, sending again changes nothing.",
            "security": [{"key": []}],
            "requestBody": {"required": True, "content": content({"oneOf": [item, many]})},
            "responses": {
                "201": kept,
                "200": {**kept, "description": "It was there already, with the same content."},
                "default": {"description": "A problem (RFC 9457), as application/problem+json."},
            },
        }
    }
