"""How a model is asked a task's samples: it replies, it reads, or it chooses (torch).

The batches depend on the questions alone, never on the model, and everything is computed in
float32, so that two models are asked in exactly the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import torch
from torch.nn.functional import log_softmax

from trainer.answers import answer
from trainer.gates.sample import Sample
from trainer.gates.task import Task
from trainer.jobs import Observation
from trainer.loss import mean_loss
from trainer.questions import Sampling
from trainer.sequences import IGNORED, tokenise
from trainer.sequences import Sequence as Tokens

MAX_LENGTH = 1024
Progress = Callable[[int, int], None]
"""Told how much is done, and of how much."""


def solve(
    model: Any,
    tokenizer: Any,
    task: Task,
    samples: Sequence[Sample],
    sampling: Sampling,
    progress: Progress = lambda _done, _total: None,
) -> list[Observation]:
    """What the model does with each sample, in their order; once for each epoch."""
    if task.solver == "generate":
        return _generated(model, tokenizer, task, samples, sampling, progress)
    look = _read if task.solver == "read" else _chosen
    observations = []
    for index, sample in enumerate(samples):
        observations.append(look(model, tokenizer, task, sample))
        progress(index + 1, len(samples))
    return observations


def _generated(
    model: Any,
    tokenizer: Any,
    task: Task,
    samples: Sequence[Sample],
    sampling: Sampling,
    progress: Progress,
) -> list[Observation]:
    questions = [sample.question() for sample in samples]
    length = task.max_new_tokens or sampling.max_new_tokens
    observations = []
    for epoch in range(task.epochs):
        drawn = msgspec.structs.replace(sampling, max_new_tokens=length, seed=sampling.seed + epoch)
        answers = answer(
            model,
            tokenizer,
            questions,
            drawn,
            lambda done, total, epoch=epoch: progress(  # type: ignore[misc]
                epoch * total + done, task.epochs * total
            ),
        )
        observations += [Observation(id=a.id, epoch=epoch, answer=a) for a in answers]
    return observations


def _read(model: Any, tokenizer: Any, task: Task, sample: Sample) -> Observation:
    losses: dict[str, float | None] = {
        name: mean_loss(model, [_sequence(tokenizer, sample, text)])
        for name, text in task.texts(sample).items()
    }
    return Observation(id=sample.id, losses=losses)


def _chosen(model: Any, tokenizer: Any, _: Task, sample: Sample) -> Observation:
    """The probability of each option as the whole reply: its tokens, and then the turn's end."""
    sequences = [_sequence(tokenizer, sample, option) for option in sample.options]
    start = min(map(_begin, sequences))
    replies = [sequence["input_ids"][start : _end(sequence)] for sequence in sequences]
    with torch.inference_mode():
        totals = _log_probabilities(model, sequences[0]["input_ids"][:start], replies)
        shares = torch.softmax(totals, dim=0).tolist()
    return Observation(id=sample.id, probabilities=dict(zip(sample.options, shares, strict=True)))


def _begin(sequence: Tokens) -> int:
    return next(i for i, label in enumerate(sequence["labels"]) if label != IGNORED)


def _end(sequence: Tokens) -> int:
    labels = sequence["labels"]
    return max(i for i, label in enumerate(labels) if label != IGNORED) + 1


def _log_probabilities(model: Any, prompt: list[int], replies: list[list[int]]) -> torch.Tensor:
    """Total log-probability in nats of each reply after the prompt, which is read once."""
    device = model.device
    first = model(input_ids=torch.tensor([prompt], device=device), use_cache=True)
    totals = log_softmax(first.logits[0, -1].float(), dim=-1)[
        torch.tensor([reply[0] for reply in replies], device=device)
    ]
    longest = max(map(len, replies))
    if longest == 1:
        return totals
    cache = first.past_key_values
    cache.batch_repeat_interleave(len(replies))
    padded = [reply + [0] * (longest - len(reply)) for reply in replies]
    # What follows a reply's own end is padding: nothing before it sees it, and it is not counted.
    tokens = torch.tensor(padded, device=device)
    logits = model(input_ids=tokens[:, :-1], past_key_values=cache, use_cache=True).logits
    told = log_softmax(logits.float(), dim=-1).gather(2, tokens[:, 1:, None]).squeeze(2)
    counted = torch.tensor(
        [[1.0] * (len(reply) - 1) + [0.0] * (longest - len(reply)) for reply in replies],
        device=device,
    )
    return totals + (told * counted).sum(dim=1)


def _sequence(tokenizer: Any, sample: Sample, text: str) -> Tokens:
    turns = [*sample.question().conversation(), {"role": "assistant", "content": text}]
    [sequence] = tokenise([{"messages": turns}], tokenizer, MAX_LENGTH)
    return sequence
