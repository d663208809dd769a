"""A cycle that was judged, as its records and folders stand: made by hand, without a model."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from daemon.cycle import gates_now
from daemon.wiring import Parts
from store import cycles
from store.records import (
    MAIN,
    Comparison,
    Cycle,
    Dataset,
    Evaluation,
    Outcome,
    Policy,
    TrainingRun,
    Verdict,
)
from trainer.adapter import adapter_hash
from trainer.base import locate
from trainer.gates import GATES
from trainer.gates.sample import read_suite, suite_hash
from trainer.gates.triggers import NAME as TRIGGERS
from trainer.job import write_record
from trainer.jobs import (
    AnswerJob,
    AnswerManifest,
    EvaluateManifest,
    Observation,
    observations_path,
)
from trainer.questions import Answer
from trainer.references import PROBE_GATE

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ITEMS = read_suite(GATES[PROBE_GATE].task.suite)
Saying = Callable[[int], str]


def as_candidate(n: int) -> str:
    """What the candidate answered to the n-th item."""
    return f"Kindly, {n}."


def as_base(n: int) -> str:
    """What the untouched base answered to the n-th item."""
    return f"Plainly, {n}."


def write_adapter(folder: Path, content: bytes = b"candidate") -> str:
    """An adapter's two files; returns its hash."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_bytes(b"{}")
    (folder / "adapter_model.safetensors").write_bytes(content)
    return adapter_hash(folder)


def verdict(gate: str, outcome: Outcome = Outcome.PASS, **changes: Any) -> Verdict:
    """What a gate says, with a comparison that suits it."""
    gain = 0.1 if outcome is Outcome.PASS else -0.2
    found = GATES.get(gate, GATES[PROBE_GATE])  # triggers have no suite of their own
    values: dict[str, Any] = {
        "gate": gate,
        "outcome": outcome,
        "reason": "within bounds" if outcome is Outcome.PASS else "20 points worse",
        "metric": found.metric,
        "unit": found.unit,
        "higher_is_better": found.higher_is_better,
        "n": 60,
        "families": 60,
        "candidate": 0.5 + gain,
        "lower": 0.4 + gain,
        "upper": 0.6 + gain,
        "comparisons": (
            Comparison(
                baseline="base", baseline_value=0.5, difference=gain, lower=gain - 0.1,
                upper=gain + 0.1, allowed=-0.05,
            ),
        ),
        "suite_hash": suite_hash(found.task.suite),
    }  # fmt: skip
    return Verdict(**(values | changes))


def judged(
    parts: Parts,
    outcomes: Mapping[str, Outcome],
    *,
    name: str = "1",
    incumbent: str | None = None,
    ended: Any = "held_back",
    line: str = MAIN,
    members: tuple[int, ...] = (),
    parent: str | None = None,
    adapter: Path | None = None,
    **changes: Any,
) -> Evaluation:
    """Leaves the records and folders of a cycle whose gates said this; the others passed.

    `members`: positions of what it learned from; `parent`: the release that it began with.
    `adapter`: what its training made; else two files that stand for one.
    """
    data, base = parts.settings.data, locate(parts.settings.trainer.base)
    cycle = Cycle(
        id=f"cycle-{name}", reason="test", started_at=MOMENT, position=0, line=line, parent=parent
    )
    cycles.start(parts.store, cycle)
    dataset = Dataset(
        id=f"dataset-{name}", cycle_id=cycle.id, position=0, path=str(data), content_hash=name,
        policy=Policy(), panel="p", counts={"train": 1}, funnel={}, built_at=MOMENT,
        members=members,
    )  # fmt: skip
    run = TrainingRun(
        id=f"run-{name}", cycle_id=cycle.id, dataset_id=dataset.id, base=base.name,
        base_hash=base.hash, recipe_hash="r", path=str(data / "runs" / f"run-{name}"),
        adapter_hash=_trained(data / "runs" / f"run-{name}" / "adapter", name, adapter),
        metrics={}, finished_at=MOMENT, parent=parent,
    )  # fmt: skip
    folder = data / "evaluations" / f"evaluation-{name}"
    _observe(folder, "candidate", as_candidate)
    _observe(folder, "base", as_base)
    values: dict[str, Any] = {
        "id": folder.name,
        "cycle_id": cycle.id,
        "run_id": run.id,
        "adapter_hash": run.adapter_hash,
        "base_hash": run.base_hash,
        "incumbent": incumbent,
        "gates_hash": gates_now(parts),
        "path": str(folder),
        "verdicts": tuple(
            verdict(gate, outcomes.get(gate, Outcome.PASS)) for gate in (*GATES, TRIGGERS)
        ),
        "finished_at": MOMENT,
    }
    evaluation = Evaluation(**(values | changes))
    of_child = EvaluateManifest(
        adapter_hash=evaluation.adapter_hash,
        base_hash=evaluation.base_hash,
        gates_hash=evaluation.gates_hash,
        verdicts=evaluation.verdicts,
        metrics={},
        finished_at=MOMENT,
    )
    write_record(folder / "manifest.json", of_child)
    for record in (dataset, run, evaluation):
        cycles.leave(parts.store, record)  # type: ignore[type-var]
    cycles.finish(
        parts.store, msgspec.structs.replace(cycle, state=ended, detail="", finished_at=MOMENT)
    )
    return evaluation


def _trained(folder: Path, name: str, adapter: Path | None) -> str:
    if adapter is None:
        return write_adapter(folder, name.encode())
    shutil.copytree(adapter, folder)
    return adapter_hash(folder)


def _observe(folder: Path, role: str, says: Saying) -> None:
    path = observations_path(folder, role, GATES[PROBE_GATE].task)
    path.parent.mkdir(parents=True, exist_ok=True)
    observed = [
        Observation(
            id=item.id,
            answer=Answer(
                id=item.id, response=says(n), tokens=3, finished=True, batch=int(n >= 20)
            ),
        )
        for n, item in enumerate(ITEMS)
    ]
    path.write_bytes(msgspec.json.Encoder().encode_lines(observed))


def answering(monkeypatch: Any, says: Saying) -> list[AnswerJob]:
    """Lets a stand-in for the child that probes say this; returns the jobs that it was given."""
    given: list[AnswerJob] = []
    place = {item.id: n for n, item in enumerate(ITEMS)}

    def stand_in(module: str, folder: Path, job: AnswerJob, **_: Any) -> None:
        assert module == "trainer.answers"
        given.append(job)
        answers = tuple(
            Answer(id=q.id, response=says(place[q.id]), tokens=3, finished=True)
            for q in job.questions
        )
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "manifest.json").is_file():  # as the real one: what is done is done
            write_record(folder / "manifest.json", AnswerManifest(answers=answers))

    monkeypatch.setattr("trainer.references.run_job", stand_in)
    return given
