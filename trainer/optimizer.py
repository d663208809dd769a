"""The optimiser of a run, where transformers' own choice by name is not enough."""

from __future__ import annotations

from typing import Any

import torch
from peft.optimizers import create_loraplus_optimizer
from transformers import Trainer, TrainingArguments

from trainer.recipe import Recipe


def optimizer_of(model: Any, recipe: Recipe, arguments: TrainingArguments) -> Any | None:
    """LoRA+'s: B learns loraplus_lr_ratio times faster than A. None: transformers makes its own.

    Either way it is the one that `arguments.optim` names.
    """
    if recipe.optim.startswith("paged") and not torch.cuda.is_available():
        print(f"optim {recipe.optim}: nothing is paged without a GPU; the rest is as named.")
    if recipe.loraplus_lr_ratio == 1:
        return None
    kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    return create_loraplus_optimizer(
        model,
        kind,
        loraplus_lr_ratio=recipe.loraplus_lr_ratio,
        loraplus_weight_decay=recipe.weight_decay,
        **options,
    )
