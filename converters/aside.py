"""What was said, read from the store once and put aside in a file until the dataset is written.

Of each experience its line of the dataset and, for what is asked of many together, its words as
numbers, but for the house's own. What a step by words drops is not put aside, a gate's item above
all: whatever goes wrong afterwards, it has no line that could be written. The file has no name, so
that it is gone with the process, even with one that is killed.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import DTypeLike

from converters.formats import chat
from converters.formats.format import jsonl
from converters.grams import Halves, Numbers, Places, halves, mixed, up_to
from converters.reading import Said
from converters.rows import Keys, Mask
from store.errors import IntegrityError
from store.sources import OURS

SIGN = re.compile(r"[^\w\s]")
PLAIN = bytes(code for code in range(128) if not SIGN.match(chr(code)))
"""The letters and spaces of ASCII, to be passed over quickly."""
CODE_BITS = 21
"""Of a character's number in Unicode."""
NEWLINE = ord("\n")


class Speech(NamedTuple):
    """What persons and models said in some experiences; each sign in it counts as a word."""

    places: slice
    """Which of those that were asked for."""
    words: Halves
    """Their numbers, one after another."""
    text: Places
    """Which text each word belongs to."""
    first: Places
    """Of each experience its first word, and then how many words there are."""

    def up_to(self, length: int) -> Halves:
        """Of each word a line, as `grams.up_to` has it."""
        return up_to(length, self.words, self.text)


class Page(NamedTuple):
    """Where in the file some experiences are."""

    positions: Keys
    """Theirs in the log, ascending."""
    start: int
    """Of the numbers of their words; then come the texts' lengths and owners, then the lines."""
    words: int
    texts: int
    ends: Keys
    """Of each line, from the first line's start."""


class Aside:
    """A file that experiences are put into, and read from again."""

    def __init__(self, folder: Path | None = None) -> None:
        """A folder is whose disk the file is on; without one no lines are put aside."""
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed by __exit__
        self._lines = folder is not None
        self._pages: list[Page] = []
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def put(self, some: Said, positions: Keys, clear: Mask, items: Mask | None = None) -> None:
        """Puts those of `some.found` aside that are clear, which stand at these positions.

        `items` says which of the texts hold a gate's item. Raises IntegrityError for one that
        is in an experience that is clear: whoever said so is not believed.
        """
        if items is not None and items.any():
            _require_none(items, some, clear)
        if not clear.any():
            return
        numbers, lengths, owners = _speech(some, clear)
        lines = b""
        if self._lines:
            kept = zip(some.found, clear.tolist(), strict=True)
            lines = jsonl(chat.row(spoken) for spoken, good in kept if good)
        ends = np.flatnonzero(np.frombuffer(lines, np.uint8) == NEWLINE) + 1
        self._pages.append(Page(positions[clear], self._end, len(numbers), len(lengths), ends))
        for part in (halves(numbers), lengths.astype(np.int32), owners.astype(np.int32)):
            self._end += self._file.write(part.data)
        self._end += self._file.write(lines)

    def speech(self, positions: Keys) -> Iterator[Speech]:
        """What was said in the experiences at these positions, ascending, some at a time."""
        for page, places, which in self._among(positions):
            wanted = np.zeros(len(page.positions), bool)
            wanted[which] = True
            at = page.start + 4 * page.words
            words = self._read(page.start, page.words, np.uint32)
            lengths = self._read(at, page.texts, np.int32)
            owners = self._read(at + 4 * page.texts, page.texts, np.int32)
            of_them = wanted[owners]
            if not of_them.all():
                words = words[np.repeat(of_them, lengths)]
                lengths, owners = lengths[of_them], owners[of_them]
            text = np.repeat(np.arange(len(lengths)), lengths)
            first = np.concatenate((np.zeros(1, int), np.cumsum(lengths)))
            first = first[np.searchsorted(owners, [*which, len(wanted)])]
            yield Speech(places, words, text, first)

    def lines(self, positions: Keys) -> Iterator[tuple[slice, list[bytes]]]:
        """The lines of the experiences at these positions, ascending, and which of them these are.

        Raises IntegrityError for one that was not put aside.
        """
        for page, places, which in self._among(positions):
            start = page.start + 4 * page.words + 8 * page.texts
            content = os.pread(self._file.fileno(), int(page.ends[-1]), start)
            starts = np.concatenate((np.zeros(1, int), page.ends))[which].tolist()
            ends = page.ends[which].tolist()
            yield places, [content[a:b] for a, b in zip(starts, ends, strict=True)]

    def _among(self, positions: Keys) -> Iterator[tuple[Page, slice, Places]]:
        """The pages that hold some of these, which of these, and which of the page's they are."""
        self._file.flush()
        found = 0
        for page in self._pages:
            start, end = np.searchsorted(positions, (page.positions[0], page.positions[-1] + 1))
            which = np.searchsorted(page.positions, positions[start:end])
            there = page.positions[which] == positions[start:end]
            if start != found or not there.all():
                found = int(start + there.argmin() if start == found else found)
                break
            found = int(end)
            if len(which):
                yield page, slice(int(start), found), which
        if found < len(positions):
            raise IntegrityError(
                f"The experience at position {positions[found]} was selected, but was dropped "
                "when it was read, as what holds a gate's item is.",
                hint="This is a fault in the selection: please report it.",
            )

    def _read(self, start: int, count: int, kind: DTypeLike) -> Any:
        size = count * np.dtype(kind).itemsize
        return np.frombuffer(os.pread(self._file.fileno(), size, start), kind)


def _require_none(items: Mask, some: Said, clear: Mask) -> None:
    texts = iter(items.tolist())
    for spoken, good in zip(some.found, clear.tolist(), strict=True):
        held = [next(texts) for _ in (*spoken.messages, spoken.response)]
        if good and any(held):
            raise IntegrityError(
                f"{spoken.id} holds an item of a gate and was not dropped.",
                hint="This is a fault in the selection: please report it.",
            )


def _speech(some: Said, clear: Mask) -> tuple[Numbers, Places, Places]:
    """Of those that are clear: the words, how many each text has, and whose text each is.

    The house's own have none: nobody is asked whether those are a burst.
    """
    owner = np.repeat(np.arange(len(some.found)), np.diff(some.responses, prepend=-1))
    strangers = np.array([spoken.source not in OURS for spoken in some.found], bool)
    heard = some.heard & (clear & strangers)[owner]
    signs, whose = _signs(some.texts, np.where(heard, owner, -1))
    lengths = np.diff(some.words.first)
    numbers = some.words.numbers[np.repeat(heard, lengths)]
    owner, lengths = owner[heard], lengths[heard]
    # Each sign as a text of its own, after those of its experience.
    texts = np.searchsorted(owner, whose, side="right")
    words = np.concatenate((np.zeros(1, int), np.cumsum(lengths)))[texts]
    numbers = np.insert(numbers, words, mixed(signs.astype(np.uint64)))
    owner, lengths = np.insert(owner, texts, whose), np.insert(lengths, texts, 1)
    return numbers, lengths, (np.cumsum(clear) - 1)[owner]


def _signs(texts: Sequence[str], owner: Places) -> tuple[Places, Places]:
    """The signs in an owner's texts, each once, and whose they are; those of -1 are not told."""
    # No text holds U+0000, so where it is found, as a sign, the next text begins.
    joined = "\0".join(texts).encode().translate(None, PLAIN).decode()
    signs = np.array([ord(sign) for sign in SIGN.findall(joined)], int)
    whose = owner[np.cumsum(signs == 0)]
    different = np.unique((whose << CODE_BITS | signs)[(signs > 0) & (whose >= 0)])
    return different % 2**CODE_BITS, different >> CODE_BITS
