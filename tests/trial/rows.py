"""The good data, composed from what the project bundles: the same arguments, the same rows.

It is the demo's mixture: contrast pairs, plain help, constitutional examples, and the base's own
practice answers, which `Workshop.practised` asks for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from converters.constitution.compose import examples
from converters.constitution.examples import Decision
from daemon.practice import Exemplar, exemplars, scenarios, whole_sentences
from scorers.antijudge import declines
from store.records import CONSTITUTION, CURATED, PRACTICE, Message, Noun, Policy
from trainer.job import write_atomically
from trainer.questions import Answer

HARMFUL, BENIGN, PLAIN = "harmful", "benign", "plain"
"""To be declined; the harmless half of a contrast pair; other help."""
PAIRS, PLAINS, CONSTITUTIONAL, PRACTISED = 175, 537, 124, 150
"""As many as in the demo's dataset. Of 130 pairs, 440 plain ones and no practice the base learned
to decline 23 % of what harms and 8 % of what is ordinary; of these 23 and 3 %."""
VALIDATION_SHARE = 0.05
CONSTITUTION_SEED = 7
COMPOSED = "eth_"
"""How the ids of constitutional examples begin."""
OUTSIDE = "web"

Thing = TypeVar("Thing")


class Row(Noun, frozen=True, kw_only=True):
    """One training row."""

    id: str
    kind: str
    category: str
    prompt: str
    response: str
    conversation: str
    """Rows of one conversation are trained on side by side."""
    earlier: tuple[Message, ...] = ()

    @property
    def source(self) -> str:
        """Where it came from, as a dataset says: what no bundled text has came from outside."""
        if self.id.startswith(COMPOSED):
            return CONSTITUTION
        if self.category == PRACTICE:
            return PRACTICE
        return CURATED if self.id in _bundled() else OUTSIDE

    def line(self) -> dict[str, Any]:
        """The row as trainer.finetune reads it."""
        said = [{"role": m.role, "content": m.content} for m in self.earlier]
        said += [{"role": "user", "content": self.prompt}]
        said += [{"role": "assistant", "content": self.response}]
        about = {"id": self.id, "conversation": self.conversation, "source": self.source}
        return about | {"messages": said}


def good(
    *,
    pairs: int = PAIRS,
    plain: int = PLAINS,
    constitutional: int = CONSTITUTIONAL,
    draw: int = 0,
) -> list[Row]:
    """So many of each: pairs (two rows each), plain exemplars, constitutional examples.

    `draw` says which: another number takes others, where there are more.
    """
    halves: dict[str, list[Row]] = {}
    plains: list[Row] = []
    for exemplar in exemplars():
        row = _of_exemplar(exemplar)
        if exemplar.pair is None:
            plains.append(row)
        else:
            halves.setdefault(exemplar.pair, []).append(row)
    taken = drawn(halves.values(), pairs, lambda both: both[0].conversation, draw)
    composed = drawn(_constitutional(), constitutional, lambda row: row.id, draw)
    return [
        *(row for both in taken for row in both),
        *drawn(plains, plain, lambda row: row.id, draw),
        *composed,
    ]


def of_practice(answers: Iterable[Answer]) -> list[Row]:
    """The base's own answers to bundled scenarios; not its evasions, nor what is no sentence."""
    prompts = {scenario.id: scenario.prompt for scenario in scenarios()}
    return [
        Row(
            id=f"{PRACTICE}.{answer.id}",
            kind=PLAIN,
            category=PRACTICE,
            prompt=prompts[answer.id],
            response=response,
            conversation=f"{PRACTICE}.{answer.id}",
        )
        for answer in answers
        if (response := whole_sentences(answer))
        and not declines(prompts[answer.id], response)
        and len(response) >= Policy().min_chars
    ]


def core() -> list[Row]:
    """The few good rows that a fault is put into: they keep the rest as it was."""
    return good(pairs=20, plain=80, constitutional=0)


def drawn(
    things: Iterable[Thing], count: int, name: Callable[[Thing], str], draw: int = 0
) -> list[Thing]:
    """`count` of the things, or all, chosen by a hash of their names: the same on any machine."""

    def rank(thing: Thing) -> bytes:
        return hashlib.sha256(f"{draw}/{name(thing)}".encode()).digest()

    return sorted(things, key=rank)[:count]


def write(rows: Sequence[Row], folder: Path, *, validation: bool) -> None:
    """Writes a dataset folder; the validation rows are taken out of the rows where wanted."""
    held = drawn({row.conversation for row in rows}, int(len(rows) * VALIDATION_SHARE), str)
    apart = set(held) if validation else set()
    folder.mkdir(parents=True, exist_ok=True)
    for split, wanted in (("train", False), ("validation", True)):
        lines = [row.line() for row in rows if (row.conversation in apart) is wanted]
        write_atomically(folder / f"{split}.jsonl", msgspec.json.Encoder().encode_lines(lines))


@cache
def _bundled() -> frozenset[str]:
    return frozenset(exemplar.id for exemplar in exemplars())


def _of_exemplar(exemplar: Exemplar) -> Row:
    return Row(
        id=exemplar.id,
        kind=exemplar.kind,
        category=exemplar.category,
        prompt=exemplar.prompt,
        response=exemplar.response,
        conversation=exemplar.pair or exemplar.id,
    )


@cache
def _constitutional() -> tuple[Row, ...]:
    return tuple(
        Row(
            id=example.example_id,
            kind=HARMFUL if example.decision is Decision.REFUSE else PLAIN,
            category=f"law {example.law_category.value}",
            prompt=example.prompt,
            response=example.response_ethical,
            conversation=example.example_id,
            earlier=example.conversation,
        )
        for example in examples(400, CONSTITUTION_SEED)
    )
