"""Finds keys and secrets: by their issuers' prefixes, by what they are assigned to, in URLs.

A key without a known prefix, in a sentence that does not name it, looks like any hash and stays.
So does a value without a digit or a quote, `password: letmein`, which looks like prose or code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from store.redaction.shadow import Sketch, Span, every, squash

# Where a pattern starts with a literal, the search for it runs in C; a lookbehind after it
# says "only at the start of a run", so that no run is entered twice.

# --- keys by their shape ------------------------------------------------------------------

_WORDY = bytes(ord("w") if c in b"_-" or (chr(c).isalnum() and c < 0x80) else 0 for c in range(256))
_LONG_RUN = b"w" * 20


def may_hold_keys(sketch: Sketch) -> bool:
    """Whether there is a run as long as the shortest key."""
    return _LONG_RUN in sketch.raw.translate(_WORDY)


private_keys = every(
    r"-----BEGIN [^-\n]{0,40}PRIVATE KEY[^-\n]{0,10}-----"
    r"(?:(?:(?!-----)[\s\S])*+-----END [^-\n]{0,60}-----"
    r"|(?:(?:\s|\\n)*+[A-Za-z0-9+/=]{16,}+)*+)"  # cut short
)
"""PEM blocks of private keys, also without their end."""
userinfo = every(r"://([^\s/?#\"'`<>@:\0]{0,256}+:[^\s/?\"'`<>\0]{1,256})@", group=1)
"""The `user:password` of a URL."""
web_tokens = every(r"eyJ(?<![\w-]eyJ)[\w-]{17,}+\.[\w-]{4,}+\.[\w-]*+(?:\.[\w-]++){0,2}")
"""JSON web tokens, signed or encrypted."""
feedback_tokens = every(r"bhvt_(?<![A-Za-z0-9]bhvt_)[\w-]{15,}+(?:\.[\w-]++)?")
"""Our own, with its signature after a dot."""
bots = every(r":(AA(?<=[0-9]{8}:AA)[\w-]{30,40})(?![\w-])", group=1)
"""The secret half of a Telegram bot's token."""

_RUN = re.compile(r"[A-Za-z0-9_-]{20,}+")
_KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?P<aws>A(?:KIA|SIA)[A-Z0-9]{16}(?![A-Za-z0-9]))"
    r"|gh[pousr]_[A-Za-z0-9]{20,}+|github_pat_[A-Za-z0-9_]{20,}+"
    r"|glpat-[\w-]{16,}+|npm_[A-Za-z0-9]{30,}+|pypi-[\w-]{50,}+|hf_[A-Za-z0-9]{30,}+"
    r"|xox[a-z]-[\w-]{15,}+|xapp-[\w-]{15,}+"
    r"|sk-[\w-]{17,}+|[sr]k_(?:live|test)_[A-Za-z0-9]{10,}+|whsec_[A-Za-z0-9]{20,}+"
    r"|AIza[\w-]{35}"
    r"|bhv[a-z]?_[\w-]{16,}+)",
    re.ASCII,
)
_CORE = re.compile(r"[A-Za-z0-9]{16}")


def keys(text: str) -> Iterator[Span]:
    """Keys by prefix: cloud, forge, registry, chat, model and payment services, and our own."""
    for run in _RUN.finditer(text):
        for key in _KEY.finditer(run[0]):
            if key["aws"] or _looks_random(key[0]):
                yield run.start() + key.start(), run.start() + key.end()


def _looks_random(key: str) -> bool:
    """False for sk-xxxxxxxx and for names such as github_pat_for_the_release_job."""
    if len(set(key)) < 12:
        return False
    digit, upper, lower = _classes(key)
    core = _CORE.search(key)
    return (digit and upper and lower) or (core is not None and sum(_classes(core[0])) > 1)


def _classes(text: str) -> tuple[bool, bool, bool]:
    digit = any(c.isdigit() for c in text)
    return digit, text.lower() != text, text.upper() != text


_BEARER = re.compile(r"earer (?<=[Bb]earer )([A-Za-z0-9._~+/=-]{20,}+)")


def bearers(text: str) -> Iterator[Span]:
    """What follows *Bearer*."""
    for match in _BEARER.finditer(text):
        if _RUN.search(match[1]) and any(c.isdigit() for c in match[1]):
            yield match.span(1)


# --- named secrets ------------------------------------------------------------------------

PASSWORDS = (
    *("password", "passwort", "passwd", "pwd", "passphrase", "passcode", "kennwort", "senha"),
    *("contraseña", "contrasena", "mot de passe", "wachtwoord", "пароль", "密码", "パスワード"),
    "pw",
)
TOKENS = ("secret", "token", "api key", "access key", "auth key", "private key", "secret key")
HEADER = "authorization"
SHORT = "pass"
"""Only in pass=…: prose and comments have passes, too."""
_LABELS = b"|".join(
    b"(?<=%b=)" % re.escape(squash(label.encode()))
    for label in (*PASSWORDS, *TOKENS, HEADER, SHORT)
)
_LABELLED = re.compile(b"=(?:" + _LABELS + b")")
_SAID_PASSWORD = b"passwor"


def names_a_secret(sketch: Sketch) -> bool:
    """Whether a word such as *token* stands before a = or :, or a password is spoken of."""
    return _SAID_PASSWORD in sketch.squashed or _LABELLED.search(sketch.squashed) is not None


def _any_word(words: tuple[str, ...]) -> str:
    """A pattern for any of these; the short ones not as the end of a longer word."""
    return "|".join(
        (r"(?<![a-z])" if len(word) < 5 else "") + re.escape(word).replace(r"\ ", "[ _-]?")
        for word in words
    )


_BARE = r"[^\s\"'`,;<>()\[\]{}|\0]"
_ASSIGNED = re.compile(
    rf"(?:(?P<password>{_any_word(PASSWORDS)}|(?<![a-z]){SHORT}(?==))"
    rf"|{_any_word((*TOKENS, HEADER))})"
    r"[\"'`*_]{0,3}[ \t]{0,3}(?P<sign>=>|:=|={1,3}|:)[*_]{0,3}[ \t]{0,3}"
    r"(?P<scheme>(?:bearer|basic|token) )?"
    rf"(?:(?P<quote>[\"'`])(?P<quoted>[^\"'`\s\0]{{4,}}+)(?P=quote)"
    rf"|(?P<bare>{_BARE}{{4,}}+)(?![(\[{{]))",
    re.IGNORECASE,
)
_SAID = re.compile(
    rf"passwor[dt][ \w-]{{0,30}}? (?:is|ist|lautet|war|was)[: ] ?[\"'`]?(?P<bare>{_BARE}{{6,}}+)",
    re.IGNORECASE,
)


def assigned(text: str) -> Iterator[Span]:
    """Values of passwords, tokens and keys: `password=…`, `"token": "…"`, `Passwort: …`."""
    for match in _ASSIGNED.finditer(text):
        start = match.start(match.lastgroup or 0)
        value = match["quoted"] or match["bare"].rstrip(".!?:")
        if "=" in match["sign"]:
            value = value.partition("&")[0]
        if _NO_SECRET.match(value):
            continue
        if match["password"]:
            glued = text[start - 1] == "=" and not text.startswith((",", ")"), start + len(value))
            secret = _is_password(value, word_will_do=match["quoted"] is not None or glued)
        elif match["scheme"]:
            secret = len(value) >= 8 and value != value.lower()
        else:
            secret = len(value) >= 8 and _is_mixed(value) and not _NAME.match(value)
        if secret:
            yield start, start + len(value)


def said(text: str) -> Iterator[Span]:
    """*My password is …*, when what follows has letters and digits."""
    for match in _SAID.finditer(text):
        value = match["bare"].rstrip(".!?")
        if _is_mixed(value):
            yield match.start("bare"), match.start("bare") + len(value)


_NO_SECRET = re.compile(
    r"\$[\w{(]|%\w+%$|[*.xX_•-]+$|\[|\\|[.~]?/|https?:|your|example|changeme"
    r"|[A-Z][A-Z0-9]*_[A-Z0-9_]*$|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+$"
)
"""Placeholders, paths, variables and attributes."""
_NAME = re.compile(r"[A-Za-z_.]+[0-9]{0,2}$")
_TYPE_WORDS = (
    *PASSWORDS,
    *("string", "text", "bytes", "input", "secret", "token", "hidden", "required", "optional"),
    *("none", "null", "true", "false"),
)
_SYMBOL = re.compile(r"\w[!$%^@]|[!$%^@]\w")


def _is_password(value: str, *, word_will_do: bool) -> bool:
    """A word is enough in quotes or in `password=word`; else prose and code put words there."""
    if word_will_do:
        return len(value) >= 4 and value.lower() not in _TYPE_WORDS
    if len(value) < 6:
        return len(value) >= 4 and value.isdigit()
    return value.isdigit() or _is_mixed(value) or _SYMBOL.search(value) is not None


def _is_mixed(value: str) -> bool:
    return any(c.isalpha() for c in value) and any(c.isdigit() for c in value)
