"""`python -m trainer.forced DIR`: what a trained model and its base would say next, place by place.

The reference beside which a server of the same adapter is held (trainer/targets/agreement.py).
The places lie in the trained model's own greedy answers. At each of them both models are given
the same tokens, whatever they would have said before (teacher forcing), so that one difference
does not become many. Float32 on CPU, as in trainer.answers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import torch

from trainer.job import Job, read_record, run_as_command, write_record
from trainer.jobs import ForcedJob, ForcedManifest, Position
from trainer.model import load
from trainer.questions import Question
from trainer.targets.agreement import TOP, by_text, is_told

Row = tuple[Question, list[int], int]
"""A question, its prompt and answer as tokens, and how many of these are the prompt."""
Tops = dict[tuple[str, int], dict[str, float]]
"""The likeliest next tokens by question and place."""


def rows(model: Any, tokenizer: Any, questions: Sequence[Question], tokens: int) -> list[Row]:
    """Each question's prompt with the model's greedy answer, of at most so many tokens."""
    return [_row(model, tokenizer, question, tokens) for question in questions]


def _row(model: Any, tokenizer: Any, question: Question, tokens: int) -> Row:
    prompt: list[int] = tokenizer.apply_chat_template(
        question.conversation(), add_generation_prompt=True, return_dict=True
    )["input_ids"]
    with torch.inference_mode():
        said = model.generate(
            input_ids=torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=tokens,
            do_sample=False,
            pad_token_id=tokenizer.eos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    return question, said[0].tolist(), len(prompt)


def tops(model: Any, tokenizer: Any, asked: Sequence[Row]) -> Tops:
    """What the model would say next at every place of the answers' rows."""
    piece = _pieces(tokenizer)
    found: Tops = {}
    for question, tokens, begin in asked:
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([tokens])).logits[0].float()
        logprobs, ids = torch.log_softmax(logits, dim=-1).topk(TOP)
        for place in range(begin, len(tokens)):
            likeliest = zip(ids[place - 1].tolist(), logprobs[place - 1].tolist(), strict=True)
            found[question.id, place] = by_text(
                (piece(token), logprob) for token, logprob in likeliest
            )
    return found


def texts(tokenizer: Any, asked: Sequence[Row]) -> Iterator[tuple[str, int, str]]:
    """(question, place, text before it), where a server makes the very same tokens of the text."""
    added = tokenizer("")["input_ids"]  # what it puts before every text by itself
    for question, tokens, begin in asked:
        skipped = len(added) if tokens[: len(added)] == added else 0
        for place in range(begin, len(tokens)):
            text = tokenizer.decode(
                tokens[skipped:place], skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
            if tokenizer(text)["input_ids"] == tokens[:place]:
                yield question.id, place, text


def _pieces(tokenizer: Any) -> Callable[[int], str]:
    """The text of a token within a text; none of a special one."""
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    anchor = tokenizer.encode("a", add_special_tokens=False)  # keeps the blank that begins a token
    before = len(tokenizer.decode(anchor))

    @cache
    def piece(token: int) -> str:
        if token in special:
            return ""
        text: str = tokenizer.decode([*anchor, token], clean_up_tokenization_spaces=False)
        return text[before:]

    return piece


def forced_job(folder: Path) -> ForcedManifest:
    """Looks at every place of the job's questions; the manifest is written last."""
    job = Job(folder)
    task = read_record(folder / "job.json", ForcedJob)
    with job.working():
        job.beat("trained model", 0, 2)
        exact = partial(load, task.base, Path(task.cache), dtype=torch.float32)  # it is a reference
        model, tokenizer = exact(Path(task.adapter))
        asked = rows(model, tokenizer, task.questions, task.tokens)
        trained = tops(model, tokenizer, asked)
        del model  # two at once may not fit
        job.beat("base", 1, 2)
        base = tops(exact()[0], tokenizer, asked)
        manifest = ForcedManifest(
            positions=tuple(
                Position(question=id, text=text, trained=trained[id, place], base=base[id, place])
                for id, place, text in texts(tokenizer, asked)
                if is_told(trained[id, place])
            )
        )
        write_record(folder / "manifest.json", manifest)
    return manifest


def main() -> int:
    """The exit code: 0 done, else by the error, which is the last line printed."""
    return run_as_command("trainer.forced", __doc__, forced_job)


if __name__ == "__main__":
    sys.exit(main())
