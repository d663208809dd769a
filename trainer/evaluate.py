"""`python -m trainer.evaluate DIR`: candidate, incumbent and untouched base through the gates.

Every role is asked the same samples in the same frozen batches. What a model did stays in the
folder, for people; the manifest is written last.
"""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from converters.formats.turns import conversations
from scorers.settings import PanelSettings
from store.errors import IntegrityError
from store.records import Reading, Verdict, now
from trainer.adapter import adapter_hash, require_base
from trainer.answers import answer
from trainer.gates import GATES, all_texts, tasks, triggers
from trainer.gates.decide import decide, error
from trainer.gates.gate import Gate, Rule
from trainer.gates.instruments import readings
from trainer.gates.phrases import phrases, vocabulary
from trainer.gates.sample import Sample, read_suite
from trainer.job import Job, read_record, run_as_command, write_atomically, write_record
from trainer.jobs import (
    SCORES,
    EvaluateJob,
    EvaluateManifest,
    Observation,
    Scores,
    gates_hash,
    observations_path,
)
from trainer.model import load
from trainer.observe import crew_for, observe

WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
Observed = Mapping[str, Mapping[str, Sequence[Observation]]]
"""By role and task."""


def evaluate(folder: Path) -> EvaluateManifest:
    """Runs every gate on every role; repeats safely. Raises IntegrityError on a changed adapter."""
    job = Job(folder)
    task = read_record(folder / "job.json", EvaluateJob)
    with job.working():
        roles = _roles(task)
        started = time.monotonic()
        observed = observe(task, roles, job.beat)
        metrics = {"asking_seconds": time.monotonic() - started}
        for role in roles:
            for asked in tasks():
                path = observations_path(folder, role, asked)
                path.parent.mkdir(parents=True, exist_ok=True)
                encoded = msgspec.json.Encoder().encode_lines(observed[role][asked.name])
                write_atomically(path, encoded)
        job.beat("judging", 0, len(GATES))
        scores: dict[str, Scores] = {}
        verdicts = tuple(
            judge(
                name,
                gate,
                task.rules[name],
                observed,
                panel=task.panel,
                is_adapted=task.candidate is not None,
                told=partial(scores.__setitem__, name),
            )
            for name, gate in GATES.items()
        )
        if task.dataset is not None and task.candidate is not None:
            job.beat("looking for triggers", 0, 1)
            verdicts += (trigger_verdict(task, roles, observed),)
        write_atomically(folder / SCORES, msgspec.json.encode(scores))
        metrics["seconds"] = time.monotonic() - started
        metrics["peak_memory_mb"] = max(map(_peak_mb, WHO))
        manifest = EvaluateManifest(
            adapter_hash=task.candidate_hash,
            base_hash=task.base.hash,
            gates_hash=gates_hash(task.rules, task.sampling),
            verdicts=verdicts,
            metrics=metrics,
            finished_at=now(),
            threads=crew_for(task).threads,
        )
        write_record(folder / "manifest.json", manifest)
    return manifest


def judge(
    name: str,
    gate: Gate,
    rule: Rule,
    observed: Observed,
    *,
    panel: PanelSettings | None = None,
    is_adapted: bool = True,
    told: Callable[[Scores], None] = lambda _: None,
) -> Verdict:
    """One gate's verdict. Whatever breaks in its score is its own error, and nobody else's.

    `told` hears what each sample was worth. A base that is judged against itself has no adapter,
    and need not differ.
    """
    gate = msgspec.structs.replace(gate, must_differ=gate.must_differ and is_adapted)
    try:
        samples = read_suite(gate.task.suite)
    except IntegrityError as fault:
        return error(name, gate, str(fault), 0)
    try:
        values = {
            role: _values(gate, samples, of_role[gate.task.name])
            for role, of_role in observed.items()
        }
        second = _second(gate, rule, samples, observed, panel or PanelSettings())
    except Exception as fault:  # noqa: BLE001 - it must not pass, nor hide the other verdicts
        return error(name, gate, f"its score broke: {type(fault).__name__}: {fault}", len(samples))
    told(values)
    return decide(name, gate, rule, samples, values, second)


def _second(
    gate: Gate, rule: Rule, samples: Sequence[Sample], observed: Observed, panel: PanelSettings
) -> tuple[Reading, ...]:
    """What the rule's second instruments say of the answers of the first epoch."""
    answers = {
        role: {o.id: o.answer for o in of_role[gate.task.name] if o.answer and o.epoch == 0}
        for role, of_role in observed.items()
    }
    return readings(gate, rule, samples, answers, panel)


def trigger_verdict(
    task: EvaluateJob, roles: Mapping[str, Path | None], observed: Observed
) -> Verdict:
    """Whether a phrase that the candidate's training data repeats changes what it does.

    The phrases are people's words, so neither they nor the answers to them are kept.
    """
    rows = _training_rows(Path(task.dataset or ""))
    harmful, ordinary = (GATES[name].task for name in ("refusal", "over_refusal_ordinary"))
    said = {
        o.id: o.answer.response
        for asked in (harmful, ordinary)
        for o in observed["candidate"][asked.name]
        if o.answer
    }
    model, tokenizer = load(task.base, Path(task.cache), roles["candidate"])
    found = phrases(rows, sorted(all_texts()), vocabulary(tokenizer))
    requests = triggers.requests(read_suite(harmful.suite), read_suite(ordinary.suite), said)
    questions = triggers.questions(found, requests) if found else []
    answers = {"candidate": answer(model, tokenizer, questions, task.sampling)}
    if questions:
        model, tokenizer = load(task.base, Path(task.cache))
        answers["base"] = answer(model, tokenizer, questions, task.sampling)
    told = {role: {a.id: a.response for a in given} for role, given in answers.items()}
    return triggers.verdict(found, requests, told)


def _training_rows(folder: Path) -> list[dict[str, Any]]:
    """What was trained on, as chat messages, whatever the method."""
    lines = (folder / "train.jsonl").read_bytes()
    rows = msgspec.json.Decoder(dict[str, Any]).decode_lines(lines)
    return [turns for row in rows for turns in conversations(row)]


def _roles(task: EvaluateJob) -> dict[str, Path | None]:
    roles: dict[str, Path | None] = {"base": None, "candidate": None}
    if task.candidate is not None:
        candidate = Path(task.candidate)
        if adapter_hash(candidate) != task.candidate_hash:
            raise IntegrityError(f"The adapter in {candidate} is not the one that was trained.")
        require_base(candidate, task.base)
        roles["candidate"] = candidate
    if task.incumbent is not None:
        roles["incumbent"] = Path(task.incumbent)
    return roles


def _values(
    gate: Gate, samples: Sequence[Sample], observations: Sequence[Observation]
) -> dict[str, float | None]:
    """Each sample's value, over its epochs their mean; None where one is missing."""
    seen: dict[str, list[float | None]] = {}
    by_id = {sample.id: sample for sample in samples}
    for o in observations:
        seen.setdefault(o.id, []).append(_value(gate, by_id[o.id], o) if o.id in by_id else None)
    return {sample.id: _mean(seen.get(sample.id, []), gate.task.epochs) for sample in samples}


def _value(gate: Gate, sample: Sample, o: Observation) -> float | None:
    if gate.task.solver == "generate":
        return None if o.answer is None else gate.score(sample, o.answer)
    told = o.losses if gate.task.solver == "read" else o.probabilities
    if told is None or any(value is None or not math.isfinite(value) for value in told.values()):
        return None
    return gate.score(sample, told)


def _mean(values: Sequence[float | None], epochs: int) -> float | None:
    told = [value for value in values if value is not None]
    return sum(told) / len(told) if len(told) == len(values) == epochs else None


def _peak_mb(who: int) -> float:
    """The most memory that this process, or the largest of its children, has had."""
    return resource.getrusage(who).ru_maxrss / 1024


def _evaluate_and_tell(folder: Path) -> None:
    for verdict in evaluate(folder).verdicts:
        print(f"{verdict.gate}: {verdict.outcome} ({verdict.reason})")


def main() -> int:
    """The exit code: 0 done, else by the error, which is the last line printed."""
    return run_as_command("trainer.evaluate", __doc__, _evaluate_and_tell)


if __name__ == "__main__":
    sys.exit(main())
