"""Public benchmarks as gates: off unless the configuration names where one lies. The roster.

A new benchmark is one file with a BENCHMARK and one line below. Its data is not ours and not
here: it is read from a file as the makers or the hub have it, cut to so many samples by a fixed
seed, and written as a suite, which is frozen and hashed like any other.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import msgspec

from store.errors import Misconfigured
from store.records import digest
from trainer.base import hash_files
from trainer.gates.benchmarks import gsm8k, humaneval, mbpp
from trainer.gates.benchmarks.benchmark import Benchmark, Row
from trainer.gates.benchmarks.reading import read
from trainer.gates.gate import Gate
from trainer.gates.sample import Sample
from trainer.job import write_atomically

BENCHMARKS: dict[str, Benchmark] = {
    "gsm8k": gsm8k.BENCHMARK,
    "humaneval": humaneval.BENCHMARK,
    "mbpp": mbpp.BENCHMARK,
}
LIMIT = 100
"""Samples: with 100 of them a share is known to some ten points."""
SEED = 20260122


def prepare(name: str, where: str, folder: Path, limit: int = LIMIT) -> Path:
    """Writes a benchmark as a suite into the folder; returns its file, which is always the same.

    `where` is a file (.jsonl, .jsonl.gz, .parquet) or a hub id, `org/name` or `org/name@revision`.
    Raises Misconfigured.
    """
    if name not in BENCHMARKS:
        raise Misconfigured(
            f"trainer.benchmarks: there is no benchmark {name}.",
            hint=f"There are {', '.join(BENCHMARKS)}.",
        )
    source, rows = read(BENCHMARKS[name], where)
    found = (_sample(name, source, number, row) for number, row in enumerate(rows, start=1))
    samples = [sample for sample in found if sample is not None]
    drawn = random.Random(SEED).sample(samples, min(limit, len(samples)))  # noqa: S311
    drawn.sort(key=lambda sample: sample.id)
    path = folder / f"{name}-{digest([hash_files([source]), limit, SEED])[:16]}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, msgspec.json.Encoder().encode_lines(drawn))
    return path


def gates(prepared: Mapping[str, str]) -> dict[str, Gate]:
    """The gates of the benchmarks whose suites were prepared, by name."""
    return {
        name: msgspec.structs.replace(
            gate := BENCHMARKS[name].gate, task=msgspec.structs.replace(gate.task, suite=path)
        )
        for name, path in prepared.items()
    }


def _sample(name: str, source: Path, number: int, row: Row) -> Sample | None:
    try:
        return BENCHMARKS[name].sample(row)
    except (KeyError, TypeError, ValueError, SyntaxError) as error:
        raise Misconfigured(
            f"trainer.benchmarks.{name}: row {number} of {source} is not as {name} has it: "
            f"{type(error).__name__}: {error}.",
            hint="Take the file as its makers or the hub publish it.",
        ) from error
