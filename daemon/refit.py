"""People's reviews and the panel: whether it still fits them, and the nightly refit of its heads.

What a refit makes is used only after the whole panel passed its self-test with it, and is recorded
either way. `bhavana heads reset` goes back to the heads of the configuration.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Literal

import structlog
from msgspec.structs import replace

from daemon.settings import Settings
from daemon.wiring import Parts, configured_version, heads_folder, vouch_for_panel
from scorers.apart import ask
from scorers.lessons import Label, Question, Tried
from scorers.oversight import Health, OversightSettings, Said, Scores, look
from scorers.panel import panel_id
from scorers.settings import PanelSettings
from store import refits, reviews, schedule
from store.errors import BhavanaError, Untrusted
from store.events import Store
from store.privacy import erased_among
from store.records import Refit, digest, new_id, now
from store.redaction import is_withheld
from store.reviews import Judgement

MOST_LABELS = 5_000
"""The newest; embedding them takes some minutes."""
SECONDS = 7_200.0
Outcome = Literal["promoted", "held_back", "withdrawn"]
log = structlog.get_logger()


# --- the panel's health -------------------------------------------------------------------


def health(store: Store, panel: PanelSettings, on: OversightSettings) -> Health:
    """How the panel does on this deployment's own answers."""
    name = panel_id(panel)
    random = [one for one in reviews.judgements(store, name) if one.review.drawn == "random"]
    said = [
        Said(one.assessment.actual_harm, one.review.harmful)
        for one in random
        if one.assessment is not None and one.assessment.actual_harm is not None
    ]
    since = _settled(store, name, random, on)
    if since is None:
        return look(said[-on.window :], (), (), on)
    before = reviews.harms_seen(store, name, until=since, limit=on.window)
    after = reviews.harms_seen(store, name, after=since, limit=on.window)
    then, lately = ([Scores(*one) for one in some] for some in (before, after))
    return look(said[-on.window :], then, lately, on)


def _settled(
    store: Store, panel: str, random: Sequence[Judgement], on: OversightSettings
) -> int | None:
    """From where on answers are new: until then enough were reviewed, or else the first ones."""
    if len(random) >= on.reviews_that_settle:
        return random[-on.reviews_that_settle].decided_at
    return reviews.seen_first(store, panel, nth=on.window)


def require_health(parts: Parts) -> None:
    """Raises Untrusted when something alarms: by such a panel's word nothing may be learned."""
    found = health(parts.store, parts.settings.panel, parts.settings.oversight)
    if found.alarms:
        raise Untrusted(" ".join(found.alarms))


# --- the refit ----------------------------------------------------------------------------


def nightly(parts: Parts) -> Refit | None:
    """For the daemon's clock: once a day; call it as often as you like. None: nothing was tried.

    Never raises: what fails is logged, and tried again at the next call.
    """
    moment = now()
    try:
        planned = schedule.schedule(parts.store, schedule.REFIT)
        if not parts.settings.oversight.refit or (planned and planned.next_run_at > moment):
            return None
        tried = refit(parts)
        schedule.ran(parts.store, moment + timedelta(days=1), schedule.REFIT)
    except BhavanaError as error:
        if not parts.stop.is_set():
            log.warning("refit_failed", error=str(error))
        return None
    return tried


def refit(parts: Parts, *, again: bool = False) -> Refit | None:
    """Tries whether people's reviews make better heads, and puts them to work if they do.

    None when there are too few, or the same as at the last try (unless `again`). Heads that
    learned from words which were erased since go in any case. Raises ChildFailed, Unavailable,
    Misconfigured.
    """
    last = refits.last(parts.store)
    serves = Path(parts.settings.panel.refitted_dir).name
    erased = bool(last and serves and erased_among(parts.store, last.members))
    if erased:  # what knows erased words neither serves nor is a measure
        parts, serves = replace(parts, settings=_without_refit(parts.settings)), ""
    _tidy(parts, serves)
    taught = _teaching(parts)
    labels = digest([one.review for one in taught])
    known = last is not None and last.labels_digest == labels and not again
    if not erased and (known or len(taught) < parts.settings.oversight.least_labels):
        return None
    seen = set(last.members) if last and serves else set()
    name = new_id("refit")
    tried = _tried(parts, name, [_label(one, seen) for one in taught])
    outcome: Outcome = "promoted" if tried.better else "withdrawn" if erased else "held_back"
    positions = tuple(sorted(one.position for one in taught))
    record = Refit(
        id=name,
        outcome=outcome,
        reason=tried.reason,
        serves=name if tried.better else serves,
        stands_on=configured_version(parts.settings.panel),
        reviews=len(taught),
        random=sum(one.review.drawn == "random" for one in taught),
        members=positions if tried.better else tuple(sorted(seen)),
        labels_digest=labels,
        figures=tried.figures,
        finished_at=now(),
    )
    refits.record(parts.store, record)
    log.info("refitted", outcome=outcome, reason=tried.reason, reviews=record.reviews)
    return record


def reset(parts: Parts, reason: str) -> Refit:
    """Takes refitted heads from work: those of the configuration serve again."""
    last = refits.last(parts.store)
    record = Refit(
        id=new_id("refit"),
        outcome="withdrawn",
        reason=reason,
        serves="",
        stands_on=configured_version(parts.settings.panel),
        reviews=0,
        random=0,
        labels_digest="" if last is None else last.labels_digest,  # the same would come of them
        figures={},
        finished_at=now(),
    )
    refits.record(parts.store, record)
    return record


def _teaching(parts: Parts) -> list[Judgement]:
    """The reviews that may teach: the newest, of words that may be learned from."""
    found = reviews.judgements(parts.store, panel_id(parts.settings.panel))
    some = [one for one in found if one.consented and not is_withheld(one.experience)]
    return some[-MOST_LABELS:]


def _label(one: Judgement, seen: set[int]) -> Label:
    return Label(
        prompt=one.experience.last_user_turn,
        response=one.experience.response,
        harms=one.review.harms,
        random=one.review.drawn == "random",
        fresh=one.position not in seen,
    )


def _tried(parts: Parts, name: str, labels: Sequence[Label]) -> Tried:
    """The answer of the child; better only if the whole panel passes its self-test with it."""
    folder = heads_folder(parts.settings) / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    panel = parts.settings.panel
    question = Question(panel=panel, labels=tuple(labels), folder=str(folder))
    tried = ask("scorers.refit", question, Tried, seconds=SECONDS, stop=parts.stop)
    if tried.better:
        new = replace(panel, refitted_dir=str(folder))
        try:
            vouch_for_panel(replace(parts.settings, panel=new), parts.stop)
        except Untrusted as error:
            shutil.rmtree(folder)
            return replace(tried, better=False, reason=error.message)
    return tried


def _without_refit(settings: Settings) -> Settings:
    return replace(settings, panel=replace(settings.panel, refitted_dir=""))


def _tidy(parts: Parts, serves: str) -> None:
    """Deletes the heads of earlier refits: a step back goes to those of the configuration."""
    folder = heads_folder(parts.settings)
    for old in folder.iterdir() if folder.is_dir() else ():
        if old.name != serves:
            shutil.rmtree(old, ignore_errors=True)
