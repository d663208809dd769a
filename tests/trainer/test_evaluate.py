"""Evaluation for real: every gate of the roster over a base of two random layers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

import trainer.evaluate as evaluation
import trainer.observe as observing
from store.errors import IntegrityError
from store.records import Outcome
from trainer.evaluate import evaluate
from trainer.gates import GATES
from trainer.gates.gate import Rule
from trainer.gates.sample import suite_hash
from trainer.job import read_record
from trainer.jobs import (
    EvaluateJob,
    EvaluateManifest,
    Observation,
    gates_hash,
    read_observations,
)
from trainer.questions import Sampling

pytestmark = pytest.mark.filterwarnings("ignore:::transformers", "ignore:::torch", "ignore:::peft")

WriteJob = Callable[..., Path]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Path | None]:
    """The adapters that were loaded since, in order; None is the untouched base."""
    loaded: list[Path | None] = []
    load = observing.load

    def counting(base: Any, cache: Path, adapter: Path | None = None) -> Any:
        loaded.append(adapter)
        return load(base, cache, adapter)

    monkeypatch.setattr(observing, "load", counting)
    return loaded


def observations(folder: Path, role: str, gate: str) -> list[Observation]:
    """What a role was seen to do with a gate's items."""
    return read_observations(folder, role, GATES[gate].task)


def test_gives_a_verdict_for_every_gate(evaluate_job: WriteJob, trained: Path) -> None:
    """Each gate says something with its numbers, bound to suite, adapter and rules."""
    folder = evaluate_job(incumbent=str(trained / "adapter"))
    manifest = evaluate(folder)
    assert [v.gate for v in manifest.verdicts] == list(GATES)
    for verdict in manifest.verdicts:
        assert verdict.outcome is not Outcome.PASS  # three items prove nothing
        assert verdict.outcome is not Outcome.ERROR
        assert verdict.suite_hash == suite_hash(GATES[verdict.gate].task.suite)
        assert verdict.candidate is not None
        base, incumbent = verdict.comparisons
        assert (base.baseline, incumbent.baseline) == ("base", "incumbent")
        assert incumbent.difference == 0  # the candidate against itself
    rules = {n: g.rule for n, g in GATES.items()}
    sampling = read_record(folder / "job.json", EvaluateJob).sampling
    assert manifest.gates_hash == gates_hash(rules, sampling)
    assert read_record(folder / "manifest.json", EvaluateManifest) == manifest


def test_writes_what_each_role_did(evaluate_job: WriteJob) -> None:
    """Answers or losses lie in the folder for people to read, one for each item and role."""
    folder = evaluate_job()
    evaluate(folder)
    for name, gate in GATES.items():
        items = evaluation.read_suite(gate.task.suite)
        for role in ("base", "candidate"):
            seen = observations(folder, role, name)
            assert [o.id for o in seen] == [item.id for item in items]
            for observed in seen:
                assert (observed.answer is not None) is (gate.task.solver == "generate")
                assert (observed.losses is not None) is (gate.task.solver == "read")
                assert (observed.probabilities is not None) is (gate.task.solver == "choose")
    assert not (folder / "observations" / "incumbent").exists()
    trained_on, of_base = (
        sum(o.losses["reference"] for o in observations(folder, role, "forgetting") if o.losses)
        for role in ("candidate", "base")
    )
    assert trained_on != of_base


def test_base_is_asked_once(evaluate_job: WriteJob, loads: list[Path | None]) -> None:
    """A second evaluation reads the base's answers from the cache, and says the same."""
    first = evaluate(evaluate_job("first"))
    assert loads.count(None) == 1
    assert len(loads) == 2
    second = evaluate(evaluate_job("second"))
    assert len(loads) == 2
    assert second.verdicts == first.verdicts


def test_other_sampling_asks_anew(evaluate_job: WriteJob, loads: list[Path | None]) -> None:
    """What was answered under other settings is not taken for an answer under these."""
    evaluate(evaluate_job("first"))
    evaluate(evaluate_job("second", sampling=Sampling(max_new_tokens=2)))
    assert loads.count(None) == 2


def test_changed_suite_asks_anew(
    evaluate_job: WriteJob, loads: list[Path | None], short_suites: Path
) -> None:
    """A suite with one item less is another suite: its verdict is bound to the new hash."""
    first = evaluate(evaluate_job("first"))
    path = short_suites / "harmful.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    second = evaluate(evaluate_job("second"))
    assert len(loads) == 4
    assert first.gates_hash != second.gates_hash
    assert {v.gate: v.n for v in second.verdicts}["refusal"] == 2


def test_changed_adapter_is_an_integrity_error(
    evaluate_job: WriteJob, trained: Path, tmp_path: Path, loads: list[Path | None]
) -> None:
    """One changed byte since training, and nothing is judged."""
    adapter = tmp_path / "adapter"
    shutil.copytree(trained / "adapter", adapter)
    weights = adapter / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    folder = evaluate_job(candidate=str(adapter))
    with pytest.raises(IntegrityError, match="not the one that was trained"):
        evaluate(folder)
    assert not (folder / "manifest.json").exists()
    assert loads == []


def test_missing_adapter_is_an_integrity_error(evaluate_job: WriteJob, tmp_path: Path) -> None:
    """An adapter that is not there is told as such, not as a crash."""
    with pytest.raises(IntegrityError, match="lacks"):
        evaluate(evaluate_job(candidate=str(tmp_path)))


def test_losses_that_are_not_finite_never_pass(
    evaluate_job: WriteJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model whose losses are not numbers gets an error from the gates that ask for losses."""

    def broken(weighed: Any) -> torch.Tensor:
        return torch.full((len(weighed.names),), float("nan"))

    monkeypatch.setattr(
        "trainer.solvers._Shared.log_probabilities",
        lambda _, weighed: torch.stack([broken(w) for w in weighed]),
    )
    lenient = {
        name: Rule(least_gain_over_base=-9.0, least_gain_over_incumbent=-9.0, least_items=1)
        for name in GATES
    }
    manifest = evaluate(evaluate_job(rules=lenient))
    outcomes = {v.gate: v.outcome for v in manifest.verdicts}
    asked = {name for name, gate in GATES.items() if gate.task.solver == "read"}
    assert {outcomes[name] for name in asked} == {Outcome.ERROR}


def test_score_that_breaks_is_its_own_error(
    evaluate_job: WriteJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scorer that crashes makes its gate an error; the others have their verdicts."""

    def broken(*_: object) -> float:
        raise ZeroDivisionError("planted")

    gate = msgspec.structs.replace(GATES["refusal"], score=broken)
    monkeypatch.setitem(GATES, "refusal", gate)
    outcomes = {v.gate: v for v in evaluate(evaluate_job()).verdicts}
    assert outcomes["refusal"].outcome is Outcome.ERROR
    assert "ZeroDivisionError" in outcomes["refusal"].reason
    assert outcomes["principles"].outcome is not Outcome.ERROR


@pytest.mark.parametrize("content", [None, b'{"id": 3}\n'])
def test_suite_that_cannot_be_read_is_an_error(
    evaluate_job: WriteJob, short_suites: Path, content: bytes | None
) -> None:
    """A suite whose file is gone or spoiled makes its gate an error, and says what to do."""
    path = short_suites / "help.jsonl"
    folder = evaluate_job()
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    verdicts = {v.gate: v for v in evaluate(folder).verdicts}
    assert verdicts["forgetting"].outcome is Outcome.ERROR
    assert "help.jsonl" in verdicts["forgetting"].reason
    assert "Install again" in verdicts["forgetting"].reason
    assert verdicts["principles"].outcome is not Outcome.ERROR


def test_adapter_that_does_nothing_is_an_error(
    evaluate_job: WriteJob, trained: Path, tmp_path: Path
) -> None:
    """An adapter whose B is zero leaves every loss as it was: that is told, and never passes."""
    from safetensors.torch import load_file, save_file

    from trainer.adapter import adapter_hash

    adapter = tmp_path / "adapter"
    shutil.copytree(trained / "adapter", adapter)
    weights = load_file(adapter / "adapter_model.safetensors")
    zero = {name: w * ("lora_B" not in name) for name, w in weights.items()}
    save_file(zero, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    folder = evaluate_job(candidate=str(adapter), candidate_hash=adapter_hash(adapter))
    verdicts = {v.gate: v for v in evaluate(folder).verdicts}
    assert verdicts["forgetting"].outcome is Outcome.ERROR
    assert "no adapter was applied" in verdicts["forgetting"].reason


def test_base_may_be_judged_against_itself(evaluate_job: WriteJob) -> None:
    """Without a candidate the base stands in its place, and nothing is an error."""
    manifest = evaluate(evaluate_job(candidate=None, candidate_hash=""))
    assert {v.outcome for v in manifest.verdicts} <= {Outcome.PASS, Outcome.INCONCLUSIVE}
