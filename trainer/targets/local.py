"""The local target: releases are served from where the archive keeps them, by one link a line.

releases/current      -> release-…   absent when the untouched base is in service
releases/current-math -> release-…   the same of another line than the main one

While a canary is on trial the link goes by a folder that says so, and one rename switches it all:

releases/current -> .current.trial-…/release
releases/.current.trial-…/traffic.json    who answers how much
releases/.current.trial-…/release -> ../release-…
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import msgspec

from store.errors import IntegrityError, ProbeFailed
from store.records import MAIN, digest
from trainer.adapter import adapter_hash
from trainer.job import write_record
from trainer.jobs import Observation
from trainer.targets.archive import on_disk, sync
from trainer.targets.limits import ANY
from trainer.targets.place import Place
from trainer.targets.target import Delivery, References, Traffic

CURRENT = "current"
TRIAL, TRAFFIC, RELEASE = "trial-", "traffic.json", "release"
LEAST_AGREEMENT = 0.9
"""Share of probe answers that must be the evaluated ones, word for word."""


class LocalTarget:
    """Releases in a folder of this machine."""

    name = "local"
    limits = ANY
    shares = True

    def __init__(self, place: Place) -> None:
        self.folder = place.folder
        self._archive = place.archive
        self._tell = place.tell

    def preflight(self, delivery: Delivery) -> None:
        """Looks whether the adapter is whole. Raises IntegrityError."""
        if adapter_hash(Path(delivery.adapter)) != delivery.adapter_hash:
            raise IntegrityError(f"{delivery.adapter} is not the adapter that was evaluated.")

    def publish(self, delivery: Delivery) -> str:
        """It lies in the archive already; nothing is there twice. Raises NotFound."""
        if self._tell is not None:
            self._tell(f"serve from {self.folder / delivery.release}, where the archive keeps it")
            return str(self.folder / delivery.release)
        self.preflight(delivery)
        return str(self._archive.adapter(delivery.release))

    def probe(self, delivery: Delivery, references: References) -> Mapping[str, float]:
        """The published adapter is asked what it was asked in the evaluation."""
        folder = self._archive.adapter(delivery.release)
        judged = references.judged()
        answers = references.answers([j.question for j in judged], folder)
        given = {a.id: a.response for a in answers}
        as_evaluated = _share([given[j.question.id] == _said(j.candidate) for j in judged])
        as_base = _share([given[j.question.id] == _said(j.base) for j in judged])
        if as_evaluated < LEAST_AGREEMENT or as_evaluated <= as_base:
            raise ProbeFailed(
                f"Release {delivery.release} gives {as_evaluated:.0%} of the evaluated answers "
                f"and {as_base:.0%} of the base's.",
                hint="Compare its probe's folder with the evaluation's.",
            )
        return {"asked": len(judged), "as_evaluated": as_evaluated, "as_base": as_base}

    def activate(self, traffic: Traffic, line: str = MAIN) -> None:
        """Switches the link by rename, so that a reader sees the old traffic or the new one."""
        link = self._link(line)
        for release in (traffic.release, traffic.canary):
            if release is not None and self._tell is None:  # a dry run published nothing
                self._archive.adapter(release)
        with on_disk(self.folder):
            if traffic == Traffic(release=None):
                self._do(f"remove {link}", lambda: link.unlink(missing_ok=True))
            elif traffic.canary is None:
                self._point(link, str(traffic.release))
            else:
                trial = f".{link.name}.{TRIAL}{digest(traffic)[:12]}"
                said = f"write {self.folder / trial / TRAFFIC}"
                self._do(said, lambda: self._try(trial, traffic))
                self._point(link, f"{trial}/{RELEASE}")
            self._tidy(link)

    def active(self, line: str = MAIN) -> Traffic:
        """What the line's link points to. Raises IntegrityError."""
        link, seen = self._link(line), None
        while link.is_symlink():
            way = Path(link.readlink())
            if way.name != RELEASE:
                return Traffic(release=way.name)
            try:
                content = (self.folder / way.parent / TRAFFIC).read_bytes()
                return msgspec.json.decode(content, type=Traffic)
            except FileNotFoundError as error:  # switched while we looked, or gone
                if way == seen:
                    raise IntegrityError(
                        f"{link} points to a trial that is not there.",
                        hint="`bhavana rollback` puts the former release back.",
                    ) from error
                seen = way
        return Traffic(release=None)

    def restore(self, release: str | None, line: str = MAIN) -> None:
        """Points the link at an earlier release, or takes it away."""
        self.activate(Traffic(release=release), line)

    def retire(self, keep: Collection[str], line: str = MAIN) -> tuple[str, ...]:  # noqa: ARG002
        """Takes no release, they are the archive's; but what a kill left half done."""
        link = self._link(line)
        half = _partial(link)
        if half.is_symlink():
            self._do(f"remove {half}", half.unlink)
        self._tidy(link)
        return ()

    def _link(self, line: str) -> Path:
        return self.folder / (CURRENT if line == MAIN else f"{CURRENT}-{line}")

    def _do(self, said: str, work: Callable[[], object]) -> None:
        if self._tell is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            work()
            sync(self.folder)
        else:
            self._tell(said)

    def _point(self, link: Path, way: str) -> None:
        def switch() -> None:
            partial = _partial(link)
            partial.unlink(missing_ok=True)
            partial.symlink_to(way)
            partial.replace(link)

        self._do(f"point {link} at {way}", switch)

    def _try(self, trial: str, traffic: Traffic) -> None:
        """The folder of a trial. The one in force has the same name only if it says the same."""
        folder = self.folder / trial
        folder.mkdir(exist_ok=True)
        write_record(folder / TRAFFIC, traffic)
        if not (folder / RELEASE).is_symlink():
            (folder / RELEASE).symlink_to(Path("..") / (traffic.release or "none"))
        sync(folder)

    def _tidy(self, link: Path) -> None:
        """Deletes the trials that the link does not go by."""
        serving = link.readlink().parts[0] if link.is_symlink() else ""
        for trial in self.folder.glob(f".{link.name}.{TRIAL}*"):
            if trial.name != serving:
                self._do(f"delete {trial}", lambda trial=trial: shutil.rmtree(trial))  # type: ignore[misc]


def _partial(link: Path) -> Path:
    """The next link before it takes the other's place; one at a time changes a line."""
    return link.with_name(f".{link.name}.next")


def _said(observation: Observation) -> str | None:
    return None if observation.answer is None else observation.answer.response


def _share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits)
