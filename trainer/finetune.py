"""`python -m trainer.finetune DIR`: a job folder with a dataset in, a LoRA adapter out.

Loss only on the assistant's tokens, the language-model head only at those positions, summed
over tokens and divided by their number in the whole effective batch, so that accumulation is
exact. A non-finite loss stops the run. The manifest is written last.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any, TypedDict

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import msgspec
import torch
from torch.nn.functional import cross_entropy
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

from store.errors import BhavanaError, Halted, Rejected
from store.records import digest, now
from trainer import adapter, preflight, rehearsal, templates
from trainer.job import Job, exit_code, read_record, write_record
from trainer.jobs import FinetuneJob, FinetuneManifest
from trainer.model import as_base, compute_dtype, for_training, materialise, tokenizer_of
from trainer.optimizer import optimizer_of
from trainer.recipe import Recipe

IGNORED = -100  # the label that the field gives to positions without loss


class Sequence(TypedDict):
    """One tokenised conversation; labels are IGNORED where there is no loss."""

    input_ids: list[int]
    labels: list[int]


def tokenise(rows: list[dict[str, Any]], tokenizer: Any, max_length: int) -> list[Sequence]:
    """As `sequences`. Raises Rejected when nothing is left."""
    kept = sequences(rows, tokenizer, max_length)
    if not kept:
        raise Rejected(
            "No training row has an assistant token to learn from.",
            hint=f"Look at the dataset's train.jsonl and at max_length ({max_length}).",
        )
    return kept


def sequences(rows: list[dict[str, Any]], tokenizer: Any, max_length: int) -> list[Sequence]:
    """Sequences with loss on the last assistant turn only: the response that was judged.

    Rows whose assistant turn was cut away are dropped.
    """
    template = templates.tagged_for(tokenizer)
    kept_rows = []
    for row in rows:
        encoded = tokenizer.apply_chat_template(
            row["messages"],
            chat_template=template,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        ids = encoded["input_ids"][:max_length]
        mask = _last_turn(encoded["assistant_masks"])[:max_length]
        labels = [token if kept else IGNORED for token, kept in zip(ids, mask, strict=True)]
        if any(mask):
            kept_rows.append(Sequence(input_ids=ids, labels=labels))
    return kept_rows


def side_by_side(rows: list[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """The rows in an order drawn by the seed, those of one conversation next to each other.

    The halves of a contrast pair are one conversation. In one batch, what they have in common
    cancels out of the gradient, and what remains is what tells them apart.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(row.get("conversation") or f"row-{index}", []).append(row)
    order = list(groups.values())
    random.Random(seed).shuffle(order)  # noqa: S311  # an order, not a secret
    return [row for group in order for row in group]


def by_length_in_batches(sequences: list[Sequence], size: int) -> list[Sequence]:
    """The same effective batches in the same order, each sorted by length: less padding."""
    return [
        sequence
        for start in range(0, len(sequences), size)
        for sequence in sorted(sequences[start : start + size], key=lambda s: len(s["input_ids"]))
    ]


def _last_turn(mask: list[int]) -> list[int]:
    """The mask without all runs of ones but the last."""
    end = len(mask) - mask[::-1].index(1) if 1 in mask else 0
    start = end
    while start > 0 and mask[start - 1]:
        start -= 1
    return [int(start <= index < end) for index in range(len(mask))]


def collate(batch: list[Sequence]) -> dict[str, torch.Tensor]:
    """Right-padded input_ids, attention_mask and labels of shape (batch, longest)."""
    longest = max(len(s["input_ids"]) for s in batch)

    def padded(values: list[int], filler: int) -> list[int]:
        return values + [filler] * (longest - len(values))

    return {
        "input_ids": torch.tensor([padded(s["input_ids"], 0) for s in batch]),
        "attention_mask": torch.tensor([padded([1] * len(s["input_ids"]), 0) for s in batch]),
        "labels": torch.tensor([padded(s["labels"], IGNORED) for s in batch]),
    }


def supervised_loss(model: Any, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, int]:
    """(sum of the cross-entropy in nats, number of supervised tokens).

    The head is applied at supervised positions only: with a vocabulary of 49,152 the logits
    of the other positions would be most of the work and of the memory.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    hidden = causal.base_model(  # model, or gpt_neox
        input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
    ).last_hidden_state
    targets = inputs["labels"][:, 1:]
    supervised = targets != IGNORED
    logits = causal.get_output_embeddings()(hidden[:, :-1][supervised])
    total = cross_entropy(logits.float(), targets[supervised], reduction="sum")
    return total, int(supervised.sum())


class SupervisedTrainer(Trainer):
    """transformers.Trainer with the loss above."""

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The loss of a micro-batch, as its share of the effective batch's mean per token."""
        total, tokens = supervised_loss(model, inputs)
        if not torch.isfinite(total):
            raise Halted(
                f"The loss is not finite at step {self.state.global_step}.",
                hint="Lower trainer.recipe.learning_rate, or look at the rows of this batch.",
            )
        loss = total / (tokens if num_items_in_batch is None else num_items_in_batch)
        return (loss, {}) if return_outputs else loss


class Beat(TrainerCallback):
    """Writes the heartbeat after every optimiser step."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def on_log(
        self,
        args: Any,  # noqa: ARG002  # transformers' signature
        state: Any,
        control: Any,  # noqa: ARG002
        logs: Any = None,
        **_: Any,
    ) -> None:
        """Beats with the step and its loss."""
        if logs and "loss" in logs:
            self.job.beat("training", state.global_step, state.max_steps, loss=logs["loss"])


def mean_loss(model: Any, sequences: list[Sequence]) -> float:
    """Mean cross-entropy in nats per supervised token, one sequence at a time."""
    total, tokens = 0.0, 0
    with torch.inference_mode():
        for sequence in sequences:
            batch = {k: v.to(model.device) for k, v in collate([sequence]).items()}
            loss, count = supervised_loss(model, batch)
            total, tokens = total + float(loss), tokens + count
    return total / tokens


def prepared(
    source: Path, recipe: Recipe, train: list[Sequence]
) -> tuple[Any, preflight.Preflight]:
    """(the model to train, what preflight found). Raises DoesNotFit."""
    dtype = compute_dtype(recipe.dtype)
    memory, before = rehearsal.free_memory(), rehearsal.taken()
    lengths = [(len(s["input_ids"]), sum(x != IGNORED for x in s["labels"])) for s in train]
    asked = preflight.demand(recipe, source, lengths, dtype.itemsize)
    plan = preflight.plan(asked, memory)
    model = for_training(source, recipe)
    longest = sorted(train, key=lambda s: len(s["input_ids"]), reverse=True)

    def worst(count: int) -> tuple[torch.Tensor, int]:
        batch = {name: x.to(model.device) for name, x in collate(longest[:count]).items()}
        return supervised_loss(model, batch)[0], batch["input_ids"].numel()

    tokens = sum(length for length, _ in lengths) * recipe.num_train_epochs
    return model, rehearsal.rehearse(
        model, asked, plan, worst, before=before, tokens=tokens, dtype=dtype
    )


def finetune(folder: Path) -> FinetuneManifest:
    """Trains the adapter that the job asks for, from the base; repeats safely from the start."""
    job = Job(folder)
    task = read_record(folder / "job.json", FinetuneJob)
    recipe = task.recipe
    with job.working():
        started = time.monotonic()
        job.beat("loading", 0, 1)
        set_seed(recipe.seed)
        source = materialise(task.base, Path(task.cache))
        tokenizer = tokenizer_of(source)
        rows = side_by_side(_rows(task.dataset, "train"), recipe.seed)
        train = by_length_in_batches(
            tokenise(rows, tokenizer, recipe.max_length), recipe.effective_batch_size
        )
        held_out = _rows(task.dataset, "validation")
        validation = sequences(held_out, tokenizer, recipe.max_length)
        model, checked = prepared(source, recipe, train)
        micro = checked.setting.micro_batch_size
        arguments = TrainingArguments(
            output_dir=str(folder / "checkpoints"),
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=recipe.effective_batch_size // micro,
            train_sampling_strategy="sequential",  # the order is ours, see side_by_side
            num_train_epochs=recipe.num_train_epochs,
            learning_rate=recipe.learning_rate,
            lr_scheduler_type=recipe.lr_scheduler_type,
            warmup_steps=recipe.warmup_steps,
            optim=recipe.optim,
            weight_decay=recipe.weight_decay,
            max_grad_norm=recipe.max_grad_norm,
            bf16=compute_dtype(recipe.dtype) is torch.bfloat16,
            use_cpu=not torch.cuda.is_available(),
            seed=recipe.seed,
            data_seed=recipe.seed,
            logging_steps=1,
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
        )
        trainer = SupervisedTrainer(
            model=model,
            args=arguments,
            train_dataset=train,
            data_collator=collate,
            callbacks=[Beat(job)],
            optimizers=(optimizer_of(model, recipe, arguments), None),
        )
        result = trainer.train()
        if not all(p.isfinite().all() for p in model.parameters() if p.requires_grad):
            raise Halted(
                "The adapter's weights are not finite after training.",
                hint="Lower trainer.recipe.learning_rate.",
            )
        model.eval()
        metrics = {
            "train_loss": result.training_loss,
            "train_rows": float(len(train)),
            "optimizer_steps": float(trainer.state.global_step),
            "supervised_tokens": float(sum(x != IGNORED for s in train for x in s["labels"])),
            "tokens": float(sum(len(s["input_ids"]) for s in train)),
            "train_seconds": result.metrics["train_runtime"],
        }
        if validation:
            job.beat("validating", 0, 1)
            metrics["validation_loss"] = mean_loss(model, validation)
            with as_base(model):
                metrics["validation_loss_of_base"] = mean_loss(model, validation)
        adapter_hash = adapter.save(model, folder / "adapter", task.base)
        templates.save_plain(tokenizer, folder / "tokenizer")
        metrics["seconds"] = time.monotonic() - started
        metrics["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        manifest = FinetuneManifest(
            adapter_hash=adapter_hash,
            base_hash=task.base.hash,
            recipe_hash=digest(recipe),
            metrics=metrics,
            versions=_versions(),
            preflight=checked,
            finished_at=now(),
        )
        write_record(folder / "manifest.json", manifest)
    return manifest


def _rows(dataset: str, split: str) -> list[dict[str, Any]]:
    path = Path(dataset) / f"{split}.jsonl"
    if not path.is_file():
        raise Rejected(f"The dataset has no {path}.")
    return msgspec.json.Decoder(dict[str, Any]).decode_lines(path.read_bytes())


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    packages = ("torch", "transformers", "peft", "accelerate", "safetensors", "bitsandbytes")
    return {name: version(name) for name in packages} | {"python": sys.version.split()[0]}


def main() -> int:
    """The exit code: 0 done, 2 for one of our errors, which is the last line printed."""
    parser = argparse.ArgumentParser(prog="python -m trainer.finetune", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="job folder with job.json")
    arguments = parser.parse_args()
    try:
        finetune(arguments.folder)
    except BhavanaError as error:
        print(f"error: {error}", file=sys.stderr)
        return exit_code(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
