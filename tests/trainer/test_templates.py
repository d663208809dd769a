"""Tagged chat templates, against the one that the embedded base ships."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from store.errors import Misconfigured
from trainer import templates
from trainer.sequences import IGNORED, tokenise

CONVERSATION = [
    {"role": "user", "content": "  Hello,\n\nworld <b>&amp; “you”</b> "},
    {"role": "assistant", "content": "First answer."},
    {"role": "user", "content": "भावना? 😀"},
    {"role": "assistant", "content": "Cultivation.\n\n- one\n- twö"},
]
SYSTEM = {"role": "system", "content": "Be brief."}
PLAIN_CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + "
    "message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def supervised(tokenizer: Any, messages: list[dict[str, str]]) -> str:
    """The text that the loss sees."""
    (sequence,) = tokenise([{"messages": messages}], tokenizer, 1024)
    seen = [
        t for t, label in zip(sequence["input_ids"], sequence["labels"], strict=True) if label >= 0
    ]
    return str(tokenizer.decode(seen))


@pytest.mark.parametrize("with_system", [False, True])
@pytest.mark.parametrize("add_generation_prompt", [False, True])
def test_tagged_template_renders_like_the_shipped_one(
    tokenizer: Any, with_system: bool, add_generation_prompt: bool
) -> None:
    """SmolLM2's tagged template gives the very text of the template in the GGUF file."""
    messages = [SYSTEM, *CONVERSATION] if with_system else CONVERSATION
    shipped, tagged = (
        tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            chat_template=template,
        )
        for template in (None, templates.TAGGED["smollm2"])
    )
    assert tagged == shipped
    assert ("named SmolLM" in shipped) is not with_system


def test_every_tagged_template_is_found_by_its_own_rendering(tokenizer: Any) -> None:
    """A tokenizer that ships one of the roster's renderings gets that family's template."""
    assert templates.tagged_for(tokenizer) == templates.TAGGED["smollm2"]
    other = copy.copy(tokenizer)
    other.chat_template = PLAIN_CHATML
    assert templates.tagged_for(other) == templates.TAGGED["chatml"]


def test_loss_covers_exactly_the_last_assistant_turn_and_its_end(tokenizer: Any) -> None:
    """Supervised are the last answer's tokens and <|im_end|>; earlier answers carry no loss."""
    assert supervised(tokenizer, CONVERSATION) == "Cultivation.\n\n- one\n- twö<|im_end|>"
    assert supervised(tokenizer, [SYSTEM, *CONVERSATION[:2]]) == "First answer.<|im_end|>"


@pytest.mark.parametrize(
    "answer", ["x", "😀", "भावना का अर्थ", "e\u0301te\u0301", "日本語のテキスト。", "a" * 300]
)
def test_loss_covers_answers_of_any_script(tokenizer: Any, answer: str) -> None:
    """Characters of several bytes and several code points lose no token to the prompt."""
    messages = [{"role": "user", "content": "क? 😀"}, {"role": "assistant", "content": answer}]
    assert supervised(tokenizer, messages) == f"{answer}<|im_end|>"


def test_prompt_of_training_is_the_prompt_of_answering(tokenizer: Any) -> None:
    """The tokens before the loss are those that the model sees when it is asked to answer."""
    (sequence,) = tokenise([{"messages": CONVERSATION}], tokenizer, 1024)
    start = next(i for i, label in enumerate(sequence["labels"]) if label != IGNORED)
    asked = tokenizer.apply_chat_template(
        CONVERSATION[:-1], add_generation_prompt=True, return_dict=True
    )["input_ids"]
    assert sequence["input_ids"][:start] == asked


def test_unknown_template_is_misconfigured(tokenizer: Any) -> None:
    """A template that no tagged one renders like is refused, naming the known families."""
    other = copy.copy(tokenizer)
    other.chat_template = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %}"
    with pytest.raises(Misconfigured, match="smollm2"):
        templates.tagged_for(other)


@pytest.mark.parametrize(
    "template",
    [
        pytest.param(None, id="none at all, as Pythia"),
        pytest.param(
            "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
            "{% for m in messages %}{{ m['content'] }}{% endfor %}",
            id="refuses a system turn, as Mistral and Gemma",
        ),
    ],
)
def test_template_that_cannot_be_compared_is_misconfigured(
    tokenizer: Any, template: str | None
) -> None:
    """A missing template, and one that refuses the probe, are told as settings to mend."""
    other = copy.copy(tokenizer)
    other.chat_template = template
    with pytest.raises(Misconfigured):
        templates.tagged_for(other)
