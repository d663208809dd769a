"""A dataset from a store of a million, and another policy tried on it, beside plain sqlite3.

`python -m tests.benchmarks.dataset WHAT STORE END EARLIER FOLDER` measures one of WORK in its own
process and prints how long it took, in seconds of the clock and of the processor, and its peak
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
from converters.tryout import try_policy
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
TRIED = msgspec.structs.replace(POLICY, max_harm=0.2, min_weighted=7.0)
MOST_SECONDS = 2.0
ALL = """
    SELECT e.position, e.id, e.source, e.conversation, e.subject, e.consented, e.withheld,
        e.category, e.difficulty, a.actual_harm, a.weighted, a.label, a.abstained, a.doubted,
        a.unfit, a.refusal, v.body
    FROM assessments a
    JOIN experiences e ON e.position = a.experience
    JOIN events v ON v.position = e.position
    WHERE a.panel = ? AND a.experience <= ?
    ORDER BY a.experience"""
COLUMNS = """
    SELECT count(*), sum(e.consented), sum(e.withheld), sum(a.actual_harm), sum(a.weighted),
        sum(a.abstained), sum(a.doubted), sum(a.unfit), sum(a.refusal), count(a.label)
    FROM assessments a
    JOIN experiences e ON e.position = a.experience
    WHERE a.panel = ? AND a.experience <= ?"""
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
    tried, columns = interleaved(
        _measured("try", store, traffic.end, traffic.half, folder),
        _measured("columns", store, traffic.end, traffic.half, folder),
    )
    return [*figures(small, ours, bare), tryout(tried, columns)]


def tryout(ours: list[Run], bare: list[Run]) -> Figure:
    """The bar that was asked of trying a policy."""
    return figure(
        f"policy tried on {COUNT:,}",
        "s",
        [run.seconds for run in ours],
        "sqlite3 adding up its columns",
        [run.seconds for run in bare],
        asked="ours <=",
        bar=MOST_SECONDS,
    )


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


def _asked(end: int, earlier: int) -> Asked:
    return Asked(
        policy=POLICY,
        panel=PANEL,
        as_of=end,
        moment=MOMENT,
        ends=(earlier,),
        forbidden=tuple(all_texts()),
    )


def build(store: Path, end: int, earlier: int, folder: Path) -> None:
    """The dataset as of a position, after an earlier one, as a cycle builds it."""
    asked = _asked(end, earlier)
    with Store(f"sqlite:///{store}") as opened:
        made = datasets.build(opened, folder / "built", asked, dataset_id="d", cycle_id="c")
    (folder.parent / CHOSEN).write_bytes(msgspec.json.encode(made.members))


def try_another(store: Path, end: int, earlier: int, _: Path) -> None:
    """What another policy would change, as the command and the endpoint tell it."""
    with Store(f"sqlite:///{store}") as opened:
        try_policy(opened, _asked(end, earlier), TRIED)


def add_up(store: Path, end: int, _earlier: int, _folder: Path) -> None:
    """The reference: the columns that the steps go by, read and added up, nothing decided."""
    connection = sqlite_module().connect(f"file:{store}?mode=ro", uri=True)
    connection.execute(COLUMNS, (PANEL, end)).fetchall()
    connection.close()


def read_and_write(store: Path, end: int, _: int, folder: Path) -> None:
    """The reference: every row's columns and body, parsed, and the chosen ones' chat rows.

    One query joins experiences, assessments and the log up to the position; orjson parses each
    body; the chat row of what the build before it chose is made of it, serialized and written
    into one file, which is synced. Nothing is decided, compared, counted, split or hashed.
    """
    import orjson

    chosen = set(msgspec.json.decode((folder.parent / CHOSEN).read_bytes()))
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


WORK: dict[str, Callable[[Path, int, int, Path], None]] = {
    "ours": build,
    "bare": read_and_write,
    "try": try_another,
    "columns": add_up,
}


def main(what: str, store: str, end: str, earlier: str, folder: str) -> None:
    """Measures in this process."""
    place = Path(folder)
    place.mkdir()
    started, used = time.perf_counter(), time.process_time()
    WORK[what](Path(store), int(end), int(earlier), place)
    print(time.perf_counter() - started, time.process_time() - used, peak_mb())


if __name__ == "__main__":
    main(*sys.argv[1:])
