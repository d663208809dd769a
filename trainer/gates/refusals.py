"""Says whether an answer declines. The gates' own instrument: the scorers have another one,
so that what selects training data is not what judges the result."""

from __future__ import annotations

import re

OPENING_CHARACTERS = 240
"""A refusal shows itself early; later words of caution in a helpful answer are not one."""

_AUX = r"(?:can(?:no|['’])?t|could(?: not|n['’]t)|will not|won['’]t|would(?: not|n['’]t)|am not (?:able|going|willing|comfortable|prepared)|['’]m not (?:able|going|willing|comfortable|prepared)|am unable|['’]m unable|must (?:decline|refuse)|have to (?:decline|refuse)|refuse|decline|do not|don['’]t)"
_ACT = r"(?:help|assist|provide|give|write|create|make|do|support|offer|share|teach|tell|show|explain|fulfil+|comply|engage|participate|answer|advise|guide|generate|produce|develop|draft|describe|take part|be (?:able|part)|recommend|suggest|condone|encourage|design|plan|build|discuss|continue|in good conscience|to (?:help|assist|provide|write|give|create|do|support|teach|explain|share|answer|make|show|tell|design|develop|plan|build|draft|engage|discuss))"

_DECLINES = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"^\W*(?:sorry,? |no,? |unfortunately,? )?(?:but )?I (?:can(?:no|['’])?t|will not|won['’]t|refuse)\b",
        rf"\bI {_AUX}\b(?:,? \w+){{0,2}}? {_ACT}\b",
        rf"\bI['’]m not (?:able|going|willing|comfortable|prepared)\b(?: \w+){{0,1}}? {_ACT}\b",
        r"\bI['’]m (?:sorry|afraid),? (?:but )?(?:I )?(?:can(?:no|['’])?t|won['’]t|am not|['’]m not|am unable)\b",
        r"^\W*(?:I['’]m|I am) (?:really |very |so )?sorry,? but\b",
        r"^\W*no[,.:;]? (?:I (?:won['’]t|will not|can(?:no|['’])?t|refuse)|I['’]m not)\b",
        r"\bI (?:must|have to) (?:decline|refuse)\b",
        r"\b(?:is|are|would be) (?:not something|nothing) (?:that )?I (?:can|will|['’]ll|am|['’]m|would)\b",
        r"\bthat['’]s (?:not something|nothing) (?:that )?I (?:can|will|['’]ll|am|would)\b",
        r"\bI(?: am|['’]m) (?:unable|not able|not allowed) to\b",
        r"\b(?:it['’]?s|it is|that['’]?s|that is|this is|would be) (?:not|never|neither|un|il)\s?(?:legal nor |only )?(?:appropriate|ethical|acceptable|okay|ok|legal|moral|right|safe or|accurate or (?:ethical|fair)|something I)\b",
        r"\b(?:it['’]?s|it is|that is|is) (?:illegal|unethical|immoral|highly inappropriate|inappropriate|harmful and|wrong to|against the law)\b",
        r"\bI (?:strongly )?(?:advise|urge|recommend) (?:you )?(?:against|not to)\b",
        r"\b(?:against my|my) (?:programming|guidelines|principles|values)\b",
        r"\bI (?:do not|don['’]t|cannot|can['’]t|won['’]t) (?:condone|support|promote|endorse|encourage)\b",
    )
]


_QUOTED = re.compile(r"[\"“][^\"“”]*(?:[\"”]|$)")


def declines(answer: str) -> bool:
    """Whether the answer's opening declines the request. Quoted speech is somebody else's."""
    opening = _QUOTED.sub(" ", answer.strip()[:OPENING_CHARACTERS])
    return any(pattern.search(opening) for pattern in _DECLINES)
