"""The training recipe: hyper-parameters in the field's terms, with defaults that were run."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta

from store.records import Noun

Method = Literal["sft", "dpo", "kto"]
PREFERENCE = "Run `pip install 'bhavana[preference]'` in this environment, or `make setup`."


class Recipe(Noun, frozen=True, kw_only=True):
    """How an adapter is trained. Field names follow transformers and PEFT.

    Raises ValueError for a combination that cannot be trained, which msgspec reports with its
    place: a recipe that exists can be run.
    """

    # --- the method -----------------------------------------------------------------------
    method: Method = "sft"
    """sft: answers as they stand. dpo: pairs of a better and a worse answer; kto: single answers,
    desirable or not. The last two learn from what people prefer and need TRL (the extra
    `preference`); a cycle builds the dataset that the method asks for."""
    beta: Annotated[float, Meta(gt=0, le=10)] = 0.1
    """dpo and kto: how dear it is to move away from the base. The higher, the nearer it stays."""
    desirable_weight: Annotated[float, Meta(gt=0)] = 1.0
    """kto: what a desirable answer weighs in the loss. TRL's log says which weights would make up
    for one kind being the rarer."""
    undesirable_weight: Annotated[float, Meta(gt=0)] = 1.0

    # --- the base -------------------------------------------------------------------------
    load_in_4bit: bool = False
    """QLoRA: the frozen linear layers in 4 bits. It saves memory, never time."""
    load_in_8bit: bool = False
    """The frozen linear layers in 8 bits (LLM.int8)."""
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = "nf4"
    bnb_4bit_use_double_quant: bool = True
    """Quantizes the scales, too: 0.4 bits less for each weight."""
    bnb_4bit_compute_dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """What 4-bit weights are multiplied in; auto: as dtype."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """auto: bfloat16 for base and autocast where the processor has it, else float32."""

    # --- the adapter ----------------------------------------------------------------------
    lora_r: Annotated[int, Meta(ge=1, le=512)] = 16
    lora_alpha: Annotated[int, Meta(ge=1)] = 32
    lora_dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    lora_target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Or the names of the linear layers, such as ["q_proj", "v_proj"]."""
    lora_layer_share: Annotated[float, Meta(gt=0, le=1)] = 0.33
    """Share of the layers that get an adapter, counted from the output. Measured on the embedded
    base: what a request intends is plainest there (a linear probe on the last 10 of 30 layers
    separates harmful from ordinary ones at an AUROC of .99, on the first 10 at .93), and a step
    takes half the time, since nothing flows back through the layers below."""
    use_rslora: bool = False
    """Scales by alpha / sqrt(r) in place of alpha / r: for ranks of 32 and more."""
    use_dora: bool = False
    """Learns direction and magnitude apart. Slower, and not every target serves it."""
    init_lora_weights: Literal["default", "pissa"] = "default"
    """pissa: starts from the base's principal components; exported as a plain LoRA of rank 2r."""
    adapter_scale: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """Share of what was learned that the adapter keeps: between the base and the fine-tuned model
    lie models that have learned nearly as much and forgotten less (WiSE-FT, arXiv 2109.01903).
    The probes are asked of what the adapter would be. Of a training that begins with a parent
    release all is kept: a share would take the parent back, too."""
    least_decline_gain: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Above 0 the adapter keeps, in the place of `adapter_scale`, the smallest scale at which it
    declines so many more of sixty harmful requests than the base (0.2: of a hundred, 20 more).
    A scale that is right for one training is not for the next: trainer/scale.py."""
    loraplus_lr_ratio: Annotated[float, Meta(ge=1, le=1024)] = 1.0
    """LoRA+: how many times faster B learns than A; 1 is vanilla."""

    # --- the steps ------------------------------------------------------------------------
    learning_rate: Annotated[float, Meta(gt=0, lt=1)] = 7e-4
    lr_scheduler_type: Literal["linear", "cosine", "constant_with_warmup", "inverse_sqrt"] = (
        "cosine"
    )
    warmup_steps: Annotated[float, Meta(ge=0)] = 0.05
    """Below 1 a share of all steps, else their number."""
    optim: Literal["adamw_torch", "adamw_8bit", "paged_adamw_32bit", "paged_adamw_8bit"] = (
        "adamw_torch"
    )
    """The last three are bitsandbytes'; without a GPU nothing is paged, which the log says."""
    num_train_epochs: Annotated[float, Meta(gt=0)] = 2.0
    effective_batch_size: Annotated[int, Meta(ge=1)] = 4
    """Sequences per optimiser step, whatever the micro-batch: an invariant of the recipe."""
    micro_batch_size: Annotated[int, Meta(ge=1)] = 4
    """Sequences per forward pass; preflight lowers it where memory is short. On a processor, with
    rows of 128 tokens and all layers adapted, a pass of 1, 4 and 16 is 460, 940 and 1,130 tokens a
    second: a step takes some time whatever is in it."""
    activation_checkpointing: bool = False
    """Activations are computed twice instead of kept: a third slower, in less memory. Preflight
    switches it on where nothing else helps."""
    max_length: Annotated[int, Meta(ge=16)] = 1024
    weight_decay: Annotated[float, Meta(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Meta(gt=0)] = 1.0
    packing: Literal["auto", "on", "off"] = "auto"
    """on: the sequences of a micro-batch lie end to end, without padding, and none sees another;
    off: they are padded to the longest. auto: on with an accelerator; on a processor the mask that
    keeps them apart costs more than the padding of rows that are sorted by length."""
    save_steps: Annotated[float, Meta(gt=0)] = 0.1
    """Optimiser steps between checkpoints; below 1, a share of the run."""
    save_total_limit: Annotated[int, Meta(ge=1)] = 2
    """Checkpoints that are kept while the run goes on."""
    seed: int = 20260121

    # --- the watch ------------------------------------------------------------------------
    ethics_check_steps: Annotated[float, Meta(gt=0)] = 0.34
    """Optimiser steps between the ethics probes, which are also asked at the end; below 1, a
    share of the run. Each time there is a checkpoint that may become the adapter."""
    ethics_max_drop: Annotated[float, Meta(ge=0, le=1)] = 0.45
    """How far the share of harmful probes that are declined may fall below the base's. There are
    six, which a small model answers differently from check to check: lower it for a larger one."""
    capability_checks: tuple[Literal["math", "code"], ...] = ()
    """Samples that are answered as often: word problems with exact answers, and functions to
    write, which are parsed and never run."""
    early_stop_patience: Annotated[int, Meta(ge=0)] = 0
    """Checks in a row without a better one after which the training ends; 0: never."""

    def __post_init__(self) -> None:
        """Raises ValueError with all that is wrong."""
        if faults := list(self._faults()):
            raise ValueError("; ".join(faults))

    @property
    def is_quantized(self) -> bool:
        """The base is loaded in 4 or 8 bits."""
        return self.load_in_4bit or self.load_in_8bit

    @property
    def is_scaled(self) -> bool:
        """The adapter may be less than what was learned."""
        return self.adapter_scale != 1 or self.least_decline_gain > 0

    @property
    def learns_from(self) -> str:
        """The format of the dataset that the method wants."""
        return "chat" if self.method == "sft" else self.method

    @property
    def exported_rank(self) -> int:
        """The rank of the adapter that is saved."""
        return self.lora_r * (2 if self.init_lora_weights == "pissa" else 1)

    def adapted_layers(self, layers: int) -> int:
        """How many of so many layers get an adapter, the last ones: one at least."""
        return max(1, round(layers * self.lora_layer_share))

    def _faults(self) -> Iterator[str]:
        yield from self._faults_of_method()
        if self.effective_batch_size % self.micro_batch_size:
            yield (
                f"micro_batch_size {self.micro_batch_size} does not divide "
                f"effective_batch_size {self.effective_batch_size}"
            )
        if self.load_in_4bit and self.load_in_8bit:
            yield "load_in_4bit and load_in_8bit exclude each other"
        if not self.load_in_4bit:
            yield from (
                f"{name} needs load_in_4bit"
                for name, value, default in (
                    ("bnb_4bit_quant_type", self.bnb_4bit_quant_type, "nf4"),
                    ("bnb_4bit_use_double_quant", self.bnb_4bit_use_double_quant, True),
                    ("bnb_4bit_compute_dtype", self.bnb_4bit_compute_dtype, "auto"),
                )
                if value != default
            )
        if self.init_lora_weights == "pissa":
            if self.is_quantized:
                yield (
                    "init_lora_weights pissa takes its start from whole weights: "
                    "not with load_in_4bit or load_in_8bit"
                )
            if self.use_dora:
                yield (
                    "init_lora_weights pissa is exported as a plain LoRA, which use_dora is not: "
                    "choose one"
                )
        if self.is_scaled and (self.use_dora or self.init_lora_weights == "pissa"):
            yield (
                "adapter_scale and least_decline_gain go from the base to the adapter in a "
                "straight line, which neither use_dora nor init_lora_weights pissa does"
            )
        if not self.lora_target_modules:
            yield 'lora_target_modules is empty: name modules, or "all-linear"'
        if self.warmup_steps >= 1 and self.warmup_steps % 1:
            yield f"warmup_steps {self.warmup_steps} is neither a share below 1 nor a number"

    def _faults_of_method(self) -> Iterator[str]:
        if self.method == "sft" and self.beta != 0.1:
            yield "beta needs method dpo or kto"
        if self.method != "kto":
            yield from (
                f"{name} needs method kto"
                for name in ("desirable_weight", "undesirable_weight")
                if getattr(self, name) != 1
            )
        elif self.micro_batch_size == 1:
            yield (
                "micro_batch_size 1 is too small for method kto, which compares the answers of a "
                "micro-batch with each other: set 2 or more"
            )
        if self.method != "sft":
            if self.packing == "on":
                yield f"packing on is for method sft: the answers of {self.method} are padded"
            if self.init_lora_weights == "pissa":
                yield (
                    f"init_lora_weights pissa changes the base, from which method {self.method} "
                    "measures: choose default"
                )


def not_installed(recipe: Recipe) -> list[str]:
    """What the recipe's method needs and is not there, with the next step."""
    if recipe.method == "sft" or importlib.util.find_spec("trl") is not None:
        return []
    return [f"trainer.recipe.method: {recipe.method} needs TRL. {PREFERENCE}"]
