"""What people prefer, chosen and on its side: what an export and a dataset are written from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from converters import PREFERENCES
from converters.clear import paraphrasing
from converters.folder import data_files, hashes, table
from converters.grams import numbered
from converters.preferences import Mark, Pair, beyond_bursts, said
from converters.rows import ROW, key
from converters.selection import Asked
from converters.split import SPLITS, Split, lot, sides
from store.errors import NotEnoughData, Rejected
from store.events import StoreReader
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
"""


class Contents(Noun, frozen=True, kw_only=True):
    """What a folder of preferences holds, and what it was made from: its manifest.json."""

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


class Chosen(NamedTuple):
    """What is learned from, by split, and how many each step dropped. An empty split is none."""

    by_split: dict[Split, list[Pair | Mark]]
    funnel: dict[str, int]

    @property
    def all(self) -> list[Pair | Mark]:
        """Of every split."""
        return [one for some in self.by_split.values() for one in some]

    @property
    def members(self) -> tuple[int, ...]:
        """Positions of the events that it was made from: what erasure follows."""
        return tuple(sorted({position for one in self.all for position in one.members}))


def choose(store: StoreReader, asked: Asked, format: str) -> Chosen:
    """Pairs or marks that the policy admits, none of which asks what a gate asks.

    Raises Rejected for an unknown format, NotEnoughData when there are fewer than the policy asks
    for. Loads the encoder where the policy looks for paraphrases.
    """
    if format not in PREFERENCES:
        raise Rejected(
            f"There is no format {format}.", hint=f"There are: {', '.join(PREFERENCES)}."
        )
    policy = asked.policy
    known = said(store, asked.panel, as_of=asked.as_of, moment=asked.moment)
    sudden = beyond_bursts(store, known, ends=asked.ends, allowed=policy.max_per_source)
    gathered = PREFERENCES[format].gather(known, policy, forbidden=asked.forbidden, sudden=sudden)
    funnel = {name: count for name, count in gathered.funnel.items() if name != "selected"}
    barred = paraphrasing([_turns(one) for one in gathered.found], asked)
    clear = [one for one, bad in zip(gathered.found, barred, strict=True) if not bad]
    funnel["paraphrase"] = len(gathered.found) - len(clear)
    by_split = _on_sides(clear, policy, asked.earlier)
    left = sum(map(len, by_split.values()))
    chosen = Chosen(by_split, funnel | {"between_splits": len(clear) - left, "selected": left})
    _require_enough(chosen, policy)
    return chosen


def written(
    chosen: Chosen,
    asked: Asked,
    format: str,
    *,
    row: Callable[[Any], Mapping[str, Any]] | None = None,
    after: str = "",
) -> tuple[dict[str, bytes], Contents]:
    """The files of a folder, the manifest last, and what it says.

    `row`: how one is written, if not as the format does; `after` ends the card.
    """
    of = PREFERENCES[format].format
    files = {
        f"{split}{of.suffix}": of.write([(row or of.row)(one) for one in side])
        for split, side in chosen.by_split.items()
    }
    sums = hashes(files)
    contents = Contents(
        format=format,
        position=asked.as_of,
        policy=asked.policy,
        panel=asked.panel,
        counts={split: len(side) for split, side in chosen.by_split.items()},
        origins=dict(Counter(one.origin for one in chosen.all)),
        sources=dict(Counter(one.experience.source for one in chosen.all)),
        funnel=chosen.funnel,
        files=sums,
        content_hash=digest(sums),
    )
    files["README.md"] = (_card(contents) + after).encode()
    files["manifest.json"] = msgspec.json.format(to_json(contents), indent=2) + b"\n"
    return files, contents


def _turns(one: Pair | Mark) -> list[str]:
    return [message.content for message in one.experience.messages if message.role == "user"]


def _require_enough(chosen: Chosen, policy: Policy) -> None:
    funnel = chosen.funnel
    if funnel["selected"] >= policy.min_examples:
        return
    dropped = ", ".join(
        f"{count} {name.replace('_', ' ')}"
        for name, count in funnel.items()
        if count and name not in ("said", "selected")
    )
    raise NotEnoughData(
        f"{funnel['selected']} rows, {policy.min_examples} are asked for: {funnel['said']} said"
        + (f", {dropped}." if dropped else "."),
        hint="Decide on more answers (`bhavana review next`), assess what the panel has not seen "
        "(`bhavana assess --all`), or lower policy.min_examples.",
    )


def _on_sides(
    found: Sequence[Pair | Mark], policy: Policy, earlier: Mapping[str, Sequence[int]]
) -> dict[Split, list[Pair | Mark]]:
    """By the split of a dataset, without what lies between them.

    An empty one is none: loaders refuse its file.
    """
    rows = np.zeros(len(found), ROW)
    rows["position"] = [one.members[0] for one in found]
    rows["conversation"] = [key(one.experience.conversation) for one in found]
    rows["lot"] = [lot(one.experience.conversation) for one in found]
    rows["asked"] = numbered([one.experience.last_user_turn for one in found]).whole
    side = sides(
        rows,
        holdout_share=policy.holdout_share,
        test_share=policy.test_share,
        earlier=earlier,
    )
    by_split = {
        split: [one for one, its in zip(found, side, strict=True) if its == split]
        for split in SPLITS
    }
    return {split: some for split, some in by_split.items() if some}


def _card(contents: Contents) -> str:
    format = PREFERENCES[contents.format].format
    return CARD.format(
        format=contents.format,
        about=format.about,
        position=contents.position,
        content_hash=contents.content_hash,
        files=data_files(contents.counts, format.suffix),
        splits=table(contents.counts),
        origins=table(contents.origins),
        sources=table(contents.sources),
        funnel=table(contents.funnel),
        policy=to_json(contents.policy).decode(),
        panel=contents.panel,
    )
