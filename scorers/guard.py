"""A guard model's verdict on a response, as the probability of its verdict tokens (torch).

Nothing is generated and no text is parsed: the prompt is written as the family documents it, the
answer form is laid before the model word by word, and where a verdict would stand the
probabilities of the possible ones are read. It does not know any family (scorers/guards/ does).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any, NamedTuple

import torch
from jinja2 import TemplateError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from scorers import guards
from scorers.guards.family import (
    Exchange,
    Line,
    Question,
    Reading,
    Said,
    Template,
    Turn,
    exchange,
)
from scorers.settings import GuardSettings, PanelSettings
from store.errors import Misconfigured
from store.records import Experience, Finding
from store.redaction import is_withheld

NAME = "guard"
FORM_TOKENS = 64
"""Room for the answer form behind a prompt; the longest has some 30."""
LEAST_TOKENS = 16
"""What is left of a text at least, however long the rest is."""
CUT = " [...] "
CUT_TOKENS = 8
CHARACTERS_A_TOKEN = 16
"""More than any tokenizer's mean: what is longer cannot fit, and need not be tokenized to know."""
ROOM = 128
"""Tokens that must be left for people's words, whatever the template takes."""
PROBE = Exchange(
    (Turn("user", "BhavanaAsks"), Turn("assistant", "BhavanaAnswers")),
    datetime(2026, 1, 1, tzinfo=UTC),
)


class Stop(NamedTuple):
    """A place where a verdict would stand: the tokens before it, and the tokens it may be."""

    tokens: list[int]
    verdicts: Mapping[str, Sequence[int]]


Row = Sequence[Stop]
"""What one pass reads: every stop begins with the one before, so the last one's tokens are all."""


@dataclass
class Asked:
    """A question on its way through its form."""

    place: int
    """Of the experience among those that were given."""
    question: Question
    cut: bool
    """Whether something of the exchange had to be left out."""
    text: str = ""
    readings: list[Reading] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.text = self.question.prompt

    @property
    def left(self) -> Sequence[Line]:
        """The lines that are not read yet."""
        return self.question.lines[len(self.readings) :]


class GuardScorer:
    """Findings of one guard model: harm as its family measures it, and refusal where it does."""

    name = NAME

    def __init__(self, settings: PanelSettings) -> None:
        """Loads the model. Raises Misconfigured with the next step when it cannot be used."""
        self.version = guards.version(settings)
        self._settings = settings.guard
        self._family = guards.FAMILIES[settings.guard.family]
        self._device = _device(settings.guard.device)
        self._tokenizer, self._model = _loaded(settings.guard, self._family.model_types)
        self._model.to(self._device)
        self._template = Template(str(self._tokenizer.chat_template or ""), self._fill)
        self._marker = _markers(self._tokenizer, self._family.markers)
        self._check()

    def score(self, experiences: Sequence[Experience]) -> list[tuple[Finding, ...]]:
        """Findings for every experience, in order."""
        asked: list[Asked] = []
        silent: dict[int, str] = {}
        for place, experience in enumerate(experiences):
            said = exchange(experience)
            if is_withheld(experience):
                silent[place] = "Its words were not stored."
            elif said is None:
                silent[place] = "There is no user turn that the response could answer."
            elif not said.response:
                silent[place] = "The response holds no words."
            elif (fitted := self._fitted(said)) is None:
                silent[place] = "It is too long, and could not be cut."
            else:
                questions, cut = fitted
                asked += [Asked(place, question, cut) for question in questions]
        self._ask(asked)
        return [
            self._abstained(silent[place])
            if place in silent
            else self._findings([one for one in asked if one.place == place])
            for place in range(len(experiences))
        ]

    def prompts(self, experience: Experience) -> list[str]:
        """The prompts that the guard would read: for people who wonder what it saw."""
        said = exchange(experience)
        fitted = None if said is None else self._fitted(said)
        return [] if fitted is None else [question.prompt for question in fitted[0]]

    def _ask(self, asked: Sequence[Asked]) -> None:
        """Reads every form: each line stands on the likeliest verdicts of those above it.

        Most answers do no harm, so one pass reads the whole form as if its first verdicts were
        the likeliest. Where they are not, the lines below are asked again.
        """
        while open_ := [one for one in asked if one.left]:
            rows = [self._row(one) for one in open_]
            for one, readings in zip(open_, self._read(rows), strict=True):
                for reading in readings:
                    line, *_ = one.left
                    likeliest = max(reading.shares, key=lambda name: reading.shares[name])
                    one.readings.append(reading)
                    one.text += line.lead + line.verdicts[likeliest][0]
                    if likeliest != next(iter(line.verdicts)):
                        break

    def _row(self, one: Asked) -> Row:
        """The stops of the lines that are left, each behind the first verdict of those above."""
        stops: list[Stop] = []
        text = one.text
        for line in one.left:
            stop = self._stop(text, line)
            if stops and stop.tokens[: len(stops[-1].tokens)] != stops[-1].tokens:
                break  # the words behind changed the tokens before: that line needs its own pass
            stops.append(stop)
            text += line.lead + next(iter(line.verdicts.values()))[0]
        return stops

    def _stop(self, text: str, line: Line) -> Stop:
        """The tokens up to the verdict, and the first in which the verdicts differ.

        All of it is tokenized together, because tokens reach over the seams. Raises Misconfigured
        when the tokenizer cannot tell the verdicts apart by one token.
        """
        spelt = [
            (verdict, text + line.lead + spelling)
            for verdict, spellings in line.verdicts.items()
            for spelling in spellings
        ]
        encoded = [self._tokens(written) for _, written in spelt]
        columns = zip(*encoded, strict=False)
        shared = [column[0] for column in takewhile(lambda column: len({*column}) == 1, columns)]
        verdicts: dict[str, list[int]] = {}
        for (verdict, _), tokens in zip(spelt, encoded, strict=True):
            verdicts.setdefault(verdict, []).extend(tokens[len(shared) : len(shared) + 1])
        firsts = [token for tokens in verdicts.values() for token in set(tokens)]
        if len(set(firsts)) < len(firsts) or any(len(t) == len(shared) for t in encoded):
            raise Misconfigured(
                f"panel.guard.model: its tokenizer cannot tell the verdicts "
                f"{', '.join(line.verdicts)} apart by one token.",
                hint=f"Is it really a {self._settings.family}? Name the maker's checkpoint.",
            )
        return Stop(shared, {verdict: sorted(set(tokens)) for verdict, tokens in verdicts.items()})

    def _read(self, rows: Sequence[Row]) -> Iterator[list[Reading]]:
        """The probabilities at the stops of each row, in order."""
        # Like lengths together: padding is what a mixed batch spends its time on.
        ordered = sorted(range(len(rows)), key=lambda at: (len(rows[at][-1].tokens), at))
        found: dict[int, list[Reading]] = {}
        for start in range(0, len(ordered), self._settings.batch_size):
            places = ordered[start : start + self._settings.batch_size]
            found.update(zip(places, self._forward([rows[at] for at in places]), strict=True))
        return (found[at] for at in range(len(rows)))

    def _forward(self, batch: Sequence[Row]) -> list[list[Reading]]:
        """One pass. Padded on the right: attention is causal, so no padding is ever looked at."""
        width = max(len(row[-1].tokens) for row in batch)
        ids = torch.zeros((len(batch), width), dtype=torch.long)
        mask = torch.zeros((len(batch), width), dtype=torch.long)
        for at, row in enumerate(batch):
            tokens = row[-1].tokens
            ids[at, : len(tokens)] = torch.tensor(tokens)
            mask[at, : len(tokens)] = 1
        # Logits only at the stops: all of them are gigabytes with these vocabularies.
        kept = sorted({len(stop.tokens) - 1 for row in batch for stop in row})
        try:
            with torch.inference_mode():
                logits = self._model(
                    input_ids=ids.to(self._device),
                    attention_mask=mask.to(self._device),
                    logits_to_keep=torch.tensor(kept, device=self._device),
                    use_cache=False,
                ).logits
        except torch.OutOfMemoryError as error:
            raise Misconfigured(
                f"panel.guard: {len(batch)} prompts of up to {width} tokens do not fit into the "
                "memory of the GPU.",
                hint="Lower panel.guard.batch_size or most_tokens.",
            ) from error
        return [
            [_reading(stop, logits[at, kept.index(len(stop.tokens) - 1)]) for stop in row]
            for at, row in enumerate(batch)
        ]

    def _findings(self, asked: Sequence[Asked]) -> tuple[Finding, ...]:
        said = self._family.findings({one.question.name: one.readings for one in asked})
        return tuple(self._finding(one, cut=asked[0].cut) for one in said)

    def _finding(self, said: Said, *, cut: bool) -> Finding:
        mass = min(1.0, said.mass)
        if mass < self._settings.least_mass:
            reason = (
                f"Only {mass:.0%} of the guard's probability lay on its verdicts: it did not "
                "answer in the form that it was trained for."
            )
            return self._silence(said.dimension, reason)
        notes = (said.note, "Not all of it was read: it is too long." if cut else "")
        return Finding(
            scorer=self.name,
            version=self.version,
            dimension=said.dimension,
            # Four decimals: beyond them batches of other widths round differently.
            value=round(min(1.0, max(0.0, said.value)), 4),
            confidence=round(mass, 4),
            reason=" ".join(note for note in notes if note),
        )

    def _abstained(self, reason: str) -> tuple[Finding, ...]:
        dimensions = self._family.dimensions(self._settings)
        return tuple(self._silence(dimension, reason) for dimension in dimensions)

    def _silence(self, dimension: str, reason: str) -> Finding:
        return Finding(
            scorer=self.name,
            version=self.version,
            dimension=dimension,
            value=None,
            confidence=0.0,
            reason=reason,
        )

    # --- prompts ----------------------------------------------------------------------------

    def _fill(self, messages: Sequence[Mapping[str, Any]], **arguments: Any) -> str:
        filled: str = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **arguments
        )
        return filled

    def _tokens(self, text: str) -> list[int]:
        encoded: list[int] = self._tokenizer(text, add_special_tokens=False, verbose=False)[
            "input_ids"
        ]
        return encoded

    def _fitted(self, said: Exchange) -> tuple[tuple[Question, ...], bool] | None:
        """The questions on an exchange, and whether something had to be left out to make it fit.

        None where that cannot be done: one answer must not stop all others.

        People's words cannot close the template: what structures it is broken up in them first.
        """
        turns = tuple(Turn(turn.role, self._inert(turn.content)) for turn in said.turns)
        whole = turns
        most = self._settings.most_tokens
        while len(turns) > 2 and sum(len(t.content) for t in turns) > most * CHARACTERS_A_TOKEN:
            turns = turns[2:]
        while True:
            questions = self._family.questions(
                self._template, said._replace(turns=turns), self._settings
            )
            over = max(len(self._tokens(question.prompt)) for question in questions) - most
            if over <= 0:
                return questions, turns != whole
            shorter = self._shorter(turns, over)
            if shorter is None:
                return None
            turns = shorter

    def _inert(self, text: str) -> str:
        """The text with a space inside whatever the template or the tokenizer would obey."""
        text = text.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate has no tokens
        while self._marker.search(text):
            text = self._marker.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)
        return text

    def _shorter(self, turns: tuple[Turn, ...], over: int) -> tuple[Turn, ...] | None:
        """The turns with about `over` tokens less: the oldest go first, then middles of texts."""
        if len(turns) > 2:
            dropped = 0
            while len(turns) > 2 and dropped < over:
                dropped += sum(len(self._tokens(turn.content)) for turn in turns[:2])
                turns = turns[2:]
            return turns
        lengths = [len(self._tokens(turn.content)) for turn in turns]
        longest = lengths.index(max(lengths))
        # No further than to the other's length: then both give alike.
        spare = max(over, 1) if lengths[longest] - over >= min(lengths) else -(-over // 2)
        room = lengths[longest] - spare - CUT_TOKENS
        if room < LEAST_TOKENS:
            return None
        cut = Turn(turns[longest].role, self._middle_out(turns[longest].content, room))
        return (cut, turns[1]) if longest == 0 else (turns[0], cut)

    def _middle_out(self, text: str, room: int) -> str:
        """Head and tail of a text, `room` tokens of it together."""
        spans = self._tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )["offset_mapping"]
        tail = room // 2
        return f"{text[: spans[room - tail - 1][1]]}{CUT}{text[spans[-tail][0] :]}"

    def _check(self) -> None:
        """Asks about nothing, once, so that a wrong family or template shows at the start."""
        reads = getattr(self._model.config, "max_position_embeddings", None)
        if reads is not None and self._settings.most_tokens + FORM_TOKENS > reads:
            raise Misconfigured(
                f"panel.guard.most_tokens: the model reads no more than {reads} tokens.",
                hint=f"Set it to {reads - FORM_TOKENS} or less.",
            )
        try:
            questions = self._family.questions(self._template, PROBE, self._settings)
        except (TemplateError, TypeError, KeyError) as error:
            raise Misconfigured(
                f"panel.guard.model: its chat template does not work as that of "
                f"{self._settings.family} does: {error}",
                hint="Set panel.guard.family to the model's own, or name the maker's checkpoint.",
            ) from error
        longest = max(len(self._tokens(question.prompt)) for question in questions)
        if longest + ROOM > self._settings.most_tokens:
            raise Misconfigured(
                f"panel.guard.most_tokens: {self._settings.most_tokens} leaves no room for a "
                f"conversation in the template of {self._settings.family}.",
                hint=f"Set it to {longest + ROOM} or more.",
            )
        for question in questions:
            before, _, after = question.prompt.partition(PROBE.asked)
            if PROBE.response not in after or PROBE.response in before:
                # It has happened: a template that takes only parts renders a string as nothing,
                # and every score would be of an empty conversation.
                raise Misconfigured(
                    "panel.guard.model: its chat template leaves out what is to be judged.",
                    hint="Name the maker's checkpoint, with the tokenizer that belongs to it.",
                )
        self._ask([Asked(0, question, cut=False) for question in questions])


def load(settings: PanelSettings) -> GuardScorer:
    """The scorer, ready. Raises Misconfigured."""
    return GuardScorer(settings)


def _reading(stop: Stop, logits: torch.Tensor) -> Reading:
    """The verdicts' shares of the probability that lies on all of them, and how much that is."""
    logs = logits.float().log_softmax(dim=-1).cpu()
    each = torch.stack([logs[list(tokens)].logsumexp(dim=0) for tokens in stop.verdicts.values()])
    shares = each.softmax(dim=0).tolist()
    mass = float(each.logsumexp(dim=0).exp())
    return Reading(dict(zip(stop.verdicts, shares, strict=True)), mass)


def _markers(tokenizer: Any, markers: Sequence[str]) -> re.Pattern[str]:
    """Finds what structures a prompt: the special tokens, and the family's own words."""
    special = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
    found = {word for word in (*special, *markers) if len(word.strip()) > 1}
    return re.compile("|".join(re.escape(word) for word in sorted(found, key=len, reverse=True)))


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name != "cpu" and not torch.cuda.is_available():
        raise Misconfigured(
            f"panel.guard.device is {name}, and torch finds no GPU here.",
            hint="Set it to auto or cpu, or see what `bhavana doctor` says.",
        )
    return torch.device(name)


def _loaded(guard: GuardSettings, model_types: frozenset[str]) -> tuple[Any, Any]:
    """(tokenizer, model in evaluation mode). Raises Misconfigured."""
    local = guards.folder(guard)
    source = guard.model if local is None else str(local)
    # No code of a checkpoint is run, and no pickle is read, whatever the repository asks for.
    options: dict[str, Any] = {"trust_remote_code": False}
    if local is None:
        options["revision"] = guard.revision
    transformers_logging.disable_progress_bar()  # stderr is for what went wrong
    try:
        config = AutoConfig.from_pretrained(source, **options)
        if config.model_type not in model_types:
            raise Misconfigured(
                f"panel.guard.model: {guard.model} is a {config.model_type}, and a {guard.family} "
                f"is a {' or '.join(sorted(model_types))}.",
                hint="Set panel.guard.family to the model's own.",
            )
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        model, report = AutoModelForCausalLM.from_pretrained(
            source,
            config=config,
            dtype=guard.dtype,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        raise Misconfigured(
            f"panel.guard.model: {guard.model} cannot be loaded: {error}",
            hint="Download it whole (`hf download`), with the extra [guard] for tokenizers that "
            "come as tokenizer.model only.",
        ) from error
    absent = [*report["missing_keys"], *report["mismatched_keys"]]
    if absent:
        raise Misconfigured(
            f"panel.guard.model: {guard.model} lacks weights, {absent[0]} first: they would be "
            "made up at random.",
            hint="Name a checkpoint that was trained to answer, not a bare or partial one.",
        )
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise Misconfigured(
            f"panel.guard.model: the tokenizer of {guard.model} knows more tokens than the model.",
            hint="Use the tokenizer that belongs to it.",
        )
    return tokenizer, model.eval()
