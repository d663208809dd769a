"""What each role does with every task: from the cache, or asked by as many processes as there are.

What a model did is cached by the hashes of base, adapter, suite and sampling, so the base is asked
once, not every cycle. Two processes with a thread each ask a small model faster than one with two.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import version
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import msgspec
import torch

from store.errors import IntegrityError, Unavailable
from store.orphans import PARENT_VARIABLE, end_without_parent
from store.records import Noun, digest
from trainer.adapter import adapter_hash
from trainer.answers import BATCH_SIZE
from trainer.base import Base
from trainer.gates import tasks
from trainer.gates.sample import read_suite, suite_hash
from trainer.gates.task import Task
from trainer.job import write_atomically
from trainer.jobs import EvaluateJob, Observation
from trainer.model import load, materialise, speaking_dtype
from trainer.solvers import MAX_LENGTH, READ_TOGETHER, solve

ASKING = [BATCH_SIZE, READ_TOGETHER, MAX_LENGTH, version("torch"), version("transformers")]
"""What else an observation depends on: cached ones are used only where all of it is the same."""
MOST_PROCESSES = 4
NEEDS = 3
"""A process needs so many times the bytes of the base's weights in a file."""
TOKENS_TO_READ = 8
"""A sample that is read takes about as long as so many tokens of a reply."""
Beat = Callable[[str, int, int], None]
"""Told what is being asked, how much is done, and of how much."""


class Crew(Noun, frozen=True, kw_only=True):
    """By how many processes models are asked, and with how many threads each.

    In bfloat16 a third of the answers are others with other threads, so these are the machine's
    and the job's, and do not change with the memory that is free.
    """

    processes: int
    threads: int


class _Part(Noun, frozen=True, kw_only=True):
    """One role and one task: what a process asks at a time."""

    role: str
    adapter: str | None
    task: str
    path: str
    """Where what was observed is kept."""
    samples: int
    cost: int


def observe(
    job: EvaluateJob, roles: Mapping[str, Path | None], beat: Beat
) -> dict[str, dict[str, list[Observation]]]:
    """Observations by role and task; none of a task whose suite cannot be read.

    Killed and begun again it goes on with what is not kept yet. Raises Unavailable where a process
    that asks was killed.
    """
    crew = crew_for(job)
    by_path: dict[str, _Part] = {}  # where two roles are the same model it is asked once
    for role, adapter in roles.items():
        for part in sorted(_parts(job, crew, role, adapter), key=lambda part: -part.cost):
            by_path.setdefault(part.path, part)
    wanted = list(by_path.values())
    if wanted:
        beat("loading", 0, sum(part.samples for part in wanted))
        _ask_all(job, crew, wanted, beat)
    return {
        role: {task.name: _kept(_path(job, crew, adapter, task)) for task in tasks()}
        for role, adapter in roles.items()
    }


def crew_for(job: EvaluateJob) -> Crew:
    """The crew that this machine and this job make, but for memory."""
    threads = torch.get_num_threads()
    alone = 1 if torch.cuda.is_available() else min(threads, MOST_PROCESSES)
    processes = job.processes or alone
    return Crew(processes=processes, threads=max(1, threads // processes))


def _parts(job: EvaluateJob, crew: Crew, role: str, adapter: Path | None) -> Iterable[_Part]:
    for task in tasks():
        path = _path(job, crew, adapter, task)
        if path is None or path.is_file():
            continue
        samples = len(read_suite(task.suite)) * task.epochs
        tokens = task.max_new_tokens or job.sampling.max_new_tokens
        yield _Part(
            role=role,
            adapter=None if adapter is None else str(adapter),
            task=task.name,
            path=str(path),
            samples=samples,
            cost=samples * (tokens if task.solver == "generate" else TOKENS_TO_READ),
        )


def _path(job: EvaluateJob, crew: Crew, adapter: Path | None, task: Task) -> Path | None:
    """Where the cache keeps it; None where the suite cannot be read: its gates will say so."""
    try:
        read_suite(task.suite)
    except IntegrityError:
        return None
    key = digest(
        [
            job.base.hash,
            None if adapter is None else adapter_hash(adapter),
            [task.solver, task.max_new_tokens, task.epochs],
            suite_hash(task.suite),
            job.sampling if task.solver == "generate" else None,
            [*ASKING, str(speaking_dtype()), crew.threads],
        ]
    )
    return Path(job.cache) / "observations" / f"{key[:32]}.jsonl"


def _kept(path: Path | None) -> list[Observation]:
    if path is None:
        return []
    return msgspec.json.Decoder(Observation).decode_lines(path.read_bytes())


def _ask_all(job: EvaluateJob, crew: Crew, wanted: list[_Part], beat: Beat) -> None:
    total, done = sum(part.samples for part in wanted), 0

    def told(part: _Part, more: int) -> None:
        nonlocal done
        done += more
        beat(f"{part.role}: {part.task}", done, total)

    processes = min(crew.processes, len(wanted), job.processes or _that_fit(job))
    if processes > 1:
        _ask_apart(job, wanted, processes, crew.threads, told)
        return
    before = torch.get_num_threads()
    torch.set_num_threads(crew.threads)
    try:
        for part in wanted:
            _ask(job, part, told)
    finally:
        _held.clear()
        torch.set_num_threads(before)


def _ask(job: EvaluateJob, part: _Part, told: Callable[[_Part, int], None]) -> None:
    task = next(task for task in tasks() if task.name == part.task)
    before = 0

    def progress(done: int, _: int) -> None:
        nonlocal before
        told(part, done - before)
        before = done

    adapter = None if part.adapter is None else Path(part.adapter)
    model, tokenizer = _loaded(job.base, Path(job.cache), adapter)
    observed = solve(model, tokenizer, task, read_suite(task.suite), job.sampling, progress)
    path = Path(part.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, msgspec.json.Encoder().encode_lines(observed))


_held: dict[Path | None, tuple[Any, Any]] = {}
"""The model that was asked last, by its adapter. A cache would hold two while it loads."""


def _loaded(base: Base, cache: Path, adapter: Path | None) -> tuple[Any, Any]:
    if adapter not in _held:
        _held.clear()
        _held[adapter] = load(base, cache, adapter)
    return _held[adapter]


# --- by several processes -----------------------------------------------------------------


def _that_fit(job: EvaluateJob) -> int:
    """So many processes the memory holds that is free; one at least."""
    folder = materialise(job.base, Path(job.cache))
    each = NEEDS * sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, free // each)


def _ask_apart(
    job: EvaluateJob,
    wanted: list[_Part],
    processes: int,
    threads: int,
    told: Callable[[_Part, int], None],
) -> None:
    context = get_context("spawn")
    heard: SimpleQueue[tuple[_Part, int]] = context.SimpleQueue()
    os.environ[PARENT_VARIABLE] = str(os.getpid())  # they end when this process does
    pool = ProcessPoolExecutor(processes, context, _begin, (heard, threads))
    try:
        pending: set[Future[None]] = {pool.submit(_ask_in_child, job, part) for part in wanted}
        while pending:
            ended, pending = wait(pending, timeout=1, return_when=FIRST_COMPLETED)
            for future in ended:
                future.result()
            while not heard.empty():
                told(*heard.get())
    except BrokenProcessPool as fault:
        raise Unavailable(
            "A process that asks a model was killed, perhaps for want of memory.",
            hint="What was answered is kept. Set trainer.evaluation_processes to 1.",
        ) from fault
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(heard: SimpleQueue[tuple[_Part, int]], threads: int) -> None:
    global _tell
    end_without_parent()
    torch.set_num_threads(threads)
    _tell = heard


_tell: SimpleQueue[tuple[_Part, int]]


def _ask_in_child(job: EvaluateJob, part: _Part) -> None:
    _ask(job, part, lambda part, more: _tell.put((part, more)))
