"""What differs between the methods of training: the rows, their layout in a batch, and the loss.

    sft     `Supervised`, here              answers as they stand
    dpo     trainer/preference.py, TRL      pairs of a better and a worse answer
    kto     trainer/preference.py, TRL      answers that are desirable or not

All else is one: the job's folder, checkpoints and how they are resumed, the watch, the manifest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Rows
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Generic

import torch
from transformers import TrainingArguments

from store.errors import Misconfigured, Rejected
from trainer import choice
from trainer.loss import mean_loss, supervised_loss
from trainer.recipe import PREFERENCE, Recipe
from trainer.sequences import (
    Row,
    Sequence,
    by_length_in_batches,
    fitting,
    packed,
    padded,
    side_by_side,
    tokenise,
    tokens_of,
)
from trainer.sft import Steady, SupervisedTrainer

Line = dict[str, Any]
Batch = dict[str, torch.Tensor]
COLUMNS: dict[str, dict[str, type]] = {
    "sft": {"messages": list},
    "dpo": {"prompt": list, "chosen": list, "rejected": list},
    "kto": {"prompt": list, "completion": list, "label": bool},
}
"""By method: what a row of its dataset holds (lists of chat messages), besides its origin."""


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


class Supervised(Method[Sequence]):
    """Cross-entropy on the answers as they stand."""

    def read(self, lines: list[Line]) -> tuple[list[Sequence], tuple[str, ...]]:
        """As `Method.read`."""
        return fitting(tokenise(lines, self.tokenizer, self.recipe.max_length))

    def parts(self, row: Sequence) -> list[Sequence]:
        """The row itself."""
        return [row]

    def collate(self, batch: list[Sequence]) -> Batch:
        """Packed or padded."""
        return packed(batch) if packs(self.recipe.packing) else padded(batch)

    def arguments(self, **named: Any) -> TrainingArguments:
        """Those of transformers alone."""
        return TrainingArguments(**named)

    def trainer(self, model: Any, arguments: Any, rows: list[Sequence], optimizer: Any) -> Steady:
        """Ours."""
        return SupervisedTrainer(
            model=model,
            args=arguments,
            train_dataset=rows,
            data_collator=self.collate,
            optimizers=(optimizer, None),
        )

    @contextmanager
    def rehearsing(
        self, model: Any, _arguments: Any, _rows: list[Sequence]
    ) -> Iterator[Callable[[Batch], torch.Tensor]]:
        """As `Method.rehearsing`."""
        yield lambda batch: supervised_loss(model, batch)[0]

    def measured(self, model: Any, rows: Rows[Sequence]) -> dict[str, float]:
        """Nats per supervised token."""
        return {choice.LOSS: mean_loss(model, rows)}


def packs(wanted: str) -> bool:
    """Whether sequences are laid end to end: on an accelerator, unless it is said otherwise."""
    return torch.cuda.is_available() if wanted == "auto" else wanted == "on"


def method_of(recipe: Recipe) -> type[Method[Any]]:
    """The recipe's method. Raises Misconfigured when what it needs is not installed."""
    if recipe.method == "sft":
        return Supervised
    try:
        from trainer import preference  # here: TRL is an extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("trl", "datasets"):
            raise
        raise Misconfigured(
            f"trainer.recipe.method {recipe.method} needs TRL, and {error.name} is not installed.",
            hint=PREFERENCE,
        ) from error
    return preference.METHODS[recipe.method]


def require_kind(method: str, lines: list[Line], path: Path) -> None:
    """Raises Rejected when a row is not of the kind that the method learns from."""
    for number, line in enumerate(lines, start=1):
        if lacking := _lacking(method, line):
            others = [name for name in COLUMNS if not _lacking(name, line)]
            raise Rejected(
                f"{path} is no dataset for method {method}: row {line.get('id', number)} has no "
                + ", ".join(lacking)
                + (f", but is one for method {others[0]}." if others else "."),
                hint="Set trainer.recipe.method to what the dataset was built for, or build one "
                "for this method: `bhavana cycle` does.",
            )


def _lacking(method: str, line: Line) -> list[str]:
    wanted = COLUMNS[method]
    return [name for name, kind in wanted.items() if not isinstance(line.get(name), kind)]
