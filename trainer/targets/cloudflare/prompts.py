"""A conversation as the text that a model was trained on, rendered by ourselves.

Cloudflare takes `lora` together with `prompt`; whether a chat template of its own is the one that
the adapter was trained with is not said. The Worker renders the same text: a test holds the two
together (cloudflare_worker/prompts.js).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, NoReturn

from store.errors import Rejected
from trainer.templates import TAGGED, untagged


class Special(NamedTuple):
    """A family's tokens as text."""

    bos: str
    eos: str
    turn_end: str
    """What ends an answer; a server may give it back as text."""


SPECIAL = {
    "mistral-v0.2": Special("<s>", "</s>", "</s>"),
    "mistral-v0.2-early": Special("<s>", "</s>", "</s>"),
    "gemma": Special("<bos>", "<eos>", "<end_of_turn>"),
    "llama-3": Special("<|begin_of_text|>", "<|eot_id|>", "<|eot_id|>"),
    "llama-3.1": Special("<|begin_of_text|>", "<|eot_id|>", "<|eot_id|>"),
}
"""Of the tagged templates, those whose families Cloudflare takes adapters for."""


def render(
    template: str, conversation: Sequence[Mapping[str, str]], *, begins_with_bos: bool = True
) -> str:
    """The prompt that the answer follows. Raises Rejected for turns that the family refuses."""
    from jinja2.exceptions import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(reason: str) -> NoReturn:
        raise TemplateError(reason)

    special = SPECIAL[template]
    # As transformers renders it: the same text is what the adapter saw in training.
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    try:
        return environment.from_string(untagged(TAGGED[template])).render(
            messages=conversation,
            add_generation_prompt=True,
            raise_exception=refuse,
            bos_token=special.bos if begins_with_bos else "",
            eos_token=special.eos,
        )
    except TemplateError as error:
        raise Rejected(f"The template {template} refuses this conversation: {error}.") from error


def answer_in(text: str, template: str) -> str:
    """What the model said, up to the end of its turn."""
    return text.partition(SPECIAL[template].turn_end)[0].strip()
