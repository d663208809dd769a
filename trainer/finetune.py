"""`python -m trainer.finetune DIR`: a job folder with a dataset in, a LoRA adapter out.

Loss only on the assistant's tokens, the language-model head only at those positions, summed
over tokens and divided by their number in the whole effective batch, so that accumulation is
exact; or, from what people prefer, DPO's and KTO's (trainer/methods/). Started again, it goes on
from the newest checkpoint that is whole, to the same bytes. The manifest is written last.
"""

from __future__ import annotations

import gc
import os
import resource
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import msgspec
import torch
from transformers import TrainerState, set_seed

from store.errors import Halted, Rejected, Unavailable
from store.records import digest, now
from trainer import (
    adapter,
    choice,
    heap,
    memory,
    preflight,
    rehearsal,
    scale,
    sft,
    splits,
    templates,
    watch,
)
from trainer.attempts import killed_for_memory
from trainer.checkpoints import Checkpoints
from trainer.demand import demand
from trainer.job import Job, is_first, ranks, read_record, run_as_command, write_record
from trainer.jobs import FinetuneJob, FinetuneManifest
from trainer.loss import kl_to_base, mean_loss
from trainer.memory import Thrift
from trainer.methods import method_of
from trainer.methods.method import Method
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
from trainer.sequences import supervised_tokens, tokens_of
from trainer.sft import Steady
from trainer.watch import Watch

DRIFT_ROWS = 8
"""So many validation rows, the first ones, tell how far the model is from its base."""


def finetune(folder: Path) -> FinetuneManifest | None:
    """Trains the adapter that the job asks for; started again, it goes on where it was.

    None in a rank that is not the first, which has nothing to keep.
    """
    job = Job(folder)
    task = read_record(folder / "job.json", FinetuneJob)
    recipe = _effective(task)
    with job.working(), sft.Stop() as stop, memory.watched(folder, recipe):
        started = time.monotonic()
        job.beat("loading", 0, 1)
        if task.parent is not None:
            adapter.require_alike(recipe, task.parent)
        set_seed(recipe.seed)
        kind, files = method_of(recipe), splits.files_of(task)
        source = materialise(task.base, Path(task.cache))
        tokenizer = tokenizer_of(source)
        method = kind(recipe, tokenizer)
        rows = splits.read(files, method)
        job.beat("preflight", 0, 1)
        model = prepared(folder, source, method, rows.train)
        about = [task, rows.hash, _versions(recipe)]
        checkpoints = Checkpoints(folder / "checkpoints", digest(about), recipe.save_total_limit)
        if task.parent is not None:
            adapter.begin_with(model, task.parent)
        killed = killed_for_memory(folder) and ranks() == 1  # of several, each would learn
        thrift = (memory.learn if killed else memory.learned)(folder, recipe)
        arguments = _arguments(method, thrift, checkpoints.folder, task.report_to)
        optimizer = optimizer_of(model, recipe, arguments)
        trainer = method.trainer(model, arguments, rows.train, optimizer)
        watching = Watch(trainer, job, tokenizer, method, rows.validation)
        for callback in (
            sft.Finite(trainer),
            stop,
            sft.Beat(job),
            sft.Drift(trainer, method.all_parts(rows.validation)[:DRIFT_ROWS]),
            watching,
            sft.Keep(trainer, checkpoints),
        ):
            trainer.add_callback(callback)
        gc.freeze()  # what is here now stays: a sweep need not look through it at every few steps
        _train(trainer, checkpoints, stop, recipe.early_stop_patience)
        chosen = watch.settle(trainer)
        if not is_first():
            return None
        with trainer.accelerator.autocast():
            kept = scale.choose(model, tokenizer, recipe, job)
        keep(model, kept.scale)
        metrics = _train_metrics(trainer, method, rows.train, thrift) | kept.metrics()
        metrics |= watch.metrics(trainer, chosen.step) | {"watch_seconds": watching.seconds}
        if rows.validation:
            job.beat("validating", 0, 1)
            metrics |= _validation_metrics(model, method, rows.validation)
        adapter_hash = adapter.save(model, folder / "adapter", task.base)
        templates.save_plain(tokenizer, folder / "tokenizer")
        metrics["seconds"] = time.monotonic() - started
        metrics["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        manifest = FinetuneManifest(
            adapter_hash=adapter_hash,
            base_hash=task.base.hash,
            recipe_hash=digest(task.recipe),
            metrics=metrics,
            versions=_versions(recipe),
            finished_at=now(),
            preflight=read_record(folder / preflight.FILE, Preflight),
            template_hash=digest(templates.tagged_for(tokenizer)),
            left_out=rows.left_out,
            chosen=chosen,
            parent=task.parent,
        )
        write_record(folder / "manifest.json", manifest)
        checkpoints.forget()
    return manifest


def _effective(task: FinetuneJob) -> Recipe:
    """The recipe; all is kept of what begins with a parent, which is behind a share of it."""
    if task.parent is None:
        return task.recipe
    return msgspec.structs.replace(task.recipe, adapter_scale=1.0, least_decline_gain=0.0)


def prepared(folder: Path, source: Path, method: Method[Any], train: list[Any]) -> Any:
    """The base with a fresh adapter, as the recipe asks; preflight.json and thrift.json say how.

    Raises DoesNotFit. A job that is started again keeps what was decided: its bytes depend on it.
    """
    path, recipe = folder / preflight.FILE, method.recipe
    if path.is_file():
        return for_training(source, recipe)
    memory_now, before = rehearsal.free_memory(), rehearsal.taken()
    lengths = [(tokens_of(part), supervised_tokens(part)) for part in method.all_parts(train)]
    dtype = compute_dtype(recipe.dtype)
    asked = demand(recipe, source, lengths, dtype.itemsize, method.answers)
    begin = memory.learned(folder, recipe)
    plan = preflight.plan(asked, memory_now, begin)
    model = for_training(source, recipe)
    longest = sorted(train, key=method.length, reverse=True)
    arguments = _arguments(method, begin, folder / "checkpoints", ())
    tokens = sum(length for length, _ in lengths) * recipe.num_train_epochs
    with method.rehearsing(model, arguments, longest) as loss_of:

        def worst(count: int) -> tuple[torch.Tensor, int]:
            batch = method.collate(longest[:count])
            inputs = {name: tensor.to(model.device) for name, tensor in batch.items()}
            return loss_of(inputs), batch["input_ids"].numel()

        found = rehearsal.rehearse(
            model, asked, plan, worst, before=before, tokens=tokens, dtype=dtype
        )
    print(found.said())
    if found.verdict == "tight":
        write_record(folder / memory.FILE, found.thrift)
    write_record(path, found)
    return model


def _arguments(
    method: Method[Any], thrift: Thrift, folder: Path, report_to: tuple[str, ...]
) -> Any:
    recipe = method.recipe
    at_once = thrift.micro_batch_size * ranks()
    if recipe.effective_batch_size % at_once:
        raise Rejected(
            f"micro_batch_size {thrift.micro_batch_size} in {ranks()} processes does not divide "
            f"effective_batch_size {recipe.effective_batch_size}."
        )
    return method.arguments(
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


def _train(trainer: Steady, checkpoints: Checkpoints, stop: sft.Stop, patience: int) -> None:
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
    trainer: Steady, method: Method[Any], train: list[Any], thrift: Thrift
) -> dict[str, float]:
    history, parts = trainer.state.log_history, method.all_parts(train)
    losses = [entry["loss"] for entry in history if "loss" in entry]
    rewards = [{n: v for n, v in entry.items() if n.startswith("rewards/")} for entry in history]
    return next(filter(None, reversed(rewards)), {}) | {  # of the last step
        "train_loss": statistics.fmean(losses),
        "train_rows": float(len(train)),
        "optimizer_steps": float(trainer.state.global_step),
        "skipped_steps": float(trainer.skipped_steps()),
        "supervised_tokens": float(sum(map(supervised_tokens, parts))),
        "tokens": float(sum(map(tokens_of, parts))),
        "micro_batch_size": float(thrift.micro_batch_size),
        "activation_checkpointing": float(thrift.activation_checkpointing),
        # Of the last try: what went before it, nobody timed.
        "train_seconds": next((e["train_runtime"] for e in history if "train_runtime" in e), 0.0),
    }


def _validation_metrics(model: Any, method: Method[Any], validation: list[Any]) -> dict[str, float]:
    found = method.measured(model, validation)
    found["kl_to_base"] = kl_to_base(model, method.all_parts(validation)[:DRIFT_ROWS])
    if choice.LOSS in found:
        with as_base(model):
            found["validation_loss_of_base"] = mean_loss(model, validation)
    return found


def _versions(recipe: Recipe) -> dict[str, str]:
    packages = ["torch", "transformers", "peft", "accelerate", "safetensors", "bitsandbytes"]
    packages += [] if recipe.method == "sft" else ["trl"]
    return {name: version(name) for name in packages} | {"python": sys.version.split()[0]}


def main() -> int:
    """The exit code: 0 done, else by the error, which is the last line printed."""
    heap.keep_freed()  # here: who calls `finetune` has a memory of their own
    return run_as_command("trainer.finetune", __doc__, finetune)


if __name__ == "__main__":
    sys.exit(main())
