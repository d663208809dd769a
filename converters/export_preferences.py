"""What people say of answers, as a folder that Hugging Face's `load_dataset` and TRL read.

    train.jsonl, …   the rows of each split
    README.md        the card, with the funnel
    manifest.json    format, position, policy, hashes

The same store, position, policy and code give byte-identical files. It is a copy, out of reach
of erasure and of consent; of the splits, an empty one has no file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from converters import PREFERENCES
from converters.folder import (
    COPY,
    data_files,
    hashes,
    named_by_a_person,
    require_vacant,
    table,
    write_whole,
)
from converters.preferences import Gathered, Mark, Pair, beyond_bursts, said
from converters.rows import ROW, key
from converters.selection import Asked
from converters.split import SPLITS, Split, lot, sides
from converters.words import words
from store.errors import Halted, NotEnoughData, Rejected
from store.events import Store
from store.losses import require_whole
from store.privacy import erased_among
from store.records import Noun, Policy, digest, to_json

CARD = """---
license: other
task_categories: [text-generation]
configs:
  - config_name: default
    data_files:
{files}
---
# What people prefer, as {format}

Format: {about}.

What people said of answers, as of position {position} of Bhavana's event log. The content hash is
`{content_hash}`.

| split | rows |
|---|---|
{splits}

| said by | rows |
|---|---|
{origins}

| source | rows |
|---|---|
{sources}

| step | what was said |
|---|---|
{funnel}

Policy: `{policy}`. Panel: `{panel}`.
`review` is a reviewer's decision; all else is feedback, a signal and no proof. A better answer was
accepted or written by a reviewer, admitted by the panel, or sent by a source that is trusted; a
worse one may be any that somebody disliked. Every conversation was recorded with consent to
training. Do not publish without asking the people whose conversations these are.

{copy}
"""


class Exported(Noun, frozen=True, kw_only=True):
    """What a folder of preferences holds, and what it was made from."""

    format: str
    position: int
    policy: Policy
    panel: str
    counts: dict[str, int]
    """Rows by split."""
    origins: dict[str, int]
    """Rows by whose word it is."""
    sources: dict[str, int]
    funnel: dict[str, int]
    files: dict[str, str]
    """SHA-256 of each file."""
    content_hash: str
    """Of the rows."""


def export_preferences(
    store: Store,
    folder: Path,
    asked: Asked,
    *,
    format: str,
) -> Exported:
    """Writes what people prefer into a folder that is not there or empty: all of it, or nothing.

    Raises Rejected for an unknown format, Conflict for a folder that holds something,
    NotEnoughData when there are fewer rows than the policy asks for, Halted when events are
    missing or something was erased meanwhile. The folder is its owner's alone.
    """
    if format not in PREFERENCES:
        raise Rejected(
            f"There is no format {format}.", hint=f"There are: {', '.join(PREFERENCES)}."
        )
    with named_by_a_person(folder):
        require_vacant(folder)
    require_whole(store)  # a withdrawal of consent may be among what is missing
    preference, policy = PREFERENCES[format], asked.policy
    known = said(store, asked.panel, as_of=asked.as_of, moment=asked.moment)
    sudden = beyond_bursts(store, known, ends=asked.ends, allowed=policy.max_per_source)
    gathered: Gathered[Any] = preference.gather(
        known, policy, forbidden=asked.forbidden, sudden=sudden
    )
    _require_enough(gathered, policy)
    on_sides = _on_sides(gathered.found, policy, asked.earlier)
    suffix, row = preference.format.suffix, preference.format.row
    files = {
        f"{split}{suffix}": preference.format.write([row(one) for one in side])
        for split, side in on_sides.items()
    }
    sums = hashes(files)
    exported = Exported(
        format=format,
        position=asked.as_of,
        policy=policy,
        panel=asked.panel,
        counts={split: len(side) for split, side in on_sides.items()},
        origins=dict(Counter(one.origin for one in gathered.found)),
        sources=dict(Counter(one.experience.source for one in gathered.found)),
        funnel=gathered.funnel,
        files=sums,
        content_hash=digest(sums),
    )
    files["README.md"] = _card(exported).encode()
    files["manifest.json"] = msgspec.json.format(to_json(exported), indent=2) + b"\n"
    members = sorted({position for one in gathered.found for position in one.members})
    with named_by_a_person(folder):
        write_whole(folder, files, check=lambda: _require_unerased(store, members))
    return exported


def _require_enough(gathered: Gathered[Any], policy: Policy) -> None:
    found, funnel = len(gathered.found), gathered.funnel
    if found >= policy.min_examples:
        return
    dropped = ", ".join(
        f"{count} {name.replace('_', ' ')}"
        for name, count in funnel.items()
        if count and name not in ("said", "selected")
    )
    raise NotEnoughData(
        f"{found} rows, {policy.min_examples} are asked for: {funnel['said']} said"
        + (f", {dropped}." if dropped else "."),
        hint="Decide on more answers (`bhavana review next`), assess what the panel has not seen "
        "(`bhavana assess --all`), or lower policy.min_examples.",
    )


def _on_sides(
    found: Sequence[Pair | Mark], policy: Policy, earlier: Mapping[str, Sequence[int]]
) -> dict[Split, list[Pair | Mark]]:
    """By the split of a dataset; an empty one is none, loaders refuse its file."""
    rows = np.zeros(len(found), ROW)
    rows["position"] = [one.members[0] for one in found]
    rows["conversation"] = [key(one.experience.conversation) for one in found]
    rows["lot"] = [lot(one.experience.conversation) for one in found]
    asked = np.array([key(*words(one.experience.last_user_turn)) for one in found])
    side = sides(
        rows,
        asked,
        holdout_share=policy.holdout_share,
        test_share=policy.test_share,
        earlier=earlier,
    )
    by_split = {
        split: [one for one, its in zip(found, side, strict=True) if its == split]
        for split in SPLITS
    }
    return {split: some for split, some in by_split.items() if some}


def _require_unerased(store: Store, members: Sequence[int]) -> None:
    if erased_among(store, members):
        raise Halted("Something in it was erased while it was written.", hint="Export it again.")


def _card(exported: Exported) -> str:
    format = PREFERENCES[exported.format].format
    return CARD.format(
        format=exported.format,
        about=format.about,
        position=exported.position,
        content_hash=exported.content_hash,
        files=data_files(exported.counts, format.suffix),
        splits=table(exported.counts),
        origins=table(exported.origins),
        sources=table(exported.sources),
        funnel=table(exported.funnel),
        policy=to_json(exported.policy).decode(),
        panel=exported.panel,
        copy=COPY,
    )
