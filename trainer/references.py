"""What a published release should answer: as it was evaluated, and as it answers here now."""

from __future__ import annotations

import threading
from collections.abc import Collection
from pathlib import Path

from store.records import Evaluation, digest
from trainer.base import Base
from trainer.gates import GATES
from trainer.gates.sample import read_suite
from trainer.job import read_record
from trainer.jobs import (
    AnswerJob,
    AnswerManifest,
    EvaluateManifest,
    ForcedJob,
    ForcedManifest,
    Observation,
    Position,
    read_observations,
)
from trainer.launch import Watch, run_job
from trainer.questions import Answer, Question, Sampling
from trainer.targets.target import Judged

PROBE_GATE = "refusal"  # where a candidate must differ from the base
PROBE_BATCH = 0
FORCED_QUESTIONS = 20
"""With eight places in each answer about as many as tell a wrong adapter from rounding."""


class EvaluatedReferences:
    """Of one evaluation. What was answered once is kept in a folder and not asked again."""

    def __init__(
        self,
        evaluation: Evaluation,
        *,
        base: Base,
        cache: Path,
        folder: Path,
        sampling: Sampling,
        stop: threading.Event,
        watch: Watch,
    ) -> None:
        self._evaluation = Path(evaluation.path)
        self._base = base
        self._cache = cache
        self._folder = folder
        self._sampling = sampling
        self._stop = stop
        self._watch = watch

    def judged(self) -> tuple[Judged, ...]:
        """One of the evaluation's frozen batches, with what was answered then."""
        candidate, base = self._observed("candidate"), self._observed("base")
        return tuple(
            Judged(
                question=sample.question(),
                candidate=answered,
                base=base[sample.id],
            )
            for sample in read_suite(GATES[PROBE_GATE].task.suite)
            if (answered := candidate.get(sample.id)) is not None
            and answered.answer is not None
            and answered.answer.batch == PROBE_BATCH
        )

    def answers(self, questions: Collection[Question], adapter: Path | None) -> tuple[Answer, ...]:
        """Asks a child process. Raises what `run_job` does."""
        job = AnswerJob(
            base=self._base,
            adapter=None if adapter is None else str(adapter),
            cache=str(self._cache),
            sampling=self._sampling,
            questions=tuple(questions),
            threads=read_record(self._evaluation / "manifest.json", EvaluateManifest).threads,
        )
        folder = self._folder / digest(job)[:12]
        run_job("trainer.answers", folder, job, stop=self._stop, watch=self._watch)
        return read_record(folder / "manifest.json", AnswerManifest).answers

    def forced(self, adapter: Path) -> tuple[Position, ...]:
        """Asks a child process, about the first questions of the same suite."""
        samples = read_suite(GATES[PROBE_GATE].task.suite)[:FORCED_QUESTIONS]
        job = ForcedJob(
            base=self._base,
            adapter=str(adapter),
            cache=str(self._cache),
            questions=tuple(sample.question() for sample in samples),
        )
        folder = self._folder / digest(job)[:12]
        run_job("trainer.forced", folder, job, stop=self._stop, watch=self._watch)
        return read_record(folder / "manifest.json", ForcedManifest).positions

    def _observed(self, role: str) -> dict[str, Observation]:
        found = read_observations(self._evaluation, role, GATES[PROBE_GATE].task)
        return {observation.id: observation for observation in found}
