"""One column, text: the conversation as a model family's own chat template writes it."""

from __future__ import annotations

from converters.formats.format import Example, Format, jsonl
from converters.formats.templates import Template


def of(template: Template) -> Format[Example]:
    """The format for one family."""
    return Format(
        about=f"text, as the template of {template.model} writes it",
        suffix=".jsonl",
        row=lambda example: {"text": template(example.messages)},
        write=jsonl,
    )
