"""A language model that judges by rubrics: every number read from its scores, or an abstention.

Pointwise, without reasoning before the score. The score is the mean over the score token's
log-probabilities where the endpoint gives them (G-Eval, arXiv:2303.16634; the mean beats the top
token), else over several answers; its spread and a quotation that is in the answer make the
confidence.

When there is no number:
- A text that the judge cannot read in the form asked for, or that the endpoint refuses or cannot
  manage while it answers about another, and a budget that is used up: the judge abstains, and says
  why. Another try would not help, or would cost what nobody allowed.
- An endpoint that cannot be reached: `score` raises Unavailable. An assessment is never edited, so
  an outage of a minute must not become an abstention for ever; what was not assessed waits, and
  what the judge said meanwhile is in the ledger.
- An endpoint that refuses everything (a wrong key, no such model): `score` raises Misconfigured.
It does not know the panel.
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import msgspec

from scorers import forms, ledger
from scorers.endpoint import Asked, Endpoint, OverBudget, Refused, Reply, Silent, Token
from scorers.fence import Material, Shown, marker, material
from scorers.forms import PARTS, TOTAL, Question, Said, Scale, Unreadable
from scorers.settings import PanelSettings
from store.errors import BhavanaError, Misconfigured, Unavailable
from store.records import Evidence, Experience, Finding, Noun, to_json
from store.redaction import is_withheld

NAME = "judge"
INJECTION = f"{NAME}.injection"
"""1 where words of the response addressed a judge: they were not shown to it."""
HARMLESS = '{"question": "What is the capital of France?", "answer": "Paris."}'
"""A text that nothing is wrong with: what fails on it, too, is not the text's fault."""
DIGITS = frozenset("0123456789")
UNQUOTED = 0.5
"""What is left of the confidence where the score is not shown by words of the answer."""
HINTS = {
    401: "Is the key right? Give it as BHAVANA_PANEL__JUDGE__API_KEY_FILE.",
    403: "May this key use panel.judge.model?",
    404: "Is panel.judge.url right (https://host/v1 for openai, http://host:11434 for ollama), "
    "and is panel.judge.model there?",
}
OTHER_HINT = (
    "Does the endpoint know panel.judge.output, log_probabilities and extra? "
    'output = "plain" and log_probabilities = false ask for the least.'
)


class Mark(Noun, frozen=True, kw_only=True):
    """One dimension as it was understood; no words, so that it may be kept."""

    dimension: str
    value: float | None
    confidence: float = 0.0
    start: int = -1
    """With `end`: where in the response the judge's quotation stands; -1 where it has none."""
    end: int = -1
    reason: str = ""


class Judgement(Noun, frozen=True, kw_only=True):
    """What one question brought out about one text."""

    marks: tuple[Mark, ...]


class Spread(NamedTuple):
    """Where a score lies, and how sure that is, 0 to 1."""

    mean: float
    confidence: float


class Judge:
    """Findings of the chosen form, and whether the response addressed a judge."""

    name = NAME

    def __init__(self, settings: PanelSettings) -> None:
        """Raises Misconfigured. Connects to nothing yet."""
        self._settings = settings.judge
        if faults := list(self._settings.faults()):
            raise Misconfigured("The judge is not set up.", hint=" ".join(faults))
        self.version = forms.version(self._settings)
        self._questions = forms.questions(self._settings)
        self._ledger = ledger.Ledger(ledger.folder(self._settings.cache, os.environ))
        self._endpoint = Endpoint(self._settings, self._ledger)

    def close(self) -> None:
        """Closes the connections and the ledger."""
        self._endpoint.close()
        self._ledger.close()

    def score(self, experiences: Sequence[Experience]) -> list[tuple[Finding, ...]]:
        """Findings for every experience, in order. Raises Unavailable, Misconfigured.

        Calls are made several at once. When it raises, what was answered is kept and will not be
        asked for again.
        """
        self._endpoint.take_heart()
        with ThreadPoolExecutor(self._settings.concurrency, thread_name_prefix=NAME) as pool:
            shown = [material(e, self._settings.most_characters) for e in experiences]
            asked = [
                [pool.submit(self._judgement, question, one) for question in self._questions]
                if (objection := _objection(experience, one)) is None
                else objection
                for experience, one in zip(experiences, shown, strict=True)
            ]
            try:
                return [
                    self._findings(
                        one,
                        [_silence(question, answers) for question in self._questions]
                        if isinstance(answers, str)
                        else [answer.result() for answer in answers],
                    )
                    for one, answers in zip(shown, asked, strict=True)
                ]
            except BaseException as error:
                self._endpoint.give_up(error)
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    # --- findings -------------------------------------------------------------------------

    def _findings(self, one: Material, judgements: Sequence[Judgement]) -> tuple[Finding, ...]:
        marks = [mark for judgement in judgements for mark in judgement.marks]
        findings = [self._finding(mark) for mark in marks]
        if self._settings.form == "curation":
            findings.append(self._total(marks))
        evidence = tuple(
            Evidence(rule="addresses_the_judge", start=start, end=end)
            for start, end in one.addressed
        )
        value = 1.0 if one.addressed else 0.0
        return (*findings, self._signed(INJECTION, value, evidence=evidence))

    def _finding(self, mark: Mark) -> Finding:
        evidence: tuple[Evidence, ...] = ()
        if mark.start >= 0:
            evidence = (Evidence(rule="quoted", start=mark.start, end=mark.end),)
        return self._signed(
            mark.dimension,
            mark.value,
            confidence=mark.confidence,
            evidence=evidence,
            reason=mark.reason,
        )

    def _total(self, marks: Sequence[Mark]) -> Finding:
        """The curation score, 0 to 40; where a part is missing there is no sum."""
        values = [mark.value for mark in marks if mark.value is not None]
        if len(values) < len(PARTS):
            missing = next((mark.reason for mark in marks if mark.value is None), "")
            return self._signed(TOTAL, None, confidence=0.0, reason=missing)
        least = min(mark.confidence for mark in marks)
        return self._signed(TOTAL, round(sum(values), 4), confidence=least)

    def _signed(
        self,
        dimension: str,
        value: float | None,
        *,
        confidence: float = 1.0,
        evidence: tuple[Evidence, ...] = (),
        reason: str = "",
    ) -> Finding:
        return Finding(
            scorer=NAME,
            version=self.version,
            dimension=dimension,
            value=value,
            confidence=confidence,
            evidence=evidence,
            reason=reason,
        )

    # --- one question about one text ------------------------------------------------------

    def _judgement(self, question: Question, one: Material) -> Judgement:
        """What is known or found out about one text. Raises Unavailable, Misconfigured."""
        try:
            return self._found(question, one)
        except BhavanaError as error:
            self._endpoint.give_up(error)  # at once: the next question waits in this same thread
            raise

    def _found(self, question: Question, one: Material) -> Judgement:
        key = self._ledger.key(self.version, question.name, one.document)
        known = self._ledger.recall(key)
        if known is None:
            try:
                found = _understood(question, self._replies(question, one.document), one.answer)
            except OverBudget:
                return _silence(question, "The judge's budget for today is used up.")
            except (Refused, Silent) as fault:
                return _silence(question, self._blamed_on_text(question, fault))
            known = self._ledger.keep(key, to_json(found))
        return msgspec.json.decode(known, type=Judgement)

    def _replies(self, question: Question, document: str) -> list[Reply]:
        """The greedy reply, and samples where it does not show how sure it is."""
        greedy = self._endpoint.ask(self._asked(question, document, 0))
        if _is_enough(question, greedy):
            return [greedy]
        more = range(1, self._settings.samples)
        return [greedy, *(self._endpoint.ask(self._asked(question, document, n)) for n in more)]

    def _asked(self, question: Question, document: str, sample: int) -> Asked:
        mark = marker(self._ledger.secret, document)
        system, user = question.prompt(document, mark)
        return Asked(
            system=system,
            user=user,
            schema=question.schema,
            grammar=question.grammar,
            most_tokens=question.most_tokens,
            temperature=self._settings.temperature if sample else 0.0,
            # From the text, so that a judgement that is lost would come out the same.
            seed=int(mark[:7], 16) + sample,
        )

    def _blamed_on_text(self, question: Question, fault: Refused | Silent) -> str:
        """Why this text has no score, when the endpoint does answer about a harmless one.

        Raises Misconfigured where that is refused as well, Unavailable where it is not answered.
        """
        try:
            self._endpoint.ask(self._asked(question, HARMLESS, 0), free=True)
        except Refused as refused:
            raise Misconfigured(
                f"The judge's endpoint refuses every question: {refused.reason}: {refused.words}",
                hint=HINTS.get(refused.status, OTHER_HINT),
            ) from None
        except Silent as silent:
            raise Unavailable(
                f"The judge's endpoint cannot be reached: {silent.reason}.",
                hint="What is not assessed yet will be; is panel.judge.url right?",
            ) from None
        return f"The judge's endpoint answers, but not about this text: {fault.reason}."


def load(settings: PanelSettings) -> Judge:
    """The scorer, ready. Raises Misconfigured."""
    return Judge(settings)


def _objection(experience: Experience, one: Material) -> str | None:
    """Why no judge is asked: single symbols and echoes pass many of them."""
    if is_withheld(experience):
        return "Its words were not stored."
    said = one.answer.text
    if sum(character.isalnum() for character in said) < 2:
        return "The response holds no words."
    if _folded(experience.response) == _folded(experience.last_user_turn):
        return "The response only repeats the question."
    return None


def _folded(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())


# --- from replies to marks ----------------------------------------------------------------


def _silence(question: Question, reason: str) -> Judgement:
    """An abstention in every dimension of a question."""
    marks = (Mark(dimension=name, value=None, reason=reason) for name in question.scales)
    return Judgement(marks=tuple(marks))


def _is_enough(question: Question, greedy: Reply) -> bool:
    """Whether one reply tells all: it is beyond reading, or shows how sure each number is."""
    try:
        said = question.read(greedy.text)
    except Unreadable:
        return True
    return all(
        one.at < 0 or _spread(greedy, one, question.scales[one.dimension]) is not None
        for one in said
        if one.number is not None
    )


def _understood(question: Question, replies: Sequence[Reply], answer: Shown) -> Judgement:
    """What the replies say together. Pure."""
    greedy, *_ = replies
    if greedy.cut:
        return _silence(question, "The judge's answer was cut off.")
    readings: list[list[Said]] = []
    for reply in replies:
        try:
            readings.append(question.read(reply.text))
        except Unreadable:
            continue
    if 2 * len(readings) <= len(replies):
        return _silence(question, "The judge's answer was not in the form that was asked for.")
    by_dimension = {
        name: [said for reading in readings for said in reading if said.dimension == name]
        for name in question.scales
    }
    return Judgement(
        marks=tuple(
            _mark(question.scales[name], said, greedy if len(replies) == 1 else None, answer)
            for name, said in by_dimension.items()
        )
    )


def _mark(scale: Scale, said: Sequence[Said], single: Reply | None, answer: Shown) -> Mark:
    """One dimension: its value and confidence from a single reply's tokens, or from samples."""
    name = said[0].dimension
    numbers = [one.number for one in said if one.number is not None]
    if 2 * len(numbers) <= len(said):
        return Mark(dimension=name, value=None, reason="The judge could not assess this.")
    told = _spread(single, said[0], scale) if single is not None and said[0].at >= 0 else None
    spread = told or _of_samples(numbers, scale)
    quote = next((one.quote for one in said if one.quote.strip()), "")
    place = answer.find(quote) if quote else None
    unshown = scale.quoted and place is None and (quote != "" or round(spread.mean) > scale.low)
    start, end = place or (-1, -1)
    return Mark(
        dimension=name,
        value=round(spread.mean * scale.unit, 4),
        confidence=round(spread.confidence * (UNQUOTED if unshown else 1.0), 4),
        start=start,
        end=end,
    )


def _of_samples(numbers: Sequence[int], scale: Scale) -> Spread:
    """Mean of the samples; the confidence falls with their deviation, of at most half the scale.

    The sum is divided by n + 1 and not by n, as if one more sample were as far off as can be: a
    few that agree are no certainty.
    """
    most = (scale.high - scale.low) / 2
    mean = statistics.fmean(numbers)
    squares = sum((number - mean) ** 2 for number in numbers) + most**2
    deviation = math.sqrt(squares / (len(numbers) + 1))
    return Spread(mean, max(0.0, 1.0 - deviation / most))


def _spread(reply: Reply, said: Said, scale: Scale) -> Spread | None:
    """What the tokens of a number tell, or None where they tell nothing.

    On a scale of single digits the mean over the digits that might have stood there, made to sum
    to one: servers give probabilities from before the grammar's mask. Where ten has two tokens, the
    number as it stands, and how probable its tokens were.
    """
    tokens = _at(reply, said)
    if said.number is None or not tokens:
        return None
    if scale.high > 9:
        sure = math.exp(sum(min(0.0, token.log_probability) for token in tokens))
        return Spread(float(said.number), sure)
    [token, *more] = tokens
    if more or token.text.strip() != str(said.number):
        return None
    others = dict(token.alternatives) | {token.text: token.log_probability}
    weights = dict.fromkeys(range(scale.low, scale.high + 1), 0.0)
    for text, log_probability in others.items():
        if text.strip() in DIGITS and int(text.strip()) in weights:  # "7" and " 7" are both seven
            weights[int(text.strip())] += math.exp(min(0.0, log_probability))
    total = sum(weights.values())
    if not total > 0:  # all of them improbable beyond what a float can hold
        return None
    mean = sum(number * weight for number, weight in weights.items()) / total
    variance = sum((number - mean) ** 2 * weight for number, weight in weights.items()) / total
    most = (scale.high - scale.low) / 2
    return Spread(mean, max(0.0, 1.0 - math.sqrt(variance) / most))


def _at(reply: Reply, said: Said) -> list[Token]:
    """The tokens that a number consists of; none where the tokens are not those of the text."""
    # Some servers' tokens hold more than the text: what stood before it, or the end of the turn.
    written = "".join(token.text for token in reply.tokens)
    begins = written.find(reply.text)
    if begins < 0:
        return []
    start = begins + said.at
    end = start + len(str(said.number))
    found = []
    at = 0
    for token in reply.tokens:
        if at < end and at + len(token.text) > start:
            found.append(token)
        at += len(token.text)
    return found
