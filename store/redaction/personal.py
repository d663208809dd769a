"""Finds addresses in text: mail, payment cards, bank accounts, network addresses.

- A card is printed in groups, or has 14 to 19 digits in one run, of a known issuer and with the
  right check digit. A run of 13 stays: it is a product code far more often.
- Four numbers up to 255 are a network address unless a version word or a package's name stands
  before them. Loopback, 0.0.0.0 and netmasks are nobody's and stay.

Patterns begin with a literal or a class, and look behind after it: so the search runs in C.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import AddressValueError, IPv6Address

from store.redaction.shadow import Sketch, Span, goes_on

# --- e-mail -------------------------------------------------------------------------------

_ROUND_AT = re.compile(rb"\)(?:(?<=[aA][tT]\))|(?<=[aA][tT] \)))")
_SQUARE_AT = re.compile(rb"\](?:(?<=[aA][tT]\])|(?<=[aA][tT] \]))")


def may_hold_mail(sketch: Sketch) -> bool:
    """Whether there is an @, an @ as URLs write it, or an (at)."""
    raw = sketch.raw
    return (
        b"@" in raw
        or (b"%" in raw and b"%40" in raw)
        or (b")" in raw and _ROUND_AT.search(raw) is not None)
        or (b"]" in raw and _SQUARE_AT.search(raw) is not None)
    )


_AT = re.compile(r"[@%(\[](?:(?<=@)|(?<=%)40|(?<=[(\[]) ?[aA][tT] ?[)\]] ?)")
_LOCAL_BACKWARDS = re.compile(r" ?([\w.+%'&-]{1,64})")
_SCRIPT_WITHOUT_SPACES = re.compile(r".*[\u3040-\u30ff\u3400-\u9fff]", re.DOTALL)
_DOT = r"(?:\.| ?[(\[] ?(?:dot|punkt|point|punto) ?[)\]] ?)"
_DOMAIN = re.compile(
    r"(?!\d+\.\d|\dx\b)"  # package@1.2.3, logo@2x.png
    rf"(?:[^\W_](?:[\w-]{{0,61}}[^\W_])?{_DOT}){{1,8}}"
    r"(?:(?:xn--[a-z0-9-]{2,40}|[a-z]{2,24})(?![a-z0-9_@(-])|[^\W\d_]{2,24}(?![\w@(]))",
    # a@b.transpose() is a product of matrices
    re.IGNORECASE,
)


def mail(text: str) -> Iterator[Span]:
    """Mail addresses, also with %40, or (at) and (dot); not git@host:path."""
    taken = 0
    for at in _AT.finditer(text):
        before = text[max(taken, at.start() - 65) : at.start()]
        local = _LOCAL_BACKWARDS.match(before[::-1])
        domain = _DOMAIN.match(text, at.end())
        if domain is None or local is None or local[1][0] == ".":
            continue
        if at[0][0] in "@%" and local[0][0] == " ":
            continue
        name = local[1][::-1].lstrip("'.%+-&")
        name = _SCRIPT_WITHOUT_SPACES.sub("", name) or name
        if before[: len(before) - local.start(1) - len(name)].endswith("\\"):
            name = name[1:]  # the n of an escaped line break
        if name and not (name == "git" and text.startswith(":", domain.end())):
            taken = domain.end()
            yield at.start() - local.start(1) - len(name), taken


# --- cards and accounts -------------------------------------------------------------------

_CARD = re.compile(
    r"[2-6](?<![\w+].)(?<![0-9][.,].)(?:"
    r"(?P<four>[0-9]{3}(?:[ .-]?[0-9]{4}){3})(?:[ .-]?[0-9]{3})?"
    r"|[0-9]{3}[ .-]?[0-9]{6}[ .-]?[0-9]{4,5}"
    r"|[0-9]{3}(?:[ -][0-9]{3}){3}"
    r"|[0-9]{13,18})(?!\w|[.,][0-9])",
    re.ASCII | re.DOTALL,
)
_LONG = (16, 17, 18, 19)
_ISSUERS: tuple[tuple[str, str, tuple[int, ...]], ...] = (
    ("4", "4", (13, 16, 19)),  # Visa
    ("51", "55", (16,)),  # Mastercard
    ("2221", "2720", (16,)),
    ("2200", "2204", (16,)),  # Mir
    ("34", "34", (15,)),  # American Express
    ("37", "37", (15,)),
    ("300", "305", (14, 16)),  # Diners
    ("36", "36", (14,)),
    ("38", "39", (14, 16)),
    ("6011", "6011", _LONG),  # Discover
    ("644", "659", _LONG),
    ("62", "62", _LONG),  # UnionPay
    ("3528", "3589", (16,)),  # JCB
    ("5018", "5038", (16, 19)),  # Maestro
    ("56", "58", (16, 19)),
    ("6304", "6304", (16, 19)),
    ("6759", "6763", (16, 19)),
)
"""First and last prefix, and how many digits."""


def cards(text: str) -> Iterator[Span]:
    """Payment cards."""
    at = 0
    while (match := _CARD.search(text, at)) is not None:
        at = match.start() + 1
        for end in (match.end(), match.end("four")):  # what follows may be another number
            if end > 0 and _is_card(re.sub(r"\D", "", text[match.start() : end])):
                yield match.start(), end
                at = end
                break


def _is_card(digits: str) -> bool:
    issued = any(
        len(digits) in lengths and low <= digits[: len(low)] <= high
        for low, high, lengths in _ISSUERS
    )
    doubled = (sum(divmod(2 * int(d), 10)) for d in digits[-2::-2])
    return issued and (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0


_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FK FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}
_IBAN_START = re.compile(
    r"[A-Za-z](?:(?<![A-Za-z0-9].)|(?<=IBAN.))[A-Za-z][0-9]{2}[ -]?(?=[A-Za-z0-9])", re.DOTALL
)
_IBAN_BODY = re.compile(r"[A-Za-z0-9](?:[ -]?[A-Za-z0-9]){14,32}")


def ibans(text: str) -> Iterator[Span]:
    """Bank accounts whose length and check digits are right."""
    for start in _IBAN_START.finditer(text):
        length = _IBAN_LENGTHS.get(start[0][:2].upper(), 0)
        body = _IBAN_BODY.match(text, start.start())
        if not length or body is None:
            continue
        places = [place for place in range(*body.span()) if text[place].isalnum()][:length]
        end = places[-1] + 1
        account = "".join(text[place] for place in places).upper()
        if len(places) == length and not goes_on(text, end) and _is_iban(account):
            yield start.start(), end


def _is_iban(account: str) -> bool:
    return int("".join(str(int(c, 36)) for c in account[4:] + account[:4])) % 97 == 1


# --- network addresses --------------------------------------------------------------------

_DOTTED = re.compile(rb"\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]")
_COLONS = re.compile(rb":(?::|(?:[0-9A-Fa-f]{1,4}:){6})")


def may_hold_ips(sketch: Sketch) -> bool:
    """Whether there are three dots between numbers, or two colons, or many."""
    return _DOTTED.search(sketch.raw) is not None or _COLONS.search(sketch.raw) is not None


_IPV4 = re.compile(
    r"[0-9](?<![\w.].)(?:(?<![A-Za-z][/-].)|(?<=ip-.))(?<![=~<>!^]=.)[0-9]{0,2}(?:\.[0-9]{1,3}){3}"
    r"(?!\w|\.[0-9]|-[A-Za-z]|-[0-9]+\.[A-Za-z])",
    re.ASCII | re.DOTALL,
)
_NOBODYS = ("127.", "0.0.0.0", "255.")  # noqa: S104  # not bound, only recognised
_VERSION = re.compile(
    r"(?:\b(?:v|ver|version|release|build|firmware|driver|kernel|python|java|ios|android|section|chapter|clause"
    r"|kapitel|abschnitt|oid)(?: number| no\.?)?|§)[.:=]? ?$",
    re.IGNORECASE,
)


def ips(text: str) -> Iterator[Span]:
    """Network addresses of version 4, without the port."""
    for match in _IPV4.finditer(text):
        numbers = match[0].split(".")
        if any(int(n) > 255 or (n[0] == "0" and n != "0") for n in numbers):
            continue
        is_version = _VERSION.search(text[max(0, match.start() - 20) : match.start()])
        if not is_version and not match[0].startswith(_NOBODYS):
            yield match.span()


_IPV6 = re.compile(
    r"[23fF](?<![\w:.].)[0-9A-Fa-f]{3}:[0-9A-Fa-f:]{2,34}+(?:\.[0-9.]{5,11})?", re.ASCII | re.DOTALL
)
"""Addresses that are somebody's begin with four digits: 2000::/3, unique local, link-local."""


def ips_v6(text: str) -> Iterator[Span]:
    """Network addresses of version 6."""
    for match in _IPV6.finditer(text):
        address = match[0].rstrip(".") if match[0].endswith("::") else match[0].rstrip(":.")
        try:
            IPv6Address(address)
        except AddressValueError:
            continue
        # 2001:: ends a paragraph in reStructuredText, f00d::face is a name in C++.
        if address[4:] != "::" and any(c.isdigit() for c in address):
            yield match.start(), match.start() + len(address)
