"""Whether a model on a server says what was trained, token by token, one request at a time.

One at a time, because requests that the server computes together change each other's last digits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from store.errors import ProbeFailed
from trainer.jobs import Position
from trainer.targets.agreement import CLEAR_NATS, LEAST_GREEDY, TOP, by_text, compare
from trainer.targets.ollama.client import Ollama
from trainer.targets.ollama.era import Era
from trainer.targets.target import Judged


def probe(
    ollama: Ollama, model: str, positions: Sequence[Position], era: Era
) -> Mapping[str, float]:
    """How the model's next tokens are to the trained model's. Raises ProbeFailed with all faults.

    Where the server tells no log-probabilities only the first tokens are compared.
    """
    if not era.log_probabilities:
        return _by_first_tokens(ollama, model, positions)
    agreement = compare(positions, [_top(ollama, model, position) for position in positions])
    if faults := agreement.faults():
        raise _unlike(ollama, model, faults)
    return {
        "positions": agreement.positions,
        "greedy": agreement.greedy,
        "kl": agreement.kl,
        "kl_base": agreement.kl_base,
        "strength": agreement.strength,
    }


def require_template(
    ollama: Ollama, model: str, judged: Sequence[Judged], positions: Sequence[Position]
) -> None:
    """Raises ProbeFailed where the server makes another prompt of a conversation than training did.

    Looked at where the server tells its prompts: our places begin with the right ones.
    """
    for question in (j.question for j in judged):
        texts = [p.text for p in positions if p.question == question.id]
        prompt = ollama.rendered(model, question.conversation()) if texts else None
        if prompt is not None and not all(prompt in text for text in texts):
            raise ProbeFailed(
                f"{ollama.name} makes of question {question.id} {prompt[:200]!r}, and the base's "
                f"own chat template {texts[0][:200]!r}.",
                hint="Set targets.ollama.template to the base's family, or to a template of its.",
            )


def _top(ollama: Ollama, model: str, position: Position) -> dict[str, float]:
    """What it would say next; empty where it does not tell."""
    tokens = ollama.next_token(model, position.text, top=TOP).logprobs or ()
    return by_text((t.text, t.logprob) for token in tokens[:1] for t in token.top_logprobs)


def _by_first_tokens(
    ollama: Ollama, model: str, positions: Sequence[Position]
) -> Mapping[str, float]:
    clear = [p for p in positions if _lead(p.trained) > CLEAR_NATS]
    said = [ollama.next_token(model, p.text, top=0).response for p in clear]
    greedy = _share([_first(p.trained) == text for p, text in zip(clear, said, strict=True)])
    as_base = _share([_first(p.base) == text for p, text in zip(clear, said, strict=True)])
    if greedy < LEAST_GREEDY or greedy <= as_base:
        words = (
            f"{greedy:.0%} of its first tokens are the trained model's, {as_base:.0%} the base's"
        )
        raise _unlike(ollama, model, (words,))
    return {"positions": len(clear), "greedy": greedy, "as_base": as_base}


def _unlike(ollama: Ollama, model: str, faults: Sequence[str]) -> ProbeFailed:
    return ProbeFailed(
        f"{model} on {ollama.name} does not answer like the model that was trained: "
        f"{'; '.join(faults)}.",
        hint="Is its base the very file that was trained on? What served before serves on.",
    )


def _first(top: Mapping[str, float]) -> str:
    return max(top, key=lambda text: top[text])


def _lead(top: Mapping[str, float]) -> float:
    first, second = [*sorted(top.values(), reverse=True), -math.inf, -math.inf][:2]
    return first - second


def _share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits) if hits else 0.0
