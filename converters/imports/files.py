"""A file of exported conversations, as experiences: JSON lines, or JSON in one piece."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from converters.imports import IMPORTS
from converters.imports.exchange import Import, Unreadable, experience
from store.errors import Rejected
from store.records import Consent, Experience

AUTO = "auto"
BAD_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
MARK = b"\xef\xbb\xbf"
"""A byte order mark, which some programs write and no JSON has."""


class Found(NamedTuple):
    """What stands at a place of the file: its experiences, or why there are none."""

    place: str
    """Such as `line 3`."""
    experiences: tuple[Experience, ...] = ()
    fault: str | None = None


def read(path: Path, *, format: str = AUTO, source: str, consent: Consent) -> Iterator[Found]:
    """The experiences of each document in the file, in order: all of a document, or its fault.

    Raises Rejected for a file that cannot be read, and for a format that is unknown.
    """
    if format != AUTO and format not in IMPORTS:
        raise Rejected(
            f"There is no format {format}.", hint=f"There are: {AUTO}, {', '.join(IMPORTS)}."
        )
    try:
        for place, text in _documents(path):
            try:
                document = _object(text)
                exchanges = _chosen(format, document).read(document)
                some = tuple(experience(e, source=source, consent=consent) for e in exchanges)
                yield Found(place, some)
            except Unreadable as error:
                yield Found(place, fault=error.message)
    except OSError as error:
        raise Rejected(f"{path} cannot be read: {error.strerror}.") from error


def _documents(path: Path) -> Iterator[tuple[str, bytes]]:
    """(place, JSON) of each document. What is no JSON in one piece is taken for lines."""
    with path.open("rb") as file:
        opening = next((line for line in file if line.strip(MARK + b" \t\r\n")), b"")
        whole = _is_json(opening.removeprefix(MARK), list) or not _is_json(
            opening.removeprefix(MARK), dict[str, msgspec.Raw]
        )
        text = path.read_bytes().removeprefix(MARK) if whole else b""
        if whole and _is_json(text, list[msgspec.Raw]):
            for number, item in enumerate(msgspec.json.decode(text, type=list[msgspec.Raw]), 1):
                yield f"item {number}", bytes(item)
        elif whole and _is_json(text, dict[str, msgspec.Raw]):
            yield "the document", text
        else:
            file.seek(0)
            for number, line in enumerate(file, 1):
                if bare := line.removeprefix(MARK).strip():
                    yield f"line {number}", bare


def _is_json(text: bytes, kind: Any) -> bool:
    try:
        msgspec.json.decode(text, type=kind)
    except BAD_JSON:
        return False
    return True


def _object(text: bytes) -> Mapping[str, Any]:
    try:
        document = msgspec.json.decode(text)
    except BAD_JSON as error:
        raise Unreadable(f"This is not valid JSON: {error}.") from error
    if not isinstance(document, dict):
        raise Unreadable("This is no JSON object.")
    return document


def _chosen(format: str, document: Mapping[str, Any]) -> Import:
    some = IMPORTS if format == AUTO else {format: IMPORTS[format]}
    for one in some.values():
        if one.fits(document):
            return one
    wanted = "any format that we know" if format == AUTO else f"the format {format}"
    raise Unreadable(f"This is not of {wanted}.")
