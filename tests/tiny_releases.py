"""A tiny base as a GGUF file, random adapters on it, and a place for a target: no training."""

from __future__ import annotations

import fcntl
import json
import os
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from store.records import Noun
from tests.trainer.tiny_gguf import write_base
from trainer.adapter import FILES, adapter_hash
from trainer.base import Base, locate
from trainer.job import read_record, write_record
from trainer.jobs import ForcedJob, Observation, Position
from trainer.questions import Answer, Question
from trainer.shape import shape_of
from trainer.targets.archive import Archive
from trainer.targets.ollama.settings import OllamaSettings
from trainer.targets.place import Place, Tell
from trainer.targets.settings import TargetsSettings
from trainer.targets.target import Delivery, Journal, Judged

HIDDEN, HEADS, KV_HEADS, INNER, LAYERS = 64, 4, 2, 128, 2
RANK, ALPHA = 4, 8.0
MODULES = ("q_proj", "k_proj", "o_proj")
SEEDS = {"one": 1, "two": 2, "three": 3}
WORDS = ("What", "How", "Why", "When", "Where", "Who", "Which", "Whose", "May", "Can")
QUESTIONS = tuple(Question(id=f"q-{n}", prompt=f"{word} {n}?") for n, word in enumerate(WORDS))


def tiny_base(folder: Path, tokenizer: Any, seed: int = 1) -> Base:
    """A random Llama of two layers with grouped queries and the embedded base's vocabulary.

    Its folder is a cache, too, in which the base lies materialised.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=49_152,
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        intermediate_size=INNER,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        initializer_range=0.3,  # else the logits of so small a model are all alike
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        LlamaForCausalLM(config).save_pretrained(folder / "layout")
        tokenizer.save_pretrained(folder / "layout")
    base = locate(str(write_base(folder / "layout", folder / "tiny.gguf")))
    (folder / "bases").mkdir()
    (folder / "layout").rename(folder / "bases" / base.hash[:32])  # reading it back takes seconds
    return base


def adapter(folder: Path, base: Base, seed: int = 1, strength: float = 0.005) -> Path:
    """Random matrices on the attention of every layer, in PEFT's layout."""
    random, shape = np.random.default_rng(seed), shape_of(base)
    weights = {}
    for layer in range(shape.layers):
        for module in MODULES:
            size_in, size_out = shape.modules[module]
            name = f"base_model.model.model.layers.{layer}.self_attn.{module}.lora"
            a, b = random.normal(size=(RANK, size_in)), random.normal(size=(size_out, RANK))
            weights[f"{name}_A.weight"] = a.astype(np.float32)
            weights[f"{name}_B.weight"] = (strength * b).astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / FILES[1], metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base.name,
        "revision": None,
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": sorted(MODULES),
    }
    (folder / FILES[0]).write_text(json.dumps(config))
    return folder


class Prepared(Noun, frozen=True, kw_only=True):
    """What several tests need, and whose making takes torch and half a minute."""

    base: Base
    other_base: Base
    adapters: dict[str, str]
    """Folders, by name; each says something else than the others and the base."""
    positions: dict[str, tuple[Position, ...]]
    """What each adapter's model should say next."""


def prepared(otherwise: Path) -> Prepared:
    """Made once for all test processes of a run, in their common cache, which they only read.

    `otherwise`: where it is made outside of tests.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME", otherwise)) / "tiny-releases"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        record = folder / "prepared.json"
        if not record.exists():
            write_record(record, _prepare(folder))
        return read_record(record, Prepared)


def _prepare(folder: Path) -> Prepared:
    from transformers import AutoTokenizer

    embedded = Path(locate("smollm2-135m").location)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokenizer = AutoTokenizer.from_pretrained(embedded.parent, gguf_file=embedded.name)
    base = tiny_base(folder / "base", tokenizer)
    adapters = {
        n: adapter(folder / n, base, seed) for seed, n in enumerate(("one", "two", "three"))
    }
    return Prepared(
        base=base,
        other_base=tiny_base(folder / "other", tokenizer, seed=2),
        adapters={name: str(path) for name, path in adapters.items()},
        positions={n: forced(folder / f"forced-{n}", base, p) for n, p in adapters.items()},
    )


def forced(
    folder: Path, base: Base, adapter: Path, cache: Path | None = None, tokens: int = 8
) -> tuple[Position, ...]:
    """The trained model's next tokens, as the child process computes them; of each answer so many
    at most.
    """
    from trainer.forced import forced_job

    folder.mkdir()
    cache = cache or Path(base.location).parent
    job = ForcedJob(
        base=base, adapter=str(adapter), cache=str(cache), questions=QUESTIONS, tokens=tokens
    )
    write_record(folder / "job.json", job)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return forced_job(folder).positions


class Foretold:
    """Stands in for an evaluation and for the child process that computes a model's next tokens."""

    def __init__(self, positions: tuple[Position, ...]) -> None:
        self._positions = positions

    def judged(self) -> tuple[Judged, ...]:
        """The questions; nobody looks at what was answered."""
        return tuple(
            Judged(question=q, candidate=Observation(id=q.id), base=Observation(id=q.id))
            for q in QUESTIONS
        )

    def answers(self, questions: Collection[Question], adapter: Path | None) -> tuple[Answer, ...]:
        """Not asked for by targets that look at tokens."""
        raise NotImplementedError

    def forced(self, adapter: Path) -> tuple[Position, ...]:
        """What was computed."""
        return self._positions


def place(
    folder: Path, settings: OllamaSettings, journal: Journal, tell: Tell | None = None
) -> Place:
    """Where a target works in a test."""
    return Place(
        folder=folder / "releases",
        archive=Archive(folder / "releases"),
        settings=TargetsSettings(ollama=settings),
        journal=journal,
        work=folder / "work",
        tell=tell,
    )


def delivery(release: str, adapter: Path, base: Base, line: str = "main") -> Delivery:
    """The adapter as a release."""
    return Delivery(
        release=release,
        line=line,
        adapter=str(adapter),
        adapter_hash=adapter_hash(adapter),
        base=base,
    )
