"""Answers in frozen batches, from a base of two random layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from store.records import Message
from trainer.answers import BATCH_SIZE, answer, answer_job
from trainer.base import Base
from trainer.job import read_record, write_record
from trainer.jobs import AnswerJob, AnswerManifest
from trainer.model import load
from trainer.questions import Answer, Question, Sampling

pytestmark = pytest.mark.filterwarnings("ignore:::transformers", "ignore:::torch", "ignore:::peft")

GREEDY = Sampling(max_new_tokens=6)
LENGTHS = [7, 1, 30, 3, 12, 5, 22, 2, 9, 1, 17, 4, 28, 6, 11, 8, 25, 10, 3, 14] * 2
QUESTIONS = [Question(id=f"q-{n:02}", prompt=f"Why {n}?" * k) for n, k in enumerate(LENGTHS)]


@pytest.fixture(scope="module")
def model(tiny_base: Base, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The tiny base, ready to answer."""
    return load(tiny_base, tmp_path_factory.mktemp("cache"))[0]


@pytest.fixture(scope="module")
def adapted(tiny_base: Base, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The tiny base with the trained adapter."""
    return load(tiny_base, tmp_path_factory.mktemp("cache"), trained / "adapter")[0]


@pytest.fixture(scope="module")
def greedy(model: Any, tokenizer: Any) -> list[Answer]:
    """Greedy answers to all questions."""
    return answer(model, tokenizer, QUESTIONS, GREEDY)


def test_answers_come_in_the_order_of_the_questions(greedy: list[Answer]) -> None:
    """One answer for each question at its place, however the batches were sorted."""
    assert [a.id for a in greedy] == [q.id for q in QUESTIONS]
    assert all(0 < a.tokens <= GREEDY.max_new_tokens for a in greedy)


def test_greedy_is_repeatable(model: Any, tokenizer: Any, greedy: list[Answer]) -> None:
    """The same model, questions and sampling give the same answers, to the byte."""
    assert answer(model, tokenizer, QUESTIONS, GREEDY) == greedy


def test_batches_depend_on_questions_only(
    adapted: Any, tokenizer: Any, greedy: list[Answer]
) -> None:
    """Another model with other answers is asked in the same batches, none of them too large."""
    others = answer(adapted, tokenizer, QUESTIONS, GREEDY)
    assert [a.batch for a in others] == [a.batch for a in greedy]
    assert [a.response for a in others] != [a.response for a in greedy]
    assert [[a.batch for a in greedy].count(n) for n in (0, 1)] == [BATCH_SIZE, 40 - BATCH_SIZE]


def test_batch_asked_alone_answers_alike(model: Any, tokenizer: Any, greedy: list[Answer]) -> None:
    """The questions of one batch, asked again without the rest, get the same answers."""
    chosen = [q for q, a in zip(QUESTIONS, greedy, strict=True) if a.batch == 0]
    assert answer(model, tokenizer, chosen, GREEDY) == [a for a in greedy if a.batch == 0]


def test_company_does_not_change_an_answer(
    model: Any, tokenizer: Any, greedy: list[Answer]
) -> None:
    """Padding on the left is masked: a short question alone is answered as among longer ones."""
    (alone,) = answer(model, tokenizer, QUESTIONS[1:2], GREEDY)
    assert alone.response == greedy[1].response


def test_drawn_answers_repeat_under_their_seed(model: Any, tokenizer: Any) -> None:
    """With a temperature the seed decides: same seed same answers, other seed others."""
    drawn = Sampling(max_new_tokens=6, temperature=1.0, seed=1)
    other = Sampling(max_new_tokens=6, temperature=1.0, seed=2)
    first = answer(model, tokenizer, QUESTIONS[:4], drawn)
    assert answer(model, tokenizer, QUESTIONS[:4], drawn) == first
    assert answer(model, tokenizer, QUESTIONS[:4], other) != first


def test_ends_at_the_end_token(tiny_base: Base, tokenizer: Any, tmp_path: Path) -> None:
    """A row that says the end token is cut there and finished; its neighbours go on."""
    model, _ = load(tiny_base, tmp_path)
    calls = 0

    def first_row_ends_third(_: Any, __: Any, logits: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        logits[:, :, tokenizer.eos_token_id] = -1e9
        if calls == 3:
            logits[0, :, tokenizer.eos_token_id] = 1e9
        return logits

    model.lm_head.register_forward_hook(first_row_ends_third)
    shorter, longer = Question(id="a", prompt="Hi"), Question(id="b", prompt="Hello there you")
    ends, goes_on = answer(model, tokenizer, [shorter, longer], GREEDY)
    assert (ends.tokens, ends.finished) == (3, True)
    assert (goes_on.tokens, goes_on.finished) == (6, False)
    assert "<|im_end|>" not in ends.response + goes_on.response


def test_progress_is_told_by_batch(model: Any, tokenizer: Any) -> None:
    """The caller hears how many are done after each batch, up to all of them."""
    told: list[tuple[int, int]] = []
    answer(
        model,
        tokenizer,
        QUESTIONS,
        Sampling(max_new_tokens=1),
        lambda done, total: told.append((done, total)),
    )
    total = len(QUESTIONS)
    assert told == [(BATCH_SIZE, total), (total, total)]
    assert answer(model, tokenizer, [], GREEDY) == []


def test_job_answers_messages_with_an_adapter(
    tiny_base: Base, trained: Path, tmp_path: Path, adapted: Any, tokenizer: Any
) -> None:
    """A job folder gives the adapted model's answers, and its manifest can be read back."""
    messages = (Message(role="system", content="Be brief."), Message(role="user", content="Tea?"))
    questions = (Question(id="m", messages=messages),)
    job = AnswerJob(
        base=tiny_base,
        adapter=str(trained / "adapter"),
        cache=str(tmp_path / "cache"),
        sampling=GREEDY,
        questions=questions,
    )
    write_record(tmp_path / "job.json", job)
    manifest = answer_job(tmp_path)
    assert list(manifest.answers) == answer(adapted, tokenizer, questions, GREEDY)
    assert read_record(tmp_path / "manifest.json", AnswerManifest) == manifest
