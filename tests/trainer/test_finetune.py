"""Fine-tuning for real, on a base of two random layers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, TrainerCallback, TrainingArguments

from store.errors import Halted, Rejected
from store.records import digest
from trainer import base as bases
from trainer.adapter import FILES, adapter_hash
from trainer.base import Base
from trainer.finetune import (
    IGNORED,
    Sequence,
    SupervisedTrainer,
    collate,
    mean_loss,
    supervised_loss,
    tokenise,
)
from trainer.job import read_record
from trainer.jobs import FinetuneManifest
from trainer.recipe import Recipe

pytestmark = pytest.mark.filterwarnings("ignore:::transformers", "ignore:::torch", "ignore:::peft")

Finetune = Callable[..., tuple[FinetuneManifest, Path]]


@pytest.fixture(scope="module")
def model(tiny_base: Base) -> Any:
    """The tiny base in float32."""
    loaded = AutoModelForCausalLM.from_pretrained(tiny_base.location, dtype=torch.float32)
    return loaded.eval()


@pytest.fixture
def sequences(tokenizer: Any, rows: list[Any]) -> list[Sequence]:
    """Four conversations of four lengths."""
    return tokenise([rows[n] for n in (0, 3, 6, 11)], tokenizer, 256)


def test_loss_equals_the_one_of_transformers(model: Any, sequences: list[Sequence]) -> None:
    """The head at supervised positions only gives the loss of all logits and cross-entropy."""
    batch = collate(sequences)
    with torch.no_grad():
        total, tokens = supervised_loss(model, batch)
        theirs = model(**batch).loss
    assert tokens == int((batch["labels"][:, 1:] != IGNORED).sum())
    assert float(total) / tokens == pytest.approx(float(theirs), abs=1e-5)


def test_loss_is_the_same_under_an_adapter(model: Any, tiny_base: Base, sequences: Any) -> None:
    """A PEFT model is asked through its base model with the adapter at work."""
    plain = AutoModelForCausalLM.from_pretrained(tiny_base.location, dtype=torch.float32)
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    adapted = get_peft_model(plain, config).eval()
    batch = collate(sequences)
    with torch.no_grad():
        total, tokens = supervised_loss(adapted, batch)
        theirs = adapted(**batch).loss
        of_base, _ = supervised_loss(model, batch)
    assert float(total) / tokens == pytest.approx(float(theirs), abs=1e-5)
    assert float(total) != pytest.approx(float(of_base), abs=1e-3)


def test_padding_does_not_change_the_sum(model: Any, sequences: list[Sequence]) -> None:
    """A padded batch has the loss and the count of its sequences one by one."""
    with torch.no_grad():
        together, tokens = supervised_loss(model, collate(sequences))
        alone = [supervised_loss(model, collate([s])) for s in sequences]
    assert tokens == sum(count for _, count in alone)
    assert float(together) == pytest.approx(sum(float(loss) for loss, _ in alone), rel=1e-5)


def test_mean_loss_weighs_tokens_not_rows(model: Any, sequences: list[Sequence]) -> None:
    """Nats per supervised token over all sequences, whatever their lengths."""
    with torch.no_grad():
        total, tokens = supervised_loss(model, collate(sequences))
    assert mean_loss(model, sequences) == pytest.approx(float(total) / tokens, rel=1e-5)


def test_nothing_to_learn_from_is_rejected(tokenizer: Any) -> None:
    """No assistant turn, or none left after the cut, stops the run instead of training on none."""
    with pytest.raises(Rejected, match="assistant token"):
        tokenise([{"messages": [{"role": "user", "content": "Hello"}]}], tokenizer, 256)
    long = [{"role": "user", "content": "word " * 100}, {"role": "assistant", "content": "yes"}]
    with pytest.raises(Rejected, match="max_length"):
        tokenise([{"messages": long}], tokenizer, 32)
    with pytest.raises(Rejected):
        tokenise([], tokenizer, 256)


def test_rows_cut_away_are_dropped_and_others_kept(tokenizer: Any, turn: Any) -> None:
    """A row whose answer lies beyond max_length is left out; a cut answer keeps what fits."""
    rows = [turn("word " * 100, "yes"), turn("Hi", "word " * 100)]
    (kept,) = tokenise(rows, tokenizer, 64)
    assert len(kept["input_ids"]) == len(kept["labels"]) == 64
    assert kept["labels"][-1] == kept["input_ids"][-1] != tokenizer.eos_token_id


class Gradients(TrainerCallback):
    """Keeps the gradients of the first optimiser step."""

    def __init__(self) -> None:
        self.seen: dict[str, torch.Tensor] = {}

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any = None, **_: Any
    ) -> None:
        if not self.seen:
            self.seen = {
                name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None
            }


def gradients(base: Base, rows: list[Sequence], micro: int, folder: Path) -> Any:
    """Gradients of one effective batch of all rows, in micro batches of this size."""
    torch.manual_seed(0)
    plain = AutoModelForCausalLM.from_pretrained(base.location, dtype=torch.float32)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    seen = Gradients()
    SupervisedTrainer(
        model=get_peft_model(plain, config),
        args=TrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=len(rows) // micro,
            max_steps=1,
            max_grad_norm=0.0,
            optim="sgd",
            use_cpu=True,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
        ),
        train_dataset=rows,
        data_collator=collate,
        callbacks=[seen],
    ).train()
    return seen.seen


def test_gradients_do_not_depend_on_the_micro_batch(
    tiny_base: Base, sequences: list[Sequence], tmp_path: Path
) -> None:
    """Rows of unlike lengths weigh by tokens, in four micro batches as in one."""
    one = gradients(tiny_base, sequences, 1, tmp_path)
    four = gradients(tiny_base, sequences, 4, tmp_path)
    assert one.keys() == four.keys()
    assert len(one) == 2 * 7 * 2  # A and B of seven linear layers in two blocks
    for name, gradient in one.items():
        assert float(gradient.abs().max()) > 0
        torch.testing.assert_close(gradient, four[name], rtol=1e-4, atol=1e-7)


def test_job_leaves_an_adapter_and_its_manifest(trained: Path, recipe: Recipe) -> None:
    """A finished job holds the adapter's files and a manifest with the hash of them."""
    manifest = read_record(trained / "manifest.json", FinetuneManifest)
    assert manifest.adapter_hash == adapter_hash(trained / "adapter")
    assert manifest.recipe_hash == digest(recipe)
    assert all((trained / "adapter" / name).is_file() for name in FILES)
    newest = max(p.stat().st_mtime_ns for p in (trained / "adapter").iterdir())
    assert (trained / "manifest.json").stat().st_mtime_ns >= newest
    assert manifest.metrics["train_rows"] == 12
    assert manifest.metrics["optimizer_steps"] == 18
    assert 0 < manifest.metrics["supervised_tokens"] < manifest.metrics["tokens"]
    assert not list(trained.rglob("*.partial"))
    assert not list(trained.rglob("*.bin"))  # no pickle, ever


def test_learns(trained: Path) -> None:
    """Over several epochs the loss falls, and below the untouched base's on what it saw."""
    metrics = read_record(trained / "manifest.json", FinetuneManifest).metrics
    assert metrics["validation_loss"] < metrics["validation_loss_of_base"] - 1
    beat = json.loads((trained / "heartbeat.json").read_text())
    assert beat["phase"] == "validating"


def test_training_loss_falls_over_epochs(
    run_finetune: Finetune, rows: list[Any], recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heartbeats' losses of the last epoch are below those of the first."""
    losses: list[float] = []

    def beat(_job: Any, phase: str, *_: int, **numbers: float) -> None:
        if phase == "training":
            losses.append(numbers["loss"])

    monkeypatch.setattr("trainer.job.Job.beat", beat)
    run_finetune(rows, None, msgspec.structs.replace(recipe, num_train_epochs=4))
    assert len(losses) == 12
    assert sum(losses[-3:]) < sum(losses[:3]) - 0.5


def test_adapter_config_records_the_recipe(trained: Path, tiny_base: Base) -> None:
    """Rank, alpha, the base's name as configured, and every linear layer in sorted order."""
    config = json.loads((trained / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (4, 8, 0.0)
    assert config["base_model_name_or_path"] == tiny_base.name
    linear = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert config["target_modules"] == sorted(config["target_modules"])
    assert sorted({name.rpartition(".")[2] for name in config["target_modules"]}) == linear
    assert config["task_type"] == "CAUSAL_LM"


def test_adapts_neither_head_nor_embeddings(trained: Path) -> None:
    """Only the blocks' linear layers have weights in the adapter, all finite, in float32."""
    weights = load_file(trained / "adapter" / "adapter_model.safetensors")
    assert len(weights) == 2 * 7 * 2
    for name, tensor in weights.items():
        assert ".layers." in name
        assert "lm_head" not in name
        assert "embed" not in name
        assert tensor.dtype is torch.float32
        assert bool(torch.isfinite(tensor).all())


@pytest.mark.parametrize(("share", "adapted"), [(1.0, {"0", "1"}), (0.5, {"1"}), (0.01, {"1"})])
def test_adapts_the_share_of_the_layers_nearest_the_output(
    run_finetune: Finetune, rows: list[Any], recipe: Recipe, share: float, adapted: set[str]
) -> None:
    """At least the last layer, whatever the share, and with all of its linear modules."""
    _, folder = run_finetune(
        rows, None, msgspec.structs.replace(recipe, lora_layer_share=share, num_train_epochs=1)
    )
    names = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert {name.partition(".layers.")[2].partition(".")[0] for name in names} == adapted
    assert len(names) == len(adapted) * 7 * 2


def test_same_job_gives_the_same_adapter(
    run_finetune: Finetune, rows: list[Any], recipe: Recipe
) -> None:
    """Same base, rows and recipe in another folder: the same bytes; another seed: others."""
    quick = msgspec.structs.replace(recipe, num_train_epochs=1)
    first, _ = run_finetune(rows, None, quick, name="first")
    second, _ = run_finetune(rows, None, quick, name="second")
    other, _ = run_finetune(rows, None, msgspec.structs.replace(quick, seed=7), name="other")
    assert first.adapter_hash == second.adapter_hash
    assert first.adapter_hash != other.adapter_hash


def test_loss_that_is_not_finite_halts(
    run_finetune: Finetune, rows: list[Any], tiny_base: Base, tmp_path: Path
) -> None:
    """A base with a broken weight stops the run at its first step and leaves no manifest."""
    broken = tmp_path / "broken"
    shutil.copytree(tiny_base.location, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Halted, match="not finite at step 0"):
        run_finetune(rows, base=bases.locate(str(broken)))
    assert not (tmp_path / "run" / "manifest.json").exists()
    assert not (tmp_path / "run" / "adapter").exists()


def test_weights_that_are_not_finite_halt(
    run_finetune: Finetune, rows: list[Any], recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A last step that spoils the weights is seen although no further loss is computed."""

    class Spoils(TrainerCallback):
        """Stands in for a gradient that overflows at the last step."""

        def on_step_end(
            self, args: Any, state: Any, control: Any, model: Any = None, **_: Any
        ) -> None:
            if state.global_step == state.max_steps:
                parameter = next(p for p in model.parameters() if p.requires_grad)
                parameter.data[0] = float("nan")

    class Spoiled(SupervisedTrainer):
        def __init__(self, **arguments: Any) -> None:
            super().__init__(**arguments)
            self.add_callback(Spoils())

    monkeypatch.setattr("trainer.finetune.SupervisedTrainer", Spoiled)
    with pytest.raises(Halted):
        run_finetune(rows, rows[:1], msgspec.structs.replace(recipe, num_train_epochs=1))


def test_long_validation_row_is_dropped_not_fatal(
    run_finetune: Finetune, rows: list[Any], recipe: Recipe, turn: Any
) -> None:
    """A validation row whose answer is cut away is left out, as a training row is."""
    quick = msgspec.structs.replace(recipe, num_train_epochs=1)
    manifest, _ = run_finetune(rows, [turn("word " * 300, "yes"), rows[0]], quick)
    assert manifest.metrics["validation_loss"] > 0


def test_dataset_without_a_split_is_rejected(
    run_finetune: Finetune, rows: list[Any], tmp_path: Path, tiny_base: Base
) -> None:
    """An empty train split, which holds nothing to learn from, is told as the caller's fault."""
    with pytest.raises(Rejected):
        run_finetune([])


def test_without_validation_rows_none_is_reported(
    run_finetune: Finetune, rows: list[Any], recipe: Recipe
) -> None:
    """An empty validation split gives no validation loss: unknown is not zero."""
    quick = msgspec.structs.replace(recipe, num_train_epochs=1)
    manifest, _ = run_finetune(rows, None, quick)
    assert "validation_loss" not in manifest.metrics
