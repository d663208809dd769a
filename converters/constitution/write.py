"""A folder of examples: train.jsonl, the card README.md, manifest.json; whole or not at all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from enum import Enum
from pathlib import Path

import msgspec

from converters.constitution import parts
from converters.constitution.examples import GIST, Example
from converters.constitution.exports import EXPORTS
from converters.constitution.measure import Distinctness, distinctness
from converters.folder import hashes, write_whole
from store.errors import IntegrityError
from store.records import Noun, digest, to_json

CARD = """---
license: apache-2.0
language: en
task_categories: [text-generation]
configs:
  - config_name: default
    data_files:
      - {{split: train, path: train.jsonl}}
---
# Constitutional examples

{count} examples as `{format}`, composed with seed {seed} from parts written for Bhavana one by
one. Their author is a language model, and no person has read all of them. In English.

Laws in their precedence: 0 {law_0}; 1 {law_1}; 2 {law_2}; 3 {law_3}; 4 {law_4}.

{tables}

Similarity is Jaccard's, of three words in a row. No two prompts are the same.

| figure | value |
|---|---|
{figures}

Composed examples share sentences within a topic: they are many rows of {topics} topics. The second
tag names the topic; split by it, and prove what a model learned on requests that are not among
them. `response_harmful` shows the tone of a bad answer and holds nothing that could be acted on.
The advice is general, and no word of a doctor or a lawyer.
"""


class Manifest(Noun, frozen=True, kw_only=True):
    """What the folder holds, and what it was made from."""

    count: int
    seed: int
    format: str
    parts: str
    """SHA-256 of all hand-written parts."""
    types: dict[str, int]
    laws: dict[str, int]
    difficulties: dict[str, int]
    decisions: dict[str, int]
    topics: int
    distinctness: Distinctness
    files: dict[str, str]
    """SHA-256 of each file."""


def write(folder: Path, examples: Sequence[Example], *, seed: int, format: str) -> Manifest:
    """Writes the folder and returns its manifest. Raises IntegrityError if something is there."""
    if folder.exists():
        raise IntegrityError(f"{folder} is there already.", hint="Name another folder.")
    row = EXPORTS[format]
    text = "".join(json.dumps(row(e), ensure_ascii=False) + "\n" for e in examples).encode()
    manifest = describe(examples, seed=seed, format=format, train=text)
    files = {
        "train.jsonl": text,
        "README.md": card(manifest).encode(),
        "manifest.json": msgspec.json.format(to_json(manifest)) + b"\n",
    }
    write_whole(folder, files)
    return manifest


def describe(examples: Sequence[Example], *, seed: int, format: str, train: bytes) -> Manifest:
    """Counts and figures of the examples."""
    return Manifest(
        count=len(examples),
        seed=seed,
        format=format,
        parts=digest(parts.read()),
        types=_counts(e.example_type for e in examples),
        laws={str(k): n for k, n in sorted(Counter(int(e.law_category) for e in examples).items())},
        difficulties=_counts(e.difficulty for e in examples),
        decisions=_counts(e.decision for e in examples),
        topics=len({e.tags[1] for e in examples}),
        distinctness=distinctness(examples),
        files=hashes({"train.jsonl": train}),
    )


def card(manifest: Manifest) -> str:
    """The README of the folder."""
    tables = "\n\n".join(
        f"| {name} | rows |\n|---|---|\n" + "\n".join(f"| {k} | {n} |" for k, n in counts.items())
        for name, counts in (
            ("type", manifest.types),
            ("law (-1: none)", manifest.laws),
            ("difficulty", manifest.difficulties),
            ("decision", manifest.decisions),
        )
    )
    figures = "\n".join(
        f"| {name.replace('_', ' ')} | {value} |"
        for name, value in msgspec.structs.asdict(manifest.distinctness).items()
    )
    return CARD.format(
        count=manifest.count,
        seed=manifest.seed,
        format=manifest.format,
        topics=manifest.topics,
        tables=tables,
        figures=figures,
        **{f"law_{law.value}": gist for law, gist in GIST.items()},
    )


def _counts(values: Iterable[Enum]) -> dict[str, int]:
    return dict(sorted(Counter(str(value.value) for value in values).items()))
