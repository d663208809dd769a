"""What running out of memory teaches, in which order, and when there is nothing left to try."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from store.errors import DoesNotFit, Unavailable
from trainer.job import read_record
from trainer.memory import FILE, Thrift, learned, ran_out, watched
from trainer.recipe import Recipe


def starve(folder: Path, recipe: Recipe) -> Thrift:
    """The thrift after the job asked for more than there is, for real."""
    with pytest.raises(Unavailable, match="Tried again with"), watched(folder, recipe):
        torch.empty(1 << 50)
    return learned(folder, recipe)


@pytest.mark.parametrize(
    ("micro", "tried"),
    [(1, [(1, True)]), (4, [(2, False), (1, False), (1, True)]), (6, [(3, False), (1, False)])],
)
def test_less_is_tried_in_order_and_keeps_the_effective_batch(
    tmp_path: Path, micro: int, tried: list[tuple[int, bool]]
) -> None:
    """The micro-batch first, by divisors of itself; then activation checkpointing."""
    recipe = Recipe(micro_batch_size=micro, effective_batch_size=12)
    assert learned(tmp_path, recipe) == Thrift(
        micro_batch_size=micro, activation_checkpointing=False
    )
    for size, checkpointing in tried:
        wanted = Thrift(micro_batch_size=size, activation_checkpointing=checkpointing)
        assert starve(tmp_path, recipe) == wanted
        assert recipe.effective_batch_size % size == 0


def test_in_the_end_it_is_refused_with_the_knob(tmp_path: Path) -> None:
    """Nothing is left to try: the job does not fit, and max_length is named."""
    recipe = Recipe(micro_batch_size=1, activation_checkpointing=True, max_length=777)
    with pytest.raises(DoesNotFit, match=r"max_length \(777\)"), watched(tmp_path, recipe):
        torch.empty(1 << 50)
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("The size of tensor a (3) must match that of b (4)"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_only_want_of_memory_is_learned_from(error: Exception, is_memory: bool) -> None:
    """A fault in the code is no reason for a smaller batch."""
    assert ran_out(error) is is_memory


def test_other_errors_pass(tmp_path: Path) -> None:
    """They are told as they are, and teach nothing."""
    with pytest.raises(RuntimeError, match="a bug"), watched(tmp_path, Recipe()):
        raise RuntimeError("a bug")
    assert not (tmp_path / FILE).exists()


def test_the_recipe_counts_until_something_was_learned(tmp_path: Path) -> None:
    """And what was learned is a record that a person can read and delete."""
    recipe = Recipe(micro_batch_size=2, activation_checkpointing=False)
    starve(tmp_path, recipe)
    assert read_record(tmp_path / FILE, Thrift).micro_batch_size == 1
    other = msgspec.structs.replace(recipe, micro_batch_size=4)
    assert learned(tmp_path, other).micro_batch_size == 1
