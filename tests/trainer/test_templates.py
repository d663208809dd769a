"""Tagged chat templates, against the one that the embedded base ships."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
from jinja2.exceptions import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from converters.formats import templates as converters
from store.errors import Misconfigured
from tests.converters import published_templates as published
from trainer import templates
from trainer.sequences import IGNORED, tokenise

CONVERSATION = [
    {"role": "user", "content": "  Hello,\n\nworld <b>&amp; “you”</b> "},
    {"role": "assistant", "content": "First answer."},
    {"role": "user", "content": "भावना? 😀"},
    {"role": "assistant", "content": "Cultivation.\n\n- one\n- twö"},
]
SYSTEM = {"role": "system", "content": "Be brief."}


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


# As the makers' templates render CONVERSATION, before an answer and with a system message; where
# their text is not in published_templates, written anew from what they render.
V02_EARLY = (
    "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('no') }}{% endif %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %}{{ m.content + eos_token }}"
    "{% else %}{{ raise_exception('no') }}{% endif %}{% endfor %}"
)
V01 = V02_EARLY.replace("m.content + eos_token", "m.content + eos_token + ' '")
V03 = (
    "{% if messages[0].role == 'system' %}{% set said = messages[0].content %}"
    "{% set messages = messages[1:] %}{% endif %}{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'user' %}{% if SHOWN and said is defined %}[INST] {{ said }}\n\n"
    "{{ m.content }}[/INST]{% else %}[INST] {{ m.content }}[/INST]{% endif %}"
    "{% else %} {{ m.content | trim + eos_token }}{% endif %}{% endfor %}"
)
LAST_OF_USERS = "m == (messages | selectattr('role', 'equalto', 'user') | list)[-1]"
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
LLAMA31 = (
    "{{ bos_token }}<|start_header_id|>system<|end_header_id|>{{ '\n\n' }}"
    "Cutting Knowledge Date: December 2023{{ '\n' }}Today Date: 26 Jul 2024{{ '\n\n' }}"
    "{% if messages[0].role == 'system' %}{{ messages[0].content | trim }}"
    "{% set messages = messages[1:] %}{% endif %}<|eot_id|>{% for m in messages %}"
    "<|start_header_id|>{{ m.role }}<|end_header_id|>{{ '\n\n' + m.content | trim }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}"
    "<|start_header_id|>assistant<|end_header_id|>{{ '\n\n' }}{% endif %}"
)
SHIPPED = {
    "chatml": published.CHATML,
    "zephyr": published.ZEPHYR,
    "llama-3": published.LLAMA3,
    "llama-3.1": LLAMA31,
    "mistral-v0.1": V01,
    "mistral-v0.2-early": V02_EARLY,
    "mistral-v0.2": published.MISTRAL,
    "mistral-v0.3": V03.replace("SHOWN", LAST_OF_USERS),
    "gemma": GEMMA,
    "plain": templates.PLAIN,
}
ODD = (
    "Why?",
    "  spaces  around, and inside \n",
    "two\n\nlines\r\nand a tab\t",
    'भावना 😀 "quoted" \\ \u2028 {{ braces }} {% raw %} \x85',
    "a < b > c | d [x] </p> <|> <||>",
    "",
)


def shipping(tokenizer: Any, template: str) -> Any:
    """A tokenizer that ships this template."""
    other = copy.copy(tokenizer)
    other.chat_template = template
    return other


def rendered(
    tokenizer: Any, template: str | None, messages: list[Any], *, asks: bool
) -> str | None:
    """The text, or None where the template refuses the conversation."""
    try:
        text = tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=asks
        )
    except TemplateError:
        return None
    return str(text)


def test_every_family_is_held_against_a_shipped_template() -> None:
    """A tagged template without one to compare with would go unnoticed here."""
    assert {*SHIPPED, "smollm2"} == set(templates.TAGGED)


@pytest.mark.parametrize("name", ["smollm2", *SHIPPED])
def test_every_tagged_template_is_found_by_its_own_rendering(tokenizer: Any, name: str) -> None:
    """A tokenizer that ships one of the families' templates gets that family's tagged one."""
    other = shipping(tokenizer, SHIPPED.get(name, tokenizer.chat_template))
    assert templates.tagged_for(other) == templates.TAGGED[name]


@pytest.mark.parametrize("name", ["smollm2", *SHIPPED])
def test_tagged_template_renders_byte_for_byte(tokenizer: Any, name: str) -> None:
    """One turn and several, with and without a system message, odd whitespace and characters.

    What the shipped template refuses, the tagged one refuses, too.
    """
    other = shipping(tokenizer, SHIPPED.get(name, tokenizer.chat_template))
    for words, reply in itertools.product(ODD, repeat=2):
        one = [{"role": "user", "content": words}, {"role": "assistant", "content": reply}]
        system = {"role": "system", "content": reply}
        for messages in (one, [system, *one], one * 2, [system, *one, *one], [*one, one[0]]):
            for asks in (False, True):
                shipped = rendered(other, None, messages, asks=asks)
                assert rendered(other, templates.TAGGED[name], messages, asks=asks) == shipped


@pytest.mark.parametrize("name", ["smollm2", *SHIPPED])
def test_loss_covers_the_answer_and_its_end_in_every_family(tokenizer: Any, name: str) -> None:
    """Supervised is what the family renders of the last answer, up to the token that ends it."""
    other = shipping(tokenizer, SHIPPED.get(name, tokenizer.chat_template))
    whole = rendered(other, None, CONVERSATION, asks=False)
    prompt = rendered(other, None, CONVERSATION[:-1], asks=True)
    assert whole is not None
    assert prompt is not None
    assert whole.startswith(prompt)
    seen = supervised(other, CONVERSATION)
    assert whole.removeprefix(prompt).startswith(seen)
    assert whole.removeprefix(prompt + seen).strip() == ""
    ends = {"llama-3": "<|eot_id|>", "llama-3.1": "<|eot_id|>", "gemma": "<end_of_turn>"}
    assert seen.endswith(ends.get(name, "<|im_end|>"))


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("zephyr", converters.ZEPHYR),
        ("mistral-v0.2", converters.MISTRAL),
        ("llama-3", converters.LLAMA3),
        ("chatml", converters.CHATML),
    ],
)
def test_exported_text_is_the_trained_text(name: str, ours: Any) -> None:
    """The text formats of converters/ and the tagged templates write a family alike."""
    messages: Any = [SYSTEM, *CONVERSATION]
    (text,), _ = render_jinja_template(
        conversations=[messages],
        chat_template=templates.TAGGED[name],
        bos_token="<|begin_of_text|>" if name == "llama-3" else "<s>",
        eos_token="</s>",
    )
    assert ours(messages) == text


def test_system_message_that_a_template_hides_from_training_is_trained_with(
    tokenizer: Any,
) -> None:
    """One make of Mistral v0.3 shows it to whoever answers only; what is served is trained."""
    other = shipping(tokenizer, V03.replace("SHOWN", "loop.last"))
    template = templates.tagged_for(other)
    assert template == templates.TAGGED["mistral-v0.3"]
    messages = [SYSTEM, *CONVERSATION]
    served = rendered(other, None, messages[:-1], asks=True)
    trained = rendered(other, template, messages, asks=False)
    assert served is not None
    assert trained is not None
    assert trained.startswith(served)
    assert SYSTEM["content"] in served


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
