"""What was judged and how it ended: for programs, and the page for people over HTTP."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response

from daemon.keyring import KeyRing
from daemon.people import as_json, described
from store import cycles, taints
from store.events import Store, StoreReader
from store.records import IDENTIFIER, Evaluation, Noun, Outcome, Override, Release, Taint
from trainer.report.facts import facts_of
from trainer.report.page import page, policy

EvaluationId = Annotated[str, Path(pattern=IDENTIFIER)]


class EvaluationBrief(Noun, frozen=True, kw_only=True):
    """One evaluation in a list."""

    id: str
    finished_at: datetime
    passed: bool
    outcomes: dict[str, Outcome]
    """By gate."""
    release: str | None
    """What it became; None where it was held back."""
    overridden: Override | None
    """By whose word it was promoted although it did not pass."""
    tainted: bool = False
    """What it became learned from what was erased since, or from poison."""


class EvaluationList(Noun, frozen=True, kw_only=True):
    """Every evaluation, the newest first."""

    evaluations: tuple[EvaluationBrief, ...]


class EvaluationShown(Noun, frozen=True, kw_only=True):
    """One evaluation with all its numbers, and what came of it."""

    summary: str
    evaluation: Evaluation
    release: Release | None
    taints: tuple[Taint, ...] = ()
    """Of that release: what it learned from and should not have."""


SCHEMAS = (EvaluationList, EvaluationShown)


def listed(store: StoreReader) -> EvaluationList:
    """Every evaluation in brief, the newest first."""
    releases = {r.evaluation_id: r for r in cycles.every(store, Release)}
    marked = taints.every(store)
    return EvaluationList(
        evaluations=tuple(
            _brief(e, releases.get(e.id), marked.keys())
            for e in reversed(cycles.every(store, Evaluation))
        )
    )


def shown(store: StoreReader, evaluation_id: str) -> EvaluationShown:
    """One evaluation. Raises NotFound."""
    facts = facts_of(store, evaluation_id)
    release = facts.release
    return EvaluationShown(
        summary=facts.summary,
        evaluation=facts.evaluation,
        release=release,
        taints=() if release is None else taints.every(store).get(release.id, ()),
    )


def _brief(
    evaluation: Evaluation, release: Release | None, marked: Collection[str]
) -> EvaluationBrief:
    return EvaluationBrief(
        id=evaluation.id,
        finished_at=evaluation.finished_at,
        passed=evaluation.passed,
        outcomes={v.gate: v.outcome for v in evaluation.verdicts},
        release=None if release is None else release.id,
        overridden=None if release is None else release.overridden,
        tainted=release is not None and release.id in marked,
    )


def routes(store: Store, ring: KeyRing) -> APIRouter:
    """The routes over this store. They need the scope read: models may repeat what people said."""
    router = APIRouter(prefix="/v1/evaluations", tags=["evaluations"])

    async def prove(request: Request) -> None:
        await ring.caller(dict(request.headers.raw), request.scope["query_string"], "read")

    @router.get("", **described("List evaluations, newest first.", None, EvaluationList))
    async def list_evaluations(request: Request) -> Response:
        await prove(request)
        return as_json(await run_in_threadpool(listed, store))

    @router.get("/{evaluation_id}", **described("Read one.", None, EvaluationShown))
    async def read_evaluation(request: Request, evaluation_id: EvaluationId) -> Response:
        await prove(request)
        return as_json(await run_in_threadpool(shown, store, evaluation_id))

    @router.get("/{evaluation_id}/report", **_html("Its report: a page that loads nothing."))
    async def read_report(request: Request, evaluation_id: EvaluationId) -> Response:
        await prove(request)
        text = await run_in_threadpool(lambda: page(facts_of(store, evaluation_id)))
        return HTMLResponse(text, headers=_headers())

    return router


def _headers() -> dict[str, str]:
    """Whatever stands in the page: no script, no request, in no frame, in nobody's cache."""
    return {
        "Content-Security-Policy": f"{policy()}; frame-ancestors 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }


def _html(summary: str) -> dict[str, Any]:
    content = {"text/html": {"schema": {"type": "string"}}}
    return {
        "summary": summary,
        "response_class": HTMLResponse,
        "responses": {200: {"description": "The page.", "content": content}},
        "openapi_extra": {"security": [{"key": []}]},
    }
