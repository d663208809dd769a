"""Redaction on the one write path: personal data and secrets are replaced before storing.

Nothing is swallowed here. What raises has not been redacted, and must not be stored.

Ids, subject, source and model stay as they are: they say which record this is. Metadata keeps
its keys; its texts are redacted like any other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Generic, Literal, NamedTuple, TypeVar, get_args

import msgspec
from msgspec import field

from store.errors import Rejected
from store.records import WRITTEN, Experience, Feedback, Name, Noun
from store.redaction import credentials, personal, phones
from store.redaction.shadow import Detector, Sketch, fold, sketch, without

Kind = Literal["email", "phone", "card", "iban", "ip", "secret"]
KINDS: tuple[Kind, ...] = get_args(Kind)
WITHHELD = "[withheld]"
MOST_PASSES = 8
"""What people write takes two, seldom three; the bound keeps the time linear in the text."""


# --- the rules ----------------------------------------------------------------------------


class RedactionRules(Noun, frozen=True, kw_only=True):
    """What is replaced in what one source sends."""

    kinds: tuple[Kind, ...] = KINDS
    content: Literal["keep", "withhold"] = "keep"
    """withhold: no words are stored at all, only their lengths."""


class SourceRules(Noun, frozen=True, kw_only=True):
    """What one source has otherwise. What is not said is as for all."""

    kinds: tuple[Kind, ...] | None = None
    content: Literal["keep", "withhold"] | None = None


WRITTEN_HERE = SourceRules(kinds=())
"""Exemplars name nobody, and the addresses in them are part of the help."""


class RedactionSettings(RedactionRules, frozen=True, kw_only=True):
    """The rules for all, and the sources that have others."""

    sources: dict[Name, SourceRules] = field(default_factory=dict)

    def rules_for(self, source: str) -> RedactionRules:
        """The rules for what this source sends."""
        own = self.sources.get(source, WRITTEN_HERE if source in WRITTEN else SourceRules())
        return RedactionRules(
            kinds=self.kinds if own.kinds is None else own.kinds,
            content=self.content if own.content is None else own.content,
        )


# --- what is found ------------------------------------------------------------------------

Detectors = tuple[tuple[Kind | None, Detector], ...]
CHAIN: tuple[tuple[Callable[[Sketch], bool], Detectors], ...] = (
    (personal.may_hold_mail, (("secret", credentials.userinfo),)),
    (
        credentials.may_hold_keys,
        (
            ("secret", credentials.private_keys),
            ("secret", credentials.web_tokens),
            ("secret", credentials.feedback_tokens),
            ("secret", credentials.keys),
            ("secret", credentials.bots),
            ("secret", credentials.bearers),
        ),
    ),
    (
        credentials.names_a_secret,
        (("secret", credentials.assigned), ("secret", credentials.said)),
    ),
    (personal.may_hold_mail, (("email", personal.mail),)),
    (personal.may_hold_ips, (("ip", personal.ips), ("ip", personal.ips_v6))),
    (
        phones.may_hold_numbers,
        (
            ("iban", personal.ibans),
            ("card", personal.cards),
            ("phone", phones.linked),
            (None, phones.links),
            (None, phones.uuids),
            (None, phones.book_numbers),
            (None, phones.dates),
            (None, phones.toll_free),
            ("phone", phones.international),
            ("phone", phones.national),
            ("phone", phones.american),
            ("phone", phones.bracketed),
            ("phone", phones.grouped),
            ("phone", phones.announced),
        ),
    ),
)
"""A quick test, and what looks closely where it says maybe. Each test is wider than its detectors.

In this order: what one has claimed, the next does not see. None claims, and keeps.
"""


class Hit(NamedTuple):
    """One piece of personal data: text[start:end]."""

    start: int
    end: int
    kind: Kind


def worth_a_look(text: str) -> bool:
    """False when no detector would find anything. Every text that is stored passes here."""
    sketched = sketch(text)
    for may_hold in _TESTS:  # noqa: SIM110  # a generator costs as much as one of the tests
        if may_hold(sketched):
            return True
    return False


_TESTS = tuple(dict.fromkeys(may_hold for may_hold, _ in CHAIN))


def find(text: str) -> list[Hit]:
    """Every hit of every kind, in order, none overlapping."""
    shadow, places = fold(text)
    sketched = sketch(shadow)
    hits: list[Hit] = []
    for may_hold, detectors in CHAIN:
        if not may_hold(sketched):
            continue
        for kind, detector in detectors:
            spans = list(detector(shadow))
            shadow = without(shadow, spans) if spans else shadow
            if kind is not None:
                hits += [Hit(start, end, kind) for start, end in spans]
    hits.sort()
    if places is None:
        return hits
    return [Hit(places[hit.start], places[hit.end - 1] + 1, hit.kind) for hit in hits]


# --- what is done about it ----------------------------------------------------------------

T = TypeVar("T")
Recorded = TypeVar("Recorded", Experience, Feedback)


class Redacted(NamedTuple, Generic[T]):
    """A text or noun without the personal data, and how much of each kind was replaced."""

    value: T
    counts: Mapping[str, int]


def redact_text(text: str, kinds: Collection[Kind] = KINDS) -> Redacted[str]:
    """The text with `[email]`, `[phone]` … in the place of every hit of these kinds.

    Redacting twice changes nothing more: it is repeated until nothing is left to find, because
    a number that is joined to another shows only when that one is gone. Raises Rejected when
    that takes too long.
    """
    counts: Counter[str] = Counter()
    for _ in range(MOST_PASSES):
        hits = [hit for hit in find(text) if hit.kind in kinds] if worth_a_look(text) else []
        if not hits:
            return Redacted(text, dict(counts))
        counts.update(hit.kind for hit in hits)
        text = _replaced(text, hits)
    raise Rejected(
        "A text joins so many numbers that they cannot be told apart.",
        hint="Put spaces between them.",
    )


def _replaced(text: str, hits: Iterable[Hit]) -> str:
    pieces, at = [], 0
    for start, end, kind in hits:
        pieces += [text[at:start], f"[{kind}]"]
        at = end
    return "".join([*pieces, text[at:]])


def redact(noun: Recorded, rules: RedactionRules) -> Redacted[Recorded]:
    """The noun as it may be stored under these rules; the same object when nothing was found.

    Raises Rejected when a text has grown over its limit by its placeholders.
    """
    if rules.content == "withhold":
        return Redacted(without_words(noun), {})
    if not worth_a_look("\n".join(_texts(noun))):
        return Redacted(noun, {})
    counts: Counter[str] = Counter()

    def change(text: str) -> str:
        redacted = redact_text(text, rules.kinds)
        counts.update(redacted.counts)
        return redacted.value

    changed = _with_texts(noun, change)
    if changed is not noun:
        _check(changed)
    return Redacted(changed, dict(counts))


def without_words(noun: Recorded) -> Recorded:
    """The noun with `[withheld]` for every text that somebody wrote.

    What remains: ids, times, source, model, consent, category and the like, the roles and the
    number of the messages, the keys, numbers and flags of the metadata; and in the metadata of
    an experience `messages_chars` and `response_chars`, how long the words were.
    """
    bare = _with_texts(noun, lambda _: WITHHELD)
    if bare is noun or isinstance(noun, Feedback) or isinstance(bare, Feedback):
        return bare
    lengths = {
        "messages_chars": sum(len(message.content) for message in noun.messages),
        "response_chars": len(noun.response),
    }
    return msgspec.structs.replace(bare, metadata=bare.metadata | lengths)


def is_withheld(experience: Experience) -> bool:
    """Whether the words of this one were not stored."""
    return experience.response == WITHHELD


_STANDS_FOR_WORDS = re.compile(rf"\[(?:{'|'.join((*KINDS, WITHHELD[1:-1]))})\]")


def is_bare(text: str) -> bool:
    """Whether a text holds nothing but what stands for words that were not stored."""
    return not _STANDS_FOR_WORDS.sub("", text).strip()


def _texts(noun: Experience | Feedback) -> list[str]:
    """Every text that somebody wrote."""
    if isinstance(noun, Feedback):
        return [] if noun.text is None else [noun.text]
    texts = [message.content for message in noun.messages]
    texts.append(noun.response)
    context = noun.context
    texts += context.facts
    texts += context.critical_info
    if context.mood is not None:
        texts.append(context.mood)
    if noun.metadata:
        texts += [value for value in noun.metadata.values() if isinstance(value, str)]
    return texts


def _with_texts(noun: Recorded, change: Callable[[str], str]) -> Recorded:
    """The noun with each of its texts changed; the same object when none differs."""
    if isinstance(noun, Feedback):
        return _with(noun, text=None if noun.text is None else change(noun.text))
    context = noun.context
    return _with(
        noun,
        messages=tuple(_with(m, content=change(m.content)) for m in noun.messages),
        response=change(noun.response),
        context=_with(
            context,
            facts=tuple(map(change, context.facts)),
            critical_info=tuple(map(change, context.critical_info)),
            mood=None if context.mood is None else change(context.mood),
        ),
        metadata={
            key: change(value) if isinstance(value, str) else value
            for key, value in noun.metadata.items()
        },
    )


Changed = TypeVar("Changed", bound=Noun)


def _with(noun: Changed, **values: object) -> Changed:
    changes = {name: value for name, value in values.items() if value != getattr(noun, name)}
    return msgspec.structs.replace(noun, **changes) if changes else noun


def _check(noun: Experience | Feedback) -> None:
    """What is stored must be readable again."""
    try:
        msgspec.json.decode(msgspec.json.encode(noun), type=type(noun))
    except msgspec.ValidationError as error:
        raise Rejected(f"Without its personal data this cannot be stored: {error}.") from error
