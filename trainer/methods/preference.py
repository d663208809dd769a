"""Learning from what people prefer: TRL's losses of DPO and KTO in our trainer. Needs TRL.

DPO (arXiv 2305.18290) makes the better of two answers likelier than the worse; KTO (arXiv
2402.01306) makes single answers likelier or less likely, against what the model says on average.
Both measure from the base, which is the model in training with its adapter switched off.

TRL tokenises by a template of its own, keeps a second adapter, and casts those of quantized bases
to bfloat16. Here rows come tokenised, by our templates and masks; the adapter is the one that
every method trains, in float32; and each row counts alike, however a batch is accumulated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Rows
from contextlib import contextmanager
from statistics import fmean
from typing import Any, ClassVar

import torch
from datasets import Dataset
from torch.nn.functional import logsigmoid
from transformers import Trainer, TrainingArguments
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

from trainer.choice import PREFERENCE_LOSS
from trainer.loss import log_ratio
from trainer.methods.method import Batch, Line, Method
from trainer.sequences import (
    IGNORED,
    Named,
    Row,
    Sequence,
    padded,
    supervised_tokens,
    tokenise,
)
from trainer.sft import Steady, marked

HELD_OUT = "validation_rewards/"
"""Of a reward on rows that are held out, in TRL's words: beta times how many nats likelier the
answer has become than it was to the base."""


class Pair(Named):
    """Two answers to the same prompt."""

    chosen: Sequence
    rejected: Sequence


class Mark(Named):
    """An answer, and whether it is desirable."""

    answer: Sequence
    label: bool
    other: Sequence
    """Its prompt with the answer to another one: what tells how far the model has moved at all."""


class Ours(Steady):
    """What is ours in TRL's trainers: comes before them in a class."""

    loss_is_scaled_for_ga = True  # by compute_loss

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        """The rows are tokenised."""
        return dataset

    def _send_telemetry(self) -> None:
        """Nobody is told."""

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """A checkpoint has none."""

    def get_batch_samples(self, *arguments: Any) -> tuple[list[Batch], int]:
        """Also how many rows the effective batch has, here."""
        batches, _ = super().get_batch_samples(*arguments)
        return batches, sum(map(_rows_of, batches))

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,  # noqa: ARG002  # never asked for
        num_items_in_batch: int | None = None,
    ) -> torch.Tensor:
        """The loss of a micro-batch, as its share of the effective batch's mean per row."""
        loss = marked(super().compute_loss(model, inputs))
        return loss if num_items_in_batch is None else loss * _rows_of(inputs) / num_items_in_batch

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As TRL, which adds the rewards of the last batches: to the step's own loss only."""
        if "loss" in logs:
            super().log(logs, start_time)
        else:
            Trainer.log(self, logs, start_time)


class PairTrainer(Ours, DPOTrainer):
    """TRL's DPO on our rows."""


class MarkTrainer(Ours, KTOTrainer):
    """TRL's KTO on our rows."""


def _rows_of(batch: Batch) -> int:
    """A pair is two sequences, and has no label."""
    return len(batch["label"]) if "label" in batch else len(batch["input_ids"]) // 2


# --- the methods --------------------------------------------------------------------------


class Preferring(Method[Row]):
    """What both methods have in common."""

    kind: ClassVar[type[Ours]]

    def _tokenised(self, lines: list[Line], answer: str) -> list[Sequence]:
        """Each line's prompt with this answer to it."""
        rows = [line | {"messages": [*line["prompt"], *line[answer]]} for line in lines]
        return tokenise(rows, self.tokenizer, self.recipe.max_length)

    def trainer(self, model: Any, arguments: Any, rows: list[Row], optimizer: Any) -> Steady:
        """TRL's, with nothing of ours changed."""
        ours = {name: p.data for name, p in model.named_parameters() if p.requires_grad}
        trainer = self.kind(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            data_collator=self.collate,
            processing_class=self.tokenizer,
            optimizers=(optimizer, None),
        )
        model.delete_adapter("ref")  # without it TRL's reference is the base
        for name, parameter in model.named_parameters():
            if name in ours:
                parameter.data = ours[name]  # of a quantized base TRL made them bfloat16
        trainer.processing_class = None  # or each checkpoint would hold the tokenizer
        return trainer

    @contextmanager
    def rehearsing(
        self, model: Any, arguments: Any, rows: list[Row]
    ) -> Iterator[Callable[[Batch], torch.Tensor]]:
        """As `Method.rehearsing`."""
        base = model.get_base_model()
        before = vars(base).get("forward")
        trainer = self.trainer(model, arguments, rows[:1], None)
        try:
            yield lambda batch: trainer.compute_loss(model, batch)
        finally:
            del base.forward  # TRL's own, with its head
            if before is not None:
                base.forward = before


class Pairs(Preferring[Pair]):
    """DPO: the better of two answers becomes likelier than the worse."""

    answers = 2
    kind = PairTrainer

    def read(self, lines: list[Line]) -> tuple[list[Pair], tuple[str, ...]]:
        """As `Method.read`; left out is also a pair whose answers are alike up to max_length."""
        both = zip(
            self._tokenised(lines, "chosen"), self._tokenised(lines, "rejected"), strict=True
        )
        pairs = [
            Pair(id=c["id"], conversation=c["conversation"], chosen=c, rejected=r) for c, r in both
        ]
        kept = [pair for pair in pairs if _tells(pair)]
        return kept, tuple(pair["id"] for pair in pairs if not _tells(pair))

    def parts(self, row: Pair) -> list[Sequence]:
        """Both answers."""
        return [row["chosen"], row["rejected"]]

    def collate(self, batch: list[Pair]) -> Batch:
        """The better ones, then the worse, as TRL has them."""
        return _masked([row["chosen"] for row in batch] + [row["rejected"] for row in batch])

    def arguments(self, **named: Any) -> TrainingArguments:
        """TRL's. Where the adapter drops out, the base from which it measures does not."""
        return DPOConfig(**named, beta=self.recipe.beta, disable_dropout=False)

    def measured(self, model: Any, rows: Rows[Pair]) -> dict[str, float]:
        """The loss, and the rewards in TRL's words."""
        beta = self.recipe.beta
        chosen = [beta * log_ratio(model, row["chosen"]) for row in rows]
        rejected = [beta * log_ratio(model, row["rejected"]) for row in rows]
        margins = torch.tensor(chosen) - torch.tensor(rejected)
        return {
            PREFERENCE_LOSS: float(-logsigmoid(margins).mean()),
            f"{HELD_OUT}chosen": fmean(chosen),
            f"{HELD_OUT}rejected": fmean(rejected),
            f"{HELD_OUT}margins": float(margins.mean()),
            f"{HELD_OUT}accuracies": float((margins > 0).float().mean()),
        }


class Marks(Preferring[Mark]):
    """KTO: desirable answers become likelier, undesirable ones less likely."""

    kind = MarkTrainer

    def read(self, lines: list[Line]) -> tuple[list[Mark], tuple[str, ...]]:
        """As `Method.read`."""
        answers = self._tokenised(lines, "completion")
        left_out = tuple(a["id"] for a in answers if not supervised_tokens(a))
        said = [(x, a) for x, a in zip(lines, answers, strict=True) if supervised_tokens(a)]
        of = _others([answer["conversation"] for _, answer in said])
        mixed = [
            line | {"completion": said[other][0]["completion"]}
            for (line, _), other in zip(said, of, strict=True)
        ]
        others = self._tokenised(mixed, "completion")
        marks = [
            Mark(
                id=answer["id"],
                conversation=answer["conversation"],
                answer=answer,
                label=line["label"],
                other=other,
            )
            for (line, answer), other in zip(said, others, strict=True)
        ]
        return marks, left_out

    def ordered(self, rows: list[Mark]) -> list[Mark]:
        """As `Method.ordered`; says so when one kind is much the rarer."""
        desirable = sum(row["label"] for row in rows) * self.recipe.desirable_weight
        undesirable = sum(not row["label"] for row in rows) * self.recipe.undesirable_weight
        if not undesirable <= desirable <= 4 / 3 * undesirable:  # (8) of the paper
            print(
                f"desirable answers weigh {desirable:g} in all, undesirable ones {undesirable:g}: "
                "best is as much, or up to a third more; see trainer.recipe.desirable_weight"
            )
        return super().ordered(rows)

    def parts(self, row: Mark) -> list[Sequence]:
        """The answer."""
        return [row["answer"]]

    def collate(self, batch: list[Mark]) -> Batch:
        """The answers, those to other prompts, and what is desirable, as TRL has them."""
        others = _masked([row["other"] for row in batch])
        return (
            _masked([row["answer"] for row in batch])
            | {f"KL_{name}": tensor for name, tensor in others.items()}
            | {"label": torch.tensor([row["label"] for row in batch])}
        )

    def arguments(self, **named: Any) -> TrainingArguments:
        """TRL's. Where the adapter drops out, the base from which it measures does not."""
        return KTOConfig(
            **named,
            beta=self.recipe.beta,
            desirable_weight=self.recipe.desirable_weight,
            undesirable_weight=self.recipe.undesirable_weight,
            disable_dropout=False,
        )

    def measured(self, model: Any, rows: Rows[Mark]) -> dict[str, float]:
        """The loss, with all rows as one batch, and the rewards in TRL's words."""
        beta = self.recipe.beta
        moved = max(0.0, fmean(log_ratio(model, row["other"]) for row in rows))
        rewards = torch.tensor([beta * log_ratio(model, row["answer"]) for row in rows])
        good = torch.tensor([row["label"] for row in rows])
        gained = torch.where(good, rewards - beta * moved, beta * moved - rewards)
        weights = torch.where(good, self.recipe.desirable_weight, self.recipe.undesirable_weight)
        found = {PREFERENCE_LOSS: float((weights * (1 - gained.sigmoid())).mean())}
        for name, some in (("chosen", rewards[good]), ("rejected", rewards[~good])):
            if len(some):
                found[f"{HELD_OUT}{name}"] = float(some.mean())
        if good.any() and not good.all():
            difference = found[f"{HELD_OUT}chosen"] - found[f"{HELD_OUT}rejected"]
            found[f"{HELD_OUT}margins"] = difference
        return found


METHODS: dict[str, type[Method[Any]]] = {"dpo": Pairs, "kto": Marks}


def _tells(pair: Pair) -> bool:
    """Whether something is left of both answers, and not the same."""
    both = (pair["chosen"], pair["rejected"])
    return all(map(supervised_tokens, both)) and both[0]["input_ids"] != both[1]["input_ids"]


def _masked(sequences: list[Sequence]) -> Batch:
    """Padded, with the answers' tokens marked as TRL marks them."""
    batch = padded(sequences)
    labels = batch.pop("labels")
    return batch | {"completion_mask": (labels != IGNORED).long()}


def _others(conversations: list[str]) -> list[int]:
    """For each the nearest before it, round in a circle, that is of another conversation."""
    found = list(range(len(conversations)))
    for at in (*found, *found):
        before = at - 1  # of the first one the last
        differs = conversations[before] != conversations[at]
        found[at] = before % len(found) if differs else found[before]
    return found
