"""Chat templates with the assistant's turns tagged, so that the loss can see only those.

A tagged template must render byte-identically to the one that the model ships; `tagged_for`
checks this before it trusts one. The end-of-turn token is inside the tag: a model that is
never rewarded for stopping never stops. A new family is one entry here.

The texts of converters/formats are of the same families, but are functions for a whole
conversation; the tokenizer wants Jinja, and marks. A test holds the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from store.errors import Misconfigured

Message = dict[str, str]

_CHATML_TURN = (
    "{% if message['role'] == 'assistant' %}"
    "{{ '<|im_start|>assistant\n' }}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endif %}"
)
_CHATML_PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

_ZEPHYR = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '<|assistant|>\n' }}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token + '\n' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)

_LLAMA3_TURN = (
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] | trim + '<|eot_id|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] | trim + '<|eot_id|>' }}{% endif %}"
)
_LLAMA3_PROMPT = (
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
_LLAMA31_HEAD = (  # the dates are fixed in the shipped one, and there with no system message, too
    "{% if messages[0]['role'] == 'system' %}"
    "{% set system, turns = messages[0]['content'] | trim, messages[1:] %}"
    "{% else %}{% set system, turns = '', messages %}{% endif %}"
    "{{ bos_token + '<|start_header_id|>system<|end_header_id|>\n\n'"
    " + 'Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n'"
    " + system + '<|eot_id|>' }}"
)

_TURNS_ALTERNATE = (
    "{% for message in turns %}"
    "{% if message['role'] != ['user', 'assistant'][loop.index0 % 2] %}"
    "{{ raise_exception('user and assistant must take turns') }}{% endif %}{% endfor %}"
)
_SYSTEM_APART = (
    "{% if messages[0]['role'] == 'system' %}"
    "{% set system, turns = messages[0]['content'] + '\n\n', messages[1:] %}"
    "{% else %}{% set system, turns = '', messages %}{% endif %}"
)
_NO_SYSTEM = "{% set turns = messages %}"


def _mistral(head: str, user: str, assistant: str, after: str = "") -> str:
    """Four makes of one family, which differ in blanks and in where a system message goes."""
    return (
        f"{head}{_TURNS_ALTERNATE}{{{{ bos_token }}}}"
        "{% for message in turns %}{% if message['role'] == 'user' %}"
        f"{{{{ {user} }}}}"
        "{% else %}{% generation %}"
        f"{{{{ {assistant} + eos_token }}}}"
        f"{{% endgeneration %}}{{{{ '{after}' }}}}{{% endif %}}{{% endfor %}}"
    )


_GEMMA = (
    f"{_NO_SYSTEM}{_TURNS_ALTERNATE}{{{{ bos_token }}}}"
    "{% for message in turns %}{% if message['role'] == 'assistant' %}"
    "{{ '<start_of_turn>model\n' }}{% generation %}"
    "{{ message['content'] | trim + '<end_of_turn>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}"
    "{{ '<start_of_turn>user\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)

TAGGED: dict[str, str] = {
    "smollm2": (
        "{% for message in messages %}"
        "{% if loop.first and messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, "
        "trained by Hugging Face<|im_end|>\n' }}"
        "{% endif %}" + _CHATML_TURN + "{% endfor %}" + _CHATML_PROMPT
    ),
    "chatml": "{% for message in messages %}" + _CHATML_TURN + "{% endfor %}" + _CHATML_PROMPT,
    "zephyr": _ZEPHYR,
    "llama-3": (
        "{{ bos_token }}{% for message in messages %}"
        + _LLAMA3_TURN
        + "{% endfor %}"
        + _LLAMA3_PROMPT
    ),
    "llama-3.1": (
        _LLAMA31_HEAD
        + "{% for message in turns %}"
        + _LLAMA3_TURN
        + "{% endfor %}"
        + _LLAMA3_PROMPT
    ),
    "mistral-v0.1": _mistral(
        _NO_SYSTEM, "'[INST] ' + message['content'] + ' [/INST]'", "message['content']", " "
    ),
    "mistral-v0.2-early": _mistral(
        _NO_SYSTEM, "'[INST] ' + message['content'] + ' [/INST]'", "message['content']"
    ),
    "mistral-v0.2": _mistral(
        _SYSTEM_APART,
        "' [INST] ' + (system if loop.first else '') + message['content'] + ' [/INST]'",
        "' ' + message['content']",
    ),
    "mistral-v0.3": _mistral(
        _SYSTEM_APART + "{% set asked = turns | selectattr('role', 'equalto', 'user') | list %}",
        "'[INST] ' + (system if message == asked[-1] else '') + message['content'] + '[/INST]'",
        "' ' + message['content'] | trim",
    ),
    "gemma": _GEMMA,
    "plain": (  # ours, for bases that ship none, as Pythia: the labels of the completion format
        "{% for message in messages %}"
        "{% if message['role'] == 'assistant' %}{{ 'Assistant:' }}"
        "{% generation %}{{ ' ' + message['content'] + eos_token }}{% endgeneration %}"
        "{{ '\n\n' }}"
        "{% else %}{{ message['role'] | capitalize + ': ' + message['content'] + '\n\n' }}"
        "{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
    ),
}

_PROBE: list[Message] = [
    {"role": "user", "content": " two spaces  inside\n"},
    {"role": "assistant", "content": " one\n"},
    {"role": "user", "content": "more?"},
    {"role": "assistant", "content": "two\n\nlines"},
]
_SYSTEM: Message = {"role": "system", "content": " Be brief.\n"}


def untagged(template: str) -> str:
    """The same without our marks, which other programs do not know."""
    return template.replace("{% generation %}", "").replace("{% endgeneration %}", "")


PLAIN = untagged(TAGGED["plain"])


def give_plain(tokenizer: Any) -> None:
    """Gives a tokenizer that ships no chat template ours."""
    tokenizer.chat_template = tokenizer.chat_template or PLAIN


def save_plain(tokenizer: Any, folder: Path) -> None:
    """Saves the tokenizer with our template, where it has it: whoever serves the base needs it."""
    if tokenizer.chat_template == PLAIN:
        tokenizer.save_pretrained(folder)


def tagged_for(tokenizer: Any) -> str:
    """The tagged template that renders exactly as the tokenizer's own. Raises Misconfigured."""
    if not tokenizer.chat_template:
        raise Misconfigured(
            "This base model ships no chat template, so it cannot be talked to.",
            hint="Name an instruction-tuned base.",
        )
    for template in TAGGED.values():
        if all(_alike(tokenizer, template, c) for c in (_PROBE, [_SYSTEM, *_PROBE])):
            return template
    raise Misconfigured(
        "No tagged chat template renders like the one this base model ships.",
        hint=f"Known families: {', '.join(TAGGED)}. Add one to trainer/templates.py.",
    )


def _alike(tokenizer: Any, template: str, conversation: Sequence[Message]) -> bool:
    """Whether both render the conversation, and what precedes its answer, to the same bytes.

    Some makes of Mistral v0.3 show a system message to whoever answers and hide it from whoever
    trains on the answer. What is served counts: there the prompts alone are compared.
    """
    prompt, whole = _texts(tokenizer, None, conversation)
    our_prompt, our_whole = _texts(tokenizer, template, conversation)
    if conversation is _PROBE and whole is None:
        return False  # what cannot render the plainest conversation is no template
    if prompt != our_prompt:
        return False
    consistent = prompt is None or whole is None or whole.startswith(prompt)
    return whole == our_whole if consistent else True


def _texts(
    tokenizer: Any, template: str | None, conversation: Sequence[Message]
) -> tuple[str | None, str | None]:
    """(what precedes the last answer, the whole conversation); None where it is refused."""
    from jinja2.exceptions import TemplateError

    def text(messages: Sequence[Message], *, asks: bool) -> str | None:
        try:
            return str(
                tokenizer.apply_chat_template(
                    list(messages),
                    chat_template=template,
                    tokenize=False,
                    add_generation_prompt=asks,
                )
            )
        except TemplateError:
            return None

    return text(conversation[:-1], asks=True), text(conversation, asks=False)
