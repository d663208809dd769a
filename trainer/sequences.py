"""Rows as tokens: what the loss sees of each, in which order, and how a batch is laid out.

A row must hold something to learn. Whoever trains on rows whose labels are all masked trains on
nothing and is never told; so such a row is refused here, with its id.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypedDict, TypeVar

import torch

from store.errors import Rejected
from trainer import templates

IGNORED = -100  # the label that the field gives to positions without loss
NAMED_IDS = 20
"""So many ids are named in a message; the manifest has all."""
Row = TypeVar("Row", bound="Named")


class Named(TypedDict):
    """What every row of a dataset has, whatever its kind."""

    id: str
    conversation: str


class Sequence(Named):
    """One tokenised row; labels are IGNORED where there is no loss."""

    input_ids: list[int]
    labels: list[int]


def tokenise(rows: Iterable[dict[str, Any]], tokenizer: Any, max_length: int) -> list[Sequence]:
    """A sequence for each row, with loss on the last assistant turn: the response that was judged.

    What goes beyond max_length is cut off; a response that begins there leaves no label at all,
    see `fitting`. Raises Rejected with the ids of rows without a response, which no length mends.
    """
    template = templates.tagged_for(tokenizer)
    sequences, empty = [], []
    for number, row in enumerate(rows, start=1):
        name = str(row.get("id") or f"row {number}")
        encoded = tokenizer.apply_chat_template(
            row["messages"],
            chat_template=template,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        ids, mask = encoded["input_ids"], _last_turn(encoded["assistant_masks"])
        if not any(mask) or not _response(row["messages"]).strip():
            empty.append(name)
            continue
        labels = [token if kept else IGNORED for token, kept in zip(ids, mask, strict=True)]
        sequences.append(
            Sequence(
                id=name,
                conversation=str(row.get("conversation") or name),
                input_ids=ids[:max_length],
                labels=labels[:max_length],
            )
        )
    if empty:
        raise Rejected(
            f"{len(empty)} rows have no assistant token to learn from: {named(empty)}.",
            hint="Take them out of the dataset, or give them a response.",
        )
    return sequences


def _response(messages: list[dict[str, str]]) -> str:
    return next((m["content"] for m in reversed(messages) if m["role"] == "assistant"), "")


def _last_turn(mask: list[int]) -> list[int]:
    """The mask without all runs of ones but the last."""
    end = len(mask) - mask[::-1].index(1) if 1 in mask else 0
    start = end
    while start > 0 and mask[start - 1]:
        start -= 1
    return [int(start <= index < end) for index in range(len(mask))]


class Fitting(NamedTuple):
    """What is left of the rows after the cut at max_length."""

    kept: list[Sequence]
    left_out: tuple[str, ...]
    """Ids of rows whose response begins after max_length: nothing of it could be learned."""


def fitting(sequences: list[Sequence]) -> Fitting:
    """The sequences in which something is supervised, and the ids of the others."""
    return Fitting(
        [s for s in sequences if supervised_tokens(s)],
        tuple(s["id"] for s in sequences if not supervised_tokens(s)),
    )


def supervised_tokens(sequence: Sequence) -> int:
    """How many tokens the loss sees."""
    return sum(label != IGNORED for label in sequence["labels"])


def named(ids: list[str] | tuple[str, ...]) -> str:
    """The ids for a message: the first few, and how many more there are."""
    more = len(ids) - NAMED_IDS
    return ", ".join(ids[:NAMED_IDS]) + (f" and {more} more" if more > 0 else "")


def side_by_side(rows: list[Row], seed: int) -> list[Row]:
    """In an order drawn by the seed, those of one conversation next to each other.

    The halves of a contrast pair are one conversation. In one batch, what they have in common
    cancels out of the gradient, and what remains is what tells them apart.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["conversation"], []).append(row)
    order = list(groups.values())
    random.Random(seed).shuffle(order)  # noqa: S311  # an order, not a secret
    return [row for group in order for row in group]


def tokens_of(sequence: Any) -> int:
    """How long a sequence is."""
    return len(sequence["input_ids"])


def by_length_in_batches(
    rows: list[Row], size: int, length: Callable[[Row], int] = tokens_of
) -> list[Row]:
    """The same effective batches in the same order, each sorted by length: less padding."""
    return [
        row
        for start in range(0, len(rows), size)
        for row in sorted(rows[start : start + size], key=length)
    ]


def padded(batch: list[Sequence]) -> dict[str, torch.Tensor]:
    """Right-padded input_ids, attention_mask and labels of shape (batch, longest)."""
    longest = max(len(s["input_ids"]) for s in batch)

    def filled(values: list[int], filler: int) -> list[int]:
        return values + [filler] * (longest - len(values))

    return {
        "input_ids": torch.tensor([filled(s["input_ids"], 0) for s in batch]),
        "attention_mask": torch.tensor([filled([1] * len(s["input_ids"]), 0) for s in batch]),
        "labels": torch.tensor([filled(s["labels"], IGNORED) for s in batch]),
    }


def packed(batch: list[Sequence]) -> dict[str, torch.Tensor]:
    """The sequences end to end in one row, without padding: input_ids, position_ids and labels.

    Positions begin anew with each sequence, from which transformers' attention knows that none
    sees another; but only where no attention_mask is given and no cache is kept.
    """
    return {
        "input_ids": torch.tensor([[t for s in batch for t in s["input_ids"]]]),
        "position_ids": torch.tensor([[n for s in batch for n in range(len(s["input_ids"]))]]),
        # No sequence's first token is the next one after the sequence before it.
        "labels": torch.tensor([[t for s in batch for t in (IGNORED, *s["labels"][1:])]]),
    }
