"""SFT: cross-entropy on the answers as they stand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Rows
from contextlib import contextmanager
from typing import Any

import torch
from transformers import TrainingArguments

from trainer import choice
from trainer.loss import mean_loss, supervised_loss
from trainer.methods.method import Batch, Line, Method
from trainer.sequences import Sequence, fitting, packed, padded, tokenise
from trainer.sft import Steady, SupervisedTrainer


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
