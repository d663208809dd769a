"""Whether there is enough in an experience for a fitted head to speak.

It knows what the heads were fitted on (short English exchanges), not what they say.
"""

from __future__ import annotations

import unicodedata
from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from store.records import Experience
from store.redaction import is_withheld

LANGUAGE = "en"
LEAST_OWN, SURE_OF_OTHER = 0.01, 0.5
"""Another language is objected to when it is this probable and the heads' own no more than that.
Short answers ("OK", "Yes.") are sure of nothing and pass; of 1,500 English ones none is stopped."""
READ_CHARACTERS = 2_000
MOST_MARKS = 0.1
"""Share of characters that may be invisible or combining: emoji and accents need few."""


def objection(experience: Experience) -> str | None:
    """Why a fitted head must abstain on this experience, or None when it may speak."""
    if is_withheld(experience):
        return "Its words were not stored."
    if not experience.last_user_turn.strip():
        return "There is no user turn that the response could answer."
    if sum(character.isalpha() for character in experience.response[:READ_CHARACTERS]) < 2:
        return "The response holds no words."
    if _is_disguised(experience.response[:READ_CHARACTERS]):
        return "Its letters are hidden by invisible or combining characters."
    if _is_foreign(experience.response[:READ_CHARACTERS]):
        return "The heads were fitted on English only."
    return None


def _is_disguised(text: str) -> bool:
    """A person reads what is struck out, or spaced by nothing; words and embeddings do not."""
    marks = sum(unicodedata.category(character) in ("Cf", "Mn", "Me") for character in text)
    return marks > MOST_MARKS * len(text)


def _is_foreign(text: str) -> bool:
    ranked: list[tuple[str, float]] = _identifier().rank(text)
    own = dict(ranked).get(LANGUAGE, 0.0)
    return own < LEAST_OWN and ranked[0][1] >= SURE_OF_OTHER


@cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
