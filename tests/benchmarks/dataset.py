"""Building a dataset from a store of a million, beside plain sqlite3 and orjson on the same rows.

`python -m tests.benchmarks.dataset ours|bare STORE END EARLIER FOLDER` measures one of them in its
own process and prints how long it took, in seconds of the clock and of the processor, and its peak
memory in MB.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from converters import dataset as datasets
from converters.selection import Asked
from store.engine import sqlite_module
from store.events import Store
from store.records import Policy
from tests.benchmarks.figures import Figure, Missing, figure, interleaved
from tests.benchmarks.near import ROOT, peak_mb
from tests.benchmarks.samples import MOMENT
from tests.benchmarks.traffic import PANEL, fill
from trainer.gates import all_texts

COUNT = 1_000_000
POLICY = Policy(near_duplicate=0.0, paraphrase=0.0)
"""The default, without comparing each text with all others and without a model."""
LEAST_RATE = 50_000
LEAST_SHARE = 0.4
MOST_MB = 500
ALL = """
    SELECT e.position, e.id, e.source, e.conversation, e.subject, e.consented, e.withheld,
        e.category, e.difficulty, a.actual_harm, a.weighted, a.label, a.abstained, a.doubted,
        a.unfit, a.refusal, v.body
    FROM assessments a
    JOIN experiences e ON e.position = a.experience
    JOIN events v ON v.position = e.position
    WHERE a.panel = ? AND a.experience <= ?
    ORDER BY a.experience"""
CHOSEN = "chosen.json"


class Run(NamedTuple):
    """What one process measured of itself."""

    seconds: float
    processor_seconds: float
    peak_mb: float


def dataset(folder: Path) -> list[Figure]:
    """Rows of the store a second, and memory, of selecting and writing chat JSONL."""
    if not _has_orjson():
        raise Missing("orjson is not installed: it is in the extra `dev`")
    store = folder / "store.db"
    traffic = fill(store, COUNT)
    small = [_measured("ours", store, traffic.quarter, traffic.quarter // 2, folder)()]
    ours, bare = interleaved(
        _measured("ours", store, traffic.end, traffic.half, folder),
        _measured("bare", store, traffic.end, traffic.half, folder),
    )
    return figures(small, ours, bare)


def figures(small: list[Run], ours: list[Run], bare: list[Run]) -> list[Figure]:
    """The bars that were asked, of runs at a quarter of the store and at all of it."""
    plain = "sqlite3 and orjson"
    return [
        figure(
            f"dataset of {COUNT:,}, by the clock",
            "rows/s",
            [COUNT / run.seconds for run in ours],
            plain,
            [COUNT / run.seconds for run in bare],
            asked="ratio >=",
            bar=LEAST_SHARE,
        ),
        figure(
            "the same for a core",
            "rows/s",
            [COUNT / run.processor_seconds for run in ours],
            plain,
            [COUNT / run.processor_seconds for run in bare],
            asked="ours >=",
            bar=LEAST_RATE,
        ),
        figure(
            "its peak memory",
            "MB",
            [run.peak_mb for run in ours],
            f"at {COUNT // 4:,}",
            [run.peak_mb for run in small],
            asked="ours <=",
            bar=MOST_MB,
        ),
    ]


def _has_orjson() -> bool:
    try:
        import orjson  # noqa: F401
    except ImportError:
        return False
    return True


def _measured(what: str, store: Path, end: int, earlier: int, folder: Path) -> Callable[[], Run]:
    calls = itertools.count()

    def run() -> Run:
        place = folder / f"{what}-{end}-{next(calls)}"
        arguments = [what, str(store), str(end), str(earlier), str(place)]
        ran = subprocess.run(
            [sys.executable, "-m", __name__, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        return Run(*map(float, ran.stdout.split()))

    return run


def build(store: Path, end: int, earlier: int, folder: Path) -> None:
    """The dataset as of a position, after an earlier one, as a cycle builds it."""
    asked = Asked(
        policy=POLICY,
        panel=PANEL,
        as_of=end,
        moment=MOMENT,
        ends=(earlier,),
        forbidden=tuple(all_texts()),
    )
    with Store(f"sqlite:///{store}") as opened:
        made = datasets.build(opened, folder / "built", asked, dataset_id="d", cycle_id="c")
    (folder.parent / CHOSEN).write_bytes(msgspec.json.encode(made.members))


def read_and_write(store: Path, end: int, folder: Path, chosen: set[int]) -> None:
    """The reference: every row's columns and body, parsed, and the chosen ones' chat rows.

    One query joins experiences, assessments and the log up to the position; orjson parses each
    body; the chat row of what the build before it chose is made of it, serialized and written
    into one file, which is synced. Nothing is decided, compared, counted, split or hashed.
    """
    import orjson

    connection = sqlite_module().connect(f"file:{store}?mode=ro", uri=True)
    with (folder / "rows.jsonl").open("wb", buffering=1 << 20) as file:
        for row in connection.execute(ALL, (PANEL, end)):
            told = orjson.loads(row[-1])
            if row[0] not in chosen:
                continue
            line = {
                "id": told["id"],
                "conversation": told["conversation_id"] or told["id"],
                "messages": [
                    *told["messages"],
                    {"role": "assistant", "content": told["response"]},
                ],
                "source": told["source"],
                "category": told["context"]["category"] or "",
                "difficulty": told["context"]["difficulty"] or "",
            }
            file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        file.flush()
        os.fsync(file.fileno())
    connection.close()


def main(what: str, store: str, end: str, earlier: str, folder: str) -> None:
    """Measures in this process."""
    place = Path(folder)
    place.mkdir()
    work: Callable[[], None]
    if what == "ours":
        work = lambda: build(Path(store), int(end), int(earlier), place)  # noqa: E731
    else:
        chosen = set(msgspec.json.decode((place.parent / CHOSEN).read_bytes()))
        work = lambda: read_and_write(Path(store), int(end), place, chosen)  # noqa: E731
    started, used = time.perf_counter(), time.process_time()
    work()
    print(time.perf_counter() - started, time.process_time() - used, peak_mb())


if __name__ == "__main__":
    main(*sys.argv[1:])
