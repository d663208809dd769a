"""An evaluation without a model: what each role says is given, all else is as in earnest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from store.records import Evaluation
from trainer.evaluate import judge
from trainer.gates import GATES, tasks
from trainer.gates.gate import Rule
from trainer.gates.sample import Sample, read_suite
from trainer.jobs import SCORES, Observation, observations_path
from trainer.questions import Answer

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
Saying = Callable[[str, int, Sample], str]
"""What a role answers to the n-th sample of a suite."""
Reading = Callable[[str, int, Sample, str], float]
"""The loss or the weight that a role gives to a named text or option of it."""


def loss(role: str, n: int, _: Sample, name: str) -> float:
    """Each role reads a little otherwise."""
    return 2.0 + 0.1 * (n % 5) + 0.05 * len(name) - 0.01 * len(role) * (n % 3)


def evaluated(
    folder: Path,
    says: Saying,
    *,
    reads: Reading = loss,
    roles: tuple[str, ...] = ("base", "candidate", "incumbent"),
    rules: Mapping[str, Rule] | None = None,
    n: int = 1,
    **changes: Any,
) -> Evaluation:
    """Writes observations and scores as `trainer.evaluate` does, judges; returns the record."""
    observed: dict[str, dict[str, list[Observation]]] = {role: {} for role in roles}
    for role in roles:
        for task in tasks():
            some = [
                _observed(role, at, sample, task, says, reads)
                for at, sample in enumerate(read_suite(task.suite))
            ]
            observed[role][task.name] = some
            path = observations_path(folder, role, task)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(msgspec.json.Encoder().encode_lines(some))
    scores: dict[str, Any] = {}
    verdicts = tuple(
        judge(
            name,
            gate,
            (rules or {}).get(name, gate.rule),
            observed,
            told=lambda values, name=name: scores.__setitem__(name, values),
        )
        for name, gate in GATES.items()
    )
    (folder / SCORES).write_bytes(msgspec.json.encode(scores))
    values: dict[str, Any] = {
        "id": f"evaluation-{n}",
        "cycle_id": f"cycle-{n}",
        "run_id": f"run-{n}",
        "adapter_hash": f"{n:064x}",
        "base_hash": "b" * 64,
        "incumbent": "release-0" if "incumbent" in roles else None,
        "gates_hash": "c" * 64,
        "path": str(folder),
        "verdicts": verdicts,
        "finished_at": MOMENT + timedelta(days=n),
    }
    return Evaluation(**(values | changes))


def _observed(
    role: str, at: int, sample: Sample, task: Any, says: Saying, reads: Reading
) -> Observation:
    if task.solver == "generate":
        said = says(role, at, sample)
        answer = Answer(id=sample.id, response=said, tokens=9, finished=True, batch=at // 20)
        return Observation(id=sample.id, answer=answer)
    if task.solver == "read":
        losses = {name: reads(role, at, sample, name) for name in task.texts(sample)}
        return Observation(id=sample.id, losses=losses)
    weights = {option: reads(role, at, sample, option) for option in sample.options}
    total = sum(weights.values())
    return Observation(id=sample.id, probabilities={k: v / total for k, v in weights.items()})
