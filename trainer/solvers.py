"""How a model is asked a task's samples: it replies, it reads, or it chooses (torch).

The batches depend on the questions alone, never on the model, so that two models are asked in
exactly the same way.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import msgspec
import torch
from msgspec import Struct
from torch.nn.functional import log_softmax

from trainer.answers import answer
from trainer.gates.sample import Sample
from trainer.gates.task import Task
from trainer.jobs import Observation
from trainer.questions import Sampling
from trainer.sequences import IGNORED, tokenise

MAX_LENGTH = 1024
READ_TOGETHER = 4
"""Prompts that are read at once; more are hardly faster, and a large vocabulary takes memory."""
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
    weighed = [_weighed(tokenizer, task, sample) for sample in samples]
    seen: dict[int, Observation] = {}
    with torch.inference_mode():
        shared = _Shared(model, [w.prompt for w in weighed])
        for places in _together(weighed):
            totals = shared.log_probabilities([weighed[i] for i in places])
            for i, total in zip(places, totals, strict=True):
                seen[i] = _observation(task, samples[i], weighed[i], total)
            progress(len(seen), len(samples))
    return [seen[i] for i in range(len(samples))]


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


class _Weighed(Struct, frozen=True):
    """A prompt and the replies whose likelihood is asked for, as tokens."""

    prompt: list[int]
    names: tuple[str, ...]
    replies: tuple[list[int], ...]
    """Each with the end of its turn."""


def _weighed(tokenizer: Any, task: Task, sample: Sample) -> _Weighed:
    texts = task.texts(sample) if task.solver == "read" else {o: o for o in sample.options}
    prompt: list[int] = []
    replies = []
    for text in texts.values():
        turns = [*sample.question().conversation(), {"role": "assistant", "content": text}]
        [sequence] = tokenise([{"messages": turns}], tokenizer, MAX_LENGTH)
        said = [i for i, label in enumerate(sequence["labels"]) if label != IGNORED]
        prompt = sequence["input_ids"][: said[0]]  # the same for each
        replies.append(sequence["input_ids"][said[0] : said[-1] + 1])
    return _Weighed(prompt, tuple(texts), tuple(replies))


def _observation(task: Task, sample: Sample, weighed: _Weighed, total: torch.Tensor) -> Observation:
    """Losses in nats per token, or each option's probability as the whole reply."""
    if task.solver == "read":
        lengths = torch.tensor([len(reply) for reply in weighed.replies])
        losses = (-total / lengths).tolist()
        return Observation(id=sample.id, losses=dict(zip(weighed.names, losses, strict=True)))
    shares = torch.softmax(total, dim=0).tolist()
    return Observation(id=sample.id, probabilities=dict(zip(weighed.names, shares, strict=True)))


def _together(weighed: Sequence[_Weighed]) -> Iterator[tuple[int, ...]]:
    """Places of what is read at once: prompts of about one length, with as many replies."""

    def replies(i: int) -> int:
        return len(weighed[i].replies)

    order = sorted(range(len(weighed)), key=lambda i: (replies(i), len(weighed[i].prompt), i))
    for _, alike in groupby(order, key=replies):
        places = tuple(alike)
        for start in range(0, len(places), READ_TOGETHER):
            yield places[start : start + READ_TOGETHER]


def _alike(one: list[int], other: list[int]) -> int:
    """How many tokens both begin with, but for one at least that is left to read."""
    shorter = min(len(one), len(other)) - 1
    return next((i for i in range(shorter) if one[i] != other[i]), shorter)


class _Shared:
    """A model that has read what all prompts begin with: the system's words, a rubric."""

    def __init__(self, model: Any, prompts: Sequence[list[int]]) -> None:
        self.model = model
        begin = prompts[0]
        self.length = min(_alike(begin, prompt) for prompt in prompts)
        self.cache = None
        if self.length > 0:
            ids = torch.tensor([begin[: self.length]], device=model.device)
            self.cache = model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values

    def log_probabilities(self, weighed: Sequence[_Weighed]) -> torch.Tensor:
        """Total log-probability in nats of each reply after its prompt: [prompts, replies].

        Each prompt is read once. Every prompt has as many replies.
        """
        each = len(weighed[0].replies)
        cache, seen, last = self._read([w.prompt[self.length :] for w in weighed])
        tokens, own = self._padded([reply for w in weighed for reply in w.replies])
        begun = log_softmax(last.float(), dim=-1).repeat_interleave(each, dim=0)
        totals = begun.gather(1, tokens[:, :1]).squeeze(1)
        if tokens.shape[1] > 1:
            cache.batch_repeat_interleave(each)
            # What follows a reply's own end is padding: nothing before it sees it, nor is it
            # counted.
            given, before = tokens[:, :-1], seen.repeat_interleave(each, dim=0)
            logits = self.model(
                input_ids=given,
                attention_mask=torch.cat([before, torch.ones_like(given)], dim=1),
                position_ids=before.sum(dim=1, keepdim=True)
                + torch.arange(given.shape[1]).to(given),
                past_key_values=cache,
                use_cache=True,
            ).logits
            told = log_softmax(logits.float(), dim=-1).gather(2, tokens[:, 1:, None]).squeeze(2)
            totals = totals + (told * own[:, 1:]).sum(dim=1)
        return totals.view(len(weighed), each).cpu()

    def _read(self, prompts: list[list[int]]) -> tuple[Any, torch.Tensor, torch.Tensor]:
        """(cache, which of its places are a prompt's own, logits after the last token)."""
        ids, own = self._padded(prompts, left=True)
        seen = torch.cat([own.new_ones(len(prompts), self.length), own], dim=1)
        cache = copy.deepcopy(self.cache)
        if cache is not None:
            cache.batch_repeat_interleave(len(prompts))
        read = self.model(
            input_ids=ids,
            attention_mask=seen,
            position_ids=(seen.cumsum(dim=1) - 1).clamp(min=0)[:, self.length :],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return read.past_key_values, seen, read.logits[:, -1]

    def _padded(
        self, rows: list[list[int]], *, left: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(tokens, 1 where they are a row's own), as long as the longest row."""
        longest = max(map(len, rows))

        def filled(row: list[int]) -> list[int]:
            missing = [0] * (longest - len(row))
            return [*missing, *row] if left else [*row, *missing]

        device = self.model.device
        own = [filled([1] * len(row)) for row in rows]
        return (
            torch.tensor([filled(row) for row in rows], device=device),
            torch.tensor(own, device=device),
        )
