"""The text formats render as the families' own templates do, and people's words stay words."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from jinja2.exceptions import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from converters import FORMATS
from converters.formats import templates
from converters.formats.format import Example, Unfit
from tests.converters import published_templates as published


class Family(NamedTuple):
    """A template of ours, and what it is held against."""

    ours: templates.Template
    theirs: str
    bos: str
    eos: str
    markers: tuple[str, ...]
    """Tokens that the family's tokenizer or template obeys."""


FAMILIES = {
    "zephyr": Family(
        templates.ZEPHYR,
        published.ZEPHYR,
        "<s>",
        "</s>",
        ("<s>", "</s>", "<unk>", "<|system|>", "<|user|>", "<|assistant|>"),
    ),
    "mistral": Family(
        templates.MISTRAL,
        published.MISTRAL,
        "<s>",
        "</s>",
        ("<s>", "</s>", "<unk>", "[INST]", "[/INST]"),
    ),
    "llama3": Family(
        templates.LLAMA3,
        published.LLAMA3,
        "<|begin_of_text|>",
        "<|eot_id|>",
        (
            *("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>"),
            *("<|end_header_id|>", "<|reserved_special_token_17|>", "<|python_tag|>"),
        ),
    ),
    "chatml": Family(
        templates.CHATML,
        published.CHATML,
        "",
        "<|im_end|>",
        ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<s>", "</s>"),
    ),
}
ODD = (
    "Why?",
    "  spaces  around, and inside \n",
    "two\n\nlines\r\nand a tab\t",
    'भावना 😀 "quoted" \\ \u2028 {{ braces }} {% raw %} \x85',
    "a < b > c | d [x] </p> <|> <||>",
)


def _said(*turns: tuple[str, str]) -> list[Any]:
    return [{"role": role, "content": content} for role, content in turns]


def _conversations() -> list[list[Any]]:
    system = ("system", "Be brief.\n")
    found = []
    for words in ODD:
        one = (("user", words), ("assistant", words))
        found += [_said(*one), _said(system, *one), _said(*one, *one), _said(system, *one, *one)]
    return found


def _rendered(family: Family, messages: list[Any]) -> str:
    made, _ = render_jinja_template(
        conversations=[messages],
        chat_template=family.theirs,
        add_generation_prompt=False,
        bos_token=family.bos,
        eos_token=family.eos,
    )
    return str(made[0])


@pytest.fixture(params=sorted(FAMILIES))
def family(request) -> Family:
    """A family of models."""
    return FAMILIES[request.param]


def test_every_family_on_the_roster_is_held_against_its_template():
    """A text format without a published template to compare with would go unnoticed here."""
    assert {f"text-{name}" for name in FAMILIES} == {n for n in FORMATS if n.startswith("text-")}


@pytest.mark.parametrize("messages", _conversations())
def test_renders_byte_for_byte_as_published(family, messages):
    """One turn and several, with and without a system message, with odd characters."""
    assert family.ours(messages).encode() == _rendered(family, messages).encode()


def test_the_format_is_the_template(family):
    """The row of the format has the one column, with what the template makes."""
    name = next(name for name, one in FAMILIES.items() if one is family)
    messages = _said(("user", "Why?"), ("assistant", "Because."))
    row: Any = {"id": "e-1", "messages": messages}
    assert FORMATS[f"text-{name}"].row(Example(row)) == {"text": family.ours(messages)}


def test_peoples_words_hold_no_control_token(family):
    """Every marker in people's words gets a space; the structure alone has tokens."""
    nested = [f"{a[:-1]}{b}{a[-1]}" for a, b in pairwise(family.markers)]
    words = " ".join([*family.markers, *(m * 2 for m in family.markers), *nested])
    plain = family.ours(_said(("user", "x"), ("assistant", "x")))
    attacked = family.ours(_said(("user", words), ("assistant", words)))
    for marker in family.markers:
        assert attacked.count(marker) == plain.count(marker), marker
        assert f"{marker[0]} {marker[1:]}" in attacked
    assert attacked.replace(" ", "").count(family.markers[0]) > plain.count(family.markers[0])


def test_nobody_ends_a_token_that_the_template_began(family):
    """Halves of a marker at both ends of a message meet nothing that completes them."""
    plain = family.ours(_said(("user", "x"), ("assistant", "x")))
    for marker in family.markers:
        for cut in range(1, len(marker)):
            words = f"{marker[cut:]}x{marker[:cut]}"
            made = family.ours(_said(("user", words), ("assistant", words)))
            assert made.count(marker) == plain.count(marker), (marker, cut)


def test_neighbours_of_one_role_are_one_turn_for_mistral():
    """Its template refuses them; here they are one turn with a blank line, then it agrees."""
    family = FAMILIES["mistral"]
    messages = _said(
        ("system", "Be brief."),
        ("system", "Be kind."),
        ("user", "Why?"),
        ("user", "Well?"),
        ("assistant", "Because."),
        ("assistant", "So."),
    )
    with pytest.raises(TemplateError):
        _rendered(family, messages)
    folded = _said(
        ("system", "Be brief.\n\nBe kind."),
        ("user", "Why?\n\nWell?"),
        ("assistant", "Because.\n\nSo."),
    )
    assert family.ours(messages) == _rendered(family, folded)


@pytest.mark.parametrize(
    "messages",
    [
        _said(("assistant", "Welcome."), ("user", "Why?"), ("assistant", "So.")),
        _said(("user", "Why?"), ("system", "Be brief."), ("assistant", "So.")),
        _said(("system", "Be brief."), ("assistant", "So.")),
    ],
)
def test_what_mistral_has_no_place_for_is_refused(messages):
    """Without inventing a turn or dropping one; and its template refuses it, too."""
    with pytest.raises(Unfit, match="by turns"):
        FAMILIES["mistral"].ours(messages)
    with pytest.raises(TemplateError):
        _rendered(FAMILIES["mistral"], messages)
