"""Whether what Cloudflare serves is what was evaluated: asked with the adapter and without.

The run without it is the control: a platform that is down, or a model that is not our base, must
not be blamed on the adapter, and an adapter that is quietly left out must be seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from statistics import fmean

from store.errors import ProbeFailed
from store.records import Noun
from trainer.targets.cloudflare.client import Client
from trainer.targets.cloudflare.errors import Outage
from trainer.targets.cloudflare.pointer import Voice
from trainer.targets.cloudflare.prompts import answer_in, render
from trainer.targets.target import Judged


class Heard(Noun, frozen=True, kw_only=True):
    """One question: what was answered there, and what is answered here."""

    adapted: str
    plain: str
    candidate: str
    base: str


def chosen(judged: Sequence[Judged], most: int) -> list[Judged]:
    """The questions to ask: first those whose answers tell candidate and base apart."""
    answered = [j for j in judged if j.candidate.answer and j.base.answer]
    return sorted(answered, key=_same)[:most]


def listen(api: Client, voice: Voice, judged: Sequence[Judged]) -> list[Heard]:
    """Asks each question with the adapter and without.

    Raises Unavailable where the platform fails, and ProbeFailed where it fails with the adapter
    alone.
    """
    longest = max(a.tokens for j in judged for a in (j.candidate.answer, j.base.answer) if a)
    heard = []
    for each in judged:
        prompt = render(
            voice.prompt_template,
            each.question.conversation(),
            begins_with_bos=voice.begins_with_bos,
        )
        plain = api.run(voice.model, prompt, lora=None, most_tokens=longest)
        try:
            adapted = api.run(voice.model, prompt, lora=voice.finetune_id, most_tokens=longest)
        except Outage as error:
            api.run(voice.model, prompt, lora=None, most_tokens=longest)  # or it is down by now
            raise ProbeFailed(
                f"{voice.model} answers, but not with {voice.name}: {error.message}",
                hint="The adapter's files do not load there: look at their shapes and modules.",
            ) from error
        heard.append(
            Heard(
                adapted=answer_in(adapted, voice.prompt_template),
                plain=answer_in(plain, voice.prompt_template),
                candidate=each.candidate.answer.response if each.candidate.answer else "",
                base=each.base.answer.response if each.base.answer else "",
            )
        )
    return heard


def weigh(heard: Sequence[Heard], least: float) -> dict[str, float]:
    """The figures of a good probe. Raises ProbeFailed, saying which part does not fit."""
    figures = {
        "asked": float(len(heard)),
        "changed_by_adapter": fmean(h.adapted != h.plain for h in heard),
        "as_evaluated": fmean(alike(h.adapted, h.candidate) for h in heard),
        "as_base": fmean(alike(h.adapted, h.base) for h in heard),
        "control_as_base": fmean(alike(h.plain, h.base) for h in heard),
    }
    told = ", ".join(f"{name} {value:.2f}" for name, value in figures.items())
    if not figures["changed_by_adapter"]:
        raise ProbeFailed(
            f"Workers AI answers the same with the adapter and without it ({told}).",
            hint="It leaves `lora` out: does the catalog still say that the model serves it?",
        )
    if figures["control_as_base"] < least:
        raise ProbeFailed(
            f"Without the adapter Workers AI does not answer as our base does ({told}).",
            hint="Another base or another prompt: look at targets.cloudflare.base, template and "
            "begins_with_bos.",
        )
    if figures["as_evaluated"] < least or figures["as_evaluated"] <= figures["as_base"]:
        raise ProbeFailed(
            f"With the adapter Workers AI does not answer as the evaluated model ({told}).",
            hint="Its base answers as ours, so the adapter is applied otherwise than here: a "
            "scaling, a module that is left out.",
        )
    return figures


def alike(said: str, expected: str) -> float:
    """The share of the longer answer up to which both say the same words."""
    both = said.split(), expected.split()
    longest = max(map(len, both))
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*both, strict=False)))
    return same / longest if longest else 1.0


def _same(judged: Judged) -> bool:
    candidate, base = judged.candidate.answer, judged.base.answer
    return candidate is not None and base is not None and candidate.response == base.response
