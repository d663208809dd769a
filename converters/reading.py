"""The pass over the words: what of each experience decides whether it is learned from.

Experiences are read in small batches, and only numbers of them stay.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import msgspec
import numpy as np

from converters.grams import Numbers, Words, mixed, words
from converters.rows import Mask, Rows
from store import experiences
from store.events import StoreReader
from store.records import Experience

BATCH = 200
"""Experiences at once: their bytes as numbers stay in the processor's cache."""
GRAM_WORDS = 8
"""Two texts that share this many words in a row are taken for the same item."""


class Said(NamedTuple):
    """Some experiences, and everything that was said in them, as words."""

    rows: slice
    """Which of the rows asked for."""
    found: list[tuple[int, Experience]]
    """With each one's place among these rows; what was erased meanwhile is not there."""
    words: Words
    """Of all texts: of each experience its messages in their order, then the response."""
    responses: np.ndarray
    """Which of the texts is each one's response."""
    questions: np.ndarray
    """Which is the last that the person said; -1 where the person said nothing."""


class Forbidden:
    """Texts that no training may see: each as a whole, and any eight of its words in a row."""

    def __init__(self, texts: Collection[str]) -> None:
        found = words(list(texts))
        self._grams = np.unique(found.rows(GRAM_WORDS)[0])
        self._whole = np.unique(found.whole())

    def among(self, said: Words) -> Mask:
        """Which of the texts are, or hold, one of them."""
        holds = _among(said.whole(), self._whole)
        grams, text = said.rows(GRAM_WORDS)
        holds[text[_among(grams, self._grams)]] = True
        return holds


def _among(numbers: Numbers, known: Numbers) -> Mask:
    if not len(known):
        return np.zeros(len(numbers), bool)
    places = np.minimum(np.searchsorted(known, numbers), len(known) - 1)
    return np.asarray(known[places] == numbers)


def corrected(experience: Experience, better: Mapping[str, str]) -> Experience:
    """With the answer that a person wrote in place of the model's, where one did."""
    text = better.get(experience.id)
    return experience if text is None else msgspec.structs.replace(experience, response=text)


def said(store: StoreReader, rows: Rows, better: Mapping[str, str]) -> Iterator[Said]:
    """Reads what was said in these rows, some at a time."""
    for start in range(0, len(rows), BATCH):
        some = slice(start, min(start + BATCH, len(rows)))
        places = {int(position): i for i, position in enumerate(rows["position"][some])}
        found = [
            (places[position], corrected(experience, better))
            for position, experience in experiences.read(store, places)
        ]
        texts: list[str] = []
        responses, questions = [], []
        for _, experience in found:
            asked = [len(texts) + i for i, m in enumerate(experience.messages) if m.role == "user"]
            texts.extend(message.content for message in experience.messages)
            questions.append(asked[-1] if asked else -1)
            responses.append(len(texts))
            texts.append(experience.response)
        as_words = words(texts)
        yield Said(some, found, as_words, np.array(responses, int), np.array(questions, int))


def exchange(some: Said) -> tuple[Numbers, Numbers]:
    """Of each experience a number for the words of the question, and for those of both."""
    whole = some.words.whole()
    # -1 reads the last text's number, which stands for no question.
    asked = np.where(some.questions < 0, np.uint64(0), whole[some.questions])
    return asked, mixed(asked * np.uint64(3) + whole[some.responses])


def texts(store: StoreReader, rows: Rows, better: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(question, answer) of each row, in their order; empty where it was erased meanwhile."""
    position_of = iter(rows["position"])
    for position, experience in experiences.read(store, map(int, rows["position"])):
        for wanted in position_of:
            if wanted == position:
                fixed = corrected(experience, better)
                yield fixed.last_user_turn, fixed.response
                break
            yield "", ""
    yield from (("", "") for _ in position_of)
