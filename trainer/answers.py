"""`python -m trainer.answers DIR`: a model's replies to a job's questions, in frozen batches.

The batches depend only on the questions, never on the model, because the company that a prompt
keeps in its batch can change its answer by rounding.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import torch

from trainer.job import Job, read_record, run_as_command, write_record
from trainer.jobs import AnswerJob, AnswerManifest
from trainer.model import load
from trainer.questions import Answer, Question, Sampling

BATCH_SIZE = 32


def answer(
    model: Any,
    tokenizer: Any,
    questions: Sequence[Question],
    sampling: Sampling,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[Answer]:
    """One answer for each question, in the order of the questions."""
    prompts = [
        tokenizer.apply_chat_template(
            q.conversation(), add_generation_prompt=True, return_dict=True
        )["input_ids"]
        for q in questions
    ]
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    answers: dict[int, Answer] = {}
    torch.manual_seed(sampling.seed)
    for start in range(0, len(order), BATCH_SIZE):
        chosen = order[start : start + BATCH_SIZE]
        for index, tokens in zip(
            chosen, _generate(model, tokenizer, [prompts[i] for i in chosen], sampling), strict=True
        ):
            finished = tokens[-1:] == [tokenizer.eos_token_id]
            text = tokenizer.decode(tokens, skip_special_tokens=True).strip()
            answers[index] = Answer(
                id=questions[index].id,
                response=text,
                tokens=len(tokens),
                finished=finished,
                batch=start // BATCH_SIZE,
            )
        progress(len(answers), len(questions))
    return [answers[i] for i in range(len(questions))]


def _generate(
    model: Any, tokenizer: Any, prompts: list[list[int]], sampling: Sampling
) -> list[list[int]]:
    longest = max(map(len, prompts))
    end = tokenizer.eos_token_id
    padded = [[end] * (longest - len(p)) + p for p in prompts]
    mask = [[0] * (longest - len(p)) + [1] * len(p) for p in prompts]
    drawn = {"temperature": sampling.temperature} if sampling.temperature > 0 else {}
    with torch.inference_mode():
        output = model.generate(
            input_ids=torch.tensor(padded, device=model.device),
            attention_mask=torch.tensor(mask, device=model.device),
            max_new_tokens=sampling.max_new_tokens,
            do_sample=bool(drawn),
            pad_token_id=end,
            eos_token_id=end,
            **drawn,
        )
    rows = output[:, longest:].tolist()
    return [row[: row.index(end) + 1] if end in row else row for row in rows]


def answer_job(folder: Path) -> AnswerManifest:
    """Answers the job's questions; the manifest holds the answers and is written last."""
    job = Job(folder)
    task = read_record(folder / "job.json", AnswerJob)
    with job.working():
        job.beat("loading", 0, len(task.questions))
        torch.set_num_threads(task.threads or torch.get_num_threads())
        adapter = None if task.adapter is None else Path(task.adapter)
        model, tokenizer = load(task.base, Path(task.cache), adapter)
        answers = answer(
            model,
            tokenizer,
            task.questions,
            task.sampling,
            lambda done, total: job.beat("answering", done, total),
        )
        manifest = AnswerManifest(answers=tuple(answers))
        write_record(folder / "manifest.json", manifest)
    return manifest


def main() -> int:
    """The exit code: 0 done, else by the error, which is the last line printed."""
    return run_as_command("trainer.answers", __doc__, answer_job)


if __name__ == "__main__":
    sys.exit(main())
