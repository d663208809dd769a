"""Publish, switch, probe; on a bad probe switch back. Only a passed evaluation gets here.

The probe asks the release that is now in service one of the evaluation's own frozen batches
and compares the answers with those that were judged: what serves must be what passed.
"""

from __future__ import annotations

import threading
from pathlib import Path

from store.errors import IntegrityError, ProbeFailed
from store.records import Evaluation, Noun
from trainer.adapter import adapter_hash
from trainer.base import Base
from trainer.gates import GATES
from trainer.gates.sample import read_suite
from trainer.job import read_record
from trainer.jobs import AnswerJob, AnswerManifest, Observation, read_observations
from trainer.launch import Watch, run_job
from trainer.questions import Question, Sampling
from trainer.targets.target import Target

PROBE_GATE = "refusal"  # where a candidate must differ from the base
PROBE_BATCH = 0
LEAST_AGREEMENT = 0.9
"""Share of probe answers that must be the evaluated ones, word for word."""


class Probe(Noun, frozen=True, kw_only=True):
    """How a published release answered, against what was evaluated."""

    asked: int
    as_evaluated: float
    """Share of answers equal to the candidate's in the evaluation."""
    as_base: float
    """Share of answers equal to the untouched base's: near 1 the adapter has no effect."""


def promote(
    target: Target,
    evaluation: Evaluation,
    *,
    release_id: str,
    previous: str | None,
    adapter: Path,
    base: Base,
    cache: Path,
    probe_folder: Path,
    sampling: Sampling,
    stop: threading.Event,
    watch: Watch,
) -> tuple[str, Probe]:
    """Publishes and serves the release; returns its location and the probe. Repeats safely.

    Raises IntegrityError for a candidate that is not the evaluated one, and ProbeFailed after
    the previous release was put back.
    """
    proven = (evaluation.adapter_hash, evaluation.base_hash)
    if not evaluation.passed or (adapter_hash(adapter), base.hash) != proven:
        raise IntegrityError(f"{adapter} is not what evaluation {evaluation.id} passed.")
    location = target.publish(release_id, adapter, evaluation.adapter_hash)
    target.activate(release_id)
    folder = probe_folder
    job = AnswerJob(
        base=base,
        adapter=str(target.adapter(release_id)),
        cache=str(cache),
        sampling=sampling,
        questions=tuple(_questions(Path(evaluation.path))),
    )
    try:
        if target.active() != release_id:
            raise ProbeFailed(f"{target.name} does not serve {release_id} after the switch.")
        run_job("trainer.answers", folder, job, stop=stop, watch=watch)
        manifest = read_record(folder / "manifest.json", AnswerManifest)
        probe = _compare(Path(evaluation.path), manifest)
    except BaseException:
        target.activate(previous)  # what was not probed does not serve
        raise
    if probe.as_evaluated < LEAST_AGREEMENT or probe.as_evaluated <= probe.as_base:
        target.activate(previous)
        raise ProbeFailed(
            f"Release {release_id} gives {probe.as_evaluated:.0%} of the evaluated answers and "
            f"{probe.as_base:.0%} of the base's; {previous or 'the base'} serves again.",
            hint=f"Compare {folder} with {evaluation.path}.",
        )
    return location, probe


def _questions(evaluation: Path) -> list[Question]:
    batch = {
        o.id
        for o in _observed(evaluation, "candidate")
        if o.answer and o.answer.batch == PROBE_BATCH
    }
    samples = read_suite(GATES[PROBE_GATE].task.suite)
    return [sample.question() for sample in samples if sample.id in batch]


def _compare(evaluation: Path, manifest: AnswerManifest) -> Probe:
    given = {a.id: a.response for a in manifest.answers}

    def share(role: str) -> float:
        said = {o.id: o.answer.response for o in _observed(evaluation, role) if o.answer}
        return sum(said[id] == text for id, text in given.items()) / len(given)

    return Probe(asked=len(given), as_evaluated=share("candidate"), as_base=share("base"))


def _observed(evaluation: Path, role: str) -> list[Observation]:
    return read_observations(evaluation, role, GATES[PROBE_GATE].task)
