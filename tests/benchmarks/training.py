"""Training beside TRL's SFTTrainer and beside a naive loop, on the same rows and the same adapter.

`python -m tests.benchmarks.training ours|trl|naive FOLDER` measures one of them in its own process
and prints its useful tokens a second: those of the rows, not those of padding. The rows are the
bundled exemplars, cut as the demo cuts them. Ours prints two: of its steps, which the others have,
too, and with the watch, which asks the model probes and which they have not.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from daemon.demo import MAX_LENGTH
from daemon.practice import exemplars
from tests.benchmarks.figures import Figure, Missing, figure
from tests.benchmarks.near import ROOT
from trainer import base as bases
from trainer.job import write_record
from trainer.jobs import FinetuneJob
from trainer.recipe import Recipe

ROWS = 192
EFFECTIVE_BATCH = 16
REPEATS = 3
RECIPE = Recipe(  # like TRL's, at its fastest: the whole effective batch in one pass
    lora_layer_share=1.0,  # as the others adapt all layers
    num_train_epochs=1.0,
    effective_batch_size=EFFECTIVE_BATCH,
    max_length=MAX_LENGTH,
    save_steps=0.99,
    micro_batch_size=EFFECTIVE_BATCH,
)
PACKED_TOKENS = 512
"""TRL's row, of which one is a micro-batch: the fastest that was measured here."""
NAIVE_BATCH = 4
LEAST_OVER_TRL = 1.5
LEAST_OVER_NAIVE = 4.0


def training(folder: Path) -> list[Figure]:
    """Useful tokens a second of a training job of the embedded base."""
    if find_spec("trl") is None:
        raise Missing("trl is not installed: it is in the extra `preference`")
    _prepare(folder)
    ways = ("ours", "trl", "naive")
    runs: dict[str, list[list[float]]] = {way: [] for way in ways}
    for _ in range(REPEATS):  # in turn, so that a busy moment of the machine meets all alike
        for way in ways:
            runs[way].append(_measured(way, folder))
    steps, watched = zip(*runs["ours"], strict=True)
    (of_trl,), (of_loop,) = (zip(*runs[way], strict=True) for way in ways[1:])
    beside_trl = "SFTTrainer, bf16, packed"
    return [
        figure(
            "training, beside TRL",
            "tok/s",
            steps,
            beside_trl,
            of_trl,
            asked="ratio >=",
            bar=LEAST_OVER_TRL,
        ),
        figure(
            "training, beside a loop",
            "tok/s",
            steps,
            "float32, padded, all logits",
            of_loop,
            asked="ratio >=",
            bar=LEAST_OVER_NAIVE,
        ),
        figure("the same, and watched", "tok/s", watched, beside_trl, of_trl),
    ]


def _prepare(folder: Path) -> None:
    """The dataset, the base in Hugging Face layout, and the rows as tokens for the others."""
    with (folder / "train.jsonl").open("wb") as file:
        for e in exemplars()[:ROWS]:
            turns = [{"role": "user", "content": e.prompt}]
            turns += [{"role": "assistant", "content": e.response}]
            file.write(msgspec.json.encode({"id": e.id, "messages": turns}) + b"\n")
    (folder / "validation.jsonl").touch()
    _measured("prepare", folder)


def _measured(way: str, folder: Path) -> list[float]:
    ran = subprocess.run(
        [sys.executable, "-m", __name__, way, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise RuntimeError(f"{way}: {ran.stderr[-1000:]}")
    return [float(word) for word in ran.stdout.splitlines()[-1].split()]


def prepare(folder: Path) -> tuple[float]:
    """Writes what the others read; how many tokens it is."""
    from transformers import AutoTokenizer

    from trainer.model import materialise
    from trainer.sequences import by_length_in_batches, side_by_side, tokenise

    base = materialise(bases.locate("smollm2-135m"), folder / "cache")
    lines = msgspec.json.Decoder(dict[str, Any]).decode_lines((folder / "train.jsonl").read_bytes())
    rows = tokenise(lines, AutoTokenizer.from_pretrained(base), RECIPE.max_length)
    ordered = by_length_in_batches(side_by_side(rows, RECIPE.seed), EFFECTIVE_BATCH)
    (folder / "tokens.json").write_bytes(msgspec.json.encode([str(base), ordered]))
    return (float(sum(len(row["input_ids"]) for row in rows)),)


def _prepared(folder: Path) -> tuple[str, list[dict[str, Any]], int]:
    base, rows = msgspec.json.decode((folder / "tokens.json").read_bytes())
    return base, rows, sum(len(row["input_ids"]) for row in rows)


def ours(folder: Path) -> tuple[float, float]:
    """A whole job, as the daemon starts one; its own word of how long the training took.

    Without and with the watch.
    """
    from trainer import heap
    from trainer.finetune import finetune

    job = folder / f"run-{time.monotonic_ns()}"
    job.mkdir()
    order = FinetuneJob(
        base=bases.locate("smollm2-135m"),
        recipe=RECIPE,
        dataset=str(folder),
        cache=str(folder / "cache"),
    )
    write_record(job / "job.json", order)
    heap.keep_freed()  # as the job's own process does
    metrics = finetune(job).metrics
    tokens, seconds = metrics["tokens"], metrics["train_seconds"]
    return tokens / (seconds - metrics["watch_seconds"]), tokens / seconds


def _lora() -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=RECIPE.lora_r,
        lora_alpha=RECIPE.lora_alpha,
        target_modules=RECIPE.lora_target_modules,
        task_type="CAUSAL_LM",
    )


def trl(folder: Path) -> tuple[float]:
    """TRL as its users set it on a processor: bfloat16, packed rows, gradients accumulated."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    base, rows, tokens = _prepared(folder)
    longest = max(len(row["input_ids"]) for row in rows)
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16),
        args=SFTConfig(
            output_dir=str(folder / "trl"),
            packing=True,
            max_length=PACKED_TOKENS,
            per_device_train_batch_size=1,
            gradient_accumulation_steps=max(1, EFFECTIVE_BATCH * longest // PACKED_TOKENS),
            num_train_epochs=1,
            learning_rate=RECIPE.learning_rate,
            bf16=True,
            use_cpu=True,
            activation_checkpointing=False,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=Dataset.from_list(
            [{"input_ids": r["input_ids"], "labels": r["labels"]} for r in rows]
        ),
        processing_class=AutoTokenizer.from_pretrained(base),
        peft_config=_lora(),
    )
    seen = sum(len(row["input_ids"]) for row in trainer.train_dataset)
    if seen != tokens:
        raise RuntimeError(f"TRL packed {seen} of {tokens} tokens.")
    return (tokens / float(trainer.train().metrics["train_runtime"]),)


def naive(folder: Path) -> tuple[float]:
    """The loop of a tutorial: float32, padded batches in the rows' order, logits everywhere."""
    import random

    import torch
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    from trainer.sequences import padded

    base, rows, _ = _prepared(folder)
    random.Random(RECIPE.seed).shuffle(rows)
    rows = rows[: ROWS // 2]  # it is slow, and as slow in the other half
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = get_peft_model(plain, _lora()).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RECIPE.learning_rate)
    started = time.perf_counter()
    for start in range(0, len(rows), EFFECTIVE_BATCH):
        for first in range(start, start + EFFECTIVE_BATCH, NAIVE_BATCH):
            batch: Any = padded(rows[first : first + NAIVE_BATCH])
            (model(**batch).loss / (EFFECTIVE_BATCH // NAIVE_BATCH)).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    tokens = sum(len(row["input_ids"]) for row in rows)
    return (tokens / (time.perf_counter() - started),)


WAYS: dict[str, Callable[[Path], tuple[float, ...]]] = {
    "prepare": prepare,
    "ours": ours,
    "trl": trl,
    "naive": naive,
}

if __name__ == "__main__":
    print(*WAYS[sys.argv[1]](Path(sys.argv[2])))
