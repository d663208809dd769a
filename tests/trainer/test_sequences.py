"""Rows as tokens: what is supervised, what is refused, what is left out, and how a batch lies."""

from __future__ import annotations

from typing import Any

import pytest

from store.errors import Rejected
from trainer.sequences import (
    IGNORED,
    NAMED_IDS,
    by_length_in_batches,
    fitting,
    named,
    packed,
    padded,
    side_by_side,
    supervised_tokens,
    tokenise,
)

pytestmark = pytest.mark.filterwarnings("ignore:::transformers")


def row(name: str, user: str, assistant: str) -> dict[str, Any]:
    """A row with an id."""
    messages = [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
    return {"id": name, "conversation": f"c-{name}", "messages": messages}


@pytest.mark.parametrize("response", ["", "  \n", None])
def test_a_poisoned_row_is_refused_by_its_id(tokenizer: Any, response: str | None) -> None:
    """One row without a word to learn, among good ones, stops the run and is named."""
    poisoned = row("poison-7", "Hello", response or "")
    if response is None:
        del poisoned["messages"][1]
    with pytest.raises(Rejected, match=r"1 rows have no assistant token .*: poison-7\.") as caught:
        tokenise([row("good", "Hi", "Hello."), poisoned], tokenizer, 256)
    assert "good" not in caught.value.message


def test_a_row_without_an_id_is_named_by_its_place(tokenizer: Any) -> None:
    """Whoever wrote the file by hand finds the line."""
    rows: list[Any] = [row("a", "Hi", "Hello."), {"messages": [{"role": "user", "content": "Hi"}]}]
    with pytest.raises(Rejected, match=r"row 2\."):
        tokenise(rows, tokenizer, 256)


def test_only_the_last_response_is_supervised_with_its_end(tokenizer: Any) -> None:
    """The judged response and the token that ends it; neither prompt nor earlier answers."""
    told = row("a", "Hi", "First.")
    told["messages"] += [
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": "Second."},
    ]
    [sequence] = tokenise([told], tokenizer, 256)
    seen = [
        t for t, kept in zip(sequence["input_ids"], sequence["labels"], strict=True) if kept >= 0
    ]
    assert tokenizer.decode(seen) == "Second.<|im_end|>"
    assert supervised_tokens(sequence) == len(seen)


def test_what_is_cut_away_is_left_out_and_named(tokenizer: Any) -> None:
    """A response that begins after max_length is named; one that is cut keeps what fits."""
    rows = [row("long", "word " * 100, "yes"), row("cut", "Hi", "word " * 100), row("a", "b", "c")]
    kept, left_out = fitting(tokenise(rows, tokenizer, 64))
    assert left_out == ("long",)
    assert [s["id"] for s in kept] == ["cut", "a"]
    assert len(kept[0]["input_ids"]) == len(kept[0]["labels"]) == 64
    assert kept[0]["labels"][-1] == kept[0]["input_ids"][-1] != tokenizer.eos_token_id


def test_many_ids_are_named_in_part() -> None:
    """A message stays readable; how many more there are is said."""
    assert named(["a", "b"]) == "a, b"
    assert named([str(n) for n in range(NAMED_IDS + 3)]).endswith("19 and 3 more")


def test_a_conversation_stays_together_in_an_order_of_the_seed(tokenizer: Any) -> None:
    """Halves of a pair lie side by side; the seed decides the rest, and nothing is lost."""
    rows = [row(f"{n}", f"Question {n}", "Answer.") for n in range(8)]
    rows[6]["conversation"] = rows[1]["conversation"]
    sequences = tokenise(rows, tokenizer, 256)
    first, again, other = ([s["id"] for s in side_by_side(sequences, seed)] for seed in (1, 1, 2))
    assert first == again != other
    assert sorted(first) == sorted(other) == [f"{n}" for n in range(8)]
    assert abs(first.index("1") - first.index("6")) == 1


def test_effective_batches_keep_their_rows(tokenizer: Any) -> None:
    """Sorting by length never moves a row into another effective batch."""
    rows = [row(f"{n}", "Question", "word " * length) for n, length in enumerate((9, 1, 5, 2, 8))]
    sequences = tokenise(rows, tokenizer, 256)
    ordered = [s["id"] for s in by_length_in_batches(sequences, 3)]
    assert ordered == ["1", "2", "0", "3", "4"]


def test_padding_is_never_seen(tokenizer: Any) -> None:
    """What fills a padded batch is neither attended to nor supervised."""
    sequences = tokenise([row("a", "Hi", "Yes."), row("b", "Hi", "word " * 9)], tokenizer, 256)
    batch = padded(sequences)
    length = len(sequences[0]["input_ids"])
    assert batch["input_ids"].shape == (2, len(sequences[1]["input_ids"]))
    assert batch["attention_mask"][0].tolist()[length - 1 : length + 1] == [1, 0]
    assert set(batch["labels"][0].tolist()[length:]) == {IGNORED}


def test_packed_rows_begin_anew(tokenizer: Any) -> None:
    """Positions start at each document, which the loss never asks of the one before it."""
    sequences = tokenise([row("a", "Hi", "Yes."), row("b", "Ho", "No.")], tokenizer, 256)
    sequences[1]["labels"] = list(sequences[1]["input_ids"])  # one that is supervised throughout
    batch = packed(sequences)
    first = len(sequences[0]["input_ids"])
    assert set(batch) == {"input_ids", "position_ids", "labels"}  # a mask would let them see
    assert batch["input_ids"].shape == (1, first + len(sequences[1]["input_ids"]))
    assert batch["position_ids"][0, first - 1 : first + 2].tolist() == [first - 1, 0, 1]
    assert batch["labels"][0, first].item() == IGNORED != batch["labels"][0, first + 1].item()
