"""What travels in job folders: the orders (job.json) and the outcomes (manifest.json).

Parent and child share these and nothing else, so this module loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import msgspec

from scorers.settings import PanelSettings
from store.records import Noun, Verdict, digest
from trainer.adapter import Parent
from trainer.base import Base, hash_files
from trainer.choice import Choice
from trainer.gates import GATES
from trainer.gates.gate import Rule
from trainer.gates.sample import suite_hash
from trainer.gates.task import Task
from trainer.preflight import Preflight
from trainer.questions import Answer, Question, Sampling
from trainer.recipe import Recipe

GATES_FOLDER = Path(__file__).parent / "gates"


class FinetuneJob(Noun, frozen=True, kw_only=True):
    """What to train: job.json of a training job."""

    base: Base
    recipe: Recipe
    dataset: str
    """Folder with train.jsonl and validation.jsonl; which rows, the recipe's method says
    (trainer/methods/)."""
    cache: str
    report_to: tuple[str, ...] = ()
    """Where its numbers go besides progress.jsonl: see trainer.reporters."""
    parent: Parent | None = None
    """What its adapter begins with; None: a fresh one, with which the model is its base."""


class FinetuneManifest(Noun, frozen=True, kw_only=True):
    """What came out: manifest.json of a training job."""

    adapter_hash: str
    base_hash: str
    recipe_hash: str
    metrics: dict[str, float]
    versions: dict[str, str]
    finished_at: datetime
    preflight: Preflight | None = None
    """What was measured and decided before training; None in manifests of older versions."""
    template_hash: str = ""
    """Of the tagged chat template; empty in manifests of older versions."""
    left_out: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """By split: ids of rows of which nothing could be learned: their response begins after
    max_length, or a pair's answers are alike up to there."""
    chosen: Choice | None = None
    """Which checkpoint became the adapter; None in manifests of older versions."""
    parent: Parent | None = None


class EvaluateJob(Noun, frozen=True, kw_only=True):
    """What to evaluate: job.json of an evaluation job."""

    base: Base
    candidate: str | None
    """Folder of the candidate's adapter; None judges the base against itself."""
    candidate_hash: str
    incumbent: str | None
    """Folder of the incumbent's adapter; None when the base is in service."""
    rules: dict[str, Rule]
    """One for each gate of the roster."""
    cache: str
    sampling: Sampling = msgspec.field(default_factory=lambda: Sampling(max_new_tokens=40))
    dataset: str | None = None
    """Folder of what the candidate learned from, where phrases that were planted are looked for."""
    panel: PanelSettings = msgspec.field(default_factory=PanelSettings)
    """How second instruments are set up."""
    processes: int = 0
    """By how many processes models are asked; 0: as many as help."""


class EvaluateManifest(Noun, frozen=True, kw_only=True):
    """What came out: manifest.json of an evaluation job."""

    adapter_hash: str
    base_hash: str
    gates_hash: str
    verdicts: tuple[Verdict, ...]
    metrics: dict[str, float]
    finished_at: datetime
    threads: int = 0
    """With how many each process asked; 0 in manifests of older versions."""


class Observation(Noun, frozen=True, kw_only=True):
    """What a model did with one sample: its answer, its losses, or its choice."""

    id: str
    epoch: int = 0
    answer: Answer | None = None
    losses: dict[str, float | None] | None = None
    probabilities: dict[str, float | None] | None = None
    """None is what JSON has for a number that is not finite, as a broken model gives."""


def observations_path(folder: Path, role: str, task: Task) -> Path:
    """Where an evaluation's folder keeps what a role did with a task."""
    return folder / "observations" / role / f"{task.name}.jsonl"


def read_observations(folder: Path, role: str, task: Task) -> list[Observation]:
    """What a role did with a task, in the order of the suite."""
    content = observations_path(folder, role, task).read_bytes()
    return msgspec.json.Decoder(Observation).decode_lines(content)


Scores = Mapping[str, Mapping[str, float | None]]
"""A gate's values, by role and sample id."""
SCORES = "scores.json"


def read_scores(folder: Path) -> dict[str, Scores]:
    """What each gate made of each sample: the numbers that its verdict stands on."""
    return msgspec.json.decode((folder / SCORES).read_bytes(), type=dict[str, Scores])


def gates_hash(rules: Mapping[str, Rule], sampling: Sampling) -> str:
    """Digest of all that a verdict depends on besides the models: suites, rules, code, sampling."""
    code = hash_files(sorted(GATES_FOLDER.rglob("*.py")))
    suites = {name: [suite_hash(GATES[name].task.suite), rule] for name, rule in rules.items()}
    return digest([suites, code, sampling])


class AnswerJob(Noun, frozen=True, kw_only=True):
    """What to ask: job.json of an answering job."""

    base: Base
    adapter: str | None
    """Folder of a LoRA adapter; None asks the untouched base."""
    cache: str
    sampling: Sampling
    questions: tuple[Question, ...]
    threads: int = 0
    """0: as many as the machine gives. With other threads a model gives other answers."""


class AnswerManifest(Noun, frozen=True, kw_only=True):
    """What came out: manifest.json of an answering job."""

    answers: tuple[Answer, ...]


class ForcedJob(Noun, frozen=True, kw_only=True):
    """Where to look at a trained model's next tokens: job.json of a job of trainer.forced."""

    base: Base
    adapter: str
    """Folder of a LoRA adapter."""
    cache: str
    questions: tuple[Question, ...]
    tokens: int = 8
    """At most so many places in the trained model's own greedy answer to each question."""


class Position(Noun, frozen=True, kw_only=True):
    """A place in a conversation, and what two models would say next there."""

    question: str
    text: str
    """All that stands before, as a server is to be sent it: raw, without what it adds itself."""
    trained: dict[str, float]
    """Natural logarithms of probabilities by text, of the likeliest tokens."""
    base: dict[str, float]
    """The untouched base's."""


class ForcedManifest(Noun, frozen=True, kw_only=True):
    """What came out: manifest.json of a job of trainer.forced."""

    positions: tuple[Position, ...]
