"""Near-duplicate groups of many texts, beside hashing the same texts.

`python -m tests.benchmarks.near groups|sha256 COUNT` measures one of them in its own process and
prints texts a second, and by how many MB the process grew.
"""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from converters.near import groups
from tests.benchmarks.figures import REPEATS, Figure, figure, interleaved

COUNT, MANY = 50_000, 1_000_000
MOST_MB = 4_000
WORDS = 80
"""In a text: a question of some 60 characters and an answer of some 400."""
ROOT = Path(__file__).resolve().parents[2]


def near(folder: Path) -> list[Figure]:
    """Rate and memory of `converters.near.groups`, beside keeping a digest of the same texts."""
    return _figures(COUNT, REPEATS)


def near_large(folder: Path) -> list[Figure]:
    """The same of a million, once, within the memory that was asked."""
    return _figures(MANY, 1)


def _figures(count: int, repeats: int) -> list[Figure]:
    ours, bare = interleaved(
        _measured("groups", count), _measured("sha256", count), repeats=repeats
    )
    name = "hashlib.sha256 of each"
    return [
        figure(
            f"near-duplicate groups of {count:,}",
            "texts/s",
            [run[0] for run in ours],
            name,
            [run[0] for run in bare],
        ),
        figure(
            f"memory that {count:,} take",
            "MB",
            [run[1] for run in ours],
            name,
            [run[1] for run in bare],
            asked="ours <=",
            bar=MOST_MB,
        ),
    ]


def texts(count: int) -> Iterator[str]:
    """Made-up texts, every tenth of them an earlier one with a word changed."""
    draw = random.Random(1)
    words = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 8))) for _ in range(20_000)]
    earlier = draw.choices(words, k=WORDS)
    for n in range(count):
        if n % 10:
            text = draw.choices(words, k=WORDS)
        else:
            text = list(earlier)
            text[draw.randrange(WORDS)] = "changed"
        if n % 100 == 1:
            earlier = text
        yield " ".join(text)


def _measured(what: str, count: int) -> Callable[[], tuple[float, float]]:
    def run() -> tuple[float, float]:
        ran = subprocess.run(
            [sys.executable, "-m", __name__, what, str(count)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        rate, grown = ran.stdout.split()
        return float(rate), float(grown)

    return run


def peak_mb() -> float:
    """This process's own; what getrusage tells begins with the one that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _hashed(some: Iterable[str]) -> list[bytes]:
    return [hashlib.sha256(text.encode()).digest() for text in some]


def main(what: str, count: int) -> None:
    """Measures in this process."""
    work: Callable[[Iterable[str]], object] = groups if what == "groups" else _hashed
    work(texts(10))  # what is made once
    made = list(texts(count))
    before = peak_mb()
    started = time.perf_counter()
    work(made)
    print(count / (time.perf_counter() - started), peak_mb() - before)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
