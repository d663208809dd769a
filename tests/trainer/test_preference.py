"""Learning from what people prefer: DPO from pairs, KTO from marks, as any other training."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from trainer.job import read_record
from trainer.jobs import FinetuneManifest
from trainer.progress import curves
from trainer.recipe import Recipe

pytestmark = pytest.mark.filterwarnings("ignore:::transformers", "ignore:::torch", "ignore:::peft")
Finetune = Callable[..., tuple[FinetuneManifest, Path]]
GOOD, BAD = "Gladly. Let us look at it together.", "No idea, leave me alone."


def asked(n: int) -> list[dict[str, str]]:
    """A prompt."""
    return [{"role": "user", "content": f"Question {n}: why is the sky blue?"}]


def said(text: str) -> list[dict[str, str]]:
    """An answer."""
    return [{"role": "assistant", "content": text}]


def pairs(start: int, count: int) -> list[dict[str, Any]]:
    """Rows for DPO: friendly answers are better than rude ones."""
    return [
        {
            "id": f"e-{n}",
            "conversation": f"c-{n}",
            "prompt": asked(n),
            "chosen": said(f"{GOOD} {n}"),
            "rejected": said(f"{BAD} {n} {n}"),
        }
        for n in range(start, start + count)
    ]


def marks(start: int, count: int) -> list[dict[str, Any]]:
    """Rows for KTO: every other answer is a friendly, desirable one."""
    return [
        {
            "id": f"e-{n}",
            "conversation": f"c-{n}",
            "prompt": asked(n),
            "completion": said(f"{BAD if n % 2 else GOOD} {n}"),
            "label": n % 2 == 0,
        }
        for n in range(start, start + count)
    ]


ROWS = {"dpo": pairs, "kto": marks}


@pytest.fixture
def preferring(recipe: Recipe) -> Callable[..., Recipe]:
    """A recipe of a method, changed as asked."""

    def make(method: str, **changes: Any) -> Recipe:
        wanted = {"learning_rate": 5e-3, "num_train_epochs": 3.0, "micro_batch_size": 2} | changes
        return msgspec.structs.replace(recipe, method=method, **wanted)

    return make


def steps(folder: Path, name: str) -> list[float]:
    """A number of each step, as the job's progress tells it."""
    return list(curves(folder)[name].values())


def test_dpo_starts_at_ln_2_and_raises_the_margin(
    run_finetune: Finetune, preferring: Callable[..., Recipe]
) -> None:
    """Before the first step the policy is the reference; held-out pairs are told apart after it."""
    manifest, folder = run_finetune(pairs(0, 12), pairs(20, 4), preferring("dpo"))
    assert steps(folder, "loss")[0] == pytest.approx(math.log(2), abs=1e-4)
    assert steps(folder, "rewards/margins")[0] == pytest.approx(0, abs=1e-3)
    told = manifest.metrics
    assert told["validation_rewards/margins"] > 0.1
    assert told["validation_rewards/accuracies"] == 1.0
    assert told["preference_loss"] < math.log(2)
    assert told["rewards/margins"] > 0


def test_kto_starts_at_a_half_and_raises_what_is_desirable(
    run_finetune: Finetune, preferring: Callable[..., Recipe]
) -> None:
    """1 - sigmoid(0) at first; then desirable answers gain on undesirable ones, held out, too."""
    manifest, folder = run_finetune(marks(0, 16), marks(20, 6), preferring("kto"))
    assert steps(folder, "loss")[0] == pytest.approx(0.5, abs=1e-4)
    told = manifest.metrics
    assert told["validation_rewards/chosen"] > told["validation_rewards/rejected"]
    assert told["validation_rewards/margins"] > 0.1
    assert told["preference_loss"] < 0.5
