"""One real step of the worst length before training: its peak decides, not the estimate."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from trainer.demand import ADAPTER_BYTES, MOMENT_BYTES, Demand
from trainer.free import Memory, free_ram
from trainer.memory import Thrift, ran_out
from trainer.preflight import USABLE, Plan, Preflight, does_not_fit

Worst = Callable[[int], tuple[Any, int]]
"""(loss, tokens) of the longest so many sequences of the dataset, as one micro-batch."""


def free_memory() -> Memory:
    """Of the accelerator where there is one, as its driver tells it; else of this machine."""
    if not torch.cuda.is_available():
        return free_ram()
    free, _ = torch.cuda.mem_get_info()
    return Memory(kind="vram", free_bytes=free, source=torch.cuda.get_device_name())


def taken() -> int:
    """Bytes that this process holds now, where the model goes."""
    if torch.cuda.is_available():
        return torch.cuda.memory_reserved()
    return _status("VmRSS")


def checkpointed(model: Any, on: bool) -> None:
    """Switches activation checkpointing."""
    if on:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    else:
        model.gradient_checkpointing_disable()


def rehearse(
    model: Any, asked: Demand, plan: Plan, worst: Worst, *, before: int, tokens: float, dtype: Any
) -> Preflight:
    """Takes the worst step with what the plan tries until it fits. Raises DoesNotFit.

    `before`: what was `taken` before the model was loaded. `tokens`: of all epochs, for the ETA.
    The model's weights and the random state are as before; checkpointing is left as it was found
    to fit.
    """
    room = plan.memory.free_bytes * USABLE
    moments = asked.trained_weights() * (
        MOMENT_BYTES if ADAPTER_BYTES[asked.recipe.optim] == 16 else 2
    )
    needed = 0
    for index, (thrift, estimated) in enumerate(zip(plan.tries, plan.estimates, strict=True)):
        checkpointed(model, thrift.activation_checkpointing)
        measured = _step(model, thrift, worst, dtype)
        if measured is None:
            needed = estimated
            continue
        peak, seconds, length = measured
        needed = peak - before + moments
        if needed <= room:
            return Preflight(
                verdict="fits" if plan.as_configured and index == 0 else "tight",
                memory=plan.memory,
                estimated_bytes=estimated,
                measured_bytes=needed,
                thrift=thrift,
                worst=asked.worst,
                step_seconds=seconds,
                eta_seconds=seconds * tokens / length,
            )
    raise does_not_fit(asked, plan.memory, needed)


def _step(model: Any, thrift: Thrift, worst: Worst, dtype: Any) -> tuple[int, float, int] | None:
    """(peak bytes, seconds, tokens) of a forward and a backward pass; None when memory ran out."""
    device = model.device.type
    was_training = model.training
    model.train()
    _reset_peak()
    started = time.monotonic()
    try:
        with torch.random.fork_rng():
            with torch.autocast(device, torch.bfloat16, enabled=dtype is torch.bfloat16):
                loss, length = worst(thrift.micro_batch_size)
            loss.backward()
            if device == "cuda":
                torch.cuda.synchronize()
    except (MemoryError, RuntimeError) as error:
        if not ran_out(error):
            raise
        return None
    finally:
        model.zero_grad(set_to_none=True)
        model.train(was_training)
    seconds = time.monotonic() - started
    peak = _peak()
    del loss
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    return peak, seconds, length


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew at VmRSS


def _peak() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved()
    return _status("VmHWM")


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status tells no {field}.")
