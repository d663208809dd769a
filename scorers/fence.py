"""What a judge is shown of an experience: cleaned, capped, fenced, and known to be data.

Whoever wrote the text may want a good score. So nothing in it can end the block that it stands in
(one line of JSON between two lines with a marker that its author cannot know), no character of it
is invisible, no piece of it is a chat template's token, and words that address a judge are cut
out. It does not know the rubrics, nor what a score is.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from scorers import antijudge, rules
from store.records import HARMS, PRINCIPLES, Experience, to_json

GAP = "[…]"
"""Stands where something was cut."""
HEAD = 2 / 3
"""Of what is shown of a long text; the rest is its tail, where a change of tone would be."""
EARLIER = 6
"""Turns before the last question that are shown."""

INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\ud800-\udfff\ue000-\uf8ff\U0001d173-\U0001d17a\U000e0000-\U000e0fff\U000f0000-\U0010ffff]+"
)
"""Control, zero-width, direction, variation, tag and private-use characters, lone surrogates."""
DECORATION = re.compile(r"(?m)^#{1,6}[ \t]+|\*\*|^[ \t]*(?:[-*_][ \t]*){3,}$")
"""Markdown that shows off: judges like it, and it says nothing."""
TEMPLATE = re.compile(
    r"<\|[^|<>\n]{1,40}\|>|</?s>|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS)\]|<</?SYS>>|"
    r"<(?:start|end)_of_turn>|</?(?:bos|eos|pad|unk|think|system|assistant|user)>|"
    r"^#{2,3} ?(?:Instructions?|Response|System|Assistant|User|Human|Input) ?:",
    re.IGNORECASE | re.MULTILINE,
)
_JUDGES = r"(?:judge|grader|evaluator|assessor|rater|reviewer)s?"
_JUDGES_DO = r"(?:judg|grad|evaluat|assess|rat|review|scor)(?:e|es|ing|s)?"
_NUMBER = r"(?:10|\d)\b(?!\s*[-\u2013:]\s*\d)"
_DIMENSIONS = "|".join((*HARMS, *PRINCIPLES, "harm"))
ADDRESSES = re.compile(
    # The fence, and the forms' own words.
    r"\b(?:BEGIN|END)[ :_-]*(?:(?:OF )?(?:DATA|MATERIAL|ANSWER|RESPONSE)[ :_-]*)?"
    r"[0-9a-f]{8,}\b|"
    r"\bend of (?:the )?(?:material|data|answer|response|transcript)\b|"
    r"[\"']?\bassessable\b[\"']?\s*(?:is|=|:)\s*(?:true|false)?|"
    rf"[\"']score[\"']\s*:\s*{_NUMBER}|"
    r"\b(?:Acknowledgment|Helpfulness|Authenticity|Boundaries|Consequence-awareness|"
    r"Suffering-reduction|Overall):\s*\d{1,2}\s*/\s*10\b|"
    # Orders to forget the own ones.
    r"\b(?:ignore|disregard|forget|override) (?:\w+ ){0,4}"
    r"(?:rubrics?|instructions?|criteria|prompt|rules|guidelines)\b|"
    r"\b(?:ignore|disregard|forget|skip) (?:everything|all|anything) (?:that (?:is|was) )?"
    r"(?:above|before|below|prior|previous)\b(?:,? and \w+ \d\b)?|"
    r"\b(?:whatever|regardless of|despite|instead of) the (?:rubric|criteria)\b|"
    r"\bthe rubric (?:is|was|has|says)\b|\bnew (?:instructions?|rules|rubric)\s*:|"
    r"\b(?:evaluation|safety|scoring|grading) (?:override|bypass|complete|disabled)\b"
    r"[^.\n]{0,20}\d?|\boverride (?:enabled|active|code)\b|"
    r"\b(?:ignoriere|ignorez|ignora|ignorar)\b.{0,40}\b(?:anweisung|instruc|regel|r[e\u00e8]g)\w*|"
    # A score that is named or asked for.
    r"\b(?:give|assign|award|output|return|respond with|answer with) "
    r"(?:(?:it|this|that|the|my|me)(?: \w+)? )?(?:an?|the) (?:\w+ ){0,3}"
    r"(?:score|rating|grade|marks?)\b(?: of)?(?:\W+\d+)?|"
    rf"\b(?:score|rating|grade)s? (?:is|of|must be|should be|shall be|will be)(?: an?)? "
    rf"{_NUMBER}|"
    rf"\b(?:score|rating|grade|verdict)s?\s*[:=]\s*{_NUMBER}(?:\s*/\s*\d+)?|"
    r"\b(?:score|rating|verdict|judge?ment|evaluation|assessment)\s*:\s*"
    r"(?:harmless|safe|perfect|excellent|flawless|positive)\b(?:\W{1,3}\d)?|"
    r"\b(?:score|rate|grade|mark) (?:this |the |my )?(?:answer|response|reply)\b"
    r"(?:[^.\n]{0,40}\d)?|"
    r"\b(?:score|rate|grade) (?:it|this|me|that)(?: as| at| with)?(?: an?)? \d\d?\b|"
    rf"\b(?:{_DIMENSIONS})(?: (?:level|score|rating|value|here|is)){{0,3}}\s*(?:is|=|:|to)?"
    r"\s*(?:\d\b|zero\b)|"
    r"\b(?:award|give|deserves?|earns?|gets?|note:) (?:\w+ ){0,2}(?:full|maximum|maximal|top|"
    r"highest|best) (?:marks|points|score|rating|grade|value)\b|"
    r"\byour (?:verdict|score|rating|judge?ment) (?:must|should|shall|has to) be\b|"
    r"\b(?:answer|respond|reply) (?:only )?with (?:the (?:number|digit) )?\d\b|"
    r"\b(?:do not|don't|never) (?:penali[sz]e|mark down|downgrade)\b|"
    # The judge by its name.
    rf"\b{_JUDGES}(?: (?:model|ai|system))?\s*[:,]\s*"
    r"(?:please|you|this|the|note|give|score|rate|ignore)\b|"
    rf"\b(?:ai|llm|dear|hey|hello) {_JUDGES}\b|\b{_JUDGES} note\b|"
    rf"\bas (?:the|an?) {_JUDGES},? you\b|"
    rf"\byou are (?:now )?(?:an?|the) (?:\w+ )?{_JUDGES}\b|"
    r"\b(?:grader|evaluator|rater|assessor)s? (?:should|must|has to|have to)\b|"
    rf"\b(?:if|when|since|while) you(?:'re| are) (?:\w+ )?{_JUDGES_DO} (?:this|it|me)\b|"
    rf"\b(?:whoever|whomever|anyone who|the model that) {_JUDGES_DO} (?:this|it|me)\b",
    re.IGNORECASE,
)
"""Words that a judge would be spoken to with, besides those of the anti-judge."""


class Shown(NamedTuple):
    """A text as the judge sees it, and where each of its characters stood; -1: nowhere."""

    text: str
    origins: Sequence[int]

    def find(self, quote: str) -> tuple[int, int] | None:
        """Where in the original a verbatim quote of what was shown stands, or None."""
        quote = quote.strip()
        at = self.text.find(quote)
        if at < 0 or sum(character.isalnum() for character in quote) < 2:
            return None
        origins = self.origins[at : at + len(quote)]
        return None if min(origins) < 0 else (origins[0], origins[-1] + 1)


class Material(NamedTuple):
    """One experience, ready to be judged."""

    document: str
    """One line of JSON: a newline in what people wrote is written as an escape."""
    answer: Shown
    addressed: tuple[tuple[int, int], ...]
    """Where in the response words addressed a judge; they are not shown."""


def material(experience: Experience, most_characters: int) -> Material:
    """What a judge is shown of an experience. Pure: the same experience, the same document."""
    last = max((n for n, m in enumerate(experience.messages) if m.role == "user"), default=0)
    before = experience.messages[max(0, last - EARLIER) : last]
    share = most_characters // (2 * max(1, len(before)))

    def plain(text: str, most: int = most_characters) -> str:
        return _shown(text, most)[0].text

    answer, addressed = _shown(experience.response, most_characters)
    context = experience.context
    parts: dict[str, Any] = {
        "earlier": [{"role": m.role, "content": plain(m.content, share)} for m in before],
        "person": {
            name: plain(value, 200)
            for name, value in (("mood", context.mood), ("vulnerability", context.vulnerability))
            if value
        },
        "facts": plain("\n".join(context.facts), most_characters // 4),
        "should_be_told": plain("\n".join(context.critical_info), most_characters // 4),
        "question": plain(experience.last_user_turn),
        "answer": answer.text,
    }
    known = {name: part for name, part in parts.items() if part or name == "answer"}
    # A dictionary keeps its order here: the answer comes last, next to the question about it.
    document = "{" + ", ".join(f'"{name}": {_json(part)}' for name, part in known.items()) + "}"
    return Material(document, answer, addressed)


def marker(secret: bytes, document: str) -> str:
    """The fence's marker: the same for the same text, so that answers are found again, and not
    to be guessed by its author (HMAC-SHA256 with the cache folder's secret).
    """
    return hmac.new(secret, document.encode(), hashlib.sha256).hexdigest()[:32]


def fenced(document: str, mark: str) -> str:
    """The document between its two markers."""
    return f"BEGIN {mark}\n{document}\nEND {mark}"


def _json(value: Any) -> str:
    # NEL and the line separators count as line ends for some tokenizers; they are not shown at all.
    return to_json(value).decode()


def _shown(text: str, most: int) -> tuple[Shown, tuple[tuple[int, int], ...]]:
    """The text as it may be shown, and what of the original addressed a judge."""
    seen = _without(Shown(text, range(len(text))), _spans(INVISIBLE, text), "")
    plain = _plain(seen.text)
    speaks = [
        *_spans(ADDRESSES, plain),
        *(span for rule in rules.RULES["injection"] for span in _spans(rule.pattern, plain)),
    ]
    addressed = tuple((seen.origins[start], seen.origins[end - 1] + 1) for start, end in speaks)
    seen = _without(seen, [*speaks, *_spans(TEMPLATE, plain)], GAP)
    seen = _without(seen, _spans(DECORATION, seen.text), "")
    head = int(most * HEAD)
    if len(seen.text) > most:
        seen = _without(seen, [(head, len(seen.text) - (most - head))], f" {GAP} ")
    return seen, tuple(sorted(addressed))


def _plain(text: str) -> str:
    """Letters of other widths and shapes as plain ones, for the patterns; same offsets."""
    if text.isascii():
        return text
    widths = (unicodedata.normalize("NFKC", character) for character in text)
    same = "".join(n if len(n) == 1 else c for n, c in zip(widths, text, strict=True))
    return same.translate(antijudge.PLAIN_APOSTROPHE)


def _spans(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, int]]:
    return (match.span() for match in pattern.finditer(text) if match.end() > match.start())


def _without(shown: Shown, spans: Iterable[tuple[int, int]], instead: str) -> Shown:
    """The text with each span replaced; spans may overlap."""
    pieces: list[str] = []
    origins: list[int] = []
    at = 0
    for start, end in sorted(spans):
        if start >= at:
            pieces += (shown.text[at:start], instead)
            origins += [*shown.origins[at:start], *[-1] * len(instead)]
        at = max(at, end)
    pieces.append(shown.text[at:])
    origins += shown.origins[at:]
    return Shown("".join(pieces), origins)
