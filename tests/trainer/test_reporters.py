"""What a training tells TensorBoard, read back by TensorBoard."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

from store.errors import Misconfigured
from trainer import reporters
from trainer.reporters import reporting_to


def test_tensorboard_reads_what_a_training_wrote(tmp_path: Path) -> None:
    """The Trainer writes event files into the job's folder: every step with its loss and rate."""
    import torch
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from transformers import Trainer, TrainingArguments

    class Line(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": ((self.weight * x - labels) ** 2).mean()}

    rows = [{"x": torch.tensor(float(n)), "labels": torch.tensor(2.0 * n)} for n in range(6)]
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "checkpoints"),
        max_steps=3,
        per_device_train_batch_size=2,
        logging_steps=1,
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        report_to=reporting_to(["tensorboard"], tmp_path),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of transformers' own making
        Trainer(model=Line(), args=arguments, train_dataset=rows).train()
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert [point.step for point in found.Scalars("train/loss")] == [1, 2, 3]
    assert "train/learning_rate" in found.Tags()["scalars"]


def test_what_an_operator_set_goes_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project's name, say; what nobody set is the job's: its folder, one run over attempts."""
    monkeypatch.setattr(reporters, "not_installed", lambda _: [])
    monkeypatch.setenv("WANDB_PROJECT", "ours")
    folder = tmp_path / "run-7"
    assert reporting_to(("wandb",), folder) == ["wandb"]
    seen = {n: os.environ[n] for n in ("WANDB_PROJECT", "WANDB_RUN_ID", "WANDB_RESUME")}
    assert seen == {"WANDB_PROJECT": "ours", "WANDB_RUN_ID": "run-7", "WANDB_RESUME": "allow"}


def test_reporter_without_its_package_is_refused(tmp_path: Path) -> None:
    """In the child, too, which a person may run by hand."""
    if not reporters.not_installed(["wandb"]):
        pytest.skip("wandb is installed here")
    with pytest.raises(Misconfigured, match="pip install wandb"):
        reporting_to(["wandb"], tmp_path)


def test_key_of_a_reporter_is_passed_only_where_it_is_at_work() -> None:
    """By prefix of the variables' names."""
    assert reporters.variables(["tensorboard"]) == ()
    assert reporters.variables(["tensorboard", "wandb"]) == ("WANDB_",)
