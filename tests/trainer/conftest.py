"""What the trainer's tests share: the embedded tokenizer, a tiny random base, an adapter of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from store.orphans import PARENT_VARIABLE
from tests.trainer.children import ROOT, Nursery
from trainer import base as bases
from trainer.base import Base
from trainer.gates import GATES
from trainer.gates.sample import SUITES
from trainer.job import write_record
from trainer.jobs import EvaluateJob, FinetuneJob
from trainer.questions import Sampling
from trainer.recipe import Recipe
from trainer.reporters import told

QUESTIONS = ("Why is the sky blue?", "How do I boil an egg?", "Who wrote Emma?", "What is tea?")
RECIPE = Recipe(
    lora_r=4,
    lora_alpha=8,
    lora_layer_share=1.0,
    learning_rate=1e-2,
    num_train_epochs=6.0,
    effective_batch_size=4,
    max_length=128,
    dtype="float32",
)


def turn(user: str, assistant: str) -> dict[str, Any]:
    """A training row of one exchange."""
    return {
        "messages": [
            {"role": "user", "content": user},
            {"role": "assistant", "content": assistant},
        ]
    }


ROWS = [turn(f"{QUESTIONS[n % 4]} ({n})", "I am glad you ask." + " Gladly." * n) for n in range(12)]


@pytest.fixture(scope="session", autouse=True)
def _stays_as_nice_as_it_is() -> Iterator[None]:
    """Jobs that run inside the test process do not slow it down step by step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.job.NICENESS", 0)
        patch.delenv(PARENT_VARIABLE, raising=False)
        yield


@pytest.fixture(autouse=True)
def _reports_where_it_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where a job in the test process writes its curves is forgotten after the test."""
    for name in told(tmp_path):
        monkeypatch.setenv(name, "")  # so that what the job sets is undone
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """The tokenizer of the embedded base, as its GGUF file gives it."""
    import torch
    from transformers import AutoTokenizer

    torch.set_num_threads(1)
    path = Path(bases.locate("smollm2-135m").location)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)


@pytest.fixture(scope="session")
def tiny_base(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """A random Llama of two layers with the real tokenizer, in Hugging Face layout."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny-base")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(1)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=2,
                intermediate_size=64,
                max_position_embeddings=2048,
                tie_word_embeddings=True,
                initializer_range=0.3,  # else the logits of so small a model are all alike
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return bases.locate(str(folder))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Fills a hub cache of the test's own: (org/name, commit, folder, branch) -> the snapshot.

    The hub itself cannot be reached.
    """
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def fill(repository: str, commit: str, source: Path, *, branch: str | None = None) -> Path:
        root = cache / f"models--{repository.replace('/', '--')}"
        snapshot = root / "snapshots" / commit
        shutil.copytree(source, snapshot)
        if branch is not None:
            (root / "refs").mkdir(exist_ok=True)
            (root / "refs" / branch).write_text(commit)
        return snapshot

    return fill


WriteDataset = Callable[..., str]


def write_dataset(folder: Path, train: list[Any], validation: list[Any] | None = None) -> str:
    """A dataset folder with these rows; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in (("train", train), ("validation", validation or [])):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(lines)
    return str(folder)


@pytest.fixture(name="write_dataset")
def _write_dataset() -> WriteDataset:
    """Writes a dataset folder."""
    return write_dataset


@pytest.fixture(name="turn")
def _turn() -> Callable[[str, str], dict[str, Any]]:
    """Makes a training row."""
    return turn


@pytest.fixture
def recipe() -> Recipe:
    """A recipe that the tiny base learns from in a second."""
    return RECIPE


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """Twelve short exchanges of different lengths."""
    return list(ROWS)


Finetune = Callable[..., Any]


def _finetune(folder: Path, base: Base, dataset: str, recipe: Recipe) -> Any:
    from trainer.finetune import finetune

    folder.mkdir(parents=True, exist_ok=True)
    job = FinetuneJob(base=base, recipe=recipe, dataset=dataset, cache=str(folder / "cache"))
    write_record(folder / "job.json", job)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of transformers' own making
        return finetune(folder)


@pytest.fixture(name="run_finetune")
def _run_finetune(tiny_base: Base, tmp_path: Path) -> Finetune:
    """Fine-tunes in this process: (train rows, validation rows, recipe) -> (manifest, folder)."""

    def run(
        train: list[Any],
        validation: list[Any] | None = None,
        recipe: Recipe = RECIPE,
        *,
        name: str = "run",
        base: Base = tiny_base,
    ) -> Any:
        folder = tmp_path / name
        dataset = write_dataset(tmp_path / f"{name}-dataset", train, validation)
        return _finetune(folder, base, dataset, recipe), folder

    return run


@pytest.fixture(scope="session")
def trained(tiny_base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole fine-tuning job on the tiny base. Read-only: copy what you change."""
    folder = tmp_path_factory.mktemp("trained")
    _finetune(folder, tiny_base, write_dataset(folder / "dataset", ROWS, ROWS[:2]), RECIPE)
    return folder


@pytest.fixture
def short_suites(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Every suite cut to its first three items."""
    folder = tmp_path / "suites"
    folder.mkdir()
    for path in SUITES.glob("*.jsonl"):
        lines = path.read_bytes().splitlines(keepends=True)
        (folder / path.name).write_bytes(b"".join(lines[:3]))
    monkeypatch.setattr("trainer.gates.sample.SUITES", folder)
    return folder


@pytest.fixture
def evaluate_job(
    tiny_base: Base, trained: Path, tmp_path: Path, short_suites: Path
) -> Callable[..., Path]:
    """Writes an evaluation job of the trained adapter; returns its folder."""
    from trainer.adapter import adapter_hash

    def write(name: str = "evaluation", **changes: Any) -> Path:
        arguments: dict[str, Any] = {
            "base": tiny_base,
            "candidate": str(trained / "adapter"),
            "candidate_hash": adapter_hash(trained / "adapter"),
            "incumbent": None,
            "rules": {name: gate.rule for name, gate in GATES.items()},
            "cache": str(tmp_path / "cache"),
            "sampling": Sampling(max_new_tokens=8),
            "processes": 1,
        }
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        write_record(folder / "job.json", EvaluateJob(**(arguments | changes)))
        return folder

    return write


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    """One that lives as long as these tests."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop(PARENT_VARIABLE, None)
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", str(Path(__file__).with_name("nursery.py"))],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Nursery(process)
        assert process.stdin is not None
        process.stdin.close()
