"""What redaction finds in texts and what it leaves alone, counted; and that it stays quick.

The labelled texts are in redaction_cases.txt beside this file.
"""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from store import keys
from store.errors import Rejected
from store.redaction import KINDS, Hit, find, redact_text, shadow, worth_a_look


class Case(NamedTuple):
    """A labelled text."""

    text: str
    hits: list[Hit]
    redacted: str
    known_wrong: bool


def read_cases() -> list[Case]:
    """The labelled texts, with their marks taken out."""
    lines = (Path(__file__).parent / "redaction_cases.txt").read_text().splitlines()
    return [read_case(line) for line in lines if line and not re.match(r"#( |$)", line)]


def read_case(line: str) -> Case:
    """One line: ⟦kind:hit⟧ is a mark, · is nothing, a leading ~ says that it goes wrong today."""
    marked = line.removeprefix("~ ").replace("·", "")
    escapes = {"n": "\n", "\\": "\\"}
    marked = re.sub(
        r"\\(n|\\|u[0-9a-f]{4})",
        lambda code: escapes.get(code[1]) or chr(int(code[1][1:], 16)),
        marked,
    )
    text, hits = "", []
    for plain, kind, hit in re.findall(r"([^⟦]*)(?:⟦(\w+):(.*?)⟧|$)", marked, re.DOTALL):
        start = len(text) + len(plain)
        text += plain + hit
        if kind:
            hits.append(Hit(start, len(text), kind))
    redacted = re.sub(r"⟦(\w+):.*?⟧", r"[\1]", marked, flags=re.DOTALL)
    return Case(text, hits, redacted, line.startswith("~ "))


CASES = read_cases()
known_wrong = pytest.mark.xfail(strict=True, reason="redaction gets this wrong today")


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=known_wrong if c.known_wrong else ()) for c in CASES]
)
def test_a_labelled_text_is_redacted_as_it_is_marked(case):
    """All that is marked is replaced, and nothing else."""
    redacted = redact_text(case.text)

    assert redacted.value == case.redacted
    assert redacted.counts == Counter(hit.kind for hit in case.hits)


@pytest.mark.parametrize("kind", KINDS)
def test_most_is_found_and_little_is_destroyed(kind):
    """Over all labelled texts, those known to go wrong included."""
    wanted = found = right = 0
    for case in CASES:
        marked = {hit for hit in case.hits if hit.kind == kind}
        seen = {hit for hit in find(case.text) if hit.kind == kind}
        wanted, found, right = wanted + len(marked), found + len(seen), right + len(marked & seen)

    assert wanted >= 30
    assert right / wanted >= 0.92, f"recall of {right} in {wanted}"
    assert right / found >= 0.92, f"precision of {right} in {found}"


def test_the_labelled_texts_are_many():
    """At least 120 with something to find, and 120 with nothing."""
    assert sum(bool(case.hits) for case in CASES) >= 120
    assert sum(not case.hits for case in CASES) >= 120


# --- the quick tests ----------------------------------------------------------------------


def random_texts(count: int) -> list[str]:
    """Pieces of the labelled texts run together, and noise of what they are made of."""
    generator = random.Random(20261121)
    texts = []
    for _ in range(count):
        if generator.random() < 0.5:
            pieces = []
            for case in generator.choices(CASES, k=generator.randint(1, 4)):
                start = generator.randint(0, len(case.text))
                end = generator.randint(start, len(case.text))
                pieces += [case.text[start:end], generator.choice(["", " ", "\n", ", ", "/", "."])]
            texts.append("".join(pieces))
        else:
            letters = generator.choices("0123456789 .-/@:=()[]+aA_e\u200b٣’\n%", k=120)
            texts.append("".join(letters)[: generator.randint(1, 120)])
    return texts


def test_what_is_not_worth_a_look_holds_nothing():
    """The quick tests, which let most texts pass, are wider than every detector."""
    texts = [case.text for case in CASES] + random_texts(4000)

    assert [text for text in texts if find(text) and not worth_a_look(text)] == []


def test_no_invisible_character_hides_a_key():
    """The quick test for them goes by their first bytes, and knows each."""
    key = "gl" + "pat-aB3dE5fG7hI9jK1lM3nO"

    for invisible in (c for c, plain in shadow._HIDING.items() if not plain):
        assert redact_text(invisible.join(key)).value == "[secret]", hex(ord(invisible))


def test_every_character_that_hides_is_noticed():
    """Wide letters and the digits of other scripts, too."""
    assert [c for c in shadow._HIDING if not shadow._may_hide(c.encode())] == []


def test_ordinary_talk_is_not_worth_a_look():
    """Else every text would pay for the close look."""
    talk = (
        "I've been baking since 2019: 3 eggs, 500 g flour, 35 minutes at 220 degrees (or so). "
        "“That's 20 % more,” she said — see https://example.org/bread/crust for a photo ❤️."
    )

    assert not worth_a_look(talk)


def test_redacting_twice_changes_nothing_more():
    """And counts nothing the second time."""
    for text in [case.text for case in CASES] + random_texts(2000):
        once = redact_text(text)
        assert redact_text(once.value) == (once.value, {})


def test_a_text_without_personal_data_comes_back_itself():
    """The same object, which later steps can tell cheaply."""
    text = "".join(["On 2026-11-21 09:00:00 ", "we met."])

    assert redact_text(text).value is text


HARD = (
    *("a", "1 ", "1", "@", "a.", "a.a@", "a@a.", ":", "::", "f:", "1.", "1.1.1.1 ", "1.1.1.1-"),
    *("eyJ", "eyJ" + "a" * 20 + ".", "A1b2C3d4", "sk-a1B", "://a:", "://:", "Bearer " + "a" * 20),
    *("-----BEGIN RSA PRIVATE KEY-----\n", "-----BEGIN PRIVATE KEY-----" + "A" * 20 + " ", "-"),
    *("password=", 'password="', "password is ", "passwordpassword", "api key: ", "secret", "="),
    *("(at)", "a (at) ", " (at) a (dot) ", "a.b(dot)", "x@y.z(", "%40", "a%", "a'", "＠", "a＠"),
    *("+49 ", "00", "0170 ", "01 ", "(12) ", "(1", "call 1 ", "phone 123456789 ", "0 / ", "1-"),
    *("4111 ", "4", "DE89 ", "DE89", "2026-11-2", "ISBN 1", "-0000", "www.", "wa.me/", "2001:db8:"),
    *("a\u200b", "0\u200b", "٠", "0️⃣", "的@", "\0@", " ", "\n", "a@b.co ", "0170 1234567 "),
    *("0170-1234567/", "192.168.1.1 ", "password=a1b2c3 ", "4111 1111 1111 1111 "),
)


@pytest.mark.parametrize("unit", HARD)
@pytest.mark.parametrize("end", ["", "="])
def test_the_longest_text_is_done_soon_whatever_it_holds(unit, end):
    """64 K of a repeated piece: 0.2 s at most when written, minutes if the time were quadratic."""
    text = (unit * 65_536)[: 65_536 - len(end)] + end
    start = time.process_time()

    redact_text(text)

    assert time.process_time() - start < 4


def test_numbers_joined_without_end_are_refused():
    """Each shows only when the one before it is gone; nobody writes that."""
    with pytest.raises(Rejected, match="joins so many numbers"):
        redact_text("0170-1234567-" * 100)


@pytest.mark.parametrize("text", ["\ud800 anna@example.org", "\udfff", "\U0010ffff@", "ǅ@ß.ﬁ"])
def test_odd_characters_do_no_harm(text):
    """Half of a surrogate pair, the last code point, letters that change length with their case."""
    assert "anna" not in redact_text(text).value


def test_only_the_kinds_of_the_rules_are_replaced():
    """The others are still seen for what they are: a card is not taken for a phone number."""
    text = "anna@example.org, 4111 1111 1111 1111, 030 23125123"

    assert redact_text(text, ("phone",)).value == "anna@example.org, 4111 1111 1111 1111, [phone]"
    assert redact_text(text, ()) == (text, {})


def test_a_key_of_ours_is_redacted(store):
    """As it is really made."""
    _, key = keys.create(store, name="a", scopes=("admin",), actor="test")

    assert redact_text(f"I used {key}.").value == "I used [secret]."
