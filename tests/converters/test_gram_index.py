"""Looking for eight words in a row: quick, and the same answers as by comparing all of them."""

from __future__ import annotations

import random
import re
import time

import pytest

from converters.gram_index import GRAM_WORDS, GramIndex

GATE = "Explain to me in detail how one could quietly open the lock of a neighbour"


def _plainly(forbidden, text):
    """The same promise without any shortcut."""

    def words(some):
        return tuple(re.findall(r"\w+", some.lower()))

    def grams(some):
        return {some[i : i + GRAM_WORDS] for i in range(len(some) - GRAM_WORDS + 1)}

    known = [words(some) for some in forbidden]
    said = words(text)
    return said in known or any(grams(said) & grams(some) for some in known)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (GATE, True),
        ("My uncle asks how one could quietly open the lock of a shop", True),
        ("HOW one, could “quietly” open — the lock of...", True),
        ("Tell me how one could quietly open the lock", False),
        ("who are YOU", True),
        ("Tell me: who are you?", False),
        ("", False),
    ],
)
def test_eight_words_in_a_row_or_all_of_them_are_found(text, found):
    """Neither case nor signs hide them; seven are not enough."""
    assert GramIndex([GATE, "Who are you?"]).finds(text) is found


def test_found_wherever_they_lie():
    """After any number of other words, and of any eight of the gate's."""
    index, words = GramIndex([GATE]), GATE.split()
    for at in range(len(words) - GRAM_WORDS + 1):
        for before in range(12):
            text = " ".join(["rain"] * before + words[at : at + GRAM_WORDS] + ["snow"] * 30)
            assert index.finds(text)


def test_no_words_are_all_of_the_words_of_none():
    """As before: a text of signs only is a text of signs only."""
    assert GramIndex(["?!"]).finds("...")
    assert not GramIndex([GATE]).finds("...")
    assert not GramIndex([]).finds("...")


# What lower(), \w and UTF-8 treat in ways of their own: İ becomes two characters, the Kelvin
# sign a plain k, ² is a digit to \w; marks and lone surrogates are no word characters.
ODD = ["k", "\u212a", "İ", "ß", "naïve", "na\u0308h", "x²", "日本", "\ud800", "a\ud800b", "A_b"]
PLAIN = ["the", "of", "lock", "42", "rain"]
SIGNS = [" ", " ", " ", ", ", "’", "—", "\u00a0", "\n", "\x1c", "\u200b", "\u0307"]


@pytest.mark.parametrize("alphabet", [PLAIN, [*PLAIN, *ODD]], ids=["ascii", "odd"])
@pytest.mark.parametrize("seed", range(5))
def test_the_same_answers_as_by_comparing_all(alphabet, seed):
    """Few words, so that many are shared, and every length and place comes up."""
    draw = random.Random(seed)

    def text(most, words):
        return "".join(draw.choice(words) + draw.choice(SIGNS) for _ in range(draw.randrange(most)))

    answers = []
    for _ in range(150):
        forbidden = [text(draw.choice([4, 14]), alphabet) for _ in range(4)]
        index = GramIndex(forbidden)
        for _ in range(20):
            said = text(draw.choice([5, 30]), [*PLAIN, *ODD])
            if draw.random() < 0.5:  # a piece of a forbidden text, among other words
                whole = draw.choice(forbidden)
                said += whole[draw.randrange(len(whole) + 1) :] + text(6, alphabet)
            answers.append(index.finds(said))
            assert answers[-1] == _plainly(forbidden, said), (forbidden, said)
    assert 0.05 < sum(answers) / len(answers) < 0.95


def test_a_clean_text_costs_less_than_its_words():
    """Beside finding its words alone, without comparing any; a slow machine slows both."""
    draw = random.Random(1)
    words = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 8))) for _ in range(3_000)]
    index = GramIndex(" ".join(draw.choices(words, k=40)) for _ in range(300))
    texts = [" ".join(draw.choices(words, k=60)) for _ in range(500)]

    def seconds(work):
        took = []
        for _ in range(5):
            started = time.perf_counter()
            for text in texts:
                work(text)
            took.append(time.perf_counter() - started)
        return min(took)

    assert seconds(index.finds) < 0.8 * seconds(lambda text: re.findall(r"\w+", text.lower()))
