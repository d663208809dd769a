"""Publish, switch, probe: with the real local target, and answers that a stand-in gives."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from store.errors import ChildFailed, IntegrityError, ProbeFailed, Unavailable
from store.records import Evaluation, Outcome, Verdict
from trainer.adapter import adapter_hash
from trainer.base import Base
from trainer.gates import GATES
from trainer.gates.sample import read_suite
from trainer.job import write_record
from trainer.jobs import AnswerJob, AnswerManifest, Observation, observations_path
from trainer.promote import PROBE_GATE, Probe, promote
from trainer.questions import Answer, Sampling
from trainer.targets.local import LocalTarget

BASE = Base(name="base", kind="folder", location="/nonexistent", hash="base-hash")
ITEMS = read_suite(GATES[PROBE_GATE].task.suite)
Saying = Callable[[int], str]


def as_candidate(n: int) -> str:
    """What the candidate answered to the n-th item."""
    return f"Kindly, {n}."


def as_base(n: int) -> str:
    """What the untouched base answered to the n-th item."""
    return f"Plainly, {n}."


def write_adapter(folder: Path, content: bytes) -> Path:
    """An adapter's two files."""
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_bytes(b"{}")
    (folder / "adapter_model.safetensors").write_bytes(content)
    return folder


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """The candidate's adapter."""
    return write_adapter(tmp_path / "adapter", b"candidate")


@pytest.fixture
def target(tmp_path: Path) -> LocalTarget:
    """A target where the untouched base is in service, and release-0 is published."""
    opened = LocalTarget(tmp_path / "releases")
    old = write_adapter(tmp_path / "old", b"old")
    opened.publish("release-0", old, adapter_hash(old))
    return opened


@pytest.fixture
def evaluation(tmp_path: Path, adapter: Path) -> Evaluation:
    """An evaluation that passed, with the probe gate's observations in two batches."""
    folder = tmp_path / "evaluation"
    for role, says in (("candidate", as_candidate), ("base", as_base)):
        path = observations_path(folder, role, GATES[PROBE_GATE].task)
        path.parent.mkdir(parents=True)
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
    verdict = Verdict(
        gate=PROBE_GATE,
        outcome=Outcome.PASS,
        reason="",
        metric="",
        unit="share",
        higher_is_better=False,
        n=60,
        families=60,
    )
    return Evaluation(
        id="evaluation-1",
        cycle_id="cycle-1",
        run_id="run-1",
        adapter_hash=adapter_hash(adapter),
        base_hash=BASE.hash,
        incumbent=None,
        gates_hash="g",
        path=str(folder),
        verdicts=(verdict,),
        finished_at=datetime(2026, 1, 2, tzinfo=UTC),
    )


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[[Saying], list[AnswerJob]]:
    """Lets a stand-in for the answering child say this; returns the jobs it was given."""
    given: list[AnswerJob] = []

    def use(says: Saying) -> list[AnswerJob]:
        def stand_in(module: str, folder: Path, job: AnswerJob, **_: Any) -> None:
            assert module == "trainer.answers"
            given.append(job)
            place = {item.id: n for n, item in enumerate(ITEMS)}
            answers = tuple(
                Answer(id=q.id, response=says(place[q.id]), tokens=3, finished=True)
                for q in job.questions
            )
            folder.mkdir(parents=True, exist_ok=True)
            write_record(folder / "manifest.json", AnswerManifest(answers=answers))

        monkeypatch.setattr("trainer.promote.run_job", stand_in)
        return given

    return use


Promote = Callable[..., tuple[str, Probe]]


@pytest.fixture(name="promote")
def _promote(target: LocalTarget, evaluation: Evaluation, adapter: Path, tmp_path: Path) -> Promote:
    """Promotes the candidate as release-1."""

    def run(judged: Evaluation = evaluation, previous: str | None = None, base: Base = BASE) -> Any:
        return promote(
            target,
            judged,
            release_id="release-1",
            previous=previous,
            adapter=adapter,
            base=base,
            cache=tmp_path / "cache",
            probe_folder=tmp_path / "probe",
            sampling=Sampling(),
            stop=threading.Event(),
            watch=lambda _: None,
        )

    return run


def test_release_that_answers_as_evaluated_serves(
    promote: Promote, answering: Any, target: LocalTarget
) -> None:
    """The published adapter itself is asked the first batch, agrees, and stays in service."""
    jobs = answering(as_candidate)
    location, probe = promote()
    assert target.active() == "release-1"
    assert location == str(target.adapter("release-1"))
    assert probe == Probe(asked=20, as_evaluated=1.0, as_base=0.0)
    (job,) = jobs
    assert job.adapter == location
    assert [q.id for q in job.questions] == [item.id for item in ITEMS[:20]]


def test_one_other_answer_of_twenty_is_rounding(
    promote: Promote, answering: Any, target: LocalTarget
) -> None:
    """Nine answers of ten, word for word, are enough; the tenth may be another machine's."""
    answering(lambda n: "Other." if n < 2 else as_candidate(n))
    assert promote()[1].as_evaluated == 0.9
    assert target.active() == "release-1"


@pytest.mark.parametrize("previous", [None, "release-0"])
@pytest.mark.parametrize(
    "says",
    [as_base, lambda n: "Other.", lambda n: "Other." if n < 3 else as_candidate(n)],
    ids=["as the base", "as nobody", "too often otherwise"],
)
def test_bad_probe_puts_the_previous_release_back(
    promote: Promote, answering: Any, target: LocalTarget, previous: str | None, says: Saying
) -> None:
    """A release that answers otherwise is taken out of service, kept, and told."""
    target.activate(previous)
    answering(says)
    with pytest.raises(ProbeFailed, match=previous or "the base serves again"):
        promote(previous=previous)
    assert target.active() == previous
    assert target.adapter("release-1").is_dir()


def test_adapter_without_effect_is_not_promoted(
    promote: Promote, answering: Any, target: LocalTarget, evaluation: Evaluation
) -> None:
    """When candidate and base answered alike, agreeing with both proves nothing."""
    of_candidate, of_base = (
        observations_path(Path(evaluation.path), role, GATES[PROBE_GATE].task)
        for role in ("candidate", "base")
    )
    of_base.write_bytes(of_candidate.read_bytes())
    answering(as_candidate)
    with pytest.raises(ProbeFailed):
        promote()
    assert target.active() is None


@pytest.mark.parametrize("failure", [ChildFailed("crashed"), Unavailable("stopping")])
@pytest.mark.parametrize("previous", [None, "release-0"])
def test_probe_that_did_not_happen_leaves_the_previous_release(
    promote: Promote,
    target: LocalTarget,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    previous: str | None,
) -> None:
    """What was never probed does not stay in service when the probe crashes or is stopped."""
    target.activate(previous)

    def fails(*_: Any, **__: Any) -> None:
        raise failure

    monkeypatch.setattr("trainer.promote.run_job", fails)
    with pytest.raises(type(failure)):
        promote(previous=previous)
    assert target.active() == previous


def _failed(evaluation: Evaluation) -> Evaluation:
    (verdict,) = evaluation.verdicts
    worse = msgspec.structs.replace(verdict, outcome=Outcome.INCONCLUSIVE)
    return msgspec.structs.replace(evaluation, verdicts=(verdict, worse))


@pytest.mark.parametrize(
    "change",
    [
        _failed,
        lambda e: msgspec.structs.replace(e, verdicts=()),
        lambda e: msgspec.structs.replace(e, adapter_hash="another"),
        lambda e: msgspec.structs.replace(e, base_hash="another"),
    ],
    ids=["a gate did not pass", "no verdict", "another adapter", "another base"],
)
def test_what_was_not_proven_is_not_published(
    promote: Promote,
    answering: Any,
    target: LocalTarget,
    evaluation: Evaluation,
    change: Callable[[Evaluation], Evaluation],
) -> None:
    """Without a pass for these very bytes on this very base nothing is published or switched."""
    target.activate("release-0")
    jobs = answering(as_candidate)
    with pytest.raises(IntegrityError):
        promote(change(evaluation), previous="release-0")
    assert target.active() == "release-0"
    assert not (target.folder / "release-1").exists()
    assert jobs == []


def test_changed_adapter_is_not_published(
    promote: Promote, answering: Any, target: LocalTarget, adapter: Path
) -> None:
    """An adapter file that changed after the evaluation stops the promotion."""
    answering(as_candidate)
    (adapter / "adapter_model.safetensors").write_bytes(b"changed")
    with pytest.raises(IntegrityError, match="evaluation-1"):
        promote()
    assert target.active() is None


def test_promotion_repeats_safely(promote: Promote, answering: Any, target: LocalTarget) -> None:
    """After a crash the same promotion ends in the same state."""
    answering(as_candidate)
    assert promote() == promote()
    assert target.active() == "release-1"
