"""A stand-in for Cloudflare whose every exchange is held against the schema, and a release."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from store.records import MAIN, Message
from tests.cloudflare_stand_in import Finetune, StandIn
from tests.cloudflare_stand_in.adapters import matrices, write_lora
from tests.trainer.cloudflare import conformity
from trainer.adapter import adapter_hash
from trainer.base import Base
from trainer.jobs import Observation
from trainer.questions import Answer, Question
from trainer.targets.archive import Archive
from trainer.targets.cloudflare.prompts import render
from trainer.targets.cloudflare.settings import CloudflareSettings
from trainer.targets.cloudflare.target import CloudflareTarget
from trainer.targets.place import Place
from trainer.targets.settings import TargetsSettings
from trainer.targets.target import Delivery, Judged

BASE = Base(
    name="mistralai/Mistral-7B-Instruct-v0.2",
    kind="hub",
    location="mistralai/Mistral-7B-Instruct-v0.2@0123456789012345678901234567890123456789",
    hash="base-hash",
)
QUESTIONS = tuple(
    Question(id=f"q{n}", messages=(Message(role="user", content=f"What of number {n}?"),))
    for n in range(6)
)


def as_candidate(prompt: str) -> str:
    """What the evaluated candidate answers."""
    return f"Kindly and at some length: {prompt[-30:-8]}"


def as_base(prompt: str) -> str:
    """What the untouched base answers."""
    return f"Plainly and in few words: {prompt[-30:-8]}"


def speaking(prompt: str, finetune: Finetune | None, _: Mapping[str, Any]) -> str:
    """As evaluated; one cut where a real model would be cut is no matter here."""
    return as_candidate(prompt) if finetune else as_base(prompt)


class Evaluated:
    """References of an evaluation of six questions."""

    def judged(self) -> tuple[Judged, ...]:
        """As candidate and base answer above."""
        return tuple(
            Judged(
                question=question,
                candidate=_observed(question.id, as_candidate(prompt)),
                base=_observed(question.id, as_base(prompt)),
            )
            for question in QUESTIONS
            for prompt in [render("mistral-v0.2", question.conversation())]
        )

    def answers(self, questions: Any, adapter: Path | None) -> tuple[Answer, ...]:
        """Not needed: Cloudflare's probe is of what was answered in the evaluation."""
        raise AssertionError


def _observed(name: str, said: str) -> Observation:
    return Observation(id=name, answer=Answer(id=name, response=said, tokens=12, finished=True))


class Noted:
    """A journal that lives as long as the test."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, str]]] = []

    def note(self, release: str, step: str, facts: Mapping[str, str]) -> None:
        """Kept."""
        self.lines.append((release, step, dict(facts)))

    def noted(self, release: str, step: str) -> Mapping[str, str]:
        """All facts of the step, the latest of each name."""
        found: dict[str, str] = {}
        for line in self.lines:
            if line[:2] == (release, step):
                found |= line[2]
        return found


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    """Cloudflare's stand-in; what was exchanged with it must fit the published schema."""
    with StandIn() as served:
        served.account.speak = speaking
        yield served
    assert list(conformity.faults(served.exchanges)) == []


@pytest.fixture
def settings(stand_in: StandIn) -> CloudflareSettings:
    """Of the stand-in's account, with little patience."""
    return CloudflareSettings(
        account_id=stand_in.account.id,
        token=stand_in.account.token,
        api=stand_in.url,
        kv_namespace=stand_in.account.namespace,
        timeout_seconds=30,
        retries=2,
        retry_seconds=0,
        ready_seconds=0.05,
        switch_seconds=0.05,
        poll_seconds=0.001,
    )


@pytest.fixture
def journal() -> Noted:
    """What the target notes."""
    return Noted()


Make = Callable[..., CloudflareTarget]


@pytest.fixture
def make(settings: CloudflareSettings, journal: Noted, tmp_path: Path) -> Make:
    """Opens the target anew, with other settings where some are given."""

    def opened(tell: Any = None, **changes: Any) -> CloudflareTarget:
        changed = msgspec.structs.replace(settings, **changes)
        return CloudflareTarget(
            Place(
                folder=tmp_path / "releases",
                archive=Archive(tmp_path / "releases"),
                settings=TargetsSettings(cloudflare=changed),
                journal=journal,
                work=tmp_path / "work",
                tell=tell,
            )
        )

    return opened


@pytest.fixture
def target(make: Make) -> CloudflareTarget:
    """The target."""
    return make()


@pytest.fixture
def deliver(tmp_path: Path) -> Callable[..., Delivery]:
    """A release with its adapter in the archive."""

    def delivery(
        release: str = "release-1", line: str = MAIN, base: Base = BASE, **config: Any
    ) -> Delivery:
        weights = config.pop("weights", None) or matrices(seed=len(release) + sum(release.encode()))
        folder = write_lora(tmp_path / "releases" / release, weights, **config)
        return Delivery(
            release=release,
            line=line,
            adapter=str(folder),
            adapter_hash=adapter_hash(folder),
            base=base,
        )

    return delivery
