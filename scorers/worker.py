"""The scoring process: `python -m scorers.worker [NAME…]`, fed by scorers.assess over a pipe.

Names are of scorers on the roster: without any, all of them.

Protocol, one JSON document per line: first PanelSettings, then Experiences; an empty line ends a
batch, and the worker answers one Assessment per experience, in order, and flushes. It ends when
stdin ends, so it cannot outlive its parent. It knows no store.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import IO

import msgspec
import torch

from scorers import SCORERS
from scorers.assess import BATCH, PanelSettings, combine, panel_id
from scorers.scorer import Scorer
from store.errors import BhavanaError
from store.records import Assessment, Experience, Finding, to_json


def assess(
    experiences: list[Experience], panel: list[Scorer], settings: PanelSettings, name: str
) -> list[Assessment]:
    """One assessment per experience, in order, by every scorer of the panel."""
    findings: list[list[Finding]] = [[] for _ in experiences]
    for scorer in panel:
        for collected, found in zip(findings, scorer.score(experiences), strict=True):
            collected.extend(found)
    return [
        combine(experience, found, settings, name)
        for experience, found in zip(experiences, findings, strict=True)
    ]


def batches(lines: IO[bytes]) -> Iterator[list[Experience]]:
    """Batches as they come: up to an empty line, the end, or as many as fit in memory."""
    batch: list[Experience] = []
    for line in lines:
        if line.strip():
            batch.append(msgspec.json.decode(line, type=Experience))
        if batch and (not line.strip() or len(batch) == BATCH):
            yield batch
            batch = []
    if batch:
        yield batch


def serve(lines: IO[bytes], answers: IO[bytes], names: Sequence[str] = ()) -> int:
    """Answers until the lines end; returns how many experiences it assessed."""
    first = lines.readline()
    if not first:
        return 0
    settings = msgspec.json.decode(first, type=PanelSettings)
    name = panel_id(settings)
    panel = [entry.load() for key, entry in SCORERS.items() if not names or key in names]
    served = 0
    for batch in batches(lines):
        for assessment in assess(batch, panel, settings, name):
            answers.write(to_json(assessment) + b"\n")
        answers.flush()
        served += len(batch)
    return served


def main() -> int:
    """Serves stdin; returns the exit code."""
    torch.set_num_threads(os.cpu_count() or 1)
    started = time.monotonic()
    try:
        served = serve(sys.stdin.buffer, sys.stdout.buffer, sys.argv[1:])
    except BhavanaError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except msgspec.MsgspecError as error:
        print(f"A line is not what the protocol asks for: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 3  # the parent is gone, and with it whoever would read the answers
    print(f"worker_ended served={served} seconds={time.monotonic() - started:.1f}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
