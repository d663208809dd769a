"""Publish, probe, switch: with the real local target, and answers that a stand-in gives."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from store import journal
from store.errors import ChildFailed, IntegrityError, ProbeFailed, Unavailable
from store.events import Store
from store.records import MAIN, Evaluation, Outcome, Verdict
from trainer.adapter import adapter_hash
from trainer.base import Base
from trainer.gates import GATES
from trainer.gates.sample import read_suite
from trainer.job import write_record
from trainer.jobs import (
    AnswerJob,
    AnswerManifest,
    EvaluateManifest,
    Observation,
    observations_path,
)
from trainer.journal import StoreJournal
from trainer.promote import Proven, prove, switch
from trainer.questions import Answer, Sampling
from trainer.references import PROBE_GATE, EvaluatedReferences
from trainer.targets.archive import Archive
from trainer.targets.local import LocalTarget
from trainer.targets.place import Place
from trainer.targets.settings import TargetsSettings
from trainer.targets.target import Traffic

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
def archive(tmp_path: Path) -> Archive:
    """Where release-0 is kept."""
    kept = Archive(tmp_path / "releases")
    old = write_adapter(tmp_path / "old", b"old")
    kept.keep("release-0", old, adapter_hash(old))
    return kept


@pytest.fixture
def target(archive: Archive, store: Store, tmp_path: Path) -> LocalTarget:
    """A target where the untouched base is in service, and release-0 can be."""
    return LocalTarget(
        Place(
            folder=archive.folder,
            archive=archive,
            settings=TargetsSettings(),
            journal=StoreJournal(store, "local"),
            work=tmp_path / "work",
        )
    )


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
    of_child = EvaluateManifest(
        adapter_hash=adapter_hash(adapter),
        base_hash=BASE.hash,
        gates_hash="g",
        verdicts=(verdict,),
        metrics={},
        finished_at=datetime(2026, 1, 2, tzinfo=UTC),
    )
    write_record(folder / "manifest.json", of_child)
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

        monkeypatch.setattr("trainer.references.run_job", stand_in)
        return given

    return use


Promote = Callable[..., Proven]


@pytest.fixture(name="promote")
def _promote(
    target: LocalTarget,
    archive: Archive,
    store: Store,
    evaluation: Evaluation,
    adapter: Path,
    tmp_path: Path,
) -> Promote:
    """Proves the candidate as release-1 and switches to it, as a cycle does."""

    def run(judged: Evaluation = evaluation, previous: str | None = None) -> Proven:
        references = EvaluatedReferences(
            judged,
            base=BASE,
            cache=tmp_path / "cache",
            folder=tmp_path / "probe",
            sampling=Sampling(),
            stop=threading.Event(),
            watch=lambda _: None,
        )
        notes = StoreJournal(store, target.name)
        proven = prove(
            target,
            judged,
            release_id="release-1",
            line=MAIN,
            adapter=adapter,
            base=BASE,
            archive=archive,
            references=references,
            journal=notes,
        )
        serving = Traffic(release="release-1")
        switch(target, proven.delivery, serving, Traffic(release=previous), journal=notes)
        return proven

    return run


def steps(store: Store) -> list[str]:
    """The journal of the release, in short."""
    return [f"{line.step} {line.state}" for line in journal.of_release(store, "release-1")]


def test_release_that_answers_as_evaluated_serves(
    promote: Promote, answering: Any, target: LocalTarget, archive: Archive
) -> None:
    """The published adapter itself is asked the first batch, agrees, and then serves."""
    jobs = answering(as_candidate)
    proven = promote()
    assert target.active() == Traffic(release="release-1")
    assert proven.location == str(archive.adapter("release-1"))
    assert proven.figures == {"asked": 20, "as_evaluated": 1.0, "as_base": 0.0}
    (job,) = jobs
    assert job.adapter == proven.location
    assert [q.id for q in job.questions] == [item.id for item in ITEMS[:20]]


def test_each_step_is_journalled_before_and_after(
    promote: Promote, answering: Any, store: Store
) -> None:
    """In order, with what the probe found and where the release lies."""
    answering(as_candidate)
    location = promote().location
    order = ("preflight", "publish", "probe", "activate")
    assert steps(store) == [f"{step} {state}" for step in order for state in ("begun", "done")]
    lines = journal.of_release(store, "release-1")
    assert [line.facts for line in lines[3:6:2]] == [
        {"location": location},
        {"asked": "20", "as_evaluated": "1", "as_base": "0"},
    ]
    assert {(line.target, line.line) for line in lines} == {("local", "main")}


def test_nobody_is_served_before_the_probe(
    promote: Promote, answering: Any, target: LocalTarget
) -> None:
    """While the release is asked its batch, what served before serves."""
    target.activate(Traffic(release="release-0"))
    seen = []

    def says(n: int) -> str:
        seen.append(target.active())
        return as_candidate(n)

    answering(says)
    promote(previous="release-0")
    assert seen == [Traffic(release="release-0")] * 20


def test_one_other_answer_of_twenty_is_rounding(
    promote: Promote, answering: Any, target: LocalTarget
) -> None:
    """Nine answers of ten, word for word, are enough; the tenth may be another machine's."""
    answering(lambda n: "Other." if n < 2 else as_candidate(n))
    assert promote().figures["as_evaluated"] == 0.9
    assert target.active() == Traffic(release="release-1")


@pytest.mark.parametrize("previous", [None, "release-0"])
@pytest.mark.parametrize(
    "says",
    [as_base, lambda n: "Other.", lambda n: "Other." if n < 3 else as_candidate(n)],
    ids=["as the base", "as nobody", "too often otherwise"],
)
def test_bad_probe_leaves_the_previous_release(
    promote: Promote,
    answering: Any,
    target: LocalTarget,
    archive: Archive,
    store: Store,
    previous: str | None,
    says: Saying,
) -> None:
    """A release that answers otherwise never serves; it is kept, and told."""
    target.activate(Traffic(release=previous))
    answering(says)
    with pytest.raises(ProbeFailed, match="of the evaluated answers"):
        promote(previous=previous)
    assert target.active() == Traffic(release=previous)
    assert archive.adapter("release-1").is_dir()
    assert steps(store)[-2:] == ["probe begun", "probe failed"]
    assert journal.of_release(store, "release-1")[-1].facts["error"] == "ProbeFailed"


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
    assert target.active() == Traffic(release=None)


@pytest.mark.parametrize("failure", [ChildFailed("crashed"), Unavailable("stopping")])
@pytest.mark.parametrize("previous", [None, "release-0"])
def test_probe_that_did_not_happen_leaves_the_previous_release(
    promote: Promote,
    target: LocalTarget,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    previous: str | None,
) -> None:
    """What was never probed does not serve when the probe crashes or is stopped."""
    target.activate(Traffic(release=previous))

    def fails(*_: Any, **__: Any) -> None:
        raise failure

    monkeypatch.setattr("trainer.references.run_job", fails)
    with pytest.raises(type(failure)):
        promote(previous=previous)
    assert target.active() == Traffic(release=previous)


@pytest.mark.parametrize("previous", [None, "release-0"])
def test_switch_that_goes_wrong_is_undone(
    promote: Promote,
    answering: Any,
    target: LocalTarget,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    previous: str | None,
) -> None:
    """A target that says after the switch that something else serves is put back."""
    target.activate(Traffic(release=previous))
    answering(as_candidate)
    other = Traffic(release="release-1", canary="release-0", share=0.1)
    monkeypatch.setattr(LocalTarget, "active", lambda *_: other)
    with pytest.raises(ProbeFailed, match="does not serve release-1"):
        promote(previous=previous)
    monkeypatch.undo()
    assert target.active() == Traffic(release=previous)
    assert steps(store)[-4:] == [
        "activate begun", "activate failed", "restore begun", "restore done",
    ]  # fmt: skip


def test_the_way_back_is_taken_though_the_store_takes_no_line_of_it(
    promote: Promote,
    answering: Any,
    target: LocalTarget,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A store whose disk is full must not keep people with what was not recorded."""
    target.activate(Traffic(release="release-0"))
    answering(as_candidate)
    write = journal.write

    def full(opened: Store, step: Any, fence: Any = None) -> None:
        if step.step in ("activate", "restore") and step.state != "begun":
            raise Unavailable("database or disk is full")
        write(opened, step, fence)

    monkeypatch.setattr(journal, "write", full)
    with pytest.raises(Unavailable, match="disk is full"):
        promote(previous="release-0")
    assert target.active() == Traffic(release="release-0")


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
    store: Store,
    evaluation: Evaluation,
    change: Callable[[Evaluation], Evaluation],
) -> None:
    """Without a pass for these very bytes on this very base nothing is begun."""
    target.activate(Traffic(release="release-0"))
    jobs = answering(as_candidate)
    with pytest.raises(IntegrityError):
        promote(change(evaluation), previous="release-0")
    assert target.active() == Traffic(release="release-0")
    assert not (target.folder / "release-1").exists()
    assert (jobs, steps(store)) == ([], [])


def test_changed_adapter_is_not_published(
    promote: Promote, answering: Any, target: LocalTarget, adapter: Path
) -> None:
    """An adapter file that changed after the evaluation stops the promotion."""
    answering(as_candidate)
    (adapter / "adapter_model.safetensors").write_bytes(b"changed")
    with pytest.raises(IntegrityError, match="evaluation-1"):
        promote()
    assert target.active() == Traffic(release=None)


def test_promotion_repeats_safely(promote: Promote, answering: Any, target: LocalTarget) -> None:
    """After a crash the same promotion ends in the same state."""
    answering(as_candidate)
    assert promote() == promote()
    assert target.active() == Traffic(release="release-1")
