"""The probe over real numbers: the stand-in's model is a real one, with the files it was sent."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from store.errors import ProbeFailed
from store.records import Message
from tests.cloudflare_stand_in import Finetune, StandIn
from tests.trainer.cloudflare.conftest import Make
from trainer.adapter import FILES, adapter_hash
from trainer.base import Base
from trainer.jobs import Observation
from trainer.questions import Question, Sampling
from trainer.targets.cloudflare.prompts import SPECIAL, Special
from trainer.targets.cloudflare.target import CloudflareTarget
from trainer.targets.target import Delivery, Judged

SAMPLING = Sampling(max_new_tokens=12)
ASKED = ("Why is the sky blue?", "How do I boil an egg?", "Who wrote Emma?", "What is tea?")
QUESTIONS = [
    Question(id=f"q{n}", messages=(Message(role="user", content=asked),))
    for n, asked in enumerate(ASKED)
]


class Computed:
    """References that the real model has computed."""

    def __init__(self, base: Base, adapter: Path, cache: Path) -> None:
        import torch

        from trainer.answers import answer
        from trainer.model import load

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of transformers' own making
            self._said = [
                answer(*load(base, cache, folder, dtype=torch.float32), QUESTIONS, SAMPLING)
                for folder in (adapter, None)
            ]

    def judged(self) -> tuple[Judged, ...]:
        """What adapter and base answer."""
        return tuple(
            Judged(
                question=question,
                candidate=Observation(id=question.id, answer=with_it),
                base=Observation(id=question.id, answer=without),
            )
            for question, with_it, without in zip(QUESTIONS, *self._said, strict=True)
        )

    def answers(self, questions: Any, adapter: Path | None) -> Any:
        """Not needed here."""
        raise AssertionError


@pytest.fixture
def served(
    make: Make,
    stand_in: StandIn,
    tiny_base: Base,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> CloudflareTarget:
    """A target whose model is the tiny one, in whose family's form it is asked."""
    import torch

    from trainer.model import load

    monkeypatch.setitem(SPECIAL, "smollm2", Special("", "<|im_end|>", "<|im_end|>"))
    models: dict[str, Any] = {}

    def speak(prompt: str, finetune: Finetune | None, asked: Mapping[str, Any]) -> str:
        name = finetune.id if finetune else "base"
        folder = None
        if finetune is not None:
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            for file in FILES:
                (folder / file).write_bytes(finetune.files[file])
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, tokenizer = models.get(name) or load(
                tiny_base, tmp_path, folder, dtype=torch.float32
            )
            models[name] = model, tokenizer
            tokens = tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids
            output = model.generate(tokens, max_new_tokens=asked["max_tokens"], do_sample=False)
        return str(tokenizer.decode(output[0, tokens.shape[1] :]))

    stand_in.account.speak = speak
    return make(base=tiny_base.name, model_type="llama", template="smollm2")


@pytest.fixture
def delivery(trained: Path, tiny_base: Base) -> Delivery:
    """The adapter that the trainer has made of the tiny base."""
    folder = trained / "adapter"
    return Delivery(
        release="release-1", adapter=str(folder), adapter_hash=adapter_hash(folder), base=tiny_base
    )


@pytest.fixture
def references(trained: Path, tiny_base: Base, tmp_path: Path) -> Computed:
    """What adapter and base answer on this machine."""
    return Computed(tiny_base, trained / "adapter", tmp_path)


def test_what_was_sent_answers_as_what_was_trained(
    served: CloudflareTarget, delivery: Delivery, references: Computed
) -> None:
    """The copy in 16 bits, loaded by PEFT: the same words, other ones than the base's."""
    served.preflight(delivery)
    served.publish(delivery)
    figures = served.probe(delivery, references)
    assert figures["as_evaluated"] > 0.9
    assert figures["control_as_base"] == 1
    assert figures["changed_by_adapter"] == 1


def scaled(config: dict[str, Any]) -> None:
    """Four times the effect."""
    config["lora_alpha"] *= 4


def without_effect(config: dict[str, Any]) -> None:
    """No effect at all."""
    config["lora_alpha"] = 0


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (scaled, "not answer as the evaluated model"),
        (without_effect, "the same with the adapter and without"),
    ],
)
def test_an_adapter_that_is_applied_otherwise_is_caught(
    served: CloudflareTarget,
    delivery: Delivery,
    references: Computed,
    stand_in: StandIn,
    plant: Callable[[dict[str, Any]], None],
    said: str,
) -> None:
    """A server that reads another scale, or none."""
    served.publish(delivery)
    files = stand_in.account.finetunes[0].files
    config = json.loads(files[FILES[0]])
    plant(config)
    files[FILES[0]] = json.dumps(config).encode()
    stand_in.account.finetunes[0].id += "-planted"  # else the model from before is asked
    noted = {"finetune_id": stand_in.account.finetunes[0].id}
    served._journal.note("release-1", "publish", noted)
    with pytest.raises(ProbeFailed, match=said):
        served.probe(delivery, references)


def test_another_prompt_is_caught(
    make: Make, served: CloudflareTarget, delivery: Delivery, references: Computed, tiny_base: Base
) -> None:
    """The template of another family: the control run does not answer as the base does."""
    other = make(base=tiny_base.name, model_type="llama", template="mistral-v0.2")
    other.publish(delivery)
    with pytest.raises(ProbeFailed, match="not answer as our base"):
        other.probe(delivery, references)
