"""Whether there is enough in an experience for a fitted head to speak.

It knows what the heads were fitted on (short English exchanges), not what they say.
"""

from __future__ import annotations

from store.records import Experience
from store.redaction import is_withheld

ENGLISH_LETTERS = 0.7
"""Below this share of unaccented Latin letters a text is not what the heads were fitted on."""


def objection(experience: Experience) -> str | None:
    """Why a fitted head must abstain on this experience, or None when it may speak."""
    if is_withheld(experience):
        return "Its words were not stored."
    if not experience.last_user_turn.strip():
        return "There is no user turn that the response could answer."
    letters = [character for character in experience.response[:8_000] if character.isalpha()]
    if len(letters) < 2:
        return "The response holds no words."
    plain = sum(character.isascii() for character in letters)
    if plain / len(letters) < ENGLISH_LETTERS:
        return "The heads were fitted on English only."
    return None
