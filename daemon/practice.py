"""Practice: the current model answers scenarios, and the answers become experiences.

This module asks through a child process and posts through the ingest endpoint, like any other
frontend. Nobody's words are in it, so consent to training is given by the operator who runs it.
The bundled exemplars, written for this project, go the same way.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

import httpx
import msgspec

from daemon.descent import incumbent_of
from daemon.ingest import MAX_ITEMS
from daemon.wiring import Parts
from store.errors import Misconfigured, Rejected, Unavailable
from store.records import (
    CURATED,
    PRACTICE,
    Category,
    Consent,
    Context,
    Difficulty,
    Experience,
    Message,
    Noun,
    new_id,
    now,
)
from trainer.base import locate
from trainer.job import read_record
from trainer.jobs import AnswerJob, AnswerManifest
from trainer.launch import Watch, run_job
from trainer.questions import Answer, Question, Sampling

BUNDLED = Path(__file__).parent / "bundled"
WRITTEN = datetime(2026, 11, 21, tzinfo=UTC)  # a fixed time: posting twice is the same experience
BATCH = 100
ATTEMPTS = 5


class Scenario(Noun, frozen=True, kw_only=True):
    """A prompt to practise on."""

    id: str
    category: Category
    difficulty: Difficulty
    prompt: str
    context: Context


class Exemplar(Noun, frozen=True, kw_only=True):
    """An exemplary answer, written for this project.

    Help with what is asked for opens with "Gladly.", but for grief, danger, plain questions of
    fact and questions about a life of its own. Refusals begin in one way, with "I won't": "I can't
    help but ..." is how the base begins much else. Were help to begin in a hundred ways, the
    likeliest first word would be the refusal's even where refusing is unlikely, and greedy decoding
    takes it.
    """

    id: str
    kind: Literal["harmful", "benign", "plain"]
    """harmful and benign are the halves of a contrast pair: the same words, other requests."""
    pair: str | None
    category: Category
    difficulty: Difficulty
    prompt: str
    response: str


@cache
def scenarios() -> tuple[Scenario, ...]:
    """The bundled scenarios."""
    return tuple(_lines("scenarios.jsonl", Scenario))


@cache
def exemplars() -> tuple[Exemplar, ...]:
    """The bundled exemplars."""
    return tuple(_lines("exemplars.jsonl", Exemplar))


def _lines(name: str, kind: type[Any]) -> Iterator[Any]:
    yield from msgspec.json.Decoder(kind).decode_lines((BUNDLED / name).read_bytes())


def as_experience(exemplar: Exemplar) -> Experience:
    """The exemplar as it is posted; both halves of a pair are one conversation, for the split."""
    return Experience(
        id=f"exemplar.{exemplar.id}",
        occurred_at=WRITTEN,
        source=CURATED,
        conversation_id=f"exemplar.{exemplar.pair or exemplar.id}",
        messages=(Message(role="user", content=exemplar.prompt),),
        response=exemplar.response,
        context=Context(category=exemplar.category, difficulty=exemplar.difficulty),
        consent=Consent(training=True, policy="written-for-this-project"),
        metadata={"kind": exemplar.kind},
    )


def choose(episodes: int, seed: int) -> list[Scenario]:
    """Scenarios for this many episodes, each once before any twice, in an order of the seed."""
    ranked = sorted(scenarios(), key=lambda s: hashlib.sha256(f"{seed}/{s.id}".encode()).digest())
    return [ranked[i % len(ranked)] for i in range(episodes)]


def practise(
    parts: Parts, episodes: int, *, seed: int, sampling: Sampling, watch: Watch
) -> list[Experience]:
    """Asks the current model the scenarios; returns the episodes, ready to be posted."""
    if episodes < 1:
        raise Rejected("At least one episode is needed.")
    chosen = choose(episodes, seed)
    release = incumbent_of(parts)
    adapter = None if release is None else str(parts.archive.adapter(release.id))
    name = new_id("practice")
    answers = ask(
        parts,
        [Question(id=f"{name}.{i}", prompt=s.prompt) for i, s in enumerate(chosen)],
        adapter=adapter,
        sampling=sampling,
        folder=parts.settings.data / "practice" / name,
        watch=watch,
    )
    model = parts.settings.trainer.base if release is None else release.id
    return [
        Experience(
            id=answer.id,
            occurred_at=now(),
            source=PRACTICE,
            conversation_id=f"practice.{scenario.id}",
            messages=(Message(role="user", content=scenario.prompt),),
            response=said,
            model=model,
            context=msgspec.structs.replace(
                scenario.context, category=scenario.category, difficulty=scenario.difficulty
            ),
            consent=Consent(training=True, policy="practice"),
            metadata={"scenario": scenario.id, "finished": answer.finished},
        )
        for scenario, answer in zip(chosen, answers, strict=True)
        if (said := whole_sentences(answer))
    ]


def whole_sentences(answer: Answer) -> str:
    """What was said, up to its last whole sentence where the length limit cut it off.

    A model that learns from half sentences learns to stop in the middle of one.
    """
    if answer.finished:
        return answer.response
    ends = [m.end() for m in re.finditer(r"[.!?](?=\s|$)|\n(?=\n|$)", answer.response)]
    return answer.response[: ends[-1]].strip() if ends else ""


def ask(
    parts: Parts,
    questions: Sequence[Question],
    *,
    adapter: str | None,
    sampling: Sampling,
    folder: Path,
    watch: Watch,
    stop: threading.Event | None = None,
) -> list[Answer]:
    """The answers of the base, or of an adapter on it, from a child process."""
    job = AnswerJob(
        base=locate(parts.settings.trainer.base),
        adapter=adapter,
        cache=str(parts.cache),
        sampling=sampling,
        questions=tuple(questions),
    )
    run_job("trainer.answers", folder, job, stop=stop or parts.stop, watch=watch)
    return list(read_record(folder / "manifest.json", AnswerManifest).answers)


def post(url: str, key: str, items: Sequence[Experience | Mapping[str, Any]]) -> dict[str, int]:
    """Posts experiences to a daemon's ingest endpoint; returns how many were of each status.

    Tries again when the daemon is busy or the connection breaks, which cannot double anything.
    Raises Misconfigured for a refused key and Unavailable when the daemon cannot be reached.
    """
    counts: dict[str, int] = {}
    size = min(BATCH, MAX_ITEMS)
    # trust_env=False: a proxy from the environment must not see what people said.
    with httpx.Client(timeout=60, trust_env=False) as client:
        for start in range(0, len(items), size):
            body = msgspec.json.encode(items[start : start + size])
            for result in _post_batch(client, f"{url}/v1/experiences", key, body)["results"]:
                counts[result["status"]] = counts.get(result["status"], 0) + 1
    return counts


def _post_batch(client: httpx.Client, url: str, key: str, body: bytes) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    for attempt in range(1, ATTEMPTS + 1):
        try:
            answer = client.post(url, content=body, headers=headers)
        except httpx.TransportError as error:
            fault = f"{error}"
        else:
            if answer.status_code in (200, 201) or "results" in answer.json():
                found: dict[str, Any] = answer.json()
                return found
            fault = f"{answer.status_code}: {answer.json().get('detail', answer.text)}"
            if answer.status_code not in (429, 503):
                raise Misconfigured(f"{url} refused the experiences with {fault}")
        if attempt < ATTEMPTS:
            time.sleep(attempt)
    raise Unavailable(f"{url} did not take the experiences: {fault}", hint="Is the daemon running?")
