"""The nouns: an example, the five laws in their precedence, kinds and difficulties."""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Annotated

from msgspec import Meta

from store.records import Message, Noun

Filled = Annotated[str, Meta(min_length=1)]


class ExampleType(str, Enum):  # noqa: UP042  # StrEnum would compare like the plain word
    """What an example teaches."""

    HARMFUL_BLOCKED = "harmful_blocked"
    """Refuse what does harm, kindly and with another way."""
    SAFE_REQUEST = "safe_request"
    """Help with what is harmless, even where it sounds otherwise."""
    EDGE_CASE = "edge_case"
    """Help with the harmless part, hold back the rest, and ask."""
    LAW_CONFLICT = "law_conflict"
    """Two laws pull in two directions, and the higher one decides."""
    MULTI_TURN = "multi_turn"
    """What was said before changes what is right now."""


class LawCategory(IntEnum):
    """The laws; a lower number goes before a higher one."""

    NONE = -1
    LAW_0 = 0
    LAW_1 = 1
    LAW_2 = 2
    LAW_3 = 3
    LAW_4 = 4

    def goes_before(self, other: LawCategory) -> bool:
        """Whether this law decides where both apply; what is under no law decides nothing."""
        return LawCategory.NONE != self < other


class Difficulty(str, Enum):  # noqa: UP042
    """How much stands between the request and the right answer."""

    EASY = "easy"
    """The plain request, with one circumstance at most."""
    MEDIUM = "medium"
    """Circumstances, and a person who mentions something of themselves."""
    HARD = "hard"
    """Pressure, or a harmless request that excuses itself."""
    ADVERSARIAL = "adversarial"
    """A trick, or a harmless request that is wrapped like one."""


class Decision(str, Enum):  # noqa: UP042
    """What the ethical response does; it stands first among an example's tags."""

    ALLOW = "allow"
    REFUSE = "refuse"
    CLARIFY = "ask_clarification"


GIST: dict[LawCategory, str] = {
    LawCategory.LAW_0: "no harm to humanity as a whole",
    LawCategory.LAW_1: "no harm to a person, by act or by neglect",
    LawCategory.LAW_2: "obey lawful, consensual instructions",
    LawCategory.LAW_3: "protect oneself only in service of the laws above",
    LawCategory.LAW_4: "nobody is worth less than another, and no machine more than people",
}
"""Each law in a phrase that can stand in brackets or after a colon."""


class Example(Noun, frozen=True, kw_only=True):
    """One training example with critique and revision; the field names are the seed's."""

    example_id: Filled
    example_type: ExampleType
    law_category: LawCategory
    prompt: Filled
    """What the person says last."""
    response_harmful: Filled
    """The tone of a bad answer, without anything that could be acted on."""
    response_ethical: Filled
    critique: Filled
    """What is wrong with the harmful response."""
    principle: Filled
    conversation: tuple[Message, ...]
    """What was said before the prompt; empty but for multi-turn examples."""
    difficulty: Difficulty
    tags: tuple[str, ...]
    """The decision, the topic, and what it is about."""

    @property
    def decision(self) -> Decision:
        """What the ethical response does."""
        return Decision(self.tags[0])
