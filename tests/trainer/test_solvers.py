"""How a model is asked: what reading and choosing give, compared with the long way round."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from store.records import Message
from trainer.base import Base
from trainer.gates.sample import Sample
from trainer.gates.task import Task
from trainer.loss import mean_loss
from trainer.model import load
from trainer.questions import Sampling
from trainer.sequences import IGNORED, tokenise
from trainer.solvers import MAX_LENGTH, solve

pytestmark = pytest.mark.filterwarnings("ignore:::transformers", "ignore:::torch", "ignore:::peft")

EARLIER = (Message(role="user", content="Hello."), Message(role="assistant", content="Hello!"))
RATING = Sample(
    id="r",
    family="r",
    prompt="How kind is this, from one to ten?",
    options=tuple(str(n) for n in range(1, 11)),
)


@pytest.fixture
def loaded(tiny_base: Base, tmp_path: Path) -> tuple[Any, Any]:
    """A model of two random layers, and its tokenizer."""
    return load(tiny_base, tmp_path / "cache", dtype=torch.float32)


def total(model: Any, tokenizer: Any, sample: Sample, text: str) -> float:
    """The log-probability of a whole reply, by one pass over all of it."""
    turns = [*sample.question().conversation(), {"role": "assistant", "content": text}]
    [sequence] = tokenise([{"messages": turns}], tokenizer, MAX_LENGTH)
    tokens = sum(label != IGNORED for label in sequence["labels"])
    return -mean_loss(model, [sequence]) * tokens


@pytest.mark.parametrize("earlier", [(), EARLIER])
def test_choice_is_the_probability_of_whole_replies(
    loaded: tuple[Any, Any], earlier: tuple[Message, ...]
) -> None:
    """1 and 10 begin alike and are told apart by their ends; the shares sum to one."""
    sample = Sample(
        id="r", family="r", prompt=RATING.prompt, earlier=earlier, options=RATING.options
    )
    [seen] = solve(*loaded, Task(suite="x", solver="choose"), [sample], Sampling())
    assert seen.probabilities is not None
    assert math.fsum(seen.probabilities.values()) == pytest.approx(1)
    totals = torch.tensor([total(*loaded, sample, option) for option in RATING.options])
    expected = torch.softmax(totals, dim=0).tolist()
    assert list(seen.probabilities.values()) == pytest.approx(expected, rel=1e-3)


def test_reading_gives_each_text_its_loss(loaded: tuple[Any, Any]) -> None:
    """Each named reply has the loss that it has alone."""
    sample = Sample(id="s", family="s", prompt="Why?", keeps="Because it is so.", breaks="No.")
    task = Task(suite="x", solver="read", texts=lambda s: {"keeps": s.keeps, "breaks": s.breaks})
    [seen] = solve(*loaded, task, [sample], Sampling())
    assert seen.losses is not None
    assert list(seen.losses) == ["keeps", "breaks"]
    [sequence] = tokenise(
        [
            {
                "messages": [
                    {"role": "user", "content": "Why?"},
                    {"role": "assistant", "content": "No."},
                ]
            }
        ],
        loaded[1],
        MAX_LENGTH,
    )
    assert seen.losses["breaks"] == pytest.approx(mean_loss(loaded[0], [sequence]), abs=1e-5)


def test_each_epoch_is_drawn_anew(loaded: tuple[Any, Any]) -> None:
    """Above temperature 0 another epoch gives other answers, and a second run the same ones."""
    task = Task(suite="x", solver="generate", epochs=2, max_new_tokens=12)
    sampling = Sampling(temperature=1.0)
    samples = [Sample(id=f"s{k}", family="s", prompt=f"Tell me of {k}.") for k in range(3)]
    seen = solve(*loaded, task, samples, sampling)
    assert [(o.id, o.epoch) for o in seen] == [
        (f"s{k}", epoch) for epoch in range(2) for k in range(3)
    ]
    said = [o.answer.response for o in seen if o.answer]
    assert said[:3] != said[3:]
    assert solve(*loaded, task, samples, sampling) == seen
