"""Bases in 4 and 8 bits and all kinds of adapters, trained for real on two random layers."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from peft import PeftModel
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    TrainingArguments,
)

from store.errors import Misconfigured
from trainer import adapter, templates
from trainer import base as bases
from trainer.base import Base
from trainer.jobs import FinetuneManifest
from trainer.model import (
    as_base,
    below,
    for_training,
    keep,
    load,
    materialise,
    scaled,
    tokenizer_of,
)
from trainer.optimizer import optimizer_of
from trainer.recipe import Recipe
from trainer.shape import shape_of
from trainer.targets.limits import ANY, adapter_bytes

pytestmark = pytest.mark.filterwarnings("ignore:::transformers", "ignore:::torch", "ignore:::peft")

Finetune = Callable[..., tuple[FinetuneManifest, Path]]
QUICK = {"num_train_epochs": 1.0}
TOKENS = torch.tensor([[5, 6, 7, 8, 9, 10]])


@pytest.fixture(scope="module")
def neox_base(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """A random GPT-NeoX of two layers whose tokenizer ships no chat template, as Pythia's."""
    folder = tmp_path_factory.mktemp("tiny-neox")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(2)
        GPTNeoXForCausalLM(
            GPTNeoXConfig(
                vocab_size=len(tokenizer),
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=64,
                max_position_embeddings=2048,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
        ).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").unlink()
    return bases.locate(str(folder))


def changed(recipe: Recipe, **changes: Any) -> Recipe:
    """The quick recipe with other fields."""
    return msgspec.structs.replace(recipe, **(QUICK | changes))


def logits(model: Any) -> torch.Tensor:
    """Of a fixed text, in evaluation mode."""
    model.eval()
    with torch.inference_mode():
        result: torch.Tensor = model(input_ids=TOKENS).logits.float()
    return result


def stirred(folder: Path, recipe: Recipe) -> Any:
    """A model in training whose adapter has learned something: its weights are moved at random."""
    model = for_training(folder, recipe)
    torch.manual_seed(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)
    return model


# --- bases --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        ({"load_in_4bit": True}, Linear4bit),
        ({"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"}, Linear4bit),
        ({"load_in_8bit": True}, Linear8bitLt),
    ],
)
def test_base_is_quantized_as_asked(tiny_base: Base, asked: dict[str, Any], kind: type) -> None:
    """All linear layers of the blocks, neither head nor embeddings, and no checkpointing."""
    model = for_training(Path(tiny_base.location), Recipe(lora_layer_share=0.5, **asked))
    quantized = [name for name, module in model.named_modules() if isinstance(module, kind)]
    assert len(quantized) == 2 * 7
    assert not any("lm_head" in name or "embed" in name for name in quantized)
    assert not model.get_base_model().is_gradient_checkpointing
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name and ".layers.1." in name for name in trained)
    if kind is Linear4bit:
        weight = next(m for m in model.modules() if isinstance(m, Linear4bit)).weight
        assert weight.quant_type == asked.get("bnb_4bit_quant_type", "nf4")
        assert weight.quant_state.nested  # double quantization, the default


def test_compute_dtype_of_four_bits_is_the_recipes(tiny_base: Base) -> None:
    """Auto follows dtype; another may be named."""

    def of(**asked: Any) -> torch.dtype:
        model = for_training(Path(tiny_base.location), Recipe(load_in_4bit=True, **asked))
        module = next(m for m in model.modules() if isinstance(m, Linear4bit))
        dtype: torch.dtype = module.compute_dtype
        return dtype

    assert of(dtype="float32") is torch.float32
    assert of(dtype="bfloat16") is torch.bfloat16
    assert of(dtype="float32", bnb_4bit_compute_dtype="bfloat16") is torch.bfloat16


@pytest.mark.parametrize("asked", [{"load_in_4bit": True}, {"load_in_8bit": True}])
def test_what_was_evaluated_goes_on_learning(tiny_base: Base, asked: dict[str, Any]) -> None:
    """Answers in the middle of a training change neither the gradients nor the answers."""
    model = for_training(Path(tiny_base.location), Recipe(lora_layer_share=1.0, **asked))

    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        model.train()
        model(input_ids=TOKENS, labels=TOKENS).loss.backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    before = gradients()
    answers = logits(model)
    after = gradients()
    assert len(before) == 2 * 7 * 2
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert any(bool(gradient.any()) for gradient in before.values())
    torch.testing.assert_close(logits(model), answers)


@pytest.mark.parametrize(
    "asked",
    [
        {"load_in_4bit": True, "dtype": "bfloat16"},
        pytest.param(
            {"load_in_4bit": True, "bnb_4bit_use_double_quant": False}, marks=pytest.mark.slow
        ),
        {"load_in_8bit": True},
        {"load_in_4bit": True, "optim": "paged_adamw_8bit", "loraplus_lr_ratio": 4.0},
        {"load_in_4bit": True, "use_dora": True, "activation_checkpointing": True},
        {"optim": "adamw_8bit"},
        pytest.param({"optim": "paged_adamw_32bit"}, marks=pytest.mark.slow),
        pytest.param({"use_rslora": True}, marks=pytest.mark.slow),
        pytest.param({"use_dora": True}, marks=pytest.mark.slow),
        pytest.param({"init_lora_weights": "pissa"}, marks=pytest.mark.slow),
        {"init_lora_weights": "pissa", "use_rslora": True},
        pytest.param({"loraplus_lr_ratio": 16.0}, marks=pytest.mark.slow),
        {"lora_dropout": 0.1, "lora_target_modules": ("q_proj", "v_proj")},
    ],
    ids=lambda asked: " ".join(f"{k}={v}" for k, v in asked.items()),
)
def test_learns_with_every_option(
    run_finetune: Finetune, rows: list[Any], recipe: Recipe, tiny_base: Base, asked: dict[str, Any]
) -> None:
    """Through the real job: the loss falls, and the adapter is served on the whole base.

    Its size on the disk is the one that was computed before training.
    """
    wanted = changed(recipe, **({"num_train_epochs": 4.0} | asked))
    manifest, folder = run_finetune(rows, rows[:2], wanted)
    before = manifest.metrics["validation_loss_of_base"]
    assert manifest.metrics["validation_loss"] < before - 0.3
    saved = load_file(folder / "adapter" / "adapter_model.safetensors")
    size = sum(tensor.nbytes for tensor in saved.values())
    assert size == adapter_bytes(wanted, shape_of(tiny_base), ANY)
    model, _ = load(tiny_base, folder / "cache", folder / "adapter")
    untouched, _ = load(tiny_base, folder / "cache")
    assert not torch.allclose(logits(model), logits(untouched), atol=1e-2)
    assert not list(folder.glob(".start-*"))


def test_pythia_learns_and_keeps_the_template_that_it_was_given(
    run_finetune: Finetune, rows: list[Any], recipe: Recipe, neox_base: Base
) -> None:
    """A GPT-NeoX base without a chat template gets the plain one, saved for whoever serves it."""
    wanted = changed(recipe, num_train_epochs=4.0, lora_target_modules=("query_key_value", "dense"))
    manifest, folder = run_finetune(rows, rows[:2], wanted, base=neox_base)
    metrics = manifest.metrics
    assert metrics["validation_loss"] < metrics["validation_loss_of_base"] - 0.1
    saved = load_file(folder / "adapter" / "adapter_model.safetensors")
    size = sum(tensor.nbytes for tensor in saved.values())
    assert size == adapter_bytes(wanted, shape_of(neox_base), ANY)
    served = AutoTokenizer.from_pretrained(folder / "tokenizer")
    assert served.chat_template == templates.PLAIN
    assert "endgeneration" not in served.chat_template
    asked = [{"role": "user", "content": "Why?"}]
    text = served.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    assert text == "User: Why?\n\nAssistant:"
    _, tokenizer = load(neox_base, folder / "cache")
    assert tokenizer.chat_template == templates.PLAIN


def test_base_that_ships_a_template_keeps_it(trained: Path, tiny_base: Base) -> None:
    """Nothing is saved beside the adapter, and the shipped template is the one in use."""
    assert not (trained / "tokenizer").exists()
    assert "SmolLM" in tokenizer_of(Path(tiny_base.location)).chat_template


# --- adapters -----------------------------------------------------------------------------


@pytest.mark.parametrize("use_rslora", [False, True])
def test_pissa_is_exported_as_a_plain_lora_of_the_whole_base(
    tiny_base: Base, tmp_path: Path, use_rslora: bool
) -> None:
    """Base and exported adapter give the trained model's logits; rank and alpha are doubled."""
    folder = Path(tiny_base.location)
    recipe = Recipe(
        lora_r=4,
        lora_alpha=8,
        lora_layer_share=1.0,
        init_lora_weights="pissa",
        use_rslora=use_rslora,
        dtype="float32",
    )
    model = stirred(folder, recipe)
    trained = logits(model)
    adapter.save(model, tmp_path / "adapter", tiny_base)
    torch.testing.assert_close(logits(model), trained)  # saving changes nothing
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["init_lora_weights"]) == (8, True)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert not torch.allclose(logits(plain), trained, atol=1e-2)
    served = PeftModel.from_pretrained(plain, str(tmp_path / "adapter"))
    torch.testing.assert_close(logits(served), trained, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("init", ["default", "pissa"])
def test_model_in_training_can_answer_as_its_base(tiny_base: Base, init: Any) -> None:
    """PiSSA takes its start out of the weights; as_base gives it back, and only inside."""
    folder = Path(tiny_base.location)
    recipe = Recipe(lora_layer_share=1.0, lora_r=4, init_lora_weights=init, dtype="float32")
    base = logits(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))
    model = stirred(folder, recipe)
    trained = logits(model)
    with as_base(model):
        torch.testing.assert_close(logits(model), base, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits(model), trained)
    assert not torch.allclose(trained, base, atol=1e-2)


def test_model_in_training_can_answer_as_a_share_of_what_it_learned(tiny_base: Base) -> None:
    """Inside it answers as the adapter that is kept will, and only inside."""
    model = stirred(Path(tiny_base.location), Recipe(lora_r=4, dtype="float32"))
    trained = logits(model)
    with scaled(model, 0.4):
        inside = logits(model)
    torch.testing.assert_close(logits(model), trained)
    assert not torch.allclose(inside, trained, atol=1e-2)
    keep(model, 0.4)
    torch.testing.assert_close(logits(model), inside, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("asked", "scale"), [({}, 32 / 64), ({"use_rslora": True}, 32 / 64**0.5)])
def test_rslora_scales_by_the_root_of_the_rank(
    tiny_base: Base, asked: dict[str, Any], scale: float
) -> None:
    """Else the scale is alpha over rank."""
    model = for_training(Path(tiny_base.location), Recipe(lora_r=64, lora_alpha=32, **asked))
    found = {m.scaling["default"] for m in model.modules() if hasattr(m, "lora_A")}
    assert len(found) == 1
    assert found.pop() == pytest.approx(scale)


def test_loraplus_lets_b_learn_faster(tiny_base: Base, tmp_path: Path) -> None:
    """By the ratio, with the optimiser and the decay that the recipe names; vanilla has none."""
    recipe = Recipe(loraplus_lr_ratio=8.0, learning_rate=1e-3, weight_decay=0.1)
    model = for_training(Path(tiny_base.location), recipe)
    arguments = TrainingArguments(
        output_dir=str(tmp_path), learning_rate=1e-3, optim="adamw_torch", use_cpu=True
    )
    optimizer = optimizer_of(model, recipe, arguments)
    rates = {}
    names = {id(p): name for name, p in model.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            rates[names[id(parameter)].partition("lora_")[2][0]] = group["lr"]
            assert group["weight_decay"] == 0.1
    assert rates == {"A": 1e-3, "B": 8e-3}
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer_of(model, Recipe(), arguments) is None


def test_paged_without_a_gpu_is_said(
    tiny_base: Base, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log has a line for it; the optimiser is as named but for the paging."""
    recipe = Recipe(optim="paged_adamw_8bit")
    model = for_training(Path(tiny_base.location), recipe)
    arguments = TrainingArguments(output_dir=str(tmp_path), optim=recipe.optim, use_cpu=True)
    optimizer_of(model, recipe, arguments)
    said = capsys.readouterr().out
    assert ("paged_adamw_8bit" in said) is not torch.cuda.is_available()


@pytest.mark.parametrize(
    ("layers", "adapted", "outside", "inside"),
    [
        (30, 10, ["model.layers.0.mlp.up_proj", "model.layers.19.q_proj"], ["layers.20.q_proj"]),
        (12, 6, ["gpt_neox.layers.5.dense"], ["gpt_neox.layers.6.dense"]),
        (2, 1, ["model.layers.0.experts.1.up_proj"], ["model.layers.1.experts.0.up_proj"]),
    ],
)
def test_the_first_number_in_a_name_is_its_layer(
    layers: int, adapted: int, outside: list[str], inside: list[str]
) -> None:
    """For the families whose layers are called otherwise, and where experts have numbers too."""
    pattern = below(layers, adapted)
    assert pattern is not None
    assert all(re.fullmatch(pattern, name) for name in outside)
    assert not any(re.fullmatch(pattern, name) for name in inside)


# --- the hub ------------------------------------------------------------------------------


def test_hub_base_is_read_from_the_hubs_cache(
    tiny_base: Base, hub: Callable[..., Path], tmp_path: Path
) -> None:
    """Nothing is copied, and the adapter names repository and commit, as others look them up."""
    hub("org/tiny", "a" * 40, Path(tiny_base.location), branch="main")
    base = bases.locate("org/tiny")
    folder = materialise(base, tmp_path / "cache")
    assert folder.name == "a" * 40
    assert not (tmp_path / "cache").exists()
    model = for_training(folder, Recipe(lora_r=2))
    adapter.save(model, tmp_path / "adapter", base)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "org/tiny"
    assert config["revision"] == "a" * 40


def test_hub_base_with_pickles_alone_is_refused(
    tiny_base: Base, hub: Callable[..., Path], tmp_path: Path
) -> None:
    """Weights that only unpickling could read are not read."""
    snapshot = hub("org/old", "b" * 40, Path(tiny_base.location), branch="main")
    (snapshot / "model.safetensors").rename(snapshot / "pytorch_model.bin")
    with pytest.raises(Misconfigured, match="no safetensors"):
        materialise(bases.locate("org/old"), tmp_path)


def test_hub_base_that_is_not_there_is_told(tmp_path: Path, hub: Callable[..., Path]) -> None:
    """A commit that nobody fetched, offline: how to fetch it."""
    base = bases.locate(f"org/none@{'c' * 40}")
    with pytest.raises(Misconfigured, match="hf download org/none --revision"):
        materialise(base, tmp_path)


@pytest.mark.parametrize("training", [False, True], ids=["answers", "in training"])
def test_the_head_is_not_copied_for_each_row_of_a_batch(
    tiny_base: Base, tmp_path: Path, run_finetune: Finetune, rows: list[Any], *, training: bool
) -> None:
    """The last positions of rows, which lie apart, in one product with weights that are frozen."""
    if training:
        model = for_training(Path(tiny_base.location), Recipe(dtype="float32")).eval()
    else:
        quick = Recipe(dtype="float32", lora_r=2, num_train_epochs=1.0, ethics_check_steps=1000)
        _, folder = run_finetune(rows[:4], None, quick)
        model, _ = load(tiny_base, tmp_path, folder / "adapter")
    vocabulary = model.get_output_embeddings().weight.shape[0]
    with (
        torch.inference_mode(),
        torch.profiler.profile(record_shapes=True) as seen,
    ):
        logits = model(TOKENS.expand(3, -1), logits_to_keep=1).logits
    assert logits.shape == (3, 1, vocabulary)
    shapes = [shape for event in seen.events() for shape in event.input_shapes]
    assert [vocabulary] not in [shape[-1:] for shape in shapes if len(shape) == 3 and shape[0] == 3]
