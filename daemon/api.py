"""The HTTP edge: FastAPI, with the ingest doors in front of it on the same application."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from daemon import bodies, docs, dry_run, evaluations, ingest, metrics, openapi, people
from daemon.chat.door import ChatDoor, ModelsDoor
from daemon.chat.keeper import Keeper
from daemon.cors import App, Receive, Scope, Send
from daemon.ingest import House, Judge, unable
from daemon.keyring import KeyRing
from daemon.limits import Limits, LimitSettings
from daemon.problems import Problem, problem_of, respond
from daemon.redaction import Redactor
from daemon.settings import Settings
from scorers.ledger import Costs
from store import cycles
from store.errors import BhavanaError, Unavailable
from store.events import Store
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
    judge: Judge = unable,
    costs: Callable[[], Costs] = Costs,
    settings: Callable[[], Settings] = Settings,
    keeper: Keeper | None = None,
) -> Front:
    """The application over a store; `ready` says whether the daemon takes work.

    `judge` assesses what a source sends whose words are not stored; without one it is refused.
    `costs` tells what the panel's language model has cost, for the metrics; `settings` are those in
    force, for what asks about the policy. `keeper` has who answers people; without one nobody does.
    """
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
        judge,
        ready,
    )
    app.include_router(people.routes(store, ring))
    app.include_router(dry_run.routes(store, ring, settings))
    app.include_router(evaluations.routes(store, ring))
    app.router.routes.extend(docs.routes())
    if keeper is not None:
        answers, models = ChatDoor(house, keeper, settings), ModelsDoor(house, keeper, settings)
        app.router.routes.append(Route("/v1/chat/completions", answers, methods=["POST"]))
        app.router.routes.append(Route("/v1/models", models, methods=["GET"]))

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
        serving = cycles.current_release(store, settings().trainer.target)
        metrics.OVERRIDDEN.set(serving is not None and serving.overridden is not None)
        return Response(metrics.shown(costs()), media_type=CONTENT_TYPE_LATEST)

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

    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    return Front(house, app)


def _described(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        app.openapi_schema = openapi.describe(app)
    return app.openapi_schema
