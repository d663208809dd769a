"""The scoring process: `python -m scorers.worker [--patient]`, fed by scorers.assess over a pipe.

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

from scorers import chosen
from scorers.assess import BATCH, TRY_LATER
from scorers.panel import combine, panel_id
from scorers.scorer import Scorer
from scorers.settings import PanelSettings
from store.errors import BhavanaError, Unavailable
from store.records import Assessment, Experience, Finding, to_json

NICENESS = 10
"""Of a patient worker, as of training: ingestion goes first."""


class Panel:
    """The scorers at work: the cheap ones, and the dear ones that are asked about some only."""

    def __init__(self, settings: PanelSettings) -> None:
        """Loads every scorer. Raises Misconfigured, IntegrityError."""
        self.id = panel_id(settings)
        self._settings = settings
        entries = chosen(settings).values()
        self._cheap = [entry.load(settings) for entry in entries if not entry.dear]
        self._dear = [entry.load(settings) for entry in entries if entry.dear]

    def assess(self, experiences: Sequence[Experience]) -> list[Assessment]:
        """One assessment per experience, in order."""
        findings: list[list[Finding]] = [[] for _ in experiences]
        _collect(self._cheap, experiences, findings)
        if self._dear:
            screened = self._combined(experiences, findings)
            asked = [at for at, one in enumerate(screened) if _is_asked(one, self._settings)]
            some = [findings[at] for at in asked]
            _collect(self._dear, [experiences[at] for at in asked], some)
        return self._combined(experiences, findings)

    def _combined(
        self, experiences: Sequence[Experience], findings: Sequence[Sequence[Finding]]
    ) -> list[Assessment]:
        return [
            combine(experience, found, self._settings, self.id)
            for experience, found in zip(experiences, findings, strict=True)
        ]


def _collect(
    scorers: Sequence[Scorer], experiences: Sequence[Experience], findings: list[list[Finding]]
) -> None:
    for scorer in scorers:
        for collected, found in zip(findings, scorer.score(experiences), strict=True):
            collected.extend(found)


def _is_asked(screened: Assessment, settings: PanelSettings) -> bool:
    """Whether the dear scorers are asked: for what is suspicious, or may be learned from."""
    cascade = settings.cascade
    if cascade.all or screened.actual_harm is None or screened.weighted is None:
        return True
    suspicious = screened.actual_harm >= cascade.harm_from
    return suspicious or screened.weighted >= cascade.weighted_from


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


def serve(lines: IO[bytes], answers: IO[bytes]) -> int:
    """Answers until the lines end; returns how many experiences it assessed."""
    first = lines.readline()
    if not first:
        return 0
    settings = msgspec.json.decode(first, type=PanelSettings)
    panel = Panel(settings)
    served = 0
    for batch in batches(lines):
        for assessment in panel.assess(batch):
            answers.write(to_json(assessment) + b"\n")
        answers.flush()
        served += len(batch)
    return served


def main() -> int:
    """Serves stdin; returns the exit code."""
    if "OMP_NUM_THREADS" not in os.environ:  # else somebody has said how many
        torch.set_num_threads(os.cpu_count() or 1)
    if "--patient" in sys.argv[1:]:
        os.nice(NICENESS)
    started = time.monotonic()
    try:
        served = serve(sys.stdin.buffer, sys.stdout.buffer)
    except Unavailable as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return TRY_LATER
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
