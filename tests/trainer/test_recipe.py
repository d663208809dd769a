"""Recipes: what cannot be trained is refused when it is written, and every preset can be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from daemon.settings import EMBEDDED_RECIPE, load
from store.errors import Misconfigured
from trainer import recipe as recipes
from trainer.job import read_record
from trainer.recipe import Recipe

PRESETS = sorted((Path(recipes.__file__).parent / "presets").glob("*.toml"))


@pytest.mark.parametrize(
    ("given", "knobs"),
    [
        ({"micro_batch_size": 3}, ["micro_batch_size", "effective_batch_size"]),
        ({"effective_batch_size": 2}, ["micro_batch_size", "effective_batch_size"]),
        ({"load_in_4bit": True, "load_in_8bit": True}, ["load_in_4bit", "load_in_8bit"]),
        ({"bnb_4bit_quant_type": "fp4"}, ["bnb_4bit_quant_type", "load_in_4bit"]),
        (
            {"load_in_8bit": True, "bnb_4bit_use_double_quant": False},
            ["bnb_4bit_use_double_quant", "load_in_4bit"],
        ),
        ({"bnb_4bit_compute_dtype": "float32"}, ["bnb_4bit_compute_dtype", "load_in_4bit"]),
        ({"init_lora_weights": "pissa", "load_in_4bit": True}, ["init_lora_weights", "load_in"]),
        ({"init_lora_weights": "pissa", "use_dora": True}, ["init_lora_weights", "use_dora"]),
        ({"adapter_scale": 0.5, "use_dora": True}, ["adapter_scale", "use_dora"]),
        ({"least_decline_gain": 0.1, "use_dora": True}, ["least_decline_gain", "use_dora"]),
        ({"adapter_scale": 0.5, "init_lora_weights": "pissa"}, ["adapter_scale", "pissa"]),
        ({"lora_target_modules": []}, ["lora_target_modules"]),
        ({"warmup_steps": 2.5}, ["warmup_steps"]),
        ({"beta": 0.2}, ["beta", "method dpo or kto"]),
        ({"method": "dpo", "beta": 0}, ["beta"]),
        ({"method": "dpo", "desirable_weight": 2}, ["desirable_weight", "method kto"]),
        ({"method": "orpo"}, ["orpo"]),
        ({"method": "kto", "micro_batch_size": 1}, ["micro_batch_size", "kto"]),
        ({"method": "kto", "packing": "on"}, ["packing", "sft"]),
        ({"method": "dpo", "init_lora_weights": "pissa"}, ["init_lora_weights", "dpo"]),
    ],
)
def test_what_cannot_be_trained_is_refused_with_its_knobs(
    given: dict[str, Any], knobs: list[str]
) -> None:
    """In code, in a job's file and in the settings alike."""
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert(given, Recipe)
    assert all(knob in str(refused.value) for knob in knobs)


def test_settings_name_the_section_and_all_faults(tmp_path: Path) -> None:
    """A recipe with two faults is reported with both, beside those of other sections."""
    path = tmp_path / "bhavana.toml"
    path.write_text(
        "[server]\nport = -1\n[trainer.recipe]\nmicro_batch_size = 3\nuse_dora = true\n"
        'init_lora_weights = "pissa"\n'
    )
    with pytest.raises(Misconfigured) as refused:
        load(path, {})
    told = str(refused.value)
    assert "server.port" in told
    assert "trainer.recipe: micro_batch_size 3 does not divide" in told
    assert "choose one" in told


def test_job_with_an_impossible_recipe_is_misconfigured(tmp_path: Path) -> None:
    """A job.json that somebody wrote by hand is refused before anything is loaded."""
    path = tmp_path / "recipe.json"
    path.write_text('{"micro_batch_size": 3}')
    with pytest.raises(Misconfigured, match="micro_batch_size"):
        read_record(path, Recipe)


def test_modules_can_be_named_by_environment() -> None:
    """A list in a variable is a list, although the default is a word."""
    environment = {"BHAVANA_TRAINER__RECIPE__LORA_TARGET_MODULES": '["q_proj", "v_proj"]'}
    assert load(None, environment).trainer.recipe.lora_target_modules == ("q_proj", "v_proj")


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_can_be_copied_into_the_configuration(path: Path) -> None:
    """The file as it is loads, names a base and says what was run of it and what was not."""
    trainer = load(path, {}).trainer
    assert trainer.recipe.effective_batch_size % trainer.recipe.micro_batch_size == 0
    words = path.read_text().partition("[trainer]")[0].lower()
    assert ("run here" in words) is (trainer.base == "smollm2-135m") or "not run here" in words


def test_presets_are_those_that_the_seeds_name() -> None:
    """Five, of which the Llama one is the published recipe of rank 64."""
    assert [path.stem for path in PRESETS] == [
        "llama-3.1-8b-qlora",
        "mistral-7b-qlora",
        "pythia-6.9b-8bit",
        "smollm2-135m-cpu",
        "tinyllama-1.1b",
    ]
    recipe = load(PRESETS[0], {}).trainer.recipe
    assert (recipe.lora_r, recipe.lora_alpha, recipe.load_in_4bit) == (64, 128, True)
    assert (recipe.bnb_4bit_quant_type, recipe.optim) == ("nf4", "paged_adamw_8bit")
    assert (recipe.lr_scheduler_type, recipe.learning_rate) == ("cosine", 2e-4)
    assert (recipe.num_train_epochs, recipe.effective_batch_size) == (3.0, 16)
    assert load(PRESETS[3], {}).trainer.recipe == EMBEDDED_RECIPE
    assert load(PRESETS[2], {}).trainer.recipe.lora_target_modules == ("query_key_value", "dense")


@pytest.mark.parametrize(("layers", "share", "adapted"), [(30, 0.33, 10), (2, 0.01, 1), (4, 1, 4)])
def test_share_of_layers(layers: int, share: float, adapted: int) -> None:
    """At least one, and never more than there are."""
    assert Recipe(lora_layer_share=share).adapted_layers(layers) == adapted
