"""Routes about the policy: what is in force, and what another one would change.

For operators. Nothing is changed here: the policy is set in the configuration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from msgspec import UNSET, UnsetType
from msgspec.structs import asdict, fields, replace
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from converters.tryout import Tryout, try_policy
from daemon.keyring import KeyRing
from daemon.people import as_json, described, wish_of
from daemon.settings import Settings
from daemon.wiring import asked_now
from store import policies
from store.events import Store
from store.records import PHASES, Noun, Policy

PolicyWish: Any = msgspec.defstruct(
    "PolicyWish",
    [(field.name, field.type | UnsetType, UNSET) for field in fields(Policy)],
    bases=(Noun,),
    frozen=True,
    kw_only=True,
    omit_defaults=True,
)
PolicyWish.__doc__ = "Values to try; the others stay. A phase brings its thresholds with it."


class PolicyInForce(Noun, frozen=True, kw_only=True):
    """The policy by which the next dataset is chosen, and the last one that was recorded."""

    policy: Policy
    recorded: policies.Recorded | None
    """Another one where the configuration changed since the last cycle began."""


SCHEMAS = (PolicyWish, PolicyInForce, Tryout)


def routes(store: Store, ring: KeyRing, settings: Callable[[], Settings]) -> APIRouter:
    """The routes over this store; `settings` are those in force."""
    router = APIRouter(prefix="/v1/policy", tags=["policy"])

    async def prove(request: Request) -> None:
        await ring.caller(dict(request.headers.raw), request.scope["query_string"], "operate")

    @router.get("", **described("The policy in force.", None, PolicyInForce))
    async def show_policy(request: Request) -> Response:
        await prove(request)
        recorded = await run_in_threadpool(policies.newest, store)
        return as_json(PolicyInForce(policy=settings().policy, recorded=recorded))

    @router.post(
        "/dry-run",
        **described("What other values would change. Nothing is set.", PolicyWish, Tryout),
    )
    async def dry_run(request: Request) -> Response:
        await prove(request)
        wish = await wish_of(request, PolicyWish)
        wanted = {name: value for name, value in asdict(wish).items() if value is not UNSET}

        def replayed() -> Tryout:
            asked = asked_now(settings(), store)
            return try_policy(store, asked, _with(asked.policy, wanted))

        return as_json(await run_in_threadpool(replayed))

    return router


def _with(policy: Policy, wanted: dict[str, Any]) -> Policy:
    phase = PHASES.get(wanted.get("phase"))  # type: ignore[arg-type]
    brought = (
        {} if phase is None else {name: getattr(phase, name) for name in policies.OF_THE_PHASE}
    )
    return replace(policy, **(brought | wanted))
