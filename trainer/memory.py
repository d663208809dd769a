"""What running out of memory teaches a job: what it is tried again with, in a process of its own.

The effective batch is the recipe's and never changes. First the micro-batch is halved, and with
it what is accumulated doubles; then activations are computed twice instead of kept; then the job
is refused. Never in the process that ran out: what an allocator does afterwards, nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace

from store.errors import DoesNotFit, Unavailable
from store.records import Noun
from trainer.job import read_record, write_record
from trainer.recipe import Recipe

FILE = "thrift.json"
SAID = ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc")
"""How torch, CUDA and C++ say it, where the error has no type of its own."""


class Thrift(Noun, frozen=True, kw_only=True):
    """With what a job fits, as far as it has learned: thrift.json in its folder."""

    micro_batch_size: int
    activation_checkpointing: bool
    least: int = 1
    """The smallest micro-batch that the method can do with."""

    def more(self) -> Thrift | None:
        """The next thing to try with less memory; None when nothing is left."""
        if self.micro_batch_size > 1:
            # Half of it; of an odd one another divisor, as it must divide the effective batch.
            smaller = self.micro_batch_size // _least_divisor(self.micro_batch_size)
            if smaller >= self.least:
                return replace(self, micro_batch_size=smaller)
        if not self.activation_checkpointing:
            return replace(self, activation_checkpointing=True)
        return None


def _least_divisor(number: int) -> int:
    return next(n for n in range(2, number + 1) if number % n == 0)


def learned(folder: Path, recipe: Recipe) -> Thrift:
    """What the job's earlier tries have learned; at first what the recipe says."""
    path = folder / FILE
    if path.is_file():
        return read_record(path, Thrift)
    return Thrift(
        micro_batch_size=recipe.micro_batch_size,
        activation_checkpointing=recipe.activation_checkpointing,
        least=2 if recipe.method == "kto" else 1,
    )


def learn(folder: Path, recipe: Recipe) -> Thrift:
    """Notes that the job ran out of memory; the next try's thrift. Raises DoesNotFit."""
    thrift = learned(folder, recipe).more()
    if thrift is None:
        raise DoesNotFit(
            "Memory runs out with one sequence at a time and activation checkpointing.",
            hint=f"Lower trainer.recipe.max_length ({recipe.max_length}), or name a smaller base.",
        )
    write_record(folder / FILE, thrift)
    return thrift


@contextmanager
def watched(folder: Path, recipe: Recipe) -> Iterator[None]:
    """Running out of memory inside is learned from. Raises Unavailable: try again; or DoesNotFit.

    Keeps no traceback, which would hold on to the memory.
    """
    error: BaseException | None = None
    try:
        yield
    except (MemoryError, RuntimeError) as caught:
        if not ran_out(caught):
            raise
        error = caught.with_traceback(None)
    if error is not None:
        said = str(error).strip().splitlines()[:1]
        thrift = learn(folder, recipe)
        raise Unavailable(
            f"Memory ran out{': ' if said else '.'}{''.join(said)}",
            hint=f"Tried again with micro_batch_size {thrift.micro_batch_size}"
            + (" and activation checkpointing." if thrift.activation_checkpointing else "."),
        )


def ran_out(error: BaseException) -> bool:
    """Whether memory ran out, on the processor's or an accelerator's side."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error).lower() for word in SAID)
    )
