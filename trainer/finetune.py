"""`python -m trainer.finetune DIR`: a job folder with a dataset in, a LoRA adapter out.

Loss only on the assistant's tokens, the language-model head only at those positions, summed
over tokens and divided by their number in the whole effective batch, so that accumulation is
exact. Started again, it goes on from the newest checkpoint that is whole, to the same bytes. The
manifest is written last.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import msgspec
import torch
from transformers import TrainerState, TrainingArguments, set_seed

from store.errors import BhavanaError, Halted, Rejected, Unavailable
from store.records import digest, now
from trainer import adapter, choice, memory, preflight, rehearsal, sft, templates, watch
from trainer.attempts import killed_for_memory
from trainer.base import hash_files
from trainer.checkpoints import Checkpoints
from trainer.job import Job, exit_code, is_first, ranks, read_record, write_record
from trainer.jobs import FinetuneJob, FinetuneManifest
from trainer.loss import kl_to_base, mean_loss, supervised_loss
from trainer.memory import Thrift
from trainer.model import (
    as_base,
    compute_dtype,
    for_training,
    keep,
    materialise,
    tokenizer_of,
)
from trainer.optimizer import optimizer_of
from trainer.preflight import Preflight
from trainer.recipe import Recipe
from trainer.reporters import reporting_to
from trainer.sequences import (
    Sequence,
    by_length_in_batches,
    fitting,
    named,
    packed,
    padded,
    side_by_side,
    supervised_tokens,
    tokenise,
)
from trainer.sft import SupervisedTrainer
from trainer.watch import Watch

SPLITS = ("train", "validation")
DRIFT_ROWS = 8
"""So many validation rows, the first ones, tell how far the model is from its base."""


def finetune(folder: Path) -> FinetuneManifest | None:
    """Trains the adapter that the job asks for; started again, it goes on where it was.

    None in a rank that is not the first, which has nothing to keep.
    """
    job = Job(folder)
    task = read_record(folder / "job.json", FinetuneJob)
    recipe = task.recipe
    with job.working(), sft.Stop() as stop, memory.watched(folder, recipe):
        started = time.monotonic()
        job.beat("loading", 0, 1)
        set_seed(recipe.seed)
        source = materialise(task.base, Path(task.cache))
        tokenizer = tokenizer_of(source)
        rows = _read(task, tokenizer)
        job.beat("preflight", 0, 1)
        model = prepared(folder, source, recipe, rows.train)
        about = [task, rows.hash, _versions()]
        checkpoints = Checkpoints(folder / "checkpoints", digest(about), recipe.save_total_limit)
        killed = killed_for_memory(folder) and ranks() == 1  # of several, each would learn
        thrift = (memory.learn if killed else memory.learned)(folder, recipe)
        arguments = _arguments(recipe, thrift, checkpoints.folder, task.report_to)
        trainer = SupervisedTrainer(
            model=model,
            args=arguments,
            train_dataset=rows.train,
            data_collator=_collator(recipe),
            optimizers=(optimizer_of(model, recipe, arguments), None),
        )
        for callback in (
            sft.Finite(trainer),
            stop,
            sft.Beat(job),
            sft.Drift(trainer, rows.validation[:DRIFT_ROWS]),
            Watch(trainer, job, tokenizer, recipe, rows.validation),
            sft.Keep(trainer, checkpoints),
        ):
            trainer.add_callback(callback)
        _train(trainer, checkpoints, stop, recipe.early_stop_patience)
        chosen = watch.settle(trainer)
        if not is_first():
            return None
        keep(model, recipe.adapter_scale)
        metrics = _train_metrics(trainer, rows.train, thrift)
        metrics |= watch.metrics(trainer, chosen.step)
        if rows.validation:
            job.beat("validating", 0, 1)
            metrics |= _validation_metrics(model, rows.validation)
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
            finished_at=now(),
            preflight=read_record(folder / preflight.FILE, Preflight),
            template_hash=digest(templates.tagged_for(tokenizer)),
            left_out=rows.left_out,
            chosen=chosen,
        )
        write_record(folder / "manifest.json", manifest)
        checkpoints.forget()
    return manifest


class Rows(NamedTuple):
    """The dataset as the training sees it."""

    train: list[Sequence]
    validation: list[Sequence]
    left_out: dict[str, tuple[str, ...]]
    hash: str
    """Of the files: what was erased since the last try is not learned from any more."""


def _read(task: FinetuneJob, tokenizer: Any) -> Rows:
    """Both splits, tokenised and in order. Raises Rejected when there is nothing to learn from."""
    recipe, files = task.recipe, {s: Path(task.dataset) / f"{s}.jsonl" for s in SPLITS}
    kept: dict[str, list[Sequence]] = {}
    left_out: dict[str, tuple[str, ...]] = {}
    for split, path in files.items():
        if not path.is_file():
            raise Rejected(f"The dataset has no {path}.")
        lines = msgspec.json.Decoder(dict[str, Any]).decode_lines(path.read_bytes())
        kept[split], left_out[split] = fitting(tokenise(lines, tokenizer, recipe.max_length))
        if left_out[split]:
            print(
                f"{len(left_out[split])} of {len(lines)} {split} rows are left out: their response "
                f"begins after max_length ({recipe.max_length}): {named(left_out[split])}"
            )
    if not kept["train"]:
        raise Rejected(
            "No training row has an assistant token to learn from.",
            hint=f"Look at the dataset's train.jsonl and at max_length ({recipe.max_length}).",
        )
    ordered = side_by_side(kept["train"], recipe.seed)
    return Rows(
        train=by_length_in_batches(ordered, recipe.effective_batch_size),
        validation=kept["validation"],
        left_out=left_out,
        hash=hash_files(files.values()),
    )


def prepared(folder: Path, source: Path, recipe: Recipe, train: list[Sequence]) -> Any:
    """The base with a fresh adapter, as the recipe asks; preflight.json and thrift.json say how.

    Raises DoesNotFit. A job that is started again keeps what was decided: its bytes depend on it.
    """
    path = folder / preflight.FILE
    if path.is_file():
        return for_training(source, recipe)
    memory_now, before = rehearsal.free_memory(), rehearsal.taken()
    lengths = [(len(s["input_ids"]), supervised_tokens(s)) for s in train]
    dtype = compute_dtype(recipe.dtype)
    asked = preflight.demand(recipe, source, lengths, dtype.itemsize)
    plan = preflight.plan(asked, memory_now, memory.learned(folder, recipe))
    model = for_training(source, recipe)
    longest = sorted(train, key=lambda s: len(s["input_ids"]), reverse=True)

    def worst(count: int) -> tuple[torch.Tensor, int]:
        batch = _collator(recipe)(longest[:count])
        inputs = {name: tensor.to(model.device) for name, tensor in batch.items()}
        return supervised_loss(model, inputs)[0], batch["input_ids"].numel()

    tokens = sum(length for length, _ in lengths) * recipe.num_train_epochs
    found = rehearsal.rehearse(model, asked, plan, worst, before=before, tokens=tokens, dtype=dtype)
    print(found.said())
    if found.verdict == "tight":
        write_record(folder / memory.FILE, found.thrift)
    write_record(path, found)
    return model


def _collator(recipe: Recipe) -> Any:
    return packed if packs(recipe.packing) else padded


def packs(wanted: str) -> bool:
    """Whether sequences are laid end to end: on an accelerator, unless it is said otherwise."""
    return torch.cuda.is_available() if wanted == "auto" else wanted == "on"


def _arguments(
    recipe: Recipe, thrift: Thrift, folder: Path, report_to: tuple[str, ...]
) -> TrainingArguments:
    at_once = thrift.micro_batch_size * ranks()
    if recipe.effective_batch_size % at_once:
        raise Rejected(
            f"micro_batch_size {thrift.micro_batch_size} in {ranks()} processes does not divide "
            f"effective_batch_size {recipe.effective_batch_size}."
        )
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=thrift.micro_batch_size,
        gradient_accumulation_steps=recipe.effective_batch_size // at_once,
        train_sampling_strategy="sequential",  # the order is ours, see side_by_side
        num_train_epochs=recipe.num_train_epochs,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.lr_scheduler_type,
        warmup_steps=recipe.warmup_steps,
        optim=recipe.optim,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        bf16=compute_dtype(recipe.dtype) is torch.bfloat16,
        activation_checkpointing=thrift.activation_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},  # the embeddings are frozen
        use_cpu=not torch.cuda.is_available(),
        seed=recipe.seed,
        data_seed=recipe.seed,
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would hide what sft.Finite counts
        save_strategy="steps",
        save_steps=recipe.save_steps,
        report_to=reporting_to(report_to, folder.parent),
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )


def _train(
    trainer: SupervisedTrainer, checkpoints: Checkpoints, stop: sft.Stop, patience: int
) -> None:
    """Trains to the end, from the newest checkpoint where there is one.

    Raises Unavailable when it was asked to stop, and Halted when weights are not finite.
    """
    checkpoints.require_space(trainer.model)
    newest = checkpoints.newest()
    if newest is not None:
        state = TrainerState.load_from_json(str(newest / "trainer_state.json"))
        print(f"goes on from step {state.global_step} of {state.max_steps}")
    if newest is None or not _is_over(state, patience):
        trainer.train(resume_from_checkpoint=None if newest is None else str(newest))
    else:  # only what comes after the training is missing
        trainer.model.load_adapter(str(newest), "default", is_trainable=True)
        trainer.state = state
    if stop.asked:
        raise Unavailable(
            f"Stopped after step {trainer.state.global_step} of {trainer.state.max_steps}.",
            hint="Started again, it goes on from there.",
        )
    if not all(p.isfinite().all() for p in trainer.model.parameters() if p.requires_grad):
        raise Halted(
            "The adapter's weights are not finite after training.",
            hint="Lower trainer.recipe.learning_rate.",
        )
    trainer.model.eval()


def _is_over(state: TrainerState, patience: int) -> bool:
    return state.global_step >= state.max_steps or choice.is_over(
        choice.measured(state.log_history), patience
    )


def _train_metrics(
    trainer: SupervisedTrainer, train: list[Sequence], thrift: Thrift
) -> dict[str, float]:
    history = trainer.state.log_history
    losses = [entry["loss"] for entry in history if "loss" in entry]
    return {
        "train_loss": statistics.fmean(losses),
        "train_rows": float(len(train)),
        "optimizer_steps": float(trainer.state.global_step),
        "skipped_steps": float(trainer.skipped_steps()),
        "supervised_tokens": float(sum(map(supervised_tokens, train))),
        "tokens": float(sum(len(s["input_ids"]) for s in train)),
        "micro_batch_size": float(thrift.micro_batch_size),
        "activation_checkpointing": float(thrift.activation_checkpointing),
        # Of the last try: what went before it, nobody timed.
        "train_seconds": next((e["train_runtime"] for e in history if "train_runtime" in e), 0.0),
    }


def _validation_metrics(model: Any, validation: list[Sequence]) -> dict[str, float]:
    with as_base(model):
        of_base = mean_loss(model, validation)
    return {
        "validation_loss": mean_loss(model, validation),
        "validation_loss_of_base": of_base,
        "kl_to_base": kl_to_base(model, validation[:DRIFT_ROWS]),
    }


def _versions() -> dict[str, str]:
    packages = ("torch", "transformers", "peft", "accelerate", "safetensors", "bitsandbytes")
    return {name: version(name) for name in packages} | {"python": sys.version.split()[0]}


def main() -> int:
    """The exit code: 0 done, else by the error, which is the last line printed."""
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
