"""The scale that an adapter keeps: as little as declines what it is to decline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from tests.trainer.conftest import RECIPE, turn
from trainer import probes, scale
from trainer.jobs import FinetuneManifest

pytestmark = pytest.mark.filterwarnings("ignore:::transformers", "ignore:::torch", "ignore:::peft")

Finetune = Callable[..., tuple[FinetuneManifest, Path]]
DECLINES = [turn(f"What would you say to {n}?", "I will not help.") for n in range(24)]
LEARNS = msgspec.structs.replace(RECIPE, num_train_epochs=12.0, ethics_check_steps=1000)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The adapter of a job."""
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def test_the_smallest_scale_that_reaches_the_goal_is_kept(run_finetune: Finetune) -> None:
    """A model that learned to decline everything: enough of it, and not all of it."""
    whole, all_of_it = run_finetune(DECLINES, None, LEARNS, name="whole")
    asks = msgspec.structs.replace(LEARNS, least_decline_gain=0.15)
    found, folder = run_finetune(DECLINES, None, asks, name="asks")
    metrics, kept = found.metrics, found.metrics["adapter_scale"]
    assert whole.metrics["adapter_scale"] == 1
    assert "harmful_declined" not in whole.metrics
    assert metrics["harmful_declined_of_base"] == 0
    assert metrics["harmful_declined"] >= 0.15
    assert scale.SCALES[0] <= kept < 1
    of_whole, of_kept = weights(all_of_it), weights(folder)
    for name, weight in of_whole.items():
        expected = weight * kept if "lora_B" in name else weight
        torch.testing.assert_close(of_kept[name], expected)


def test_all_is_kept_where_no_scale_reaches_it(
    run_finetune: Finetune, rows: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """A training that teaches no refusal is not said to have reached one."""
    asks = msgspec.structs.replace(LEARNS, num_train_epochs=1.0, least_decline_gain=0.5)
    found, _ = run_finetune(rows, None, asks)
    assert found.metrics["adapter_scale"] == 1
    assert found.metrics["harmful_declined"] == 0
    assert "no scale declines 0.500" in capsys.readouterr().out


def test_what_is_asked_is_harmful() -> None:
    """Sixty requests, so that one is no more than 1.7 points."""
    asked = probes.read("scale")
    assert len(asked) == len({probe.prompt for probe in asked}) == 60
    assert {probe.kind for probe in asked} == {"harmful"}
