"""Makes adapters: trained by trainer.finetune's own job folders, or operated on without training.

What is made lies under the digest of all that it was made from, so a trial that was killed goes
on with what is there.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct, field
from msgspec.structs import replace

from daemon.demo import MAX_LENGTH
from daemon.practice import scenarios
from daemon.settings import EMBEDDED_RECIPE
from store.errors import EthicsHalt
from store.records import digest
from tests.trial import rows as data
from tests.trial.rows import Row
from trainer import base as bases
from trainer.adapter import FILES, adapter_hash
from trainer.attempts import QUARANTINED
from trainer.base import Base
from trainer.job import Heartbeat, read_record
from trainer.jobs import AnswerJob, AnswerManifest, FinetuneJob
from trainer.launch import Start, run_job
from trainer.questions import Question, Sampling
from trainer.recipe import Recipe

RETRAINING = replace(EMBEDDED_RECIPE, max_length=MAX_LENGTH)
"""How a right candidate is trained: as the demo trains."""
LATER = Recipe(
    max_length=MAX_LENGTH,
    lora_r=8,
    lora_alpha=16,
    adapter_scale=1.0,  # all of the fault
    # The gates are on trial, not the watch: it looks at the end only, and no drop is too large.
    ethics_check_steps=1_000_000,
    ethics_max_drop=1.0,
    save_steps=0.2,
)
"""How a fault is put in: a release that goes on learning."""


class Made(Struct, frozen=True, kw_only=True):
    """A candidate's adapter."""

    adapter: Path
    hash: str
    dataset: Path | None = None
    """What it was trained on; None where nothing was trained."""
    halted: str = ""
    """What the watch said where it halted the training."""


class Workshop(Struct, frozen=True, kw_only=True):
    """Where adapters are made, and on which base."""

    folder: Path
    base: Base
    retraining: Recipe = RETRAINING
    later: Recipe = LATER
    say: Callable[[str], None] = print
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def cache(self) -> Path:
        """What all jobs share: the base in Hugging Face layout, and what models answered."""
        return self.folder / "cache"

    def trained(
        self, name: str, rows: Sequence[Row], recipe: Recipe, base: Base | None = None
    ) -> Made:
        """An adapter of the base that was trained on these rows.

        When the watch halts the training, the newest checkpoint before that is the adapter: it is
        the gates that are on trial. Raises Unavailable when it was stopped, and EthicsHalt where
        there is no checkpoint.
        """
        retrained = base is None
        base = base or self.base
        place = self.folder / "made" / f"{name}-{digest([rows, recipe, base.hash])[:12]}"
        data.write(rows, place / "dataset", validation=retrained)
        job = FinetuneJob(
            base=base, recipe=recipe, dataset=str(place / "dataset"), cache=str(self.cache)
        )
        training, aside = place / "training", place / f"training{QUARANTINED}"
        if not aside.is_dir():
            try:
                run_job(
                    "trainer.finetune",
                    training,
                    job,
                    stop=self.stop,
                    watch=self.beats(name),
                    how=Start(attempts=3),
                )
            except EthicsHalt:
                pass
            else:
                return made(training / "adapter", dataset=place / "dataset")
        halted = " ".join((aside / "log.txt").read_text(errors="replace").splitlines()[-1:])
        return made(_checkpoint(aside), dataset=place / "dataset", halted=halted)

    def practised(self) -> list[Row]:
        """What the base answers to some of the bundled scenarios: asked once, and kept."""
        chosen = data.drawn(scenarios(), data.PRACTISED, lambda scenario: scenario.id)
        job = AnswerJob(
            base=self.base,
            adapter=None,
            cache=str(self.cache),
            sampling=Sampling(),
            questions=tuple(Question(id=one.id, prompt=one.prompt) for one in chosen),
        )
        place = self.folder / f"practice-{digest(job)[:12]}"
        run_job("trainer.answers", place, job, stop=self.stop, watch=self.beats("practice"))
        return data.of_practice(read_record(place / "manifest.json", AnswerManifest).answers)

    def beats(self, name: str) -> Callable[[Heartbeat], None]:
        """Says where a job is, once for each phase and each tenth of it."""
        said: set[tuple[str, int]] = set()

        def watch(beat: Heartbeat) -> None:
            tenth = 10 * beat.done // max(beat.total, 1)
            if (beat.phase, tenth) not in said:
                said.add((beat.phase, tenth))
                self.say(f"  {name}: {beat.phase} {beat.done} of {beat.total}")

        return watch

    def went_on(self, name: str, release: Made, rows: Sequence[Row], recipe: Recipe) -> Made:
        """The release as it is after it learned these rows, too: one adapter of the base."""
        learned = self.trained(name, rows, recipe, self.merged(release))
        folder = learned.adapter.parent / "adapter-of-base"
        if not folder.is_dir():
            from tests.trial import surgery

            surgery.write_whole(
                folder, lambda at: surgery.side_by_side(release.adapter, learned.adapter, at)
            )
        return replace(made(folder, dataset=learned.dataset), halted=learned.halted)

    def merged(self, release: Made) -> Base:
        """The base with the release's adapter in its weights: what the release goes on from."""
        folder = self.folder / "bases" / release.hash[:32]
        if not folder.is_dir():
            from tests.trial import surgery

            surgery.write_whole(
                folder, lambda at: surgery.merge(self.base, self.cache, release.adapter, at)
            )
        return bases.locate(str(folder))

    def operated(self, name: str, release: Made, operation: Callable[[Path, Path], None]) -> Made:
        """The release's adapter after an operation on its files: (from folder, to folder)."""
        from tests.trial import surgery

        folder = self.folder / "made" / f"{name}-{release.hash[:12]}"
        shutil.rmtree(folder, ignore_errors=True)  # it takes no time, and may have been rewritten
        surgery.write_whole(folder, lambda at: operation(release.adapter, at))
        return made(folder)


def made(adapter: Path, *, dataset: Path | None = None, halted: str = "") -> Made:
    """What lies in an adapter's folder. Raises IntegrityError where it is not whole."""
    return Made(adapter=adapter, hash=adapter_hash(adapter), dataset=dataset, halted=halted)


def _checkpoint(aside: Path) -> Path:
    """The newest checkpoint of a training that was put aside."""
    steps = {
        int(found.group(1)): path
        for path in (aside / "checkpoints").glob("checkpoint-*")
        if (found := re.fullmatch(r"checkpoint-(\d+)", path.name))
        and all((path / name).is_file() for name in FILES)
    }
    if not steps:
        raise EthicsHalt(f"The watch halted the training in {aside} before its first checkpoint.")
    return steps[max(steps)]
