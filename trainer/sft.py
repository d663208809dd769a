"""transformers.Trainer with our loss, and what watches over its steps.

A step whose loss or gradient is not finite is skipped and counted; too many halt the run. SIGTERM
ends it after the step, with a checkpoint. Everything else is theirs.
"""

from __future__ import annotations

import math
import signal
from types import FrameType
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch.nn.utils import get_total_norm
from transformers import Trainer, TrainerCallback

from store.errors import Halted
from store.orphans import EXIT_RETRYABLE
from trainer.checkpoints import Checkpoints
from trainer.job import Job
from trainer.loss import kl_to_base, supervised_loss
from trainer.sequences import Sequence

SKIPPED_STEPS = 3
SKIPPED_SHARE = 0.1
"""So many steps of a run, and no more than this share of them, may be skipped because they were
not finite. One more halts it."""
NON_FINITE = "non_finite"


class Steady(Trainer):
    """transformers.Trainer where a step that is not finite is skipped, and said to be."""

    skipped = False
    """The step that is under way was not finite and is skipped."""

    def training_step(self, *arguments: Any, **named: Any) -> torch.Tensor:
        """As theirs, but a loss that is not finite does not spoil the sum with all later ones."""
        loss: torch.Tensor = super().training_step(*arguments, **named)
        return loss.nan_to_num(0.0, 0.0, 0.0)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As theirs; a skipped step is logged as skipped, without a loss."""
        if self.skipped and "loss" in logs:
            self.skipped = False
            logs = {NON_FINITE: 1.0, "learning_rate": logs["learning_rate"]}
        super().log(logs, start_time)

    def skipped_steps(self) -> int:
        """How many steps of the run were not finite, in earlier tries, too."""
        return self.skipped + sum(NON_FINITE in entry for entry in self.state.log_history)


def marked(loss: torch.Tensor) -> torch.Tensor:
    """The loss, whose gradient is not a number where it is not finite itself.

    Infinity can have a finite gradient; one that is not a number marks the whole step.
    """
    return loss * torch.where(loss.detach().isfinite(), 1.0, math.nan)


class SupervisedTrainer(Steady):
    """With the loss of `trainer.loss`."""

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The loss of a micro-batch, as its share of the effective batch's mean per token."""
        total, tokens = supervised_loss(model, inputs)
        loss = marked(total) / (tokens if num_items_in_batch is None else num_items_in_batch)
        if num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # their gradients are averaged
        return (loss, {}) if return_outputs else loss


class Callback(TrainerCallback):
    """One that knows its trainer."""

    def __init__(self, trainer: Steady) -> None:
        self.trainer = trainer


class Finite(Callback):
    """Skips a step that is not finite. Raises Halted after too many."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Without gradients the optimiser changes nothing."""
        parameters = [p for p in self.trainer.model.parameters() if p.grad is not None]
        if bool(get_total_norm([p.grad for p in parameters]).isfinite()):
            return
        for parameter in parameters:
            parameter.grad = None
        self.trainer.skipped = True
        print(f"step {state.global_step + 1} is skipped: its loss or gradient is not finite")
        skipped = self.trainer.skipped_steps()
        if skipped > min(SKIPPED_STEPS, SKIPPED_SHARE * state.max_steps):
            raise Halted(
                f"The loss or its gradient was not finite in {skipped} of {state.global_step + 1} "
                "steps.",
                hint="Lower trainer.recipe.learning_rate, or look at the rows of these batches.",
            )


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
        if logs and "train_runtime" not in logs:
            numbers = {n: v for n, v in logs.items() if isinstance(v, int | float)}
            self.job.beat("training", state.global_step, state.max_steps, **numbers)


class Drift(Callback):
    """Logs how far the model is from its base, at each checkpoint."""

    def __init__(self, trainer: Steady, rows: list[Sequence]) -> None:
        super().__init__(trainer)
        self.rows = rows

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Before the checkpoint, so that the log in it has this, too."""
        if control.should_save and self.rows:
            training = self.trainer.model.training
            self.trainer.model.eval()
            drift = kl_to_base(self.trainer.model, self.rows)
            self.trainer.model.train(training)
            log_loss = control.should_log  # which logging anything sets to False
            self.trainer.log({"kl_to_base": drift})
            control.should_log = log_loss


class Keep(Callback):
    """Looks for space before each checkpoint and marks it as whole after."""

    def __init__(self, trainer: Steady, checkpoints: Checkpoints) -> None:
        super().__init__(trainer)
        self.checkpoints = checkpoints

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Before transformers writes one."""
        if control.should_save:
            self.checkpoints.require_space_for_next(self.trainer.model)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """After it has written one, each rank its part."""
        self.trainer.accelerator.wait_for_everyone()
        if state.is_world_process_zero:
            self.checkpoints.seal(state.global_step)
        self.trainer.accelerator.wait_for_everyone()


class Stop(TrainerCallback):
    """SIGTERM: the step is finished and a checkpoint kept. Outside a training, it ends at once."""

    def __init__(self) -> None:
        self.asked = False
        self.training = False

    def __enter__(self) -> Stop:
        self._before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
        if not self.training:
            raise SystemExit(EXIT_RETRYABLE)

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """From here on there is something to keep."""
        self.training = True

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """The last step has its checkpoint."""
        self.training = False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """A checkpoint, and the end."""
        asked = torch.tensor(int(self.asked), device=PartialState().device)
        self.asked = bool(reduce(asked, "sum"))  # one rank may hear of it a step before another
        if self.asked:
            control.should_save = control.should_training_stop = True
