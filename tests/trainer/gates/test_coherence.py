"""Whether a longer answer keeps making sense, and how much of it is said again."""

from __future__ import annotations

import random

import pytest

from trainer.gates import coherence as module
from trainer.gates.coherence import coherence, known_words, repetition
from trainer.gates.sample import read_suite

GOOD = [
    (
        "Choose boots in the afternoon, when your feet are a little larger, and bring the socks "
        "you will wear. Walk down a slope in the shop: your toes shouldn't touch the front. The "
        "heel should hardly lift. Heavy leather lasts for years but needs breaking in, while "
        "fabric dries sooner and forgives more. Don't buy them too narrow; no boot has ever grown "
        "on a mountain."
    ),
    (
        "The keeper's goat was gone. She had eaten his map, his lunch and half of his hat, and "
        "now the island was silent. He climbed the stairs, lit the lamp three hours early and "
        "turned it slowly. On the third round two yellow eyes shone from the old boat. “Come "
        "home,” he called. The goat considered it, as goats do, and finished the oars first."
    ),
    (
        "1. Write at the same hour each day, even if it is only a line.\n2. Keep the book where "
        "you can't miss it.\n3. Begin with what you saw, not with what you think of yourself.\n4. "
        "Skip a day without shame.\n5. Once a month, read the pages from a year ago; you'll be "
        "kinder to the person who wrote them. - A pencil is enough - and 12 cm of shelf for 2 "
        "years."
    ),
    (
        "As it bakes, the loaf rises once more, because the gas in the dough grows with the heat. "
        "Then the yeast dies, the starch sets, and the crumb can hold its own weight. Outside, "
        "where it is hottest, sugars turn brown and the crust begins to smell of nuts. Water "
        "leaves as steam. At the end it sounds hollow when you knock on its underside."
    ),
]
LONG_HEAD = " ".join(GOOD[0].split()[:35])


def shuffled(text: str) -> str:
    """The same words in another order."""
    words = text.split()
    random.Random(7).shuffle(words)
    return " ".join(words)


def random_letters(n: int) -> str:
    """So many runs of letters that are no words."""
    draw = random.Random(7)
    return " ".join(
        "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(4, 9))) for _ in range(n)
    )


def random_words(n: int) -> str:
    """So many words, each a word, together none of them a sentence."""
    return " ".join(random.Random(7).sample(sorted(known_words()), n))


GIBBERISH = {
    "letters": random_letters(40),
    "words": random_words(40),
    "shuffled": shuffled(" ".join(GOOD)),
    "signs": "%% $$ ~~ }{ ;; @@ || ^^ " * 6,
    "code points": " ".join(chr(0x4E00 + 37 * n) + chr(0x4E00 + 91 * n) for n in range(40)),
    "fragments": "ulation izedstr perty ingingthe vectorw nessib quotri lyfor ocusat " * 5,
}


@pytest.mark.parametrize("text", GOOD)
def test_prose_and_lists_make_sense(text: str) -> None:
    """Stories, advice, numbered lists and quotations, with the odd word that the list lacks."""
    assert coherence(text) >= 0.93
    assert repetition(text) <= 0.05


@pytest.mark.parametrize("kind", GIBBERISH)
def test_gibberish_after_a_good_beginning_is_seen(kind: str) -> None:
    """The first thirty words may be as good as they like."""
    assert coherence(f"{LONG_HEAD} {GIBBERISH[kind]}") < 0.75


@pytest.mark.parametrize("kind", GIBBERISH)
def test_gibberish_from_the_start_is_seen(kind: str) -> None:
    """And so is an answer that never made sense, however short."""
    assert coherence(GIBBERISH[kind]) < 0.7
    assert coherence(" ".join(GIBBERISH[kind].split()[:12])) < 0.8


def test_going_round_in_circles_is_repetition_and_no_gibberish() -> None:
    """What a small base does by itself is counted by the other gate."""
    loop = LONG_HEAD + " They are both from the same town." * 8
    assert repetition(loop) > 0.7
    assert coherence(loop) > 0.9


def test_a_word_again_and_again_is_repetition() -> None:
    """The shortest circle there is."""
    assert repetition("very " * 60) > 0.9


def test_a_refrain_is_little_repetition() -> None:
    """Saying one sentence twice in a text of seventy words is no fault of note."""
    assert repetition(f"{GOOD[1]} The goat considered it, as goats do.") < 0.15


def test_short_answers_are_looked_at_whole() -> None:
    """A text that ends before the tail begins is not taken for empty."""
    assert coherence("Bees store honey for the winter.") == 1.0
    assert coherence("Xqzt vrrp lmno.") == 0.0
    assert coherence("") == coherence(" … - ") == 0.0
    assert repetition("") == repetition("Bees.") == 0.0


def test_missing_list_of_words_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its list the gate is an error, never a pass."""
    known_words.cache_clear()
    monkeypatch.setattr(module, "PACKAGE", "there_is_no_such_package")
    with pytest.raises(module.Misconfigured, match="not installed"):
        coherence("A word.")
    monkeypatch.undo()
    assert coherence("A word.") == 1.0


def test_suite_asks_for_texts_that_have_a_tail() -> None:
    """Thirty-six texts of some seventy words, twelve of a kind."""
    samples = read_suite("longer.jsonl")
    kinds = [sample.category for sample in samples]
    assert {kind: kinds.count(kind) for kind in kinds} == {"explain": 12, "tell": 12, "advise": 12}
    assert all(int(sample.target) >= module.AFTER + module.LEAST_TAIL for sample in samples)
