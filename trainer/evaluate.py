"""`python -m trainer.evaluate DIR`: candidate, incumbent and untouched base through the gates.

Every role gets the same items in the same frozen batches. What a model answered is cached by
the hashes of base, adapter, suite and sampling, so the base is asked once, not every cycle.
The answers and losses stay in the folder, for people; the manifest is written last.
"""

from __future__ import annotations

import argparse
import math
import resource
import sys
import time
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from store.errors import BhavanaError, IntegrityError
from store.records import digest, now
from trainer.adapter import adapter_hash
from trainer.answers import BATCH_SIZE, answer
from trainer.gates import GATES
from trainer.gates.gate import Gate, Item, decide, read_suite, suite_hash
from trainer.job import Job, exit_code, read_record, write_atomically, write_record
from trainer.jobs import EvaluateJob, EvaluateManifest, Observation, gates_hash
from trainer.loss import mean_loss
from trainer.model import load
from trainer.questions import Question, Sampling
from trainer.sequences import Sequence, tokenise

MAX_LENGTH = 1024
ASKING = [BATCH_SIZE, MAX_LENGTH, version("torch"), version("transformers")]
"""What else an observation depends on: cached ones are used only where all of it is the same."""
Beat = Callable[[str, int, int], None]
"""Told what is being asked, how much is done, and of how much."""


def evaluate(folder: Path) -> EvaluateManifest:
    """Runs every gate on every role; repeats safely. Raises IntegrityError on a changed adapter."""
    job = Job(folder)
    task = read_record(folder / "job.json", EvaluateJob)
    roles = _roles(task)
    with job.working():
        started = time.monotonic()
        metrics: dict[str, float] = {}
        observed: dict[str, dict[str, list[Observation]]] = {}
        for index, (role, adapter) in enumerate(roles.items()):
            began = time.monotonic()
            beat = _beat(job, role, index, len(roles))
            observed[role] = _observe(task, adapter, beat)
            metrics[f"{role}_seconds"] = time.monotonic() - began
            for name, observations in observed[role].items():
                path = folder / "observations" / role / GATES[name].suite
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, msgspec.json.Encoder().encode_lines(observations))
        verdicts = tuple(
            decide(
                name,
                gate,
                task.rules[name],
                (items := read_suite(gate.suite)),
                {role: _values(gate, items, observed[role][name]) for role in roles},
            )
            for name, gate in GATES.items()
        )
        metrics["seconds"] = time.monotonic() - started
        metrics["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        manifest = EvaluateManifest(
            adapter_hash=task.candidate_hash,
            base_hash=task.base.hash,
            gates_hash=gates_hash(task.rules, task.sampling),
            verdicts=verdicts,
            metrics=metrics,
            finished_at=now(),
        )
        write_record(folder / "manifest.json", manifest)
    return manifest


def _roles(task: EvaluateJob) -> dict[str, Path | None]:
    candidate = Path(task.candidate)
    if adapter_hash(candidate) != task.candidate_hash:
        raise IntegrityError(f"The adapter in {candidate} is not the one that was trained.")
    roles: dict[str, Path | None] = {"base": None, "candidate": candidate}
    if task.incumbent is not None:
        roles["incumbent"] = Path(task.incumbent)
    return roles


def _observe(task: EvaluateJob, adapter: Path | None, beat: Beat) -> dict[str, list[Observation]]:
    """Observations by gate, from the cache where the same model was asked the same before."""

    @cache  # loaded only when something is not in the cache
    def loaded() -> tuple[Any, Any]:
        beat("loading", 0, 1)
        return load(task.base, Path(task.cache), adapter)

    of_model = [task.base.hash, None if adapter is None else adapter_hash(adapter)]
    observed = {}
    for name, gate in GATES.items():
        items = read_suite(gate.suite)
        key = digest([of_model, gate.asks, suite_hash(gate.suite), task.sampling, ASKING])
        path = Path(task.cache) / "observations" / f"{key[:32]}.jsonl"
        if path.is_file():
            decoder = msgspec.json.Decoder(Observation)
            observed[name] = decoder.decode_lines(path.read_bytes())
            continue
        model, tokenizer = loaded()
        if gate.asks == "answers":
            observed[name] = _answers(model, tokenizer, gate, items, task.sampling, beat)
        else:
            observed[name] = _read(model, tokenizer, gate, items, beat)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, msgspec.json.Encoder().encode_lines(observed[name]))
    return observed


def _answers(
    model: Any, tokenizer: Any, gate: Gate, items: list[Item], sampling: Sampling, beat: Beat
) -> list[Observation]:
    questions = [Question(id=item.id, prompt=item.prompt) for item in items]
    answers = answer(
        model, tokenizer, questions, sampling, lambda done, total: beat(gate.suite, done, total)
    )
    return [Observation(id=a.id, answer=a) for a in answers]


def _read(
    model: Any, tokenizer: Any, gate: Gate, items: list[Item], beat: Beat
) -> list[Observation]:
    observations = []
    for index, item in enumerate(items):
        losses = {
            name: mean_loss(model, [_sequence(tokenizer, item.prompt, text)])
            for name, text in gate.texts(item).items()
        }
        observations.append(Observation(id=item.id, losses=losses))
        beat(gate.suite, index + 1, len(items))
    return observations


def _sequence(tokenizer: Any, prompt: str, text: str) -> Sequence:
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": text}]
    [sequence] = tokenise([{"messages": turns}], tokenizer, MAX_LENGTH)
    return sequence


def _values(
    gate: Gate, items: list[Item], observations: list[Observation]
) -> dict[str, float | None]:
    by_id = {o.id: o for o in observations}
    values: dict[str, float | None] = {}
    for item in items:
        seen = by_id.get(item.id)
        if seen is not None and seen.answer is not None:
            values[item.id] = gate.score(item, seen.answer.response)
        elif (
            seen is not None
            and seen.losses is not None
            and all(math.isfinite(loss) for loss in seen.losses.values())
        ):
            values[item.id] = gate.score(item, seen.losses)
        else:
            values[item.id] = None
    return values


def _beat(job: Job, role: str, index: int, roles: int) -> Beat:
    def beat(what: str, done: int, total: int) -> None:
        job.beat(f"{role} ({index + 1} of {roles}): {what.removesuffix('.jsonl')}", done, total)

    return beat


def main() -> int:
    """The exit code: 0 done, 2 for one of our errors, which is the last line printed."""
    parser = argparse.ArgumentParser(prog="python -m trainer.evaluate", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="job folder with job.json")
    arguments = parser.parse_args()
    try:
        manifest = evaluate(arguments.folder)
    except BhavanaError as error:
        print(f"error: {error}", file=sys.stderr)
        return exit_code(error)
    for verdict in manifest.verdicts:
        print(f"{verdict.gate}: {verdict.outcome} ({verdict.reason})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
