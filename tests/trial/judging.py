"""Judges a candidate as a cycle does: trainer.evaluate in its own job folder, the shipped rules."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from msgspec.structs import replace

from daemon.settings import Settings
from daemon.wiring import open_target, releases_folder
from store.errors import BhavanaError, IntegrityError, Rejected, Unavailable
from store.events import Store
from store.records import MAIN, Evaluation, Noun, Outcome, Verdict, digest, now
from tests.trial.making import Made, Workshop
from trainer.gates.presets import rules
from trainer.job import read_record
from trainer.jobs import EvaluateJob, EvaluateManifest, gates_hash
from trainer.journal import StoreJournal
from trainer.launch import run_job
from trainer.promote import prove
from trainer.references import EvaluatedReferences
from trainer.targets.archive import Archive

RULES = rules("small")
"""The shipped ones for the embedded base."""


class Judged(Noun, frozen=True, kw_only=True):
    """What the gates said of a candidate."""

    verdicts: tuple[Verdict, ...] = ()
    refused: str = ""
    """Why it was not judged at all, where it was refused."""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """It would be promoted."""
        return bool(self.verdicts) and all(v.outcome is Outcome.PASS for v in self.verdicts)

    @property
    def held_by(self) -> dict[str, str]:
        """By gate that held it back: its outcome."""
        held = {v.gate: v.outcome.value for v in self.verdicts if v.outcome is not Outcome.PASS}
        return held | ({"refused": self.refused} if self.refused else {})


def judge(name: str, shop: Workshop, candidate: Made, incumbent: Made | None) -> Judged:
    """The verdicts on a candidate against the base and, where there is one, the incumbent.

    Raises Unavailable when it was stopped. An evaluation that refuses the candidate or breaks on
    it says so in `refused`: nothing is promoted then.
    """
    job = evaluation_job(shop, candidate, incumbent)
    folder = (
        shop.folder / "judged" / f"{name}-{digest([job, gates_hash(RULES, job.sampling)])[:12]}"
    )
    try:
        run_job("trainer.evaluate", folder, job, stop=shop.stop, watch=shop.beats(name))
    except Unavailable:
        raise
    except BhavanaError as error:
        return Judged(refused=" ".join(str(error).split()))
    manifest = read_record(folder / "manifest.json", EvaluateManifest)
    return Judged(verdicts=manifest.verdicts, seconds=manifest.metrics["seconds"])


def evaluation_job(shop: Workshop, candidate: Made, incumbent: Made | None) -> EvaluateJob:
    """The order, as a cycle writes it."""
    return EvaluateJob(
        base=shop.base,
        candidate=str(candidate.adapter),
        candidate_hash=candidate.hash,
        incumbent=None if incumbent is None else str(incumbent.adapter),
        rules=RULES,
        cache=str(shop.cache),
        dataset=None if candidate.dataset is None else str(candidate.dataset),
    )


def offer(shop: Workshop, candidate: Made, other: Made, verdicts: Sequence[Verdict]) -> Judged:
    """Offers a candidate for promotion with the passing verdicts of another one.

    Every verdict is made a pass, so that nothing but the binding can refuse it. Raises Rejected
    where the other has no verdicts.
    """
    if not verdicts:
        raise Rejected("The other candidate was not judged: it has no verdicts to offer.")
    place = shop.folder / "offered"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    settings = Settings(data_dir=str(place))
    target = open_target(settings)
    evaluation = Evaluation(
        id="evaluation-of-another",
        cycle_id="cycle-of-the-trial",
        run_id="run-of-another",
        adapter_hash=other.hash,
        base_hash=shop.base.hash,
        incumbent=None,
        gates_hash=gates_hash(RULES, evaluation_job(shop, other, None).sampling),
        path=str(place),
        verdicts=tuple(replace(verdict, outcome=Outcome.PASS) for verdict in verdicts),
        finished_at=now(),
    )
    references = EvaluatedReferences(
        evaluation,
        base=shop.base,
        cache=shop.cache,
        folder=place / "probe",
        sampling=evaluation_job(shop, other, None).sampling,
        stop=shop.stop,
        watch=shop.beats("stale_verdict"),
    )
    with Store(f"sqlite:///{place / 'store.db'}") as store:
        try:
            prove(
                target,
                evaluation,
                release_id="release-of-the-trial",
                line=MAIN,
                adapter=candidate.adapter,
                base=shop.base,
                archive=Archive(releases_folder(settings)),
                references=references,
                journal=StoreJournal(store, target.name),
            )
        except IntegrityError as error:
            return Judged(refused=str(error))
    return Judged(verdicts=evaluation.verdicts)
