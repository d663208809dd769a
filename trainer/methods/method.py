"""What differs between the methods of training: the rows, their layout in a batch, and the loss.

All else is one: the job's folder, checkpoints and how they are resumed, the watch, the manifest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence as Rows
from typing import Any, ClassVar, Generic

import torch
from transformers import TrainingArguments

from trainer.recipe import Recipe
from trainer.sequences import Row, Sequence, by_length_in_batches, side_by_side, tokens_of
from trainer.sft import Steady

Line = dict[str, Any]
Batch = dict[str, torch.Tensor]


class Method(ABC, Generic[Row]):
    """How a training learns from the rows of a dataset of its kind."""

    answers: ClassVar[int] = 1
    """Answers in a row, each a sequence that the model reads."""

    def __init__(self, recipe: Recipe, tokenizer: Any) -> None:
        self.recipe, self.tokenizer = recipe, tokenizer

    @abstractmethod
    def read(self, lines: list[Line]) -> tuple[list[Row], tuple[str, ...]]:
        """The rows, tokenised, and the ids of those of which nothing is left after max_length.

        Raises Rejected with the ids of rows that hold nothing to learn.
        """

    @abstractmethod
    def parts(self, row: Row) -> list[Sequence]:
        """The sequences that the loss is taken of."""

    @abstractmethod
    def collate(self, batch: list[Row]) -> Batch:
        """The rows as tensors."""

    @abstractmethod
    def arguments(self, **named: Any) -> TrainingArguments:
        """The arguments of transformers' Trainer, with those of the method."""

    @abstractmethod
    def trainer(self, model: Any, arguments: Any, rows: list[Row], optimizer: Any) -> Steady:
        """What trains."""

    @abstractmethod
    def rehearsing(
        self, model: Any, arguments: Any, rows: list[Row]
    ) -> Any:  # a context manager of Callable[[Batch], torch.Tensor]
        """Inside, the loss of a batch as the training takes it; afterwards the model is as was."""

    @abstractmethod
    def measured(self, model: Any, rows: Rows[Row]) -> dict[str, float]:
        """Loss, and what else tells how good the model is, on rows that are held out."""

    def ordered(self, rows: list[Row]) -> list[Row]:
        """In the order in which they are learned from."""
        together = side_by_side(rows, self.recipe.seed)
        return by_length_in_batches(together, self.recipe.effective_batch_size, self.length)

    def length(self, row: Row) -> int:
        """Tokens of its longest sequence."""
        return max(map(tokens_of, self.parts(row)))

    def all_parts(self, rows: Rows[Row]) -> list[Sequence]:
        """The sequences of all rows."""
        return [part for row in rows for part in self.parts(row)]
