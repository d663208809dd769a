"""The texts of items and wishes: kept as Unicode NFC, without control characters or many marks.

NFC, so that one text has one digest whatever system it was typed on. Control characters other
than tab and line ends are refused: they mean nothing to a reader, and much to terminals.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import Any, TypeVar

import msgspec

from daemon.problems import Problem, pointer_of
from store.records import Context, Experience, Feedback, Noun

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
MOST_MARKS = 30
ONE_KEY = "Send one of them: otherwise a value would be lost."
PLAIN = Context()
Item = TypeVar("Item", bound=Noun)


def is_plain(written: bytes) -> bool:
    """Whether JSON holds printable ASCII only, so that `normal` need not look: quick to tell."""
    return not written.translate(None, _PLAIN_BYTES) and (
        b"\\" not in written or _HIDES.search(written) is None
    )


_PLAIN_BYTES = bytes(range(0x20, 0x7F)) + b"\t\r\n"
_HIDES = re.compile(rb"\\[ubf]")


def normal(item: Item) -> Item:
    """The item, or the wish, with its texts in NFC. Raises Problem for what is not kept."""
    joined = "\n".join(_texts(item))  # one search is cheaper than one for each
    if CONTROL.search(joined):
        raise Problem(
            422,
            "control_character",
            "A text holds a control character other than tab and line ends.",
            hint="Remove it: U+0000 to U+001F and U+007F to U+009F are not kept.",
            pointer=_find(CONTROL, msgspec.to_builtins(item), ""),
        )
    if joined.isascii():
        return item
    if _marks().search(joined):
        # Before anything is normalised: sorting marks takes time with the square of their number.
        raise Problem(
            422,
            "too_many_marks",
            f"A text holds more than {MOST_MARKS} combining marks in a row.",
            hint="No language needs so many; remove some.",
            pointer=_find(_marks(), msgspec.to_builtins(item), ""),
        )
    if unicodedata.is_normalized("NFC", joined):
        return item
    try:
        return msgspec.convert(_composed(msgspec.to_builtins(item)), type(item))
    except msgspec.ValidationError as error:  # NFC makes a few characters longer
        where, reason = pointer_of(error)
        raise Problem(422, "invalid", f"In NFC: {reason}.", pointer=where) from error


@cache
def _marks() -> re.Pattern[str]:
    """More combining marks in a row than the Stream-Safe Text Format (UAX 15) has."""
    marks = "".join(chr(c) for c in range(0x300, 0x1E950) if unicodedata.combining(chr(c)))
    return re.compile(f"[{marks}]{{{MOST_MARKS + 1}}}")


def _texts(item: Noun) -> list[str]:
    if isinstance(item, Feedback):
        return [item.text or ""]
    if not isinstance(item, Experience):
        return [value for value in msgspec.structs.astuple(item) if isinstance(value, str)]
    texts = [m.content for m in item.messages]
    texts += (item.response, item.source, item.model or "", item.consent.policy or "")
    if item.context != PLAIN:
        texts += (*item.context.facts, *item.context.critical_info, item.context.mood or "")
    for name, value in item.metadata.items():
        texts.append(name)
        if isinstance(value, str):
            texts.append(value)
    return texts


def _find(pattern: re.Pattern[str], value: Any, pointer: str) -> str | None:
    """RFC 6901 pointer of the first text that the pattern is in; None where there is none."""
    if isinstance(value, str):
        return pointer if pattern.search(value) else None
    for name, entry in _entries(value):
        if pattern.search(name):
            return pointer
        step = name.replace("~", "~0").replace("/", "~1")
        found = _find(pattern, entry, f"{pointer}/{step}")
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
        composed = {_composed(name): _composed(entry) for name, entry in value.items()}
        if len(composed) < len(value):  # of all maps, only this one has keys of the caller's own
            raise Problem(
                422, "invalid", "Two keys are the same in NFC.", hint=ONE_KEY, pointer="/metadata"
            )
        return composed
    if isinstance(value, list | tuple):
        return [_composed(entry) for entry in value]
    return value
