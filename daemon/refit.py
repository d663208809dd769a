"""The refit: people's reviews teach the panel's heads, and better ones go to work.

What a refit makes is used only after the whole panel passed its self-test with it, and is recorded
either way. `bhavana heads reset` goes back to the heads of the configuration.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Literal

import structlog
from msgspec.structs import replace

from daemon.wiring import Parts, at_work, configured_version, heads_folder, vouch_for_panel
from scorers.apart import ask
from scorers.lessons import LEAST_LABELS, Label, Question, Tried
from scorers.panel import panel_id
from store import refits, reviews, schedule
from store.errors import BhavanaError, Busy, Untrusted
from store.privacy import erased_among
from store.records import Refit, digest, new_id, now
from store.redaction import is_withheld
from store.reviews import Judgement

MOST_LABELS = 5_000
"""The newest; embedding them takes some minutes."""
SECONDS = 7_200.0
EVERY = timedelta(days=1)
Outcome = Literal["promoted", "held_back", "withdrawn"]
log = structlog.get_logger()


def nightly(parts: Parts) -> Refit | None:
    """For the daemon's clock: once a day; call it as often as you like. None: nothing was tried.

    Of several daemons on one store one tries. Never raises: what fails is logged, and tried
    again the next day.
    """
    try:
        if not parts.settings.oversight.refit:
            return None
        if schedule.schedule(parts.store, schedule.REFIT) is None:
            schedule.plan(parts.store, now() + EVERY, schedule.REFIT)
        if not schedule.take_due(parts.store, now() + EVERY, schedule.REFIT):
            return None
        return refit(parts)
    except (BhavanaError, OSError) as error:
        if not parts.stop.is_set():
            log.warning("refit_failed", error=str(error))
        return None


def refit(parts: Parts, *, again: bool = False) -> Refit | None:
    """Tries whether people's reviews make better heads, and puts them to work if they do.

    None when there are too few, or the same as at the last try (unless `again`). Raises Busy
    while another refit of this data folder runs, ChildFailed, Unavailable, Misconfigured.
    """
    with _alone(parts):
        withdraw_unlearnable(parts)
        parts = replace(parts, settings=at_work(parts.settings, parts.store))
        _tidy(parts)
        taught = _teaching(parts)
        labels = digest([configured_version(parts.settings.panel), *(o.review for o in taught)])
        last = refits.last(parts.store)
        known = last is not None and last.labels_digest == labels and not again
        if known or len(taught) < LEAST_LABELS:
            return None
        return _tried(parts, taught, labels)


def reset(parts: Parts, reason: str) -> Refit:
    """Takes refitted heads from work: those of the configuration serve again.

    The same reviews are not tried again. Raises Busy while a refit runs.
    """
    with _alone(parts):
        return _withdraw(parts, reason)


def withdraw_unlearnable(parts: Parts) -> Refit | None:
    """Takes heads from work at once that learned from what may not be learned from any more:
    words that were erased, or whose consent was withdrawn. None where there are none.
    """
    serving = refits.serving(parts.store)
    if serving is None:
        return None
    gone = erased_among(parts.store, serving.members)
    if not gone:
        gone = set(serving.members) - reviews.consented_among(parts.store, serving.members)
    if not gone:
        return None
    record = _withdraw(parts, f"{len(gone)} of the answers that taught it may not teach any more")
    shutil.rmtree(heads_folder(parts.settings) / serving.serves, ignore_errors=True)
    return record


def _withdraw(parts: Parts, reason: str) -> Refit:
    last = refits.last(parts.store)
    tried = Tried(better=False, reason=reason, figures={})
    labels = "" if last is None else last.labels_digest
    return _leave(parts, new_id("refit"), tried, "withdrawn", (), labels)


def _tried(parts: Parts, taught: Sequence[Judgement], labels: str) -> Refit:
    """Has the child fit, judges what comes of it, and records that."""
    serving = refits.serving(parts.store) if parts.settings.panel.refitted_dir else None
    seen = set(serving.members) if serving else set()
    name = new_id("refit")
    folder = heads_folder(parts.settings) / name
    tried = _answer(parts, folder, [_label(one, seen) for one in taught])
    if tried.better and erased_among(parts.store, [one.position for one in taught]):
        tried = replace(tried, better=False, reason="words were erased while it learned from them")
    if not tried.better:
        shutil.rmtree(folder, ignore_errors=True)
    outcome: Outcome = "promoted" if tried.better else "held_back"
    serving = refits.serving(parts.store)  # they may have been withdrawn meanwhile
    return _leave(parts, name, tried, outcome, taught, labels, serving=serving)


def _leave(
    parts: Parts,
    name: str,
    tried: Tried,
    outcome: Outcome,
    taught: Sequence[Judgement],
    labels: str,
    *,
    serving: Refit | None = None,
) -> Refit:
    """Records a refit; `serving` goes on where it is held back."""
    promoted = outcome == "promoted"
    record = Refit(
        id=name,
        outcome=outcome,
        reason=tried.reason,
        serves=name if promoted else serving.serves if serving else "",
        stands_on=configured_version(parts.settings.panel),
        reviews=len(taught),
        random=sum(one.review.drawn == "random" for one in taught),
        members=tuple(sorted(one.position for one in taught)) if promoted else (),
        labels_digest=labels,
        figures=tried.figures,
        finished_at=now(),
    )
    refits.record(parts.store, record)
    log.info("refitted", outcome=outcome, reason=record.reason, reviews=record.reviews)
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


def _answer(parts: Parts, folder: Path, labels: Sequence[Label]) -> Tried:
    """The child's; better only if the whole panel passes its self-test with the heads."""
    panel = parts.settings.panel
    question = Question(panel=panel, labels=tuple(labels), folder=str(folder))
    tried = ask("scorers.refit", question, Tried, seconds=SECONDS, stop=parts.stop)
    if tried.better:
        new = replace(panel, refitted_dir=str(folder))
        try:
            vouch_for_panel(replace(parts.settings, panel=new), parts.stop)
        except Untrusted as error:
            return replace(tried, better=False, reason=error.message)
    return tried


@contextmanager
def _alone(parts: Parts) -> Iterator[None]:
    """One refit a data folder, whoever asks for it. Raises Busy."""
    folder = heads_folder(parts.settings)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(
                "A refit is under way here.", hint="`bhavana heads show` tells when it ended."
            ) from error
        yield


def _tidy(parts: Parts) -> None:
    """Deletes what refits left before yesterday; a cycle may still work with what is younger."""
    serves = Path(parts.settings.panel.refitted_dir).name
    yesterday = (now() - EVERY).timestamp()
    for old in heads_folder(parts.settings).iterdir():
        if old.is_dir() and old.name != serves and old.stat().st_mtime < yesterday:
            shutil.rmtree(old, ignore_errors=True)
