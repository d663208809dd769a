"""The page: one turn of the loop.

    assess      what is recorded but unscored          -> Assessment
    build       the best, consented, undoubled         -> Dataset
    train       a LoRA adapter from base or parent     -> TrainingRun
    evaluate    candidate against incumbent and base   -> Evaluation
    promote     publish, probe, switch                 -> Release

Each step leaves one durable record and begins by looking for it, so a cycle that was killed
goes on at the first record that is missing. The scheduler and the command line both come
through `turn`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import structlog

from converters import dataset as datasets
from converters.build import Order, build_apart
from converters.folder import discard_partial
from daemon.canary.watch import begun, require_no_trial
from daemon.descent import (
    base_of,
    begins_with,
    parent_of,
    require_compared_with,
    require_unerased,
    rival_of,
)
from daemon.oversight import require_health
from daemon.serving import put_back, recorded_traffic, settle, sole
from daemon.wiring import Parts, asked_of, high_water, vouch_for_panel
from scorers.assess import assess_pending
from store import cycles, policies, schedule
from store.errors import Halted, NotEnoughData, Rejected
from store.losses import require_whole
from store.privacy import erased_among
from store.records import (
    MAIN,
    Cycle,
    CycleState,
    Dataset,
    Evaluation,
    Outcome,
    Override,
    Release,
    TrainingRun,
    digest,
    new_id,
    now,
)
from trainer.attempts import MOST_ATTEMPTS, Attempt
from trainer.gates import NAMES
from trainer.job import Heartbeat, read_record
from trainer.jobs import EvaluateJob, EvaluateManifest, FinetuneJob, FinetuneManifest, gates_hash
from trainer.launch import Start, Watch, run_job
from trainer.promote import prove, switch
from trainer.references import EvaluatedReferences
from trainer.report.facts import facts_of
from trainer.report.page import write as write_report
from trainer.reporters import variables
from trainer.shape import shape_of
from trainer.targets.limits import require_servable
from trainer.targets.target import traffic_of

AS_CONFIGURED = "so the configuration was when a cycle began"
log = structlog.get_logger()


def turn(parts: Parts, *, reason: str, line: str = MAIN) -> Cycle:
    """One turn of the loop on a line, or the rest of one that was interrupted, on its own line.

    Every step may be repeated.

    Returns the cycle as it ended: promoted, held_back, unchanged (nothing new to learn from),
    too_few (experiences) or failed. Raises Busy when
    another process turns the loop, Rejected while a release is on trial on the line, and
    Unavailable when it should be tried again later; the cycle then stays as it is and goes on from
    there.
    """
    with schedule.holding(parts.store, parts.holder) as fence:
        parts = msgspec.structs.replace(parts, fence=fence.check)
        cycle = cycles.running(parts.store)
        if cycle is None:
            require_no_trial(parts, line)
            cycle = _begin(parts, reason, line)
        structlog.contextvars.bind_contextvars(cycle=cycle.id, line=cycle.line)
        try:
            return _steps(parts.on_line(cycle.line), cycle)
        except NotEnoughData as short:
            return _end(parts, cycle, "too_few", str(short))
        except (Halted, Rejected) as fault:
            return _end(parts, cycle, "failed", f"{type(fault).__name__}: {fault}")
        finally:
            structlog.contextvars.unbind_contextvars("cycle", "line")


def _steps(parts: Parts, cycle: Cycle) -> Cycle:
    require_whole(parts.store)
    assess(parts, cycle)
    require_health(parts)
    parent_of(parts, cycle)  # one that cannot be gone on with is told before anything is built
    dataset = build(parts, cycle)
    if (earlier := judged_before(parts, cycle, dataset)) is not None:
        return _end(parts, cycle, "unchanged", f"nothing new since {earlier}")
    run = train(parts, cycle, dataset)
    require_unerased(parts, dataset, run.parent)
    evaluation = evaluate(parts, cycle, run)
    if not evaluation.passed:
        return _end(parts, cycle, "held_back", held_back_because(evaluation))
    require_unerased(parts, dataset, run.parent)
    release = promote(parts, cycle, run, evaluation)
    return _end(parts, cycle, "promoted", f"{release.id} serves at {release.target}")


def give_up(parts: Parts, detail: str) -> None:
    """Ends the cycle under way, if there is one, as failed."""
    cycle = cycles.running(parts.store)
    if cycle is not None:
        _end(parts, cycle, "failed", detail)


# --- the five steps -----------------------------------------------------------------------


def assess(parts: Parts, cycle: Cycle) -> int:
    """Scores what was recorded before the cycle began and has no score by this panel yet."""

    def on_progress(done: int) -> None:
        _beat(parts, "assess", "scored", done, 0)

    on_progress(0)
    vouch_for_panel(parts.settings, parts.stop)
    count = assess_pending(
        parts.store,
        parts.settings.panel,
        as_of=cycle.position,
        on_progress=on_progress,
        stop=parts.stop,
        holder=parts.holder,
    )
    log.info("assessed", experiences=count)
    return count


def build(parts: Parts, cycle: Cycle) -> Dataset:
    """The dataset of this cycle; raises NotEnoughData when the policy admits too few."""
    found = cycles.of_cycle(parts.store, Dataset, cycle.id)
    if found is not None:
        datasets.verify(found)
        return found
    _beat(parts, "build", "selecting", 0, 1)
    name = _name("dataset", cycle)
    discard_unrecorded(parts, cycle)
    asked = asked_of(parts.settings, parts.store, as_of=cycle.position, moment=cycle.started_at)
    mark = high_water(parts.settings)
    order = Order(
        store=parts.settings.store_url,
        high_water=None if mark is None else str(mark),
        folder=str(parts.settings.data / "datasets" / name),
        asked=asked,
        dataset_id=name,
        cycle_id=cycle.id,
        format=parts.settings.trainer.recipe.learns_from,
    )
    dataset = build_apart(order, parts.stop)
    log.info("dataset_built", dataset=name, counts=dataset.counts, funnel=dataset.funnel)
    cycles.leave(parts.store, dataset, parts.fence)
    if erased_among(parts.store, dataset.members):
        # Erased between the selection and the record: the erasure could not know this dataset.
        shutil.rmtree(dataset.path)
        raise Halted(f"Something in {name} was erased while it was built; it is deleted.")
    return dataset


def discard_unrecorded(parts: Parts, cycle: Cycle) -> None:
    """Deletes what a build left that was killed before its record: no erasure knows of it."""
    folder = parts.settings.data / "datasets" / _name("dataset", cycle)
    if cycles.of_cycle(parts.store, Dataset, cycle.id) is None:
        shutil.rmtree(folder, ignore_errors=True)
        discard_partial(folder)


def judged_before(parts: Parts, cycle: Cycle, dataset: Dataset) -> str | None:
    """The cycle of this line that judged the same content, base, parent, recipe and gates."""
    settings = parts.settings
    wanted = (
        dataset.content_hash,
        base_of(parts).hash,
        cycle.parent,
        digest(settings.trainer.recipe),
        gates_now(parts),
    )
    for earlier in cycles.judged(parts.store, cycle.line):
        errors = any(v.outcome is Outcome.ERROR for v in earlier.evaluation.verdicts)
        found = (
            earlier.dataset.content_hash,
            earlier.run.base_hash,
            earlier.run.parent,
            earlier.run.recipe_hash,
            earlier.evaluation.gates_hash,
        )
        if found == wanted and not errors:
            return earlier.run.cycle_id
    return None


def train(parts: Parts, cycle: Cycle, dataset: Dataset) -> TrainingRun:
    """One adapter from the dataset, from the pinned base or the cycle's parent, in a child."""
    found = cycles.of_cycle(parts.store, TrainingRun, cycle.id)
    if found is not None:
        return found
    parent = parent_of(parts, cycle)
    require_unerased(parts, dataset, cycle.parent)
    base, folder = base_of(parts), parts.settings.data / "runs" / _name("run", cycle)
    recipe, target = parts.settings.trainer.recipe, parts.target
    require_servable(recipe, shape_of(base), target.limits, target.name)
    if dataset.format != recipe.learns_from:
        raise Rejected(
            f"{dataset.id} was built as {dataset.format}; trainer.recipe.method {recipe.method} "
            f"learns from {recipe.learns_from}.",
            hint="The next cycle builds what it learns from.",
        )
    job = FinetuneJob(
        base=base,
        recipe=recipe,
        dataset=dataset.path,
        cache=str(parts.cache),
        report_to=parts.settings.trainer.report_to,
        parent=parent,
    )
    run_job(
        "trainer.finetune",
        folder,
        job,
        stop=parts.stop,
        watch=_watch(parts, "train"),
        how=_how(parts, training=True),
        told=_told,
    )
    manifest = read_record(folder / "manifest.json", FinetuneManifest)
    began_with = "" if manifest.parent is None else manifest.parent.adapter_hash
    if began_with != ("" if parent is None else parent.adapter_hash):
        raise Halted(f"{folder} began with another parent than {cycle.id} names; it is void.")
    run = TrainingRun(
        id=folder.name,
        cycle_id=cycle.id,
        dataset_id=dataset.id,
        base=base.name,
        base_hash=manifest.base_hash,
        recipe_hash=manifest.recipe_hash,
        path=str(folder),
        adapter_hash=manifest.adapter_hash,
        metrics=manifest.metrics,
        finished_at=manifest.finished_at,
        parent=cycle.parent,
        parent_hash=began_with,
    )
    log.info("trained", run=run.id, **manifest.metrics)
    return cycles.leave(parts.store, run, parts.fence)


def evaluate(parts: Parts, cycle: Cycle, run: TrainingRun) -> Evaluation:
    """Every gate's verdict on the run's adapter, against incumbent and base."""
    found = cycles.of_cycle(parts.store, Evaluation, cycle.id)
    if found is not None:
        return found
    folder = parts.settings.data / "evaluations" / _name("evaluation", cycle)
    incumbent = rival_of(parts, cycle)
    rules = parts.settings.gates
    job = EvaluateJob(
        base=base_of(parts),
        candidate=str(Path(run.path) / "adapter"),
        candidate_hash=run.adapter_hash,
        incumbent=None if incumbent is None else str(parts.archive.adapter(incumbent.id)),
        rules=rules,
        cache=str(parts.cache),
        sampling=parts.settings.trainer.gate_sampling,
        dataset=_learned_from(parts, run),
        panel=parts.settings.panel,
        processes=parts.settings.trainer.evaluation_processes,
    )
    run_job(
        "trainer.evaluate",
        folder,
        job,
        stop=parts.stop,
        watch=_watch(parts, "evaluate"),
        how=_how(parts),
        told=_told,
    )
    manifest = read_record(folder / "manifest.json", EvaluateManifest)
    bound = (run.adapter_hash, run.base_hash, gates_now(parts))
    if (manifest.adapter_hash, manifest.base_hash, manifest.gates_hash) != bound:
        raise Halted(f"{folder} judged another adapter, base or set of gates; it is void.")
    if {v.gate for v in manifest.verdicts} != NAMES:
        raise Halted(f"{folder} lacks the verdict of a gate; a missing gate is never a pass.")
    evaluation = Evaluation(
        id=folder.name,
        cycle_id=cycle.id,
        run_id=run.id,
        adapter_hash=run.adapter_hash,
        base_hash=run.base_hash,
        incumbent=None if incumbent is None else incumbent.id,
        gates_hash=manifest.gates_hash,
        path=str(folder),
        verdicts=manifest.verdicts,
        finished_at=manifest.finished_at,
    )
    log.info("evaluated", **{v.gate: v.outcome.value for v in evaluation.verdicts})
    cycles.leave(parts.store, evaluation, parts.fence)
    _report(parts, evaluation)
    return evaluation


def promote(
    parts: Parts,
    cycle: Cycle,
    run: TrainingRun,
    evaluation: Evaluation,
    override: Override | None = None,
) -> Release:
    """Puts an adapter into service that passed, or by a person's word, and proves that it is what
    answers there.
    """
    found = cycles.of_cycle(parts.store, Release, cycle.id)
    if found is not None:
        return found
    require_compared_with(parts, cycle, evaluation)
    name, target = release_name(cycle), parts.target
    proven = prove(
        target,
        evaluation,
        release_id=name,
        line=cycle.line,
        adapter=Path(run.path) / "adapter",
        base=base_of(parts),
        archive=parts.archive,
        references=_references(parts, evaluation, name),
        journal=parts.journal,
        override=override,
    )
    with sole(parts, cycle.line) as held:
        # Somebody may have gone back while it was probed.
        previous = require_compared_with(held, cycle, evaluation)
        release = Release(
            id=name,
            cycle_id=cycle.id,
            run_id=run.id,
            evaluation_id=evaluation.id,
            target=target.name,
            location=proven.location,
            adapter_hash=evaluation.adapter_hash,
            base=run.base,
            base_hash=run.base_hash,
            previous=previous,
            published_at=now(),
            line=cycle.line,
            parent=run.parent,
            overridden=override,
        )
        canary = begun(held, release)
        share = 1.0 if canary is None else canary.share
        traffic = traffic_of(release, share, shares=target.shares)
        before = recorded_traffic(held.store, target, cycle.line)
        switch(target, proven.delivery, traffic, before, journal=held.journal)
        try:
            cycles.activate(held.store, release, held.fence, canary=canary)
        except BaseException:
            put_back(held, cycle.line)
            raise
    log.info("promoted", release=name, line=cycle.line, previous=previous, **proven.figures)
    _report(parts, evaluation)
    return release


def _references(parts: Parts, evaluation: Evaluation, release: str) -> EvaluatedReferences:
    return EvaluatedReferences(
        evaluation,
        base=base_of(parts),
        cache=parts.cache,
        folder=parts.settings.data / "probes" / release,
        sampling=parts.settings.trainer.gate_sampling,
        stop=parts.stop,
        watch=_watch(parts, "promote"),
    )


def _learned_from(parts: Parts, run: TrainingRun) -> str:
    found = cycles.by_id(parts.store, Dataset, run.dataset_id)
    if found is None:
        raise Halted(f"The dataset {run.dataset_id}, which {run.id} learned from, is not recorded.")
    return found.path


# --- around the steps ---------------------------------------------------------------------


def held_back_because(evaluation: Evaluation) -> str:
    """The gates that did not pass, each with its reason."""
    return "; ".join(
        f"{v.gate}: {v.outcome.value} ({v.reason})"
        for v in evaluation.verdicts
        if v.outcome is not Outcome.PASS
    )


def _begin(parts: Parts, reason: str, line: str) -> Cycle:
    parts.settings.of_line(line)  # refused before anything is recorded
    if policies.change(parts.store, parts.settings.policy, reason=AS_CONFIGURED):
        log.info("policy_changed", policy=digest(parts.settings.policy)[:12])
    cycle = Cycle(
        id=new_id("cycle"),
        reason=reason,
        started_at=now(),
        position=parts.store.position(),
        line=line,
        parent=begins_with(parts, line),
    )
    cycles.start(parts.store, cycle, parts.fence)
    log.info(
        "cycle_started",
        cycle=cycle.id,
        line=line,
        parent=cycle.parent,
        reason=reason,
        position=cycle.position,
    )
    return cycle


def _end(parts: Parts, cycle: Cycle, state: CycleState, detail: str) -> Cycle:
    settle(parts, cycle.line, release_name(cycle))
    discard_unrecorded(parts, cycle)
    ended = msgspec.structs.replace(cycle, state=state, detail=detail, finished_at=now())
    cycles.finish(parts.store, ended, parts.fence)
    _beat(parts, "done", state, 1, 1)
    log.info("cycle_finished", state=state, detail=detail)
    return ended


def _report(parts: Parts, evaluation: Evaluation) -> None:
    """Writes the evaluation's page, which says what became of it, too."""
    try:
        write_report(facts_of(parts.store, evaluation.id))
    except Exception as fault:  # noqa: BLE001  # it can be made anew, and must not hold up a cycle
        log.warning("report_not_written", evaluation=evaluation.id, error=type(fault).__name__)


def release_name(cycle: Cycle) -> str:
    """The id of the release that this cycle makes."""
    return _name("release", cycle)


def _name(kind: str, cycle: Cycle) -> str:
    """The id of a step's record: the same for every try of the step."""
    return f"{kind}-{cycle.id.removeprefix('cycle-')}"


def gates_now(parts: Parts) -> str:
    """The hash of the gates as they would judge now."""
    return gates_hash(parts.settings.gates, parts.settings.trainer.gate_sampling)


def _how(parts: Parts, *, training: bool = False) -> Start:
    """How the children of a cycle are started: again and again, within limits."""
    trainer = parts.settings.trainer
    how = Start(attempts=MOST_ATTEMPTS, limits=trainer.limits)
    if not training:
        return how
    return msgspec.structs.replace(
        how, processes=trainer.launch.processes, variables=variables(trainer.report_to)
    )


def _told(attempt: Attempt) -> None:
    if attempt.outcome != "done":
        log.warning("attempt_ended", outcome=attempt.outcome, said=attempt.said)


def _watch(parts: Parts, step: str) -> Watch:
    def watch(beat: Heartbeat) -> None:
        parts.watch(msgspec.structs.replace(beat, phase=f"{step}: {beat.phase}"))

    return watch


def _beat(parts: Parts, step: str, phase: str, done: int, total: int) -> None:
    parts.watch(Heartbeat.now(f"{step}: {phase}", done, total))
