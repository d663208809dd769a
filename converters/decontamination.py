"""Which prompts ask in nearly the same words what a gate asks, found by sentence embeddings.

Learned from, such a prompt would make the gate measure memory. What says the same in quite other
words lies as far from it as what merely shares its topic, so it is not looked for: among 26
rewritten prompts of the gates (tests/converters/paraphrases.jsonl), all 26 near-verbatim ones are
at .92 or more, all 26 in other words at .79 or less, all 26 on the same topic at .83 or less.
The encoder runs in a process of its own, `python -m converters.decontamination --json`.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

import msgspec
import numpy as np

from scorers.apart import ask
from scorers.features import Matrix
from store.errors import BhavanaError
from store.records import Noun, to_json

CUT = 0.85
"""From this cosine similarity a prompt is a paraphrase. Of the 1,288 bundled exemplars and
scenarios 16 are above it, each a gate's prompt reworded; from .83 down come those that ask for
the contrary: to find a hidden tracker, where the gate's asks to hide one."""
CHUNK = 2_000
"""Prompts embedded at a time."""
NICENESS = 10
"""The daemon's own work goes first."""
SECONDS, SECONDS_EACH = 120.0, 0.5
"""What the encoder may need to load, and for each prompt: ten times what one slow core takes."""

Embed = Callable[[Sequence[str]], Matrix]


class Candidate(Noun, frozen=True):
    """A prompt that may enter training; those of one conversation may share an id."""

    id: str
    prompt: str


class Paraphrase(Noun, frozen=True):
    """A candidate that is too near to a forbidden prompt."""

    id: str
    prompt: str
    of: str
    similarity: float


class Question(Noun, frozen=True, kw_only=True):
    """What the process is asked."""

    candidates: tuple[Candidate, ...]
    forbidden: tuple[str, ...]
    cut: float = CUT


class Answer(Noun, frozen=True, kw_only=True):
    """What it answers: in the order of the candidates, each with the nearest that is forbidden."""

    paraphrases: tuple[Paraphrase, ...]


def paraphrases(
    candidates: Sequence[Candidate],
    forbidden: Sequence[str],
    *,
    cut: float = CUT,
    stop: threading.Event | None = None,
) -> tuple[Paraphrase, ...]:
    """The candidates that paraphrase a forbidden prompt; waits for a child process.

    A core embeds some 40 prompts a second. Raises ChildFailed when it did not end well, and
    Unavailable when `stop` was set.
    """
    if not candidates or not forbidden:
        return ()
    question = Question(candidates=tuple(candidates), forbidden=tuple(forbidden), cut=cut)
    seconds = SECONDS + SECONDS_EACH * (len(candidates) + len(forbidden))
    found = ask("converters.decontamination", question, Answer, seconds=seconds, stop=stop)
    return found.paraphrases


def answer(question: Question, embed: Embed) -> Answer:
    """The same in this process, by any embedding that gives unit vectors."""
    return Answer(paraphrases=tuple(_found(question, embed)))


def _found(question: Question, embed: Embed) -> Iterator[Paraphrase]:
    forbidden = embed(question.forbidden)
    for at in range(0, len(question.candidates), CHUNK):
        some = question.candidates[at : at + CHUNK]
        similarities = embed([candidate.prompt for candidate in some]) @ forbidden.T
        nearest = similarities.argmax(axis=1)
        for place in np.flatnonzero(similarities.max(axis=1) >= question.cut):
            yield Paraphrase(
                id=some[place].id,
                prompt=some[place].prompt,
                of=question.forbidden[nearest[place]],
                similarity=round(float(similarities[place, nearest[place]]), 3),
            )


# --- the process --------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Answers the question on stdin; the exit code is 1 where it could not."""
    parser = argparse.ArgumentParser(
        prog="python -m converters.decontamination",
        description="Finds prompts that paraphrase others; the build of a dataset asks it to.",
    )
    parser.add_argument("--json", action="store_true", help="JSON in, JSON out: the only way")
    parser.parse_args(arguments)
    os.nice(NICENESS)
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    try:
        from scorers.embedding import encoder  # here: who asks must not load torch

        found = answer(question, encoder().embed)
    except BhavanaError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(to_json(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
