"""A release that a person puts into service: what gates held back, or what was not finished.

It holds the loop's lease like a cycle, under a name of its own, so that neither a daemon nor
another person comes in between.
"""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from msgspec.structs import replace

from daemon.canary.watch import require_no_trial
from daemon.cycle import gates_now, promote, release_name
from daemon.descent import base_of, require_compared_with, require_unerased
from daemon.serving import locked, settle
from daemon.wiring import LONGEST_HOLDER, Parts
from store import cycles, schedule
from store.errors import Busy, IntegrityError, NotFound, Rejected
from store.records import (
    Cycle,
    Dataset,
    Evaluation,
    Outcome,
    Override,
    Release,
    TrainingRun,
    now,
)
from store.redaction import redact_text
from trainer.promote import require_admitted, told
from trainer.targets.place import Tell
from trainer.targets.target import Delivery, Traffic

LONGEST_REASON = 2_000
PROMOTION = "Promotion"
"""The name of a lock; those of lines have small letters."""
log = structlog.get_logger()


def override(parts: Parts, evaluation_id: str, *, actor: str, reason: str) -> Release:
    """Promotes what its gates held back, on a person's word, which the release carries for ever.

    Raises NotFound; Rejected where there is nothing to override, no reason, or a gate erred: what
    was not heard is not a matter of opinion; IntegrityError where adapter, base or gates are no
    longer those of the evaluation; Halted where another release serves than it was compared with;
    Busy while the loop turns; ProbeFailed after the former release was put back.
    """
    evaluation = _found(parts, evaluation_id)
    word = _word(evaluation, actor, reason)
    release = _promoted(parts, evaluation, word)
    log.warning(
        "evaluation_overridden", release=release.id, actor=word.actor, held=[*word.verdicts]
    )
    return release


def finish(parts: Parts, evaluation_id: str) -> Release:
    """Promotes what passed and, for another cause, was not put into service.

    Raises NotFound, Rejected where a gate did not pass, and what `override` raises.
    """
    evaluation = _found(parts, evaluation_id)
    _require_passed(evaluation)
    return _promoted(parts, evaluation, None)


def foretell(
    parts: Parts,
    evaluation_id: str,
    tell: Tell,
    *,
    actor: str = "",
    reason: str = "",
    overridden: bool = False,
) -> None:
    """Tells what `finish`, or `override`, would do; `parts` are of a dry run and change nothing.

    Raises what they raise before they begin.
    """
    evaluation = _found(parts, evaluation_id)
    word = _word(evaluation, actor, reason) if overridden else None
    if word is None:
        _require_passed(evaluation)
    cycle, run, dataset = _lineage(parts, evaluation)
    _require_valid(parts, cycle, evaluation, dataset)
    previous = require_compared_with(parts, cycle, evaluation)
    name, adapter, target = release_name(cycle), Path(run.path) / "adapter", parts.target
    base = base_of(parts)
    require_admitted(evaluation, adapter, base, word)
    delivery = Delivery(
        release=name,
        line=cycle.line,
        adapter=str(adapter),
        adapter_hash=evaluation.adapter_hash,
        base=base,
    )
    tell(f"archive:\ncopy {adapter} to {parts.archive.folder / name}")
    share = parts.settings.canary.first_share(shares=target.shares)
    traffic = Traffic(release=name)
    if share < 1:
        traffic = Traffic(release=previous, canary=name, share=share)
    told(target, delivery, traffic, tell=tell)
    tell(f"record: {name} serves on {cycle.line} at {target.name}, after {previous or 'the base'}")
    tell("retire:")
    target.retire([one for one in (name, previous) if one is not None], cycle.line)


def _require_passed(evaluation: Evaluation) -> None:
    if not evaluation.passed:
        held = [v.gate for v in evaluation.verdicts if v.outcome is not Outcome.PASS]
        raise Rejected(
            f"{evaluation.id} did not pass: {', '.join(held) or 'no gate was asked'}.",
            hint="A person may answer for it: --override --reason WHY.",
        )


def _word(evaluation: Evaluation, actor: str, reason: str) -> Override:
    if evaluation.passed:
        raise Rejected(
            f"{evaluation.id} passed every gate: there is nothing to override.",
            hint=f"`bhavana promote {evaluation.id}` promotes it, if it was not promoted yet.",
        )
    erred = [v for v in evaluation.verdicts if v.outcome is Outcome.ERROR]
    if erred or not evaluation.verdicts:
        raise Rejected(
            "An error is no verdict, so nobody can overrule it: "
            + ("; ".join(f"{v.gate}: {v.reason}" for v in erred) or "no gate was asked")
            + ".",
            hint="See to its cause and turn a cycle: what erred is judged anew.",
        )
    actor, reason = actor.strip(), " ".join(reason.split())
    if not actor or not reason:
        raise Rejected("An override needs the name of who decides, and a reason.")
    if len(reason) > LONGEST_REASON or len(actor) > 128 or not (actor + reason).isprintable():
        raise Rejected(
            f"A reason has at most {LONGEST_REASON} characters and a name 128, all printable."
        )
    return Override(
        evaluation_id=evaluation.id,
        cycle_id=evaluation.cycle_id,
        actor=unicodedata.normalize("NFC", actor),
        # kept for ever, where no erasure reaches
        reason=redact_text(unicodedata.normalize("NFC", reason)).value,
        verdicts={
            v.gate: f"{v.outcome.value}: {v.reason}"
            for v in evaluation.verdicts
            if v.outcome is not Outcome.PASS
        },
        overridden_at=now(),
    )


def _found(parts: Parts, evaluation_id: str) -> Evaluation:
    found = cycles.by_id(parts.store, Evaluation, evaluation_id)
    if found is None:
        raise NotFound(
            f"There is no evaluation {evaluation_id!r}.", hint="`bhavana evaluations list`."
        )
    release = cycles.of_cycle(parts.store, Release, found.cycle_id)
    if release is not None:
        raise Rejected(f"{found.id} was promoted already, as {release.id}.")
    return found


def _promoted(parts: Parts, evaluation: Evaluation, word: Override | None) -> Release:
    with _holding(parts) as held:
        cycle, run, dataset = _lineage(held, evaluation)
        _require_valid(held, cycle, evaluation, dataset)
        # What a probe of an earlier try found says nothing of this one.
        shutil.rmtree(held.settings.data / "probes" / release_name(cycle), ignore_errors=True)
        try:
            return promote(held, cycle, run, evaluation, word)
        finally:
            settle(held, cycle.line, release_name(cycle))


def _require_valid(parts: Parts, cycle: Cycle, evaluation: Evaluation, dataset: Dataset) -> None:
    require_no_trial(parts, cycle.line)
    if evaluation.gates_hash != gates_now(parts):
        raise IntegrityError(
            f"The gates are no longer those of {evaluation.id}: its verdicts are void.",
            hint="Turn a cycle: the gates of today judge anew.",
        )
    require_unerased(parts, dataset)


def _lineage(parts: Parts, evaluation: Evaluation) -> tuple[Cycle, TrainingRun, Dataset]:
    name = evaluation.cycle_id
    cycle = cycles.of_id(parts.store, name)
    run = cycles.of_cycle(parts.store, TrainingRun, name)
    dataset = cycles.of_cycle(parts.store, Dataset, name)
    if cycle is None or run is None or dataset is None:
        raise IntegrityError(f"{name} lacks the records that {evaluation.id} stands on.")
    return cycle, run, dataset


@contextmanager
def _holding(parts: Parts) -> Iterator[Parts]:
    """The parts with a fence, while nobody else may turn the loop. Raises Busy."""
    # Not the daemon's own name, which would be let in while it turns.
    holder = f"promote:{parts.holder}"[:LONGEST_HOLDER]
    with (
        # Two commands of one data folder have one name, so the lease alone lets both in.
        locked(parts, PROMOTION, "Somebody else promotes at this moment."),
        schedule.keeping(parts.store, holder) as fence,
    ):
        running = cycles.running(parts.store)
        if running is not None:
            raise Busy(
                f"{running.id} is under way, and compares with what serves now.",
                hint="Wait until it has ended: `bhavana status`.",
            )
        yield replace(parts, fence=fence.check)
