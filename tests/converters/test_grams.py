"""Words as numbers: equal numbers are equal words, however many texts are read at once."""

from __future__ import annotations

import random
import re

import pytest

from converters.grams import numbered

ODD = [
    "",
    "...",
    "“Grüße”, İstanbul—ﬁx ß",
    "日本 語",
    "a_b A_B",
    "x²",
    "na\u0308h",
    "\u212a k",
    "0 00",
]
LONG = ["neighbou", "neighbour", "neighbours", "neighbourhoodsaa", "neighbourhoodsaab", "n" * 40]
WORDS = ["the", "The", "of", "lock", "42", "rain", "ραιν", "é", *LONG, LONG[-1][:-1]]


def _plainly(text):
    return re.findall(r"\w+", text.lower())


def _texts(seed):
    draw = random.Random(seed)
    made = [" ".join(draw.choices(WORDS, k=draw.randrange(20))) for _ in range(50)]
    return [*ODD, *made]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("length", [1, 2, 3, 8])
def test_words_in_a_row_have_one_number_each(seed, length):
    """The same words have the same number, others another, and none reaches over two texts."""
    texts = _texts(seed)
    words = numbered(texts)
    numbers, whole = words.rows(length)
    numbers, text = numbers[whole], words.text[: len(whole)][whole]
    plain = [
        (place, tuple(words[i : i + length]))
        for place, words in enumerate(map(_plainly, texts))
        for i in range(len(words) - length + 1)
    ]
    assert text.tolist() == [place for place, _ in plain]
    known = dict(zip(numbers.tolist(), (row for _, row in plain), strict=True))
    assert [known[n] for n in numbers.tolist()] == [row for _, row in plain]
    assert len(known) == len({row for _, row in plain})


@pytest.mark.parametrize("seed", range(5))
def test_whole_texts_have_one_number_each(seed):
    """All their words in their order; signs, case and what is read beside them do not matter."""
    texts = _texts(seed)
    whole = numbered(texts).whole.tolist()
    known = dict(zip(whole, map(_plainly, texts), strict=True))
    assert [known[n] for n in whole] == list(map(_plainly, texts))
    assert len(known) == len(set(map(tuple, map(_plainly, texts))))
    alone = [numbered([text]).whole.tolist()[0] for text in texts]
    assert alone == whole


def test_nothing_is_no_words():
    """No texts, and texts without words."""
    assert numbered([]).whole.tolist() == []
    assert numbered(["", "?"]).rows(1)[0].tolist() == []
    assert len(set(numbered(["", "?"]).whole.tolist())) == 1
