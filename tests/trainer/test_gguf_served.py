"""What llama.cpp makes of our files: served beside the trained model, next token by next token.

Random models of every family with a random adapter of all linear layers, and the embedded base.
Each fault that a server would not notice must fail the same check.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.trainer.children import ROOT
from tests.trainer.llama_cpp import Next, serving
from tests.trainer.tiny_gguf import write_base
from trainer import adapter as adapters
from trainer import base as bases
from trainer.base import Base
from trainer.forced import forced_job
from trainer.gguf import lora
from trainer.gguf.lora import write_lora
from trainer.gguf.merged import write_merged
from trainer.job import write_record
from trainer.jobs import ForcedJob, Position
from trainer.questions import Question
from trainer.targets.agreement import Agreement, compare

pytestmark = pytest.mark.filterwarnings("ignore:::transformers", "ignore:::torch", "ignore:::peft")

FAMILIES = (
    "llama",
    "qwen2",
    "gpt_neox",
    *(
        pytest.param(family, marks=pytest.mark.slow)
        for family in ("mistral", "qwen3", "gemma", "gemma2", "gemma3_text")
    ),
)
SCENARIOS = ROOT / "daemon" / "bundled" / "scenarios.jsonl"
PROBES = 24


class Trained(NamedTuple):
    """A base, an adapter of it, and what it would say next."""

    base: Base
    gguf: Path
    adapter: Path
    positions: tuple[Position, ...]


def random_base(folder: Path, family: str, tokenizer: Any) -> Base:
    """A small random model with the embedded base's vocabulary."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 96,
        "max_position_embeddings": 2048,
        "initializer_range": 0.3,  # else the logits of so small a model are all alike
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if family != "gpt_neox":
        sizes |= {"num_key_value_heads": 2, "head_dim": 16, "tie_word_embeddings": True}
    if family in ("gemma2", "gemma3_text"):
        sizes |= {"query_pre_attn_scalar": 16}
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "bias" in name:  # which would be ones and zeros
                parameter.add_(0.2 * torch.randn_like(parameter))
        if family in ("gemma2", "gemma3_text"):  # whose norms hide the blocks: it says what it read
            model.model.norm.weight.normal_(std=2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return bases.locate(str(folder))


def random_adapter(folder: Path, model: Any, base: Base, size: float) -> Path:
    """An adapter of all linear layers that has learned something at random."""
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, lora_alpha=6, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config)
    torch.manual_seed(2)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(std=size)
    adapters.save(adapted, folder, base)
    return folder


def looked_at(folder: Path, base: Base, adapter: Path, cache: Path) -> tuple[Position, ...]:
    """The places in answers to bundled scenarios.

    llama.cpp cuts a line break before blanks otherwise than transformers does with the tokenizer
    of the same file: places after it would show that, and nothing of the adapter.
    """
    prompts = [json.loads(line)["prompt"] for line in SCENARIOS.open()]
    questions = [Question(id=f"q-{n}", prompt=prompt) for n, prompt in enumerate(prompts)]
    job = ForcedJob(
        base=base,
        adapter=str(adapter),
        cache=str(cache),
        questions=tuple(questions[:: len(questions) // PROBES][:PROBES]),
        tokens=16,
    )
    folder.mkdir()
    write_record(folder / "job.json", job)
    return tuple(p for p in forced_job(folder).positions if "\n  " not in p.text)


@pytest.fixture(scope="module", params=FAMILIES)
def trained(
    request: pytest.FixtureRequest, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    """A random model of a family with a random adapter."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp(request.param)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = random_base(folder / "base", request.param, tokenizer)
        model = AutoModelForCausalLM.from_pretrained(base.location)
        adapter = random_adapter(folder / "adapter", model, base, 0.08)
        positions = looked_at(folder / "forced", base, adapter, folder / "cache")
    gguf = write_base(Path(base.location), folder / "base.gguf")
    return Trained(base, gguf, adapter, positions)


@pytest.fixture(scope="module")
def written(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The adapter as it should be, and with faults that a server does not notice."""
    folder = tmp_path_factory.mktemp("written")
    files = {name: folder / f"{name}.gguf" for name in ("right", "F16", "unordered", "alpha")}
    write_lora(trained.adapter, trained.base, files["right"])
    write_lora(trained.adapter, trained.base, files["F16"], dtype="F16")
    write = lora._write
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lora, "require_same", lambda *_: None)
        patch.setattr(lora, "_ordered", lambda one: one.b)
        write_lora(trained.adapter, trained.base, files["unordered"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lora, "require_same", lambda *_: None)
        patch.setattr(
            lora, "_write", lambda path, family, alpha, all: write(path, family, 1.4 * alpha, all)
        )
        write_lora(trained.adapter, trained.base, files["alpha"])
    return files


@pytest.fixture(scope="module")
def server(trained: Trained, written: dict[str, Path]) -> Iterator[Next]:
    """llama.cpp with the base and every adapter."""
    with serving(trained.gguf, list(written.values())) as following:
        yield following


def agreement(
    trained: Trained, server: Next, adapter: Path | None, scale: float = 1.0
) -> Agreement:
    """How the server, with the adapter, is to the trained model."""
    return compare(trained.positions, [server(p.text, adapter, scale) for p in trained.positions])


@pytest.mark.parametrize("dtype", ["right", "F16"])
def test_a_served_adapter_is_the_trained_model(
    trained: Trained, written: dict[str, Path], server: Next, dtype: str
) -> None:
    """Up to rounding: a thousandth of what would be too much."""
    found = agreement(trained, server, written[dtype])
    assert found.faults() == ()
    assert found.positions >= 20 * 8
    assert found.kl < 1e-4
    assert abs(found.strength - 1) < 0.01


def test_rows_in_the_wrong_order_are_found(
    trained: Trained, written: dict[str, Path], server: Next
) -> None:
    """Where llama.cpp reorders; in the other families the file is the right one."""
    alike = written["unordered"].read_bytes() == written["right"].read_bytes()
    reordered = trained.base.location.rpartition("/base")[0]
    assert alike == (not any(f in reordered for f in ("llama", "mistral", "gpt_neox")))
    found = agreement(trained, server, written["unordered"])
    assert found.holds == alike


def test_a_wrong_alpha_is_found(trained: Trained, written: dict[str, Path], server: Next) -> None:
    """A file whose alpha is 1.4 times what it should be."""
    assert not agreement(trained, server, written["alpha"]).holds


def test_a_missing_adapter_is_found(trained: Trained, server: Next) -> None:
    """The untouched base answers: none of the strength is there."""
    found = agreement(trained, server, None)
    assert not found.holds
    assert abs(found.strength) < 0.01


def test_an_adapter_applied_twice_is_found(
    trained: Trained, written: dict[str, Path], server: Next
) -> None:
    """As where a version is made from the version before, and both adapters stack."""
    assert not agreement(trained, server, written["right"], scale=2.0).holds


@pytest.mark.parametrize("type", ["Q8_0", pytest.param("F16", marks=pytest.mark.slow)])
def test_a_merged_model_is_the_trained_model(trained: Trained, tmp_path: Path, type: Any) -> None:
    """Without any adapter; in 8 bits with what these round."""
    write_merged(trained.adapter, trained.base, tmp_path / "m.gguf", type=type, gguf=trained.gguf)
    with serving(tmp_path / "m.gguf") as following:
        found = agreement(trained, following, None)
    assert found.faults() == ()


@pytest.mark.slow
def test_the_embedded_base_serves_its_adapter(tmp_path: Path) -> None:
    """SmolLM2 in 4 bits, whose activations llama.cpp rounds: within the limits all the same."""
    from trainer.model import load

    base = bases.locate("smollm2-135m")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, _ = load(base, tmp_path / "cache")
        adapter = random_adapter(tmp_path / "adapter", model, base, 0.06)
        positions = looked_at(tmp_path / "forced", base, adapter, tmp_path / "cache")
    trained = Trained(base, Path(base.location), adapter, positions)
    write_lora(adapter, base, tmp_path / "a.gguf")
    with serving(None, [tmp_path / "a.gguf"]) as server:
        found = agreement(trained, server, tmp_path / "a.gguf")
        missing = agreement(trained, server, None)
        half = agreement(trained, server, tmp_path / "a.gguf", 0.5)
    assert found.faults() == ()
    assert not missing.holds
    assert not half.holds
