"""The texts of an item: kept as Unicode NFC, and without control characters.

NFC, so that one text has one digest whatever system it was typed on. Control characters other
than tab and line ends are refused: they mean nothing to a reader, and much to terminals.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from daemon.problems import Problem
from store.records import Context, Experience, Feedback

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
PLAIN = Context()
Item = TypeVar("Item", Experience, Feedback)


def normal(item: Item) -> Item:
    """The item with its texts in NFC. Raises Problem where a control character is."""
    joined = "\n".join(_texts(item))  # one search is cheaper than one for each
    if CONTROL.search(joined):
        raise Problem(
            422,
            "control_character",
            "A text holds a control character other than tab and line ends.",
            hint="Remove it: U+0000 to U+001F and U+007F to U+009F are not kept.",
            pointer=_find_control(msgspec.to_builtins(item), ""),
        )
    if joined.isascii() or unicodedata.is_normalized("NFC", joined):
        return item
    return msgspec.convert(_composed(msgspec.to_builtins(item)), type(item))


def _texts(item: Experience | Feedback) -> list[str]:
    if isinstance(item, Feedback):
        return [item.text or ""]
    texts = [m.content for m in item.messages]
    texts += (item.response, item.source, item.model or "", item.consent.policy or "")
    if item.context != PLAIN:
        texts += (*item.context.facts, *item.context.critical_info, item.context.mood or "")
    for name, value in item.metadata.items():
        texts.append(name)
        if isinstance(value, str):
            texts.append(value)
    return texts


def _find_control(value: Any, pointer: str) -> str | None:
    """RFC 6901 pointer of the first text with a control character; None where there is none."""
    if isinstance(value, str):
        return pointer if CONTROL.search(value) else None
    for name, entry in _entries(value):
        if CONTROL.search(name):
            return pointer
        step = name.replace("~", "~0").replace("/", "~1")
        found = _find_control(entry, f"{pointer}/{step}")
        if found is not None:
            return found
    return None


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list | tuple):
        yield from ((str(place), entry) for place, entry in enumerate(value))


def _composed(value: Any) -> Any:
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, dict):
        return {_composed(name): _composed(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_composed(entry) for entry in value]
    return value
