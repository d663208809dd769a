"""The roster of the methods of training, by their names in a recipe.

sft     supervised.py         answers as they stand
dpo     preference.py, TRL    pairs of a better and a worse answer
kto     preference.py, TRL    answers that are desirable or not
"""

from __future__ import annotations

from typing import Any

from store.errors import Misconfigured
from trainer.methods.method import Method
from trainer.methods.supervised import Supervised
from trainer.recipe import PREFERENCE, Recipe


def method_of(recipe: Recipe) -> type[Method[Any]]:
    """The recipe's method. Raises Misconfigured when what it needs is not installed."""
    if recipe.method == "sft":
        return Supervised
    try:
        from trainer.methods import preference  # here: TRL is an extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("trl", "datasets"):
            raise
        raise Misconfigured(
            f"trainer.recipe.method {recipe.method} needs TRL, and {error.name} is not installed.",
            hint=PREFERENCE,
        ) from error
    return preference.METHODS[recipe.method]
