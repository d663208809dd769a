"""Prompts rendered by ourselves: what transformers renders, and what the adapter was trained on."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from store.errors import Rejected
from tests.converters import published_templates as published
from trainer.targets.cloudflare.prompts import SPECIAL, answer_in, render
from trainer.templates import TAGGED, untagged

TALK = [
    {"role": "user", "content": "  Hello,\n\nworld <b>&amp; “you”</b> "},
    {"role": "assistant", "content": "First answer."},
    {"role": "user", "content": "भावना? 😀"},
]


@pytest.mark.parametrize("template", SPECIAL)
def test_it_renders_as_transformers_does(tokenizer: Any, template: str) -> None:
    """Byte for byte, with the family's own marks."""
    other = copy.deepcopy(tokenizer)
    special = SPECIAL[template]
    other.bos_token, other.eos_token = special.bos, special.eos
    expected = other.apply_chat_template(
        TALK, chat_template=untagged(TAGGED[template]), tokenize=False, add_generation_prompt=True
    )
    assert render(template, TALK) == expected
    assert expected.startswith(special.bos)
    assert render(template, TALK, begins_with_bos=False) == expected.removeprefix(special.bos)


def test_mistrals_is_the_published_one(tokenizer: Any) -> None:
    """Of the base that the default model is made of."""
    other = copy.deepcopy(tokenizer)
    other.bos_token, other.eos_token = "<s>", "</s>"
    expected = other.apply_chat_template(
        TALK, chat_template=published.MISTRAL, tokenize=False, add_generation_prompt=True
    )
    assert render("mistral-v0.2", TALK) == expected


def test_a_conversation_that_the_family_refuses_is_told() -> None:
    """Gemma has no system message."""
    with pytest.raises(Rejected, match="gemma refuses"):
        render("gemma", [{"role": "system", "content": "Be brief."}, *TALK])


def test_an_answer_ends_with_its_turn() -> None:
    """A server may give the mark back as text, and what it went on with."""
    assert answer_in(" Yes.<end_of_turn>\n<start_of_turn>user", "gemma") == "Yes."
    assert answer_in(" Yes. ", "gemma") == "Yes."
