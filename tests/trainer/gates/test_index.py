"""The index of the suites says what is there."""

from __future__ import annotations

import tomllib

from trainer.gates.sample import SUITES, read_suite

INDEX = tomllib.loads((SUITES / "index.toml").read_text(encoding="utf-8"))


def test_index_counts_what_is_there() -> None:
    """Each suite that it names exists, with so many samples and families, and a provenance."""
    for name, entry in INDEX.items():
        samples = read_suite(f"{name}.jsonl")
        assert entry["samples"] == len(samples), name
        assert entry["families"] == len({sample.family for sample in samples}), name
        assert all(entry[key].strip() for key in ("purpose", "provenance", "licence"))


def test_index_is_in_order() -> None:
    """A newcomer finds its place."""
    assert list(INDEX) == sorted(INDEX)
