"""Loads the base and its adapters with torch: to answer, or to train.

A GGUF base is dequantized once and cached; a hub base stays in the hub's own cache.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GgufConfig,
)
from transformers.utils import logging as transformers_logging

from store.errors import Misconfigured
from trainer import templates
from trainer.base import Base
from trainer.fused.blocks import fuse
from trainer.fused.linear import FusedLinear
from trainer.recipe import Recipe

transformers_logging.disable_progress_bar()  # the job's own heartbeat reports progress

MODEL_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")
"""What is taken from the hub: no pickles, no code."""
OTHER_COPIES = ("consolidated*", "*/*")
"""The same weights again, in a maker's own layout."""
EAGER_LENGTH = 256
"""Tokens of a row, up to which eager attention is used on a processor."""


def materialise(base: Base, cache: Path) -> Path:
    """A folder in Hugging Face layout with the base's weights and its tokenizer.

    GGUF: written in float32 once, under the hash of the file's bytes; a killed write leaves
    nothing that could be taken for whole, because the folder is renamed into place at the end.
    """
    if base.kind == "folder":
        return Path(base.location)
    if base.kind == "hub":
        return _snapshot(base)
    folder = cache / "bases" / base.hash[:32]
    if folder.is_dir():
        return folder
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    path = Path(base.location)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model = AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        # Without dequantize=True the model counts as quantized: it neither trains nor saves.
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
    )
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    try:
        partial.rename(folder)
    except OSError:  # another process was first, with the same bytes
        shutil.rmtree(partial)
    return folder


def _snapshot(base: Base) -> Path:
    """The hub's cache of the base's commit, fetched where it is not whole. Raises Misconfigured."""
    from huggingface_hub import snapshot_download

    repository, _, commit = base.location.partition("@")
    try:
        folder = Path(
            snapshot_download(
                repository,
                revision=commit,
                allow_patterns=list(MODEL_FILES),
                ignore_patterns=list(OTHER_COPIES),
            )
        )
    except OSError as error:
        raise Misconfigured(
            f"The base model {base.location} is not to be had: {type(error).__name__}.",
            hint=f"Run `hf download {repository} --revision {commit}`, or name a folder.",
        ) from error
    if not list(folder.glob("*.safetensors")):
        raise Misconfigured(
            f"The base model {base.location} has no safetensors weights; pickles are not read.",
            hint="Name another revision, or a folder with converted weights.",
        )
    return folder


def tokenizer_of(folder: Path) -> Any:
    """The base's tokenizer; with our plain chat template where the base ships none, as Pythia."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    templates.give_plain(tokenizer)
    return tokenizer


def load(
    base: Base, cache: Path, adapter: Path | None = None, *, dtype: torch.dtype | None = None
) -> tuple[Any, Any]:
    """(model in evaluation mode, tokenizer), with the adapter merged when given.

    `dtype`: what it computes in; None is `speaking_dtype`.
    """
    folder = materialise(base, cache)
    tokenizer = tokenizer_of(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if adapter is not None:
        # Merged in float32, in which little is lost of it, and a fifth of the time is saved.
        model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return _with_lean_head(model.to(device, dtype or speaking_dtype()).eval()), tokenizer


def _with_lean_head(model: Any) -> Any:
    """The model, whose head is given its input in one piece.

    Of a batch's last positions, which lie apart, torch multiplies each with a copy of the head
    where that needs no gradient: 1.8 GB for 32 rows of the embedded base, and three quarters of the
    time of a short answer.
    """
    head = model.get_output_embeddings()
    head.register_forward_pre_hook(lambda _, given: (given[0].contiguous(), *given[1:]))
    return model


def speaking_dtype() -> torch.dtype:
    """What a model answers and is evaluated in: bfloat16 where that is fast."""
    return compute_dtype("auto")


# --- to train -----------------------------------------------------------------------------


def compute_dtype(wanted: str) -> torch.dtype:
    """bfloat16 where it is fast (an accelerator, or AVX512-BF16 or AMX on x86), else float32."""
    if wanted != "auto":
        return torch.bfloat16 if wanted == "bfloat16" else torch.float32
    if torch.cuda.is_available():
        return torch.bfloat16
    flags = Path("/proc/cpuinfo").read_text()
    return torch.bfloat16 if "avx512_bf16" in flags or "amx_bf16" in flags else torch.float32


def for_training(folder: Path, recipe: Recipe) -> Any:
    """The base in a folder, frozen, as the recipe quantizes it, with a fresh adapter to train.

    A base that is not quantized is in the compute dtype, which saves casting it at every step;
    the adapter is in float32. Measured: gradients at a cosine of 0.9999 to all-float32 ones.
    """
    dtype = compute_dtype(recipe.dtype)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    base = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        quantization_config=quantization(recipe, dtype),
        attn_implementation=attention(recipe.max_length),
    )
    if recipe.is_quantized:
        # Checkpointing is preflight's: left to itself PEFT switches it on for such bases alone.
        base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)
        _never_repack(base)
    else:
        base.to(device)  # a quantized one is there already
        if device.type == "cpu":
            fuse(base)
    adapter = lora(recipe, base.config.num_hidden_layers)
    if not recipe.is_quantized:  # quantized layers are torch.nn.Linear, too, and PEFT has its own
        # The only way to give PEFT a layer; its developers' guide names it, as experimental.
        adapter._register_custom_module({torch.nn.Linear: FusedLinear})  # noqa: SLF001
    model = get_peft_model(_with_lean_head(base), adapter)
    if recipe.init_lora_weights == "pissa":
        model.start = {
            name: weight.clone() for name, weight in get_peft_model_state_dict(model).items()
        }
    return model


def attention(max_length: int) -> str | None:
    """Eager for short rows on a processor; None, transformers' own choice, elsewhere.

    There the fused attention's passes took a fifth of a step of rows of 110 tokens; eager, whose
    memory grows with the square of the length, made the step about a tenth faster.
    """
    short = max_length <= EAGER_LENGTH and not torch.cuda.is_available()
    return "eager" if short else None


def quantization(recipe: Recipe, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """What bitsandbytes is told; None for a base that stays whole."""
    if recipe.load_in_8bit:
        return BitsAndBytesConfig(load_in_8bit=True)
    if not recipe.load_in_4bit:
        return None
    wanted = recipe.bnb_4bit_compute_dtype
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=recipe.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=recipe.bnb_4bit_use_double_quant,
        bnb_4bit_compute_dtype=dtype if wanted == "auto" else compute_dtype(wanted),
    )


def _never_repack(base: Any) -> None:
    """Keeps bitsandbytes from its layout for answering on processors with AVX512-BF16.

    It takes it at the first answer, for good, and has no gradient there: a model that was
    evaluated in the middle of its training would go on without learning, and not say so.
    """
    for module in base.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def lora(recipe: Recipe, layers: int) -> LoraConfig:
    """PEFT's configuration of the recipe's adapter for a base of so many layers."""
    modules = recipe.lora_target_modules
    return LoraConfig(
        r=recipe.lora_r,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules=modules if isinstance(modules, str) else list(modules),
        exclude_modules=below(layers, recipe.adapted_layers(layers)),
        use_rslora=recipe.use_rslora,
        use_dora=recipe.use_dora,
        init_lora_weights="pissa" if recipe.init_lora_weights == "pissa" else True,
        task_type="CAUSAL_LM",
    )


def below(layers: int, adapted: int) -> str | None:
    """PEFT's pattern for the modules of all layers but the last `adapted` ones.

    The first number in a module's name is its layer; None when every layer is adapted.
    """
    numbers = "|".join(map(str, range(layers - adapted)))
    return rf"[^0-9]*\.(?:{numbers})\..*" if numbers else None


@contextmanager
def as_base(model: Any) -> Iterator[None]:
    """Inside, the model in training answers like its untouched base.

    PiSSA took the adapter's start out of the base's weights, so there the start stands in for
    what has been learned; everywhere else the adapter is switched off.
    """
    start = getattr(model, "start", None)
    if start is None:
        with model.disable_adapter():
            yield
        return
    learned = {name: w.clone() for name, w in get_peft_model_state_dict(model).items()}
    set_peft_model_state_dict(model, start)
    try:
        yield
    finally:
        set_peft_model_state_dict(model, learned)


@contextmanager
def scaled(model: Any, share: float) -> Iterator[None]:
    """Inside, the model in training answers as it would with this share of what it learned."""
    layers = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
    before = [dict(layer.scaling) for layer in layers]
    for layer in layers:
        layer.scaling.update({name: scale * share for name, scale in layer.scaling.items()})
    try:
        yield
    finally:
        for layer, scaling in zip(layers, before, strict=True):
            layer.scaling.update(scaling)


def keep(model: Any, share: float) -> None:
    """From now on the adapter is this share of what was learned: its B is multiplied by it."""
    if share == 1:
        return
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name or "lora_embedding_B" in name:
                weight.mul_(share)
