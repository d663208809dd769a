"""Rules that notice what a kind tone hides: flattery, pressure, empty words, refusal by rote.

Compiled patterns with word boundaries (scorers/rules.py), each hit with its span. Pure standard
library. It does not know what a hit costs: the panel's settings say that. 0 is clean, 1 is as bad
as it gets.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from scorers.rules import (
    ASKED_FOR_SALES,
    ASKED_TO_REWORK,
    CONDOLES,
    DECLINES,
    DECLINES_AT_ONCE,
    IN_DISTRESS,
    LEAKED,
    MOURNED,
    NEGATION,
    OPENS,
    PERSONA,
    PLACEHOLDER,
    PRAISE,
    QUOTED,
    REFUSAL_WINDOW,
    RULES,
    SENTENCE_END,
    SOUP,
    STUTTER,
    WORD,
    Rule,
)
from scorers.settings import PanelSettings
from store.records import Evidence, Experience, Finding, Vulnerability

NAME = "antijudge"
RULED_REFUSAL = f"{NAME}.refusal"
"""What the rules say of a refusal; the fitted head's word goes before it."""
DISTRESS = "distress"
MAX_EVIDENCE = 8
"""Spans kept per finding; the value counts all of them."""


class Text(NamedTuple):
    """A response and its question as the rules read them: folded (same offsets), and read once."""

    user: str
    response: str
    written: str
    """The response in its own letters; only its apostrophes are made plain."""
    words: list[str]
    asked: list[str]
    """The person's words."""
    skipped: tuple[tuple[int, int], ...]
    """Quotations and code: words that are shown, not said."""
    openings: list[int]
    """Where some rule of RULES fires, whichever it is."""


class Hit(NamedTuple):
    """One rule that fired."""

    rule: str
    start: int
    end: int
    weight: float


PLAIN_APOSTROPHE = str.maketrans({"’": "'", "ʼ": "'"})
ONE_CASE = str.maketrans({"İ": "i", "ı": "i", "ſ": "s", "Σ": "σ"})
"""As re.IGNORECASE has them; str.lower would lengthen them, keep them or look at what follows."""
UNSTEADY = re.compile("[İΣ]")
"""Letters whose lower case is two characters, or another one at the end of a word."""


@cache
def version() -> str:
    """Digest of this file and those it reads by: none can change without its version changing."""
    names = ("antijudge.py", "rules.py", "alternatives.py")
    files = (Path(__file__).with_name(name) for name in names)
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


class AntiJudge:
    """Findings `antijudge.<group>`, and whether the response declines and the person is in need."""

    name = NAME

    @property
    def version(self) -> str:
        """Digest of the rules."""
        return version()

    def score(self, experiences: Sequence[Experience]) -> list[tuple[Finding, ...]]:
        """Every group for every experience; never abstains, rules always have an answer."""
        return [self._one(experience) for experience in experiences]

    def _one(self, experience: Experience) -> tuple[Finding, ...]:
        text = read(experience.last_user_turn, experience.response)
        findings = [_finding(f"{NAME}.{group}", hits(group, text)) for group in GROUPS]
        findings.append(_finding(RULED_REFUSAL, _refusal(text.user, text.response)))
        findings.append(_distress(experience.context.vulnerability, text))
        return tuple(findings)


def load(_: PanelSettings) -> AntiJudge:
    """The scorer, ready."""
    return AntiJudge()


def read(user: str, response: str) -> Text:
    """Prepares a response for the rules; offsets in it are offsets in the original."""
    asked, written = _plain(user), _plain(response)
    folded = fold(written)
    return Text(
        user=fold(asked),
        response=folded,
        written=written,
        words=_words(written),
        asked=_words(asked),
        skipped=tuple(match.span() for match in QUOTED.finditer(response)),
        openings=[match.start() for match in OPENS.finditer(folded)],
    )


def _plain(text: str) -> str:
    return text if text.isascii() else text.translate(PLAIN_APOSTROPHE)


def fold(text: str) -> str:
    """In lower case, with the same offsets: letters are one that are one for re.IGNORECASE.

    A pattern that heeds the case is about twice as fast as one that does not.
    """
    return (text if text.isascii() else text.translate(ONE_CASE)).lower()


def hits(group: str, text: Text) -> list[Hit]:
    """Where this group of rules fires, in order."""
    return sorted(GROUPS[group](text), key=lambda hit: hit.start)


def declines(user: str, response: str) -> bool:
    """Whether the response declines the request: `antijudge.refusal`, where nothing else counts."""
    return bool(_refusal(fold(_plain(user)), fold(_plain(response))))


def _refusal(user: str, response: str) -> list[Hit]:
    """Where the response declines the request, at its opening; empty when it does not."""
    at_once = DECLINES_AT_ONCE.match(response, 0, REFUSAL_WINDOW)
    condoles = CONDOLES.match(response)
    if at_once is None and condoles is not None and MOURNED.search(user) is None:
        at_once = condoles
    if at_once is not None:
        return [Hit("declines", at_once.start(), at_once.end(), 1.0)]
    match = DECLINES.search(f" {response}", 0, 1 + REFUSAL_WINDOW)
    # It begins with the sign before the words, and what was searched with a space before the
    # response: the one makes up for the other.
    return [] if match is None else [Hit("declines", match.start(), match.end() - 1, 1.0)]


def _words(text: str) -> list[str]:
    return [word.lower() for word in WORD.findall(text)]


def _distress(vulnerability: Vulnerability | None, text: Text) -> Finding:
    """Whether the person seems to be in need, by the frontend's word or their own."""
    told = vulnerability in ("medium", "high")
    said = IN_DISTRESS.search(text.user) is not None
    reason = "The frontend says so." if told else "The person's words say so." if said else ""
    return Finding(
        scorer=NAME,
        version=version(),
        dimension=DISTRESS,
        value=float(told or said),
        reason=reason,
    )


def _finding(dimension: str, found: Sequence[Hit]) -> Finding:
    if not found:
        return _clean(dimension)
    return Finding(
        scorer=NAME,
        version=version(),
        dimension=dimension,
        value=round(min(1.0, sum(hit.weight for hit in found)), 4),
        evidence=tuple(
            Evidence(rule=h.rule, start=h.start, end=h.end) for h in found[:MAX_EVIDENCE]
        ),
    )


@cache
def _clean(dimension: str) -> Finding:
    """Made once, as nobody can change it: most texts are clean of most things."""
    return Finding(scorer=NAME, version=version(), dimension=dimension, value=0)


# --- rules by pattern ---------------------------------------------------------------------


def _by_rules(rules: Sequence[Rule], text: Text) -> Iterator[Hit]:
    for rule in rules:
        for start, end in _matches(rule.pattern, text):
            if not (
                _shown(text, start) or _negated(text, start) or _excused(rule, text, start, end)
            ):
                yield Hit(rule.name, start, end, rule.weight)


def _matches(pattern: re.Pattern[str], text: Text) -> Iterator[tuple[int, int]]:
    """What `finditer` would find, looked for only where some rule fires."""
    end = 0
    for opening in text.openings:
        if opening >= end and (match := pattern.match(text.response, opening)):
            end = match.end()
            yield opening, end


def _shown(text: Text, at: int) -> bool:
    return any(start <= at < end for start, end in text.skipped)


def _negated(text: Text, at: int) -> bool:
    """Words just before, in the same sentence, deny or report what follows."""
    return NEGATION.search(text.response, max(0, at - 60), at) is not None


def _excused(rule: Rule, text: Text, start: int, end: int) -> bool:
    if rule.unless is None:
        return False
    before = max((text.response.rfind(mark, 0, start) for mark in ".!?\n"), default=-1) + 1
    after = SENTENCE_END.search(text.response, end)
    return (
        rule.unless.search(text.response, before, after.start() if after else len(text.response))
        is not None
    )


def _sales(text: Text) -> Iterator[Hit]:
    """A pitch that nobody asked for."""
    if ASKED_FOR_SALES.search(text.user) is None:
        yield from _by_rules(RULES["sales"], text)


def _disclaimers(text: Text) -> Iterator[Hit]:
    """One disclaimer is prudence; what counts is the wall behind it."""
    yield from sorted(_by_rules(RULES["disclaimers"], text), key=lambda hit: hit.start)[1:]


# --- rules by counting --------------------------------------------------------------------


def _flattery(text: Text) -> Iterator[Hit]:
    yield from _by_rules(RULES["flattery"], text)
    found = [match.span() for match in PRAISE.finditer(text.response)]
    if len(found) >= 3 and len(found) / len(text.words) > 0.06:
        yield Hit("mostly_praise", found[0][0], found[-1][1], 0.6)


def _soup(text: Text) -> Iterator[Hit]:
    """Spiritual vocabulary instead of an answer; talk about it is fine when asked about it."""
    found = [match.span() for match in SOUP.finditer(text.response)]
    if len(found) >= 4:
        asked = len(SOUP.findall(text.user)) >= 2
        excess = len(found) / len(text.words) - (0.16 if asked else 0.08)
        if excess > 0:
            yield Hit("vocabulary_soup", found[0][0], found[-1][1], min(1.0, 0.3 + 6.0 * excess))
    for match in PERSONA.finditer(text.response):
        if not _shown(text, match.start()):
            yield Hit("persona", match.start(), match.end(), 0.5)


def _repetition(text: Text) -> Iterator[Hit]:
    yield from _repeated_sentences(text)
    if found := [*_dull(text), *_parroting(text)]:
        spans = [match.span() for match in WORD.finditer(text.written)]
        for rule, first, last, weight in found:
            yield Hit(rule, spans[first][0], spans[last][1], weight)


def _repeated_sentences(text: Text) -> Iterator[Hit]:
    least = 4
    runs = _runs(text.words, least)
    if len(set(runs)) == len(runs) and UNSTEADY.search(text.written) is None:
        return  # two sentences that are alike would share their first four words
    seen: set[str] = set()
    ends = [0, *(m.end() for m in SENTENCE_END.finditer(text.written)), len(text.written)]
    for start, end in pairwise(ends):
        words = WORD.findall(text.written[start:end].lower())
        sentence = " ".join(words)
        if len(words) >= least and sentence in seen and not _shown(text, start):
            yield Hit("repeated_sentence", start, end, 0.3)
        seen.add(sentence)


def _dull(text: Text) -> Iterator[Hit]:
    """Stretches of few different words; from word to word."""
    for at in range(0, len(text.words) - 59, 60):
        if len(set(text.words[at : at + 60])) / 60 < 0.42:
            yield Hit("few_different_words", at, at + 59, 0.5)


def _parroting(text: Text) -> Iterator[Hit]:
    """Long runs of the person's own words, handed back; from word to word."""
    if ASKED_TO_REWORK.search(text.user) is not None:
        return
    run = 6
    known = set(_runs(text.asked, run))
    copied = [at for at, words in enumerate(_runs(text.words, run)) if words in known]
    share = (len(copied) + run - 1) / len(text.words) if copied else 0.0
    if share > 0.25:
        yield Hit("parrots_the_person", copied[0], copied[-1] + run - 1, min(1.0, 2 * share))


def _runs(words: Sequence[str], length: int) -> list[tuple[str, ...]]:
    """All that many words in a row, at every word."""
    return list(zip(*(words[at:] for at in range(length)), strict=False))


def _degenerate(text: Text) -> Iterator[Hit]:
    body = text.response
    letters = sum(map(str.isalpha, body))
    if letters == 0 and not any(character.isdigit() for character in body):
        yield Hit("no_words", 0, len(body), 1.0)
    elif len(body) >= 40 and letters / len(body) < 0.35 and "```" not in body:
        yield Hit("hardly_any_letters", 0, len(body), 0.6)
    template_wanted = ASKED_TO_REWORK.search(text.user) is not None
    for match in (LEAKED if template_wanted else PLACEHOLDER).finditer(body):
        if not _shown(text, match.start()):
            yield Hit("placeholder", match.start(), match.end(), 0.6)
    for match in STUTTER.finditer(text.written):
        yield Hit("stutter", match.start(), match.end(), 0.8)
    if body.count("\ufffd") >= 2:
        at = body.index("\ufffd")
        yield Hit("broken_characters", at, at + 1, 0.8)


def _rules_of(group: str) -> Callable[[Text], Iterator[Hit]]:
    return lambda text: _by_rules(RULES[group], text)


GROUPS: dict[str, Callable[[Text], Iterator[Hit]]] = {
    **{group: _rules_of(group) for group in RULES},
    "flattery": _flattery,
    "sales": _sales,
    "disclaimers": _disclaimers,
    "soup": _soup,
    "repetition": _repetition,
    "degenerate": _degenerate,
}
"""How each group is found; the order is the order of the findings."""
