"""Routes about what people said: list, read, consent, erase, where it went, feedback tokens.

For operators and servers, not for browsers; the ingest routes are in ingest.py.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from fastapi import APIRouter, Path, Query, Request
from msgspec import Meta
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from daemon import bodies
from daemon.erasure import Receipt, erase
from daemon.ingest import in_utc
from daemon.keyring import Caller, KeyRing
from daemon.problems import Problem, pointer_of
from daemon.texts import normal
from store import experiences, keys, privacy, sources
from store.errors import NotFound
from store.events import Store, body_under
from store.keys import Token
from store.records import (
    IDENTIFIER,
    ConsentChange,
    Experience,
    Feedback,
    Identifier,
    Moment,
    Name,
    Noun,
    new_id,
    now,
)

LONGEST_LIST = 500
# In an address nothing else is looked for: PostgreSQL cannot even be asked for U+0000.
Sought = Annotated[str | None, Query(pattern=IDENTIFIER)]
ExperienceId = Annotated[str, Path(pattern=IDENTIFIER)]


class Listing(Noun, frozen=True, kw_only=True):
    """Some experiences, newest first, without their words."""

    experiences: tuple[experiences.Listed, ...]
    next_before: int | None
    """Send it as `before` to page on; None at the end."""


class Shown(Noun, frozen=True, kw_only=True):
    """One experience with the feedback on it."""

    experience: Experience
    feedback: tuple[Feedback, ...]


class ConsentWish(Noun, frozen=True, kw_only=True):
    """Give or withdraw consent to training, for what there is and what will come.

    Any server's key with the scope feedback may withdraw. To give, all that the id covers so far
    must be of the key's own source; a key with the scope operate may always give.
    """

    scope: Literal["experience", "conversation", "subject"]
    scope_id: Identifier
    training: bool
    id: Identifier | None = None
    changed_at: Moment | None = None
    policy: Name | None = None


class ErasureWish(Noun, frozen=True, kw_only=True):
    """Erase an experience, a conversation, or everything of a person."""

    scope: Literal["experience", "conversation", "subject"]
    scope_id: Identifier
    reason: Name = "asked for by the person"
    dry_run: bool = False


class TokenWish(Noun, frozen=True, kw_only=True):
    """A token with which one browser gives feedback on one conversation."""

    conversation_id: Identifier
    seconds: Annotated[int, Meta(ge=1, le=int(keys.LONGEST_TOKEN.total_seconds()))] = 86_400


class TokenGiven(Noun, frozen=True, kw_only=True):
    """The token, and when it ends."""

    token: str
    expires_at: Moment


SCHEMAS = (
    Listing,
    Shown,
    ConsentWish,
    ErasureWish,
    TokenWish,
    TokenGiven,
    Receipt,
    privacy.Went,
)
"""What the OpenAPI document describes besides the ingest routes' own."""
Wish = TypeVar("Wish", bound=Noun)


def routes(store: Store, ring: KeyRing) -> APIRouter:
    """The routes over this store."""
    router = APIRouter(prefix="/v1", tags=["people"])

    async def proven(request: Request, scope: str) -> Caller:
        return await ring.caller(dict(request.headers.raw), request.scope["query_string"], scope)

    @router.get("/experiences", **described("List experiences, newest first.", None, Listing))
    async def list_experiences(
        request: Request,
        before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
        limit: Annotated[int, Query(ge=1, le=LONGEST_LIST)] = 50,
        source: Annotated[str | None, Query(max_length=128, pattern=r"^[^\x00]*$")] = None,
        conversation_id: Sought = None,
        subject: Sought = None,
    ) -> Response:
        await proven(request, "read")
        found = await run_in_threadpool(
            experiences.listed,
            store,
            before=before,
            limit=limit,
            source=source,
            conversation=conversation_id,
            subject=subject,
        )
        last = found[-1].position if len(found) == limit else None
        return as_json(Listing(experiences=tuple(found), next_before=last))

    @router.get("/experiences/{experience_id}", **described("Read one.", None, Shown))
    async def read_experience(request: Request, experience_id: ExperienceId) -> Response:
        await proven(request, "read")
        found = await run_in_threadpool(experiences.get, store, experience_id)
        feedback = await run_in_threadpool(experiences.feedback_on, store, experience_id)
        return as_json(Shown(experience=found, feedback=tuple(feedback)))

    @router.get(
        "/experiences/{experience_id}/lineage",
        **described(
            "Which datasets, runs, adapters, releases, refits learned from it.",
            None,
            privacy.Went,
        ),
    )
    async def read_lineage(request: Request, experience_id: ExperienceId) -> Response:
        await proven(request, "read")
        found = await run_in_threadpool(privacy.find, store, "experience", experience_id)
        if not found.experiences:
            raise NotFound(f"No experience {experience_id!r} is recorded.")
        return as_json(await run_in_threadpool(privacy.where_it_went, store, found.experiences))

    @router.post("/consent", **described("Give or withdraw consent.", ConsentWish, None))
    async def change_consent(request: Request) -> Response:
        caller = await proven(request, "feedback")
        wish = await wish_of(request, ConsentWish)
        if caller.conversation is not None or caller.key.kind == "publishable":
            raise Problem(
                403, "wrong_key", "Consent is changed by a server's key, not from a browser."
            )
        if wish.training and not caller.operates:
            covered = await run_in_threadpool(sources.covered, store, wish.scope, wish.scope_id)
            if covered != {caller.key.source}:
                raise Problem(
                    403,
                    "wrong_source",
                    "This key gives consent for what its own source recorded, and nothing else.",
                    hint="Record it first, or use a key with the scope operate.",
                    pointer="/scope_id",
                )
        moment = wish.changed_at or await run_in_threadpool(_first_moment, store, wish) or now()
        change = ConsentChange(
            id=wish.id or new_id("consent"),
            scope=wish.scope,
            scope_id=wish.scope_id,
            training=wish.training,
            changed_at=in_utc(moment, "/changed_at"),
            policy=wish.policy,
        )
        appended = await run_in_threadpool(
            experiences.change_consent, store, change, actor=caller.actor
        )
        status = 201 if appended.status == "recorded" else 200
        result = {"id": change.id, "status": appended.status, "position": appended.position}
        return as_json(result, status)

    @router.post("/erasures", **described("Erase what a person said.", ErasureWish, Receipt))
    async def erase_words(request: Request) -> Response:
        caller = await proven(request, "erase")
        wish = await wish_of(request, ErasureWish)
        receipt = await run_in_threadpool(
            erase,
            store,
            wish.scope,
            wish.scope_id,
            reason=wish.reason,
            actor=caller.actor,
            dry_run=wish.dry_run,
        )
        return as_json(receipt)

    @router.delete(
        "/experiences/{experience_id}", **described("Erase one experience.", None, Receipt)
    )
    async def delete_experience(request: Request, experience_id: ExperienceId) -> Response:
        caller = await proven(request, "erase")
        receipt = await run_in_threadpool(
            erase,
            store,
            "experience",
            experience_id,
            reason="DELETE",
            actor=caller.actor,
        )
        if receipt.id is None:
            raise NotFound(f"No experience {experience_id!r} is recorded.")
        return as_json(receipt)

    @router.post("/feedback-tokens", **described("Make a feedback token.", TokenWish, TokenGiven))
    async def make_token(request: Request) -> Response:
        caller = await proven(request, "feedback")
        if caller.conversation is not None or caller.key.kind == "publishable":
            raise Problem(403, "wrong_key", "Tokens are made with a server's key.")
        wish = await wish_of(request, TokenWish)
        token = Token(
            conversation_id=wish.conversation_id,
            key_id=caller.key.id,
            expires_at=now() + timedelta(seconds=wish.seconds),
        )
        text = ring.make_token(token)
        return as_json(TokenGiven(token=text, expires_at=token.expires_at), 201)

    return router


def _first_moment(store: Store, wish: ConsentWish) -> datetime | None:
    """When a change under this id was made, so that a repeat without a moment is a repeat."""
    body = None if wish.id is None else body_under(store, f"consent/{wish.id}")
    return None if body is None else msgspec.json.decode(body, type=ConsentChange).changed_at


def described(summary: str, body: type | None, answer: type | None) -> dict[str, Any]:
    """What the OpenAPI document says of a route whose JSON is msgspec's."""

    def content(kind: type | None) -> dict[str, Any]:
        schema = {} if kind is None else {"$ref": f"#/components/schemas/{kind.__name__}"}
        return {"application/json": {"schema": schema}}

    extra: dict[str, Any] = {"security": [{"key": []}]}
    if body is not None:
        extra["requestBody"] = {"required": True, "content": content(body)}
    done = {"description": "Done.", "content": content(answer)}
    return {
        "summary": summary,
        "response_class": Response,
        "responses": {200: done, 201: done},
        "openapi_extra": extra,
    }


async def wish_of(request: Request, kind: type[Wish]) -> Wish:
    """The body as a noun. Raises Problem 400, 413, 415, 422."""
    headers = dict(request.headers.raw)
    bodies.media_type(headers)
    body = await bodies.whole(headers, request.receive)
    try:
        return normal(msgspec.json.decode(body, type=kind))
    except msgspec.ValidationError as error:
        where, reason = pointer_of(error)
        raise Problem(422, "invalid", reason + ".", pointer=where) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, "bad_json", f"The body is not valid JSON: {error}.") from error


def as_json(value: Any, status: int = 200) -> Response:
    """The value as a JSON response."""
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")
