"""Finds phone numbers in text.

Most digits that people write are dates, sums and identifiers, and a phone number has no check
digit. So a number counts as one only

- with + or 00 and a country code in front, 9 to 15 digits;
- with a leading 0: 10 to 12 digits in one run, or 9 to 12 in groups as phone numbers have them;
- in a national grouping that is used for little else, such as 415-555-2671;
- or close after a word such as *call* or *Handy*: then 9 to 15 digits in any grouping.

A bare run of digits without any of this is left alone, and so is a toll-free number: helplines
have them, and an answer that names a helpline should keep it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from store.redaction.shadow import Sketch, Span, every, goes_on

_NINE_DIGITS = b"0" * 9


def may_hold_numbers(sketch: Sketch) -> bool:
    """Whether nine digits stand together but for separators: no card and no phone has fewer."""
    return _NINE_DIGITS in sketch.squashed


_PLAIN_GAP = r"(?:[ ./-]|\)[ ./-]?)"
_GAP = rf"(?:{_PLAIN_GAP}|[ -]?\()"
_WIDE_GAP = rf"(?:{_GAP}| [/-] |\) [/-] )"
_APART = r"(?<![\w+].)(?<![A-Za-z_][-./_#&].)(?<![0-9][-._#&].)"
"""Looks behind the first character: no word, and nothing that is joined to one.

Numbers are listed with a slash between them, though.
"""
_END = r"(?!\w|[.,:][0-9]|-\w)"

# --- what only looks like one -------------------------------------------------------------

links = every(r"(?:://|www\.)[^\s<>\"'\0]++")
"""Links, from the :// on: without the scheme."""
uuids = every(r"-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b")
"""UUIDs without their first eight digits, which are too few for a phone number."""
book_numbers = every(r"ISBN(?:-1[03])?:? ?[0-9][0-9Xx -]{8,16}")
"""ISBNs that are called so."""
dates = every(
    r"[0-9](?<![\w.-].)(?:"
    r"[0-9]{3}(?<=19..|20..)(?P<iso>[-/.])[01]?[0-9](?P=iso)[0-3]?[0-9]"
    r"(?:[T ]+[0-2]?[0-9][:.][0-5][0-9](?::[0-5][0-9](?:[.,][0-9]{1,9})?)?)?(?![\w-])"
    r"|[0-9]?(?P<day>[-/.])[01]?[0-9](?P=day)(?:19|20)?[0-9]{2}(?!\w|(?P=day)[0-9]))"
)
"""Dates in figures, with the time where it follows."""
toll_free = every(
    r"[+1(80](?<![\w.-].)(?:"
    r"(?:(?<=\+)1[ .-]?\(?8|(?<=1)[ .-]?\(?8|(?<=\()8|(?<=8))(?:00|33|44|55|66|77|88)\)?"
    r"[ .-][0-9]{3}[ .-][0-9]{4}"
    r"|(?<=0)80[08](?:[ /-]?[0-9]{2,7}){1,4})(?![0-9])"
)
"""Toll-free numbers: North America's, and 0800 and 0808."""

# --- phone numbers ------------------------------------------------------------------------

linked = every(r"(?:wa\.me/|tel:|phone=)(\+?[0-9]{9,15})(?!\w)", group=1)
"""Numbers in links that dial."""
_COUNTRY = (
    r"(?:1|7|2(?:[07]|[1-689][0-9])|3(?:[0-469]|[578][0-9])|4(?:[013-9]|2[0-9])"
    r"|5(?:[1-8]|[09][0-9])|6(?:[0-6]|[789][0-9])|8(?:[1246]|[0357-9][0-9])|9(?:[0-58]|[679][0-9]))"
)
_INTERNATIONAL = re.compile(
    rf"[+0]{_APART}(?:(?<=\+)|(?<![0-9][ ,:].)0 ?)(?P<digits>(?={_COUNTRY})[0-9]{{1,15}}+"
    rf"(?:{_WIDE_GAP}[0-9]{{1,14}}+){{0,2}}(?:{_GAP}[0-9]{{1,14}}+){{0,6}})",
    re.ASCII | re.DOTALL,
)
_NATIONAL = re.compile(
    rf"0{_APART}(?<![0-9][,:].)[1-9][0-9]{{0,10}}+"
    rf"(?:(?:{_PLAIN_GAP}| [/-] |\) [/-] )[0-9]{{1,9}}+)?(?:{_PLAIN_GAP}[0-9]{{1,9}}+){{0,4}}",
    re.ASCII | re.DOTALL,
)
american = every(
    rf"[1-9]{_APART}(?<![0-9][ ,:].)(?:(?<=1)[ .-][2-9]|(?<=[2-9]))[0-9]{{2}}([ .-])"
    rf"[2-9][0-9]{{2}}\1[0-9]{{4}}(?![ -]?[0-9]){_END}"
)
"""415-555-2671, with or without a 1 before it."""
bracketed = every(
    rf"[18(]{_APART}(?:(?<=\()|[ -]?\()(?!(?:19|20)[0-9]{{2}}\))[0-9]{{2,5}}\) ?"
    rf"[0-9]{{2,5}}(?:[ -][0-9]{{2,5}}){{1,3}}(?![ -]?[0-9]){_END}"
)
"""(11) 98765-4321: an area code in brackets, which is not a year."""
grouped = every(
    rf"[18]{_APART}(?<![0-9][ ,:].)(?:"
    r"(?<=8)[ -]9[0-9]{2}[ -][0-9]{3}[ -][0-9]{2}[ -][0-9]{2}"
    rf"|(?<=1)[3-9][0-9][ -][0-9]{{4}}[ -][0-9]{{4}})(?![ -]?[0-9]){_END}"
)
"""Russia's 8 912 345-67-89 and China's 138 1234 5678."""
_ANY_GROUPS = re.compile(
    rf"[0-9]{_APART}(?<![0-9][.,].)[0-9]{{0,14}}+(?:{_GAP}[0-9]{{1,9}}+){{0,6}}{_END}",
    re.ASCII | re.DOTALL,
)
_WORDS = (
    *("phone", "mobile", "whats ?app", r"\b(?:call|cell|ring|tel|sms|fax)\b"),
    *(r"\btext (?:me|him|her|us)\b", r"\b(?:my|his|her) number\b"),
    *("telefon", "handy", r"\b(?:mobil|natel|ruf|rufnummer)\b", "anrufen"),
    *(r"\b(?:meine|seine|ihre) nummer\b", r"\bappel", "portable", r"\bmon num[ée]ro\b"),
    *("tel[ée]fono", "m[óo]vil", "celular", "llám", r"\bmi n[úu]mero\b", "cellulare", "chiama"),
    *(r"\bil mio numero\b", "telefone", r"\bligu?[ae]r?\b", r"\bmeu n[úu]mero\b"),
    *("телефон", "звони", "电话", "手机", "電話", "携帯"),
)
_WORD_BEFORE = re.compile(rf"(?:{'|'.join(_WORDS)})(?P<between>[^0-9\n+]{{0,24}})$", re.IGNORECASE)
_OTHER_NUMBER = re.compile(
    r"order|invoice|ticket|\bid\b|\bref|case|bestell|rechnung|commande|pedido|[=*×<>€$£]",
    re.IGNORECASE,
)


def international(text: str) -> Iterator[Span]:
    """Numbers with + or 00 and a country code."""
    for match in _INTERNATIONAL.finditer(text):
        american = match["digits"][0] == "1"
        end, groups = _cut(text, *match.span("digits"), most=11 if american else 15)
        digits = "".join(groups)
        if goes_on(text, end) or digits.endswith("000000"):
            continue
        if len(digits) >= (11 if american else 9) and not (american and digits[1] in "01"):
            yield _with_bracket(text, match.start(), end)


def national(text: str) -> Iterator[Span]:
    """Numbers with a leading 0."""
    for match in _NATIONAL.finditer(text):
        end, groups = _cut(text, *match.span(), most=12)
        if not groups or goes_on(text, end):
            continue
        in_a_row = re.search("[0-9] $", text[max(0, match.start() - 2) : match.start()])
        if _is_national(groups, match[0]) and not (in_a_row and _is_a_row(groups)):
            yield _with_bracket(text, match.start(), end)


def announced(text: str) -> Iterator[Span]:
    """Any 9 to 15 digits that come close after a word for calling."""
    for match in _ANY_GROUPS.finditer(text):
        if not 9 <= sum(map(str.isdigit, match[0])) <= 15:
            continue
        word = _WORD_BEFORE.search(text[max(0, match.start() - 48) : match.start()])
        if word is not None and not _OTHER_NUMBER.search(word["between"]):
            yield match.span()


def _cut(text: str, start: int, stop: int, *, most: int) -> tuple[int, list[str]]:
    """The end and the groups of the number, without those that are too much."""
    groups, end, count = [], start, 0
    for group in _DIGITS.finditer(text, start, stop):
        count += len(group[0])
        if count > most:
            break
        groups.append(group[0])
        end = group.end()
    return end, groups


def _with_bracket(text: str, start: int, end: int) -> Span:
    """(030) 1234567 with its first bracket."""
    opened = text[start - 1 : start] == "(" and ")" in text[start:end]
    return (start - 1 if opened else start), end


def _is_a_row(groups: list[str]) -> bool:
    """Whether these are like the figures of a sum or table: 5 012 345 678."""
    return len({len(group) for group in groups}) == 1


_DIGITS = re.compile(r"[0-9]+")
_TWO_DIGIT_AREAS = {(2, 2, 2, 2), (4, 4), (3, 4), (8,), (7,), (1, 3, 4), (3, 2, 2), (2, 3, 3)}
"""How the rest is grouped where the area code has two digits: 06 12 34 56 78, 03-1234-5678."""
_TIME = re.compile(r"(?:[01][0-9]|2[0-3])[0-5][0-9]")


def _is_national(groups: list[str], written: str) -> bool:
    digits = "".join(groups)
    area, *rest = groups
    binary = set(digits) <= {"0", "1"}
    counted = digits in "01234567890123"
    if not (9 if rest else 10) <= len(digits) <= 12 or binary or (counted and not rest):
        return False
    if len(area) == 2:
        dotted_times = "." in written and " " in written
        return tuple(map(len, rest)) in _TWO_DIGIT_AREAS and not dotted_times
    column = any(group[0] == "0" and len(group) == len(area) for group in rest)
    times = all(_TIME.fullmatch(group) for group in groups)
    zip_code = "-" in written and list(map(len, groups)) == [5, 4]
    return not rest or (
        not zip_code and len(area) <= 7 and len(rest[-1]) > 1 and not column and not times
    )
