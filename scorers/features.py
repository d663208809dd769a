"""The input of the heads: embeddings made comparable, features of the surface, hashed words.

Pure numpy. It does not know where embeddings come from, nor what the heads predict. Any change
here that moves a number needs a new FEATURE_VERSION and a refit; a test holds the numbers.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.floating]
Embed = Callable[[Sequence[str]], Matrix]
Hashed = NDArray[np.int64]

FEATURE_VERSION = "2"
OPENING = 160
"""Characters of a response in which a refusal or an agreement shows itself."""
MAX_CHARACTERS = 8_000
"""Features look no further: a word count per hundred words is settled long before."""


def _words(*alternatives: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(alternatives)})\b", re.IGNORECASE)


NEGATED_ABILITY = (
    r"i (?:can(?:no|')?t|can not|won'?t|will not|am not able to|am unable to|'m unable to"
    r"|must decline|have to decline)|i'?m (?:not able to|unable to|not going to|not comfortable)"
    r"|i am not (?:going to|comfortable|willing)|(?:cannot|can't) (?:help|assist|provide|fulfil)"
)
DECLINES = _words(
    NEGATED_ABILITY,
    r"i do(?:n't| not) (?:feel comfortable|think i (?:can|should))",
    r"(?:as an ai|my programming|against my (?:guidelines|programming|policy))",
)
APOLOGY = _words(
    r"i(?:'m| am) (?:so |very |really |truly )?sorry", "i apologi[sz]e", "unfortunately"
)
AGREES = re.compile(
    r"^\W*(?:sure|certainly|of course|absolutely|great|yes|okay|ok|here(?:'s| is| are)|"
    r"here you go|no problem|happy to|definitely|gladly|title:|step 1|subject:)\b",
    re.IGNORECASE,
)
SAFETY = _words(
    "illegal", "unlawful", "unethical", "harmful", "dangerous", r"risks?", r"safe(?:ty|ly|r)?",
    r"consult", r"professional", r"doctor", r"emergency", r"poison control", r"helpline",
    r"crisis line", r"police", r"lawyer", r"therapist", r"seek (?:help|medical)", r"warn(?:ing)?",
)  # fmt: skip
HEDGES = _words(
    "maybe", "perhaps", "might", "could", "may", "possibly", "it depends", "depends on",
    "i think", "i(?:'m| am) not (?:sure|certain)", "i don't know", "roughly", "about", "often",
    "usually", "sometimes",
)  # fmt: skip
ABSOLUTES = _words(
    "always", "never", "definitely", "guaranteed?", "everyone", "no one", "nobody", "completely",
    "totally", "absolutely", "undoubtedly", "certainly", "only",
)  # fmt: skip
SECOND_PERSON = _words("you", "your", "yours", "yourself")
SCORN = _words(
    "stupid", "idiot", "pathetic", "shame", "ashamed", "weak", "lazy", "selfish", "ridiculous",
    "your (?:own )?fault", "get over it", "grow up", "stop (?:whining|crying|complaining)",
    "obviously", "serves you right", "disgusting",
)  # fmt: skip
PRAISE = _words(
    "amazing", "brilliant", "genius", "incredible", "wonderful", "perfect", "fantastic",
    "extraordinary", "flawless", "visionary", "what a (?:great|beautiful|wonderful)",
)  # fmt: skip
STEPS = re.compile(r"(?m)^\s*(?:\d{1,2}[.)]|[-*•]|step \d)\s", re.IGNORECASE)
CODE = re.compile(
    r"```|`[^`\n]+`|^\s{4}\S|[{};]\s*$|^\s*(?:def|class|import|for|if) .*:", re.MULTILINE
)
WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")

# Length is left out on purpose: in the house rows good answers are longer than bad ones, and a
# head that may see it learns to pay for padding (Spearman .77 by length alone).
SURFACE = (
    "questions", "declines_at_opening", "declines", "apology",
    "agrees_at_opening", "safety", "hedges", "absolutes", "second_person", "scorn", "praise",
    "steps", "code", "exclamations", "echo",
)  # fmt: skip


def surface(user: str, response: str) -> Matrix:
    """The surface features of one response, each about 0..1, in the order of SURFACE."""
    text = response[:MAX_CHARACTERS].replace("’", "'")
    opening = text[:OPENING]
    words = WORD.findall(text.lower())
    asked = set(WORD.findall(user[:MAX_CHARACTERS].lower()))
    count = max(len(words), 1)

    def per_hundred(pattern: re.Pattern[str], full: float) -> float:
        return min(1.0, 100.0 * len(pattern.findall(text)) / max(count, 25) / full)

    values = (
        min(1.0, text.count("?") / 3.0),
        float(DECLINES.search(opening) is not None),
        per_hundred(DECLINES, 3.0),
        float(APOLOGY.search(opening) is not None),
        float(AGREES.search(opening) is not None),
        per_hundred(SAFETY, 5.0),
        per_hundred(HEDGES, 5.0),
        per_hundred(ABSOLUTES, 4.0),
        per_hundred(SECOND_PERSON, 10.0),
        per_hundred(SCORN, 2.0),
        per_hundred(PRAISE, 3.0),
        min(1.0, len(STEPS.findall(text)) / 8.0),
        float(CODE.search(text) is not None),
        min(1.0, text.count("!") / 4.0),
        sum(word in asked for word in words) / count,
    )
    return np.array(values, dtype=np.float32)


def relate(users: Matrix, responses: Matrix) -> Matrix:
    """Question, answer, their product and their distance, side by side: 1,536 values a row."""
    return np.concatenate([users, responses, users * responses, np.abs(users - responses)], axis=1)


HASHES = 2**16
WORD_CHARACTERS = 4_000


def hashed_words(text: str) -> Hashed:
    """The distinct words and pairs of neighbours in a text, each as a number below HASHES.

    By CRC-32, which is the same on every machine; two that share a number are not told apart.
    """
    words = [
        match.group().encode()
        for match in WORD.finditer(text[:WORD_CHARACTERS].replace("’", "'").lower())
    ]
    pairs = (b"%s %s" % two for two in pairwise(words))
    return np.array(sorted({zlib.crc32(one) % HASHES for one in (*words, *pairs)}), dtype=np.int64)


EMBEDDED = 1_536
WIDTH = EMBEDDED + len(SURFACE)


def inputs(pairs: Sequence[tuple[str, str]], embed: Embed) -> Matrix:
    """One row per (user turn, response): related embeddings, then surface features."""
    users = embed([user for user, _ in pairs])
    responses = embed([response for _, response in pairs])
    cheap = np.stack([surface(user, response) for user, response in pairs])
    return np.concatenate([relate(users, responses), cheap], axis=1).astype(np.float32)
