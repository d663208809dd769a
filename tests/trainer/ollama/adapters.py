"""A tiny base as a GGUF file, random adapters on it, and a place for a target: no training."""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tests.trainer.tiny_gguf import write_base
from trainer.adapter import FILES, adapter_hash
from trainer.base import Base, locate
from trainer.job import write_record
from trainer.jobs import ForcedJob, Position
from trainer.questions import Answer, Question
from trainer.targets.archive import Archive
from trainer.targets.ollama.settings import OllamaSettings
from trainer.targets.place import Place, Tell
from trainer.targets.settings import TargetsSettings
from trainer.targets.target import Delivery, Judged

HIDDEN, HEADS, KV_HEADS, INNER, LAYERS = 64, 4, 2, 128, 2
RANK, ALPHA = 4, 8.0
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
        model = LlamaForCausalLM(config)
        base = locate(str(write_base(model, folder / "tiny.gguf")))
        materialised = folder / "bases" / base.hash[:32]  # else its vocabulary is read for seconds
        model.save_pretrained(materialised)
        tokenizer.save_pretrained(materialised)
    return base


def adapter(folder: Path, base: Base, seed: int = 1, strength: float = 0.3) -> Path:
    """Random matrices on every layer's attention and q, k above all: PEFT's layout."""
    random = np.random.default_rng(seed)
    sizes = {"q_proj": HIDDEN, "k_proj": HIDDEN * KV_HEADS // HEADS, "o_proj": HIDDEN}
    weights = {}
    for layer in range(LAYERS):
        for module, out in sizes.items():
            name = f"base_model.model.model.layers.{layer}.self_attn.{module}.lora"
            a, b = random.normal(size=(RANK, HIDDEN)), random.normal(size=(out, RANK))
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
        "target_modules": sorted(sizes),
    }
    (folder / FILES[0]).write_text(json.dumps(config))
    return folder


class Notes:
    """A journal in memory."""

    def __init__(self) -> None:
        self.facts: dict[tuple[str, str], dict[str, str]] = {}

    def note(self, release: str, step: str, facts: Mapping[str, str]) -> None:
        """Kept as long as the object."""
        self.facts.setdefault((release, step), {}).update(facts)

    def noted(self, release: str, step: str) -> Mapping[str, str]:
        """What was noted."""
        return self.facts.get((release, step), {})


class TorchReferences:
    """The trained model's next tokens, computed in this process, once for each adapter."""

    def __init__(self, base: Base, folder: Path) -> None:
        self._base = base
        self._folder = folder

    def judged(self) -> tuple[Judged, ...]:
        """Questions; nobody looks at what was answered."""
        from trainer.jobs import Observation

        return tuple(
            Judged(question=q, candidate=Observation(id=q.id), base=Observation(id=q.id))
            for q in QUESTIONS
        )

    def answers(self, questions: Collection[Question], adapter: Path | None) -> tuple[Answer, ...]:
        """Not asked for by this target."""
        raise NotImplementedError

    def forced(self, questions: Collection[Question], adapter: Path) -> tuple[Position, ...]:
        """As the child process computes them."""
        from trainer.forced import forced_job

        folder = self._folder / adapter_hash(adapter)[:12]
        folder.mkdir(parents=True, exist_ok=True)
        job = ForcedJob(
            base=self._base,
            adapter=str(adapter),
            cache=str(Path(self._base.location).parent),
            questions=tuple(questions),
        )
        write_record(folder / "job.json", job)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return forced_job(folder).positions


def place(folder: Path, settings: OllamaSettings, notes: Notes, tell: Tell | None = None) -> Place:
    """Where a target works in a test."""
    return Place(
        folder=folder / "releases",
        archive=Archive(folder / "releases"),
        settings=TargetsSettings(ollama=settings),
        journal=notes,
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
