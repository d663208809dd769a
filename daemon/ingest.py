"""The ingest routes: `POST /v1/experiences` and `POST /v1/feedback`.

Plain Starlette handlers with msgspec, for speed. 201 leaves only after the commit: what was
answered is on disk. One object, or a list with a result for each item.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from daemon import metrics
from daemon.problems import Problem, pointer_of
from store import experiences, keys
from store.events import Store
from store.log import Appended
from store.records import CURATED, ApiKey, Experience, Feedback, Noun, new_id

MAX_BODY_BYTES = 1_000_000
MAX_ITEMS = 500

Item = TypeVar("Item", Experience, Feedback)
Keep = Callable[[Store, Sequence[Item], str], list[Appended]]


class Result(Noun, frozen=True, kw_only=True):
    """What became of one item."""

    id: str
    status: str
    """recorded, duplicate (same id and content: nothing to do) or conflict."""
    position: int


def routes(store: Store) -> list[Route]:
    """The two routes, over this store."""

    async def post_experiences(request: Request) -> Response:
        return await _accept(
            request,
            store,
            kind="experience",
            scope="ingest",
            read=_experience,
            keep=lambda s, items, actor: experiences.record(s, items, actor=actor),
        )

    async def post_feedback(request: Request) -> Response:
        return await _accept(
            request,
            store,
            kind="feedback",
            scope="feedback",
            read=_feedback,
            keep=lambda s, items, actor: experiences.give_feedback(s, items, actor=actor),
        )

    return [
        Route("/v1/experiences", post_experiences, methods=["POST"]),
        Route("/v1/feedback", post_feedback, methods=["POST"]),
    ]


async def _accept(
    request: Request,
    store: Store,
    *,
    kind: str,
    scope: str,
    read: Callable[[Any, str], Item],
    keep: Keep[Item],
) -> Response:
    with metrics.REQUEST_SECONDS.labels(kind).time():
        key = await run_in_threadpool(authenticate, request, store, scope)
        document = _decode(await _body(request))
        many = isinstance(document, list)
        values = document if many else [document]
        if not values or len(values) > MAX_ITEMS:
            raise Problem(
                422,
                "bad_count",
                f"A list holds 1 to {MAX_ITEMS} items, this one {len(values)}.",
                hint="Send it in parts.",
            )
        items = [read(v, f"/{i}" if many else "") for i, v in enumerate(values)]
        for i, item in enumerate(items):
            _may_claim(key, item, f"/{i}" if many else "")
        kept = await run_in_threadpool(keep, store, items, f"key:{key.id}")
        results = [
            Result(id=item.id, status=a.status, position=a.position)
            for item, a in zip(items, kept, strict=True)
        ]
        for result in results:
            metrics.RECEIVED.labels(kind, result.status).inc()
        return _answer(results, many)


def _answer(results: list[Result], many: bool) -> Response:
    conflicts = [r.id for r in results if r.status == "conflict"]
    body: Any = {"results": results} if many else results[0]
    if conflicts:
        raise Problem(
            409,
            "conflict",
            f"Recorded before with other content: {', '.join(conflicts)}.",
            hint="Send other content under another id; the items without conflict were kept.",
            extra={"results": msgspec.to_builtins(results)},
        )
    recorded = any(r.status == "recorded" for r in results)
    return Response(
        msgspec.json.encode(body),
        status_code=201 if recorded else 200,
        media_type="application/json",
    )


def authenticate(request: Request, store: Store, scope: str) -> ApiKey:
    """The key that the request carries. Raises Problem 401 or 403."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    challenge = {"WWW-Authenticate": 'Bearer realm="bhavana"'}
    if scheme.lower() != "bearer" or not text:
        raise Problem(
            401,
            "missing_key",
            "This needs an API key.",
            hint="Send `Authorization: Bearer <key>`; `bhavana keys create` makes one.",
            headers=challenge,
        )
    key = keys.verify(store, text.strip())
    if key is None:
        raise Problem(
            401, "bad_key", "This API key is unknown, malformed or revoked.", headers=challenge
        )
    if scope not in key.scopes and "admin" not in key.scopes:
        raise Problem(
            403,
            "wrong_scope",
            f"This key has the scopes {', '.join(key.scopes)}; {scope} is needed.",
            hint=f"Make one with `bhavana keys create --scope {scope}`.",
        )
    return key


async def _body(request: Request) -> bytes:
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Problem(
            415, "unsupported_media_type", f"This takes application/json, not {media or 'nothing'}."
        )
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise Problem(
                413,
                "body_too_large",
                f"A body holds at most {MAX_BODY_BYTES:,} bytes.",
                hint="Send it in parts.",
            )
        chunks.append(chunk)
    return b"".join(chunks)


def _decode(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, "bad_json", f"The body is not valid JSON: {error}.") from error


def _may_claim(key: ApiKey, item: Experience | Feedback, pointer: str) -> None:
    """Curated answers are held to milder bars, so not every frontend may post them."""
    curated = isinstance(item, Experience) and item.source == CURATED
    if curated and not {"operator", "admin"} & set(key.scopes):
        raise Problem(
            403,
            "wrong_scope",
            f"The source {CURATED!r} needs a key with the scope operator.",
            hint="Use another source, or `bhavana keys create --scope ingest --scope operator`.",
            pointer=f"{pointer}/source",
        )


def _experience(value: Any, pointer: str) -> Experience:
    e = _convert(value, Experience, pointer, "exp")
    moment = _in_utc(e.occurred_at, f"{pointer}/occurred_at")
    return msgspec.structs.replace(e, occurred_at=moment)


def _feedback(value: Any, pointer: str) -> Feedback:
    f = _convert(value, Feedback, pointer, "fb")
    fault = f.fault()
    if fault is not None:
        raise Problem(422, "invalid", fault[1] + ".", pointer=pointer + fault[0])
    return msgspec.structs.replace(f, given_at=_in_utc(f.given_at, f"{pointer}/given_at"))


def _in_utc(moment: datetime, pointer: str) -> datetime:
    """The moment in UTC, so that one moment has one content hash whatever its zone."""
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise Problem(422, "invalid", "This moment is out of range.", pointer=pointer) from error


def _convert(value: Any, kind: type[Item], pointer: str, prefix: str) -> Item:
    """The noun; an id is given where the client sent none, and such a send is not idempotent."""
    if isinstance(value, dict) and "id" not in value:
        value = value | {"id": new_id(prefix)}
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        where, reason = pointer_of(error)
        raise Problem(422, "invalid", reason + ".", pointer=pointer + where) from error
