"""The chat templates of model families, as plain functions: a conversation in, its text out.

Each renders byte for byte as the template that the family's model ships, which a test compares.
What the template or the tokenizer would obey gets a space behind its first character in people's
words, as for a guard: `</s>` becomes `< /s>`. A new family is one entry here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from converters.formats.format import Turn, Unfit
from converters.formats.turns import folded


class Template(NamedTuple):
    """How a family writes a conversation."""

    model: str
    """Whose published template it renders like."""
    markers: re.Pattern[str]
    """What structures the text, or is a special token of the tokenizer."""
    fill: Callable[[Sequence[Turn]], str]

    def __call__(self, messages: Sequence[Turn]) -> str:
        """The text of a whole conversation, its answer ended. Raises Unfit."""
        return self.fill(
            [{"role": m["role"], "content": self._inert(m["content"])} for m in messages]
        )

    def _inert(self, words: str) -> str:
        return self.markers.sub(lambda found: f"{found[0][0]} {found[0][1:]}", words)


def _zephyr(messages: Sequence[Turn]) -> str:
    return "".join(f"<|{m['role']}|>\n{m['content']}</s>\n" for m in messages)


def _chatml(messages: Sequence[Turn]) -> str:
    return "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)


def _llama3(messages: Sequence[Turn]) -> str:
    return "<|begin_of_text|>" + "".join(
        f"<|start_header_id|>{m['role']}<|end_header_id|>\n\n{m['content'].strip()}<|eot_id|>"
        for m in messages
    )


def _mistral(messages: Sequence[Turn]) -> str:
    """A system message goes before the first user turn's words, as the template has it.

    The template refuses turns that do not alternate; neighbours of one role are made one turn.
    """
    turns = folded(messages)
    system = f"{turns.pop(0)['content']}\n\n" if turns[0]["role"] == "system" else ""
    if [m["role"] for m in turns] != ["user", "assistant"] * (len(turns) // 2):
        raise Unfit("its turns are not user and assistant by turns, the user first")
    text = "<s>"
    for n, turn in enumerate(turns):
        if turn["role"] == "user":
            text += f" [INST] {system if n == 0 else ''}{turn['content']} [/INST]"
        else:
            text += f" {turn['content']}</s>"
    return text


ZEPHYR = Template(
    "TinyLlama-1.1B-Chat-v1.0 and zephyr-7b-beta",
    re.compile(r"</?s>|<unk>|<\|(?:system|user|assistant)\|>"),
    _zephyr,
)
MISTRAL = Template("Mistral-7B-Instruct-v0.2", re.compile(r"</?s>|<unk>|\[/?INST\]"), _mistral)
LLAMA3 = Template("Meta-Llama-3-8B-Instruct", re.compile(r"<\|\w+\|>"), _llama3)
CHATML = Template(
    "OpenHermes-2.5-Mistral-7B",  # and of others that add no system message of their own
    re.compile(r"<\|\w+\|>|</?s>|<unk>"),
    _chatml,
)
