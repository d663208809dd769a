"""Chat templates with the assistant's turns tagged, so that the loss can see only those.

A tagged template must render byte-identically to the one that the model ships; `tagged_for`
checks this before it trusts one. The end-of-turn token is inside the tag: a model that is
never rewarded for stopping never stops. A new family is one entry here.
"""

from __future__ import annotations

from typing import Any

from store.errors import Misconfigured

_CHATML_TURN = (
    "{% if message['role'] == 'assistant' %}"
    "{{ '<|im_start|>assistant\n' }}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endif %}"
)
_CHATML_PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

TAGGED: dict[str, str] = {
    "smollm2": (
        "{% for message in messages %}"
        "{% if loop.first and messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, "
        "trained by Hugging Face<|im_end|>\n' }}"
        "{% endif %}" + _CHATML_TURN + "{% endfor %}" + _CHATML_PROMPT
    ),
    "chatml": "{% for message in messages %}" + _CHATML_TURN + "{% endfor %}" + _CHATML_PROMPT,
}

_PROBE = [
    {"role": "user", "content": " two spaces  inside\n"},
    {"role": "assistant", "content": "one"},
    {"role": "user", "content": "more?"},
    {"role": "assistant", "content": "two\n\nlines"},
]


def tagged_for(tokenizer: Any) -> str:
    """The tagged template that renders exactly as the tokenizer's own. Raises Misconfigured."""
    if not tokenizer.chat_template:
        raise Misconfigured(
            "This base model ships no chat template, so it cannot be talked to.",
            hint="Name an instruction-tuned base.",
        )
    conversations = (_PROBE, [{"role": "system", "content": "Be brief."}, *_PROBE])
    for template in TAGGED.values():
        if all(
            tokenizer.apply_chat_template(c, tokenize=False)
            == tokenizer.apply_chat_template(c, tokenize=False, chat_template=template)
            for c in conversations
        ):
            return template
    raise Misconfigured(
        "No tagged chat template renders like the one this base model ships.",
        hint=f"Known families: {', '.join(TAGGED)}. Add one to trainer/templates.py.",
    )
