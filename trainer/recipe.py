"""The training recipe: hyper-parameters in the field's terms, with defaults that were run."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from store.records import Noun


class Recipe(Noun, frozen=True, kw_only=True):
    """How an adapter is trained. Field names follow transformers and PEFT."""

    lora_r: Annotated[int, Meta(ge=1, le=512)] = 16
    lora_alpha: Annotated[int, Meta(ge=1)] = 32
    lora_dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    lora_target_modules: str = "all-linear"
    lora_layer_share: Annotated[float, Meta(gt=0, le=1)] = 0.33
    """Share of the layers that get an adapter, counted from the output. Measured on the embedded
    base: what a request intends is plainest there (a linear probe on the last 10 of 30 layers
    separates harmful from ordinary ones at an AUROC of .99, on the first 10 at .93), and a step
    takes half the time, since nothing flows back through the layers below."""
    learning_rate: Annotated[float, Meta(gt=0, lt=1)] = 7e-4
    lr_scheduler_type: str = "cosine"
    warmup_ratio: Annotated[float, Meta(ge=0, lt=1)] = 0.05
    num_train_epochs: Annotated[float, Meta(gt=0)] = 2.0
    effective_batch_size: Annotated[int, Meta(ge=1)] = 4
    """Sequences per optimiser step, whatever the micro-batch: an invariant of the recipe."""
    micro_batch_size: Annotated[int, Meta(ge=1)] = 4
    """Sequences per forward pass; must divide the effective batch. Measured on two CPU cores,
    answers of 100 tokens and like lengths: 1, 4 and 8 give 252, 289 and 269 tokens/s."""
    max_length: Annotated[int, Meta(ge=16)] = 1024
    weight_decay: Annotated[float, Meta(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Meta(gt=0)] = 1.0
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """auto: bfloat16 for base and autocast where the processor has it, else float32."""
    packing: Literal["auto", "on", "off"] = "auto"
    """on: the sequences of a micro-batch lie end to end, without padding, and none sees another;
    off: they are padded to the longest. auto: on."""
    activation_checkpointing: bool = False
    """Activations are computed twice instead of kept: a third slower, in less memory."""
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
    """How far the share of harmful, distress or ordinary probes that are answered as they should
    be may fall below the base's. There are five or six of each, which a small model answers
    differently from check to check: lower it for a larger one."""
    capability_checks: tuple[Literal["math", "code"], ...] = ()
    """Samples that are answered as often: word problems with exact answers, and functions to
    write, which are parsed and never run."""
    early_stop_patience: Annotated[int, Meta(ge=0)] = 0
    """Checks in a row without a better one after which the training ends; 0: never."""
