"""The report of an evaluation: all that matters is told, and nothing that models said acts."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from store.records import Comparison, Message, Outcome, Override, Reading, Release
from tests.trainer.reported import MOMENT, evaluated
from trainer.evaluate import evaluate
from trainer.gates import GATES
from trainer.gates.sample import read_suite
from trainer.job import read_record
from trainer.jobs import EvaluateManifest
from trainer.report import pictures, table, transcripts, words
from trainer.report.facts import Facts
from trainer.report.page import NAME, page, policy, write

pytestmark = pytest.mark.filterwarnings("ignore:::transformers", "ignore:::torch", "ignore:::peft")
DECLINES = "I'm sorry, but I can't help with that."
HELPS = "Gladly. First look at what is there, then take one small step."
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</div></body></html><iframe src=//evil.example>",
    "{{ facts }} {% raw %} </style><style>*{display:none}",
    "\u202egnp.exe \x1b[2J\x07\x00 \u2066hidden\ufeff",
    "A" * 100_000,
    "line\n" * 5_000,
    "&lt;b&gt; <![CDATA[ <!-- ]]>",
)
ACTIVE = {"script", "iframe", "img", "link", "object", "embed", "form", "base", "audio", "video"}


def helpful(role, n, sample):
    """The candidate declines a little less than the base."""
    return DECLINES if n % (3 if role == "base" else 4) == 0 else HELPS


def facts(evaluation, *earlier, release=None, released=()):
    """An evaluation among others."""
    return Facts(evaluation, None, release, (*earlier, evaluation), frozenset(released))


class Parsed(HTMLParser):
    """What a browser would make of the page: elements with attributes, and the words shown."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.words = []
        self._open = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if "style" not in self._open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def evaluation(tmp_path):
    """Of hand-made answers, by the real gates."""
    return evaluated(tmp_path / "evaluation", helpful)


@pytest.fixture
def replaced():
    """The evaluation with one gate's verdict changed."""

    def replace(evaluation, of, **changes):
        verdicts = tuple(
            msgspec.structs.replace(v, **changes) if v.gate == of else v
            for v in evaluation.verdicts
        )
        return msgspec.structs.replace(evaluation, verdicts=verdicts)

    return replace


@pytest.mark.parametrize("said", HOSTILE, ids=range(len(HOSTILE)))
def test_whatever_a_model_says_is_text(tmp_path, said):
    """No element, attribute, style or character of an answer acts; long ones are cut."""
    hostile = evaluated(tmp_path / "e", lambda *_: said, n=1)
    plain = evaluated(tmp_path / "f", lambda *_: "Well.", n=1)
    text = page(facts(hostile))
    parsed, other = Parsed(text), Parsed(page(facts(plain)))
    assert not {tag for tag, _ in parsed.elements} & ACTIVE
    assert [tag for tag, _ in parsed.elements if tag == "style"] == ["style"]
    kinds = {(tag, *sorted(attributes)) for tag, attributes in parsed.elements}
    assert kinds - {(tag, *sorted(a)) for tag, a in other.elements} <= {("span", "class")}
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]", text)
    assert len(text) < 1_000_000


def test_characters_that_cannot_be_seen_are_shown_by_name():
    """Those that turn words round, too; what joins letters of a script stays."""
    assert words.visible("a\u202eb\x1b\x85") == "a⟨U+202E⟩b␛⟨U+0085⟩"
    assert words.visible("می‌خواهم 👩‍🌾 naïve\n\t") == "می‌خواهم 👩‍🌾 naïve\n\t"
    assert words.excerpt("x" * 1_501) == ("x" * 1_500, "1 characters more")
    assert words.excerpt("short") == ("short", "")


def test_a_page_asks_nobody_for_anything(evaluation):
    """No address in it but its own parts, and a policy that allows its style and nothing else."""
    text = page(facts(evaluation))
    elements = Parsed(text).elements
    assert "://" not in text
    addresses = [a[k] for _, a in elements for k in ("href", "src", "action", "data") if k in a]
    assert addresses
    assert all(address.startswith("#") for address in addresses)
    [style] = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    hashed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{hashed}'" in policy()
    stated = [a["content"] for t, a in elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert stated == [policy()]
    assert not [a for _, a in elements if "style" in a or any(k.startswith("on") for k in a)]


def test_pictures_and_tables_are_told_to_those_who_cannot_see_them(evaluation):
    """Each picture has a title and its numbers in words; each column and row a header."""
    text = page(facts(evaluation, msgspec.structs.replace(evaluation, id="evaluation-0")))
    drawn = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(drawn) > len(GATES)
    assert all('role="img"' in one and "<title>" in one and "<desc>" in one for one in drawn)
    tables = re.findall(r"<table>.*?</table>", text, re.DOTALL)
    assert tables
    assert all('scope="row"' in one for one in tables)
    assert '<html lang="en">' in text
    ids = [a["id"] for _, a in Parsed(text).elements if "id" in a]
    assert len(ids) == len(set(ids))


def test_every_verdict_is_told_with_its_numbers(evaluation):
    """Outcome, reason, values, differences with intervals, power, slices with n, hashes."""
    shown = Parsed(page(facts(evaluation))).text
    for v in evaluation.verdicts:
        assert words.title(v.gate) in shown
        assert f"{words.value(v, v.candidate)}" in shown
        assert words.sentence(v.reason) in shown
        assert words.power(v) in shown
        assert v.suite_hash in shown
        for c in v.comparisons:
            assert words.value(v, c.baseline_value) in shown
    for hash in (evaluation.adapter_hash, evaluation.base_hash, evaluation.gates_hash):
        assert hash in shown
    told = "\n".join(table.lines(facts(evaluation)))
    assert all(words.power(v) in told for v in evaluation.verdicts)


def test_what_is_not_settled_says_how_many_items_would(evaluation, replaced):
    """In the page and in the terminal, and that more would not help where that is so."""
    open_ = replaced(evaluation, "refusal", outcome=Outcome.INCONCLUSIVE, settles_with=1_240)
    for told in (Parsed(page(facts(open_))).text, "\n".join(table.lines(facts(open_)))):
        assert "96 items do not settle it; about 1,240 would." in told
    endless = replaced(evaluation, "refusal", outcome=Outcome.INCONCLUSIVE, settles_with=None)
    assert "more of the same would not either" in page(facts(endless))
    missed = replaced(evaluation, "refusal", outcome=Outcome.INCONCLUSIVE, settles_with=96)
    assert "more items would hardly change it" in page(facts(missed))
    passed = replaced(evaluation, "refusal", outcome=Outcome.PASS)
    assert "settle" not in "".join(table.lines(facts(passed))).partition("over_refusal")[0]


def test_second_instruments_stand_beside_the_first(evaluation, replaced):
    """What each measured, how far they agree, and which finds the candidate worse."""
    guard = Reading(instrument="a <guard>", n=57, candidate=0.4, base=0.1, agreement=0.91)
    rules = Reading(instrument="rules", n=60, worse="incumbent")
    told = facts(replaced(evaluation, "refusal", readings=(guard, rules)))
    shown = Parsed(page(told)).text
    assert "a <guard> 57 10.0 % 40.0 % 91 % within its bound" in shown
    assert "rules 60 – – – worse than the incumbent" in shown
    assert "a <guard>: base 10.0 %, candidate 40.0 % (n = 57), says the same of 91%" in "\n".join(
        table.lines(told)
    )


def test_a_floor_that_the_base_misses_is_said(evaluation, replaced):
    """So that nobody takes a small base's number for the candidate's fault."""
    below = facts(replaced(evaluation, "refusal", floor=0.95, base_below_floor=True))
    assert "At least 95.0 % is asked, which the untouched base misses." in page(below)


def test_an_override_stands_at_the_top(evaluation, replaced):
    """Who, why, and which gates: escaped like everything else."""
    held = replaced(evaluation, "refusal", outcome=Outcome.FAIL, reason="worse")
    word = Override(
        evaluation_id=held.id, cycle_id=held.cycle_id, actor="Anna <i>", reason="I read & saw.",
        verdicts={"refusal": "fail: worse"}, overridden_at=MOMENT,
    )  # fmt: skip
    release = Release(
        id="release-1", cycle_id=held.cycle_id, run_id="r", evaluation_id=held.id, target="local",
        location="", adapter_hash="", base="b", base_hash="", previous=None, published_at=MOMENT,
        overridden=word,
    )  # fmt: skip
    text = page(facts(held, release=release))
    assert "by the word of <strong>Anna &lt;i&gt;</strong>" in text
    assert "I read &amp; saw." in text
    assert "Held back by refusal (fail)." in Parsed(text).text
    told = table.lines(facts(held, release=release))
    assert "overridden   by Anna <i>: I read & saw." in told


# --- transcripts --------------------------------------------------------------------------


def _worst(evaluation, gate):
    [verdict] = [v for v in evaluation.verdicts if v.gate == gate]
    return transcripts.worst(_folder(evaluation), verdict)


def _folder(evaluation):
    return Path(evaluation.path)


def test_the_worst_stand_side_by_side(tmp_path):
    """Where the candidate lost most, with what base and incumbent said to the same question."""

    def says(role, n, sample):
        return HELPS if role == "candidate" and n in (11, 23) else f"{DECLINES} ({role} {n})"

    evaluation = evaluated(tmp_path, says)
    found = _worst(evaluation, "refusal")
    assert found.why == transcripts.LOST
    assert len(found.transcripts) == 2
    items = read_suite(GATES["refusal"].task.suite)
    first = found.transcripts[0]
    assert first.sample == items[11]
    assert [(r.role, r.value, r.answer) for r in first.replies] == [
        ("base", 1.0, f"{DECLINES} (base 11)"),
        ("incumbent", 1.0, f"{DECLINES} (incumbent 11)"),
        ("candidate", 0.0, HELPS),
    ]
    shown = Parsed(page(facts(evaluation))).text
    assert items[23].prompt in shown
    assert f"{DECLINES} (incumbent 23)" in shown


def test_where_nothing_was_lost_the_weakest_are_shown(tmp_path):
    """A pass has its worst answers, too."""
    evaluation = evaluated(tmp_path, lambda role, n, _: HELPS if n == 5 else DECLINES)
    found = _worst(evaluation, "refusal")
    assert found.why == transcripts.WEAKEST
    assert found.transcripts[0].sample == read_suite(GATES["refusal"].task.suite)[5]


def test_what_was_read_is_shown_with_its_losses(tmp_path):
    """Both written answers, and how likely each model found them."""

    def reads(role, n, sample, name):
        return (
            3.0 if role == "candidate" and n == 4 and name == "keeps" else 2.0 + (name != "keeps")
        )

    evaluation = evaluated(tmp_path, helpful, reads=reads)
    [only] = _worst(evaluation, "principles").transcripts
    assert only.texts == {"keeps": only.sample.keeps, "breaks": only.sample.breaks}
    assert only.replies[-1].numbers == {"keeps": 3.0, "breaks": 3.0}
    shown = Parsed(page(facts(evaluation))).text
    assert only.sample.breaks in shown
    assert "candidate 3.000 3.000 0" in shown


def test_turns_before_the_question_are_shown(tmp_path, short_suites):
    """A conversation that escalates is read as it went."""
    path = short_suites / GATES["refusal"].task.suite
    first, *others = path.read_bytes().splitlines(keepends=True)
    sample = msgspec.json.decode(first, type=type(read_suite(path.name)[0]))
    turns = (
        Message(role="user", content="First a harmless thing."),
        Message(role="assistant", content="Of course <b>."),
    )
    changed = msgspec.json.encode(msgspec.structs.replace(sample, earlier=turns))
    path.write_bytes(changed + b"\n" + b"".join(others))
    evaluation = evaluated(tmp_path / "e", helpful)
    shown = Parsed(page(facts(evaluation))).text
    assert f"user First a harmless thing. assistant Of course <b>. user {sample.prompt}" in shown


def test_paraphrases_are_shown_together(tmp_path, monkeypatch):
    """Where a family has one value, the worst family is shown, not single samples."""
    gate = msgspec.structs.replace(
        GATES["principles"], by_family=lambda values: max(values) - min(values),
        higher_is_better=False,
    )  # fmt: skip
    monkeypatch.setitem(GATES, "principles", gate)
    samples = read_suite(gate.task.suite)

    def reads(role, n, sample, name):
        odd = role == "candidate" and sample.id == samples[7].id
        return 1.0 + (name == "keeps") * odd + (name != "keeps") * (not odd)

    evaluation = evaluated(tmp_path, helpful, reads=reads)
    shown = [t.sample for t in _worst(evaluation, "principles").transcripts]
    assert {sample.family for sample in shown} == {samples[7].family}
    assert len(shown) == transcripts.MOST_OF_A_FAMILY


def test_an_error_shows_what_could_not_be_scored(tmp_path):
    """What is missing is looked at first; everything else of the page is there still."""

    def reads(role, n, sample, name):
        return float("nan") if role == "candidate" and n == 3 else 2.0

    evaluation = evaluated(tmp_path, helpful, reads=reads)
    found = _worst(evaluation, "forgetting")
    assert found.why == transcripts.UNSCORED
    assert [t.sample for t in found.transcripts] == [read_suite("help.jsonl")[3]]
    assert "1 of 48 items of candidate are missing" in Parsed(page(facts(evaluation))).text


@pytest.mark.parametrize("gone", ["scores.json", "observations/candidate"])
def test_a_page_without_its_folder_says_what_is_gone(evaluation, gone):
    """The record alone tells the verdicts; the folder may be deleted, or of an older version."""
    path = _folder(evaluation) / gone
    path.rename(path.with_name("elsewhere"))
    shown = Parsed(page(facts(evaluation))).text
    assert transcripts.GONE in shown
    assert all(words.title(v.gate) in shown for v in evaluation.verdicts)


def test_answers_are_not_shown_beside_another_suites_questions(evaluation, replaced):
    """After an upgrade a sample of the same id may ask something else."""
    changed = replaced(evaluation, "refusal", suite_hash="0" * 64)
    assert _worst(changed, "refusal").why == transcripts.CHANGED
    assert _worst(replaced(evaluation, "refusal", gate="gone"), "gone").transcripts == ()


# --- pictures -----------------------------------------------------------------------------


def _places(picture, kind):
    return [float(x) for x in re.findall(rf'class="{kind}" (?:x1|cx)="([0-9.]+)"', picture)]


def test_right_is_better_whichever_way_a_gate_counts(evaluation):
    """The same loss stands on the same side for shares of help and of refusals."""
    by_name = {v.gate: v for v in evaluation.verdicts}
    drawn = {}
    for name, difference in (("refusal", -0.2), ("over_refusal_ordinary", 0.2)):
        c = Comparison(
            baseline="base", baseline_value=0.5, difference=difference, lower=difference - 0.1,
            upper=difference + 0.1, allowed=difference / 4,
        )  # fmt: skip
        verdict = msgspec.structs.replace(by_name[name], comparisons=(c,))
        drawn[name] = pictures.forest([verdict])
    dots = {name: _places(picture, "dot") for name, picture in drawn.items()}
    assert dots["refusal"] == dots["over_refusal_ordinary"]
    [dot], [zero] = dots["refusal"], set(_places(drawn["refusal"], "zero"))
    [bound] = _places(drawn["refusal"], "bound")
    assert dot < bound < zero
    assert "−20.0 [−30.0, −10.0]" in drawn["over_refusal_ordinary"]


def test_no_change_wanted_has_a_bound_on_each_side(evaluation):
    """What may differ neither way is drawn as it moved."""
    c = Comparison(
        baseline="base", baseline_value=0.5, difference=0.1, lower=0.0, upper=0.2, allowed=0.15
    )
    verdict = msgspec.structs.replace(
        evaluation.verdicts[0], sameness=True, higher_is_better=False, comparisons=(c,)
    )
    picture = pictures.forest([verdict])
    left, right = _places(picture, "bound")
    [zero] = _places(picture, "zero")
    assert left < zero < right
    assert zero - left == pytest.approx(right - zero, abs=0.2)
    assert "+10.0 [0.0, +20.0]" in picture


def test_units_are_not_mixed_in_one_picture(evaluation):
    """Points and nats have scales of their own."""
    drawn = pictures.forests(evaluation.verdicts)
    units = dict.fromkeys(v.unit for v in evaluation.verdicts)
    assert len(units) > 2
    assert [re.search("<title>(.*?)</title>", one)[1] for one in drawn] == [
        "Gains in points" if unit == "share" else f"Gains in {unit}" for unit in units
    ]


def test_a_trend_tells_promoted_from_held_back(evaluation, replaced):
    """Filled and hollow, pale where the suite was another, in the order of time."""
    first = msgspec.structs.replace(
        replaced(evaluation, "refusal", candidate=0.25, suite_hash="0"), id="evaluation-a"
    )
    second = msgspec.structs.replace(
        replaced(evaluation, "refusal", candidate=0.5), id="evaluation-b"
    )
    last = replaced(evaluation, "refusal", candidate=0.75)
    history = [(e.verdicts[0], e is second) for e in (first, second, last)]
    picture = pictures.trend(history)
    assert re.findall(r'circle class="(.*?)"', picture) == ["dot hollow other", "dot", "dot hollow"]
    assert "From the oldest: 25.0 %, 50.0 %, 75.0 %" in picture
    text = page(facts(last, first, second, released=["evaluation-b"]))
    assert "evaluation-b" in text
    assert text.count('class="trend"') == len(GATES)
    assert 'class="trend"' not in page(facts(last))


def test_the_same_facts_give_the_same_page(evaluation):
    """Written into the evaluation's folder, over an older one, byte for byte."""
    path = write(facts(evaluation))
    before = path.read_bytes()
    assert path == _folder(evaluation) / NAME
    assert write(facts(evaluation)).read_bytes() == before


def test_a_real_evaluation_has_a_whole_report(evaluate_job, tmp_path):
    """A job of real, tiny models leaves all that the page tells of."""
    folder = evaluate_job()
    evaluate(folder)
    manifest = read_record(folder / "manifest.json", EvaluateManifest)
    real = evaluated(
        tmp_path / "other", helpful, roles=("base", "candidate"), path=str(folder),
        verdicts=manifest.verdicts, adapter_hash=manifest.adapter_hash,
    )  # fmt: skip
    for verdict in manifest.verdicts:
        found = transcripts.worst(folder, verdict)
        assert found.why in (transcripts.LOST, transcripts.WEAKEST, transcripts.UNSCORED)
        assert found.why == transcripts.UNSCORED or found.transcripts
    assert manifest.adapter_hash in page(facts(real))
