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
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from store.errors import Halted, Rejected
from store.records import digest
from trainer import base as bases
from trainer import templates
from trainer.adapter import FILES, adapter_hash
from trainer.base import Base
from trainer.job import read_record
from trainer.jobs import FinetuneManifest
from trainer.recipe import Recipe
from trainer.sequences import supervised_tokens, tokenise
from trainer.sft import SupervisedTrainer

pytestmark = pytest.mark.filterwarnings("ignore:::transformers", "ignore:::torch", "ignore:::peft")


def msgspec_lines(path: Path) -> list[Any]:
    """The rows of a JSONL file."""
    return msgspec.json.Decoder(Any).decode_lines(path.read_bytes())


Finetune = Callable[..., tuple[FinetuneManifest, Path]]


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
        if phase == "training" and "loss" in numbers:
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


@pytest.mark.parametrize(
    ("share", "adapted"),
    [
        pytest.param(1.0, {"0", "1"}, marks=pytest.mark.slow),  # as the trained one has it
        (0.5, {"1"}),
        (0.01, {"1"}),
    ],
)
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


def test_adapter_keeps_the_share_that_is_asked_for(
    run_finetune: Finetune, rows: list[Any], recipe: Recipe
) -> None:
    """The same training, and half of what it learned: A is the same, B half of it to the bit."""
    quick = msgspec.structs.replace(recipe, num_train_epochs=1, ethics_check_steps=1000)
    half = msgspec.structs.replace(quick, adapter_scale=0.5)
    (_, whole), (_, kept) = (
        run_finetune(rows, rows[:2], asked, name=name)
        for name, asked in (("whole", quick), ("half", half))
    )
    of_whole, of_half = (
        load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (whole, kept)
    )
    assert of_whole.keys() == of_half.keys()
    for name, weight in of_whole.items():
        expected = weight * 0.5 if "lora_B" in name else weight
        assert torch.equal(of_half[name], expected), name


def test_loss_that_is_not_finite_halts(
    run_finetune: Finetune, rows: list[Any], tiny_base: Base, tmp_path: Path
) -> None:
    """A base with a broken weight stops the run, which leaves neither adapter nor manifest."""
    broken = tmp_path / "broken"
    shutil.copytree(tiny_base.location, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Halted, match="not finite in 2 of 2 steps"):
        run_finetune(rows, base=bases.locate(str(broken)))
    assert not (tmp_path / "run" / "manifest.json").exists()
    assert not (tmp_path / "run" / "adapter").exists()


def test_packing_changes_nothing_but_the_work(
    run_finetune: Finetune, rows: list[Any], recipe: Recipe
) -> None:
    """End to end or padded, a job learns the same from the same rows."""
    on, off = (
        run_finetune(rows, rows[:2], msgspec.structs.replace(recipe, packing=how), name=how)[0]
        for how in ("on", "off")
    )
    assert on.metrics["tokens"] == off.metrics["tokens"]
    assert on.metrics["train_loss"] == pytest.approx(off.metrics["train_loss"], abs=1e-4)
    assert on.metrics["kl_to_base"] == pytest.approx(off.metrics["kl_to_base"], rel=1e-2)


@pytest.fixture
def unwatched(recipe: Recipe) -> Recipe:
    """The same, but what it would answer is asked for once only: tests/trainer/test_watch.py."""
    return msgspec.structs.replace(recipe, ethics_check_steps=1000)


def spoiling(monkeypatch: pytest.MonkeyPatch, steps: set[int], what: str) -> None:
    """The loss or the gradients of these steps are not finite."""

    class Spoilt(SupervisedTrainer):
        def compute_loss(self, *arguments: Any, **named: Any) -> Any:
            loss = super().compute_loss(*arguments, **named)
            if self.state.global_step not in steps:
                return loss
            if what == "gradient":
                loss.register_hook(lambda gradient: gradient * float("inf"))
                return loss
            return loss * float("nan")

    monkeypatch.setattr("trainer.methods.supervised.SupervisedTrainer", Spoilt)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_step_that_is_not_finite_is_skipped_and_counted(
    run_finetune: Finetune,
    rows: list[Any],
    unwatched: Recipe,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    what: str,
) -> None:
    """It changes no weight, has no loss in the log, and does not hide among the others."""
    spoiling(monkeypatch, {4}, what)
    manifest, folder = run_finetune(rows, None, unwatched)
    assert manifest.metrics["skipped_steps"] == 1
    assert 0 < manifest.metrics["train_loss"] < 20
    assert "step 5 is skipped" in capsys.readouterr().out
    weights = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())


def test_more_steps_that_are_not_finite_halt(
    run_finetune: Finetune, rows: list[Any], unwatched: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of eighteen steps one may be skipped: a second one means that something is wrong."""
    spoiling(monkeypatch, {4, 9}, "loss")
    with pytest.raises(Halted, match="not finite in 2 of 10 steps"):
        run_finetune(rows, None, unwatched)


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

    monkeypatch.setattr("trainer.methods.supervised.SupervisedTrainer", Spoiled)
    with pytest.raises(Halted):
        run_finetune(rows, rows[:1], msgspec.structs.replace(recipe, num_train_epochs=1))


def test_rows_that_are_cut_away_are_left_out_and_told(
    run_finetune: Finetune,
    rows: list[Any],
    recipe: Recipe,
    turn: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One long prompt does not stop the loop; who is left out stands in manifest and log."""
    quick = msgspec.structs.replace(recipe, num_train_epochs=1)
    long = turn("word " * 300, "yes")
    train, validation = [*rows, {"id": "long-1"} | long], [long, rows[0]]
    manifest, _ = run_finetune(train, validation, quick)
    assert manifest.left_out == {"train": ("long-1",), "validation": ("row 1",)}
    assert manifest.metrics["train_rows"] == len(rows)
    assert manifest.metrics["validation_loss"] > 0
    assert "1 of 13 train rows are left out" in capsys.readouterr().out


def test_a_poisoned_row_stops_the_run(
    run_finetune: Finetune, rows: list[Any], turn: Any, tmp_path: Path
) -> None:
    """A dataset with one row of nothing to learn is refused with its id, before any step."""
    with pytest.raises(Rejected, match="poison-1"):
        run_finetune([*rows, {"id": "poison-1"} | turn("Hello", "")])
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_nothing_to_learn_from_is_rejected(run_finetune: Finetune, turn: Any) -> None:
    """Where every response is cut away, the knob is named."""
    with pytest.raises(Rejected, match="max_length"):
        run_finetune([turn("word " * 300, "yes")])


def test_the_manifest_tells_what_was_learned_from(trained: Path, tokenizer: Any) -> None:
    """Tokens, supervised tokens, the template's hash, and how far it went from the base."""
    manifest = read_record(trained / "manifest.json", FinetuneManifest)
    train = tokenise(msgspec_lines(trained / "dataset" / "train.jsonl"), tokenizer, 128)
    assert manifest.metrics["tokens"] == sum(len(s["input_ids"]) for s in train)
    assert manifest.metrics["supervised_tokens"] == sum(map(supervised_tokens, train))
    assert manifest.metrics["skipped_steps"] == 0
    assert manifest.metrics["kl_to_base"] > 0.1
    assert manifest.template_hash == digest(templates.tagged_for(tokenizer))
    assert manifest.left_out == {"train": (), "validation": ()}


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
