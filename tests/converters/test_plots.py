"""The picture of a dataset: there, whole, repeatable, and it shows what was counted."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from converters.plots import NAME, draw
from converters.rows import ROW

FUNNEL = {"recorded": 9, "without_consent": 4, "burst": 0, "selected": 5}
DRAW = """
import sys, numpy as np
from pathlib import Path
from converters.plots import draw
from converters.rows import ROW
rows = np.zeros(3, ROW)
rows["chars"] = [1, 5, 900]
draw(Path(sys.argv[1]), rows, funnel={"recorded": 3}, categories={"": 3})
"""


@pytest.mark.parametrize("count", [0, 1, 500])
def test_any_number_of_rows_can_be_drawn(tmp_path, count):
    """None and one, too, and rows of which no harm is known."""
    rows = np.zeros(count, ROW)
    rows["weighted"] = np.linspace(0, 10, count)
    rows["harm"] = np.where(np.arange(count) % 2, np.nan, 0.2)
    rows["chars"] = np.arange(count)
    draw(tmp_path, rows, funnel=FUNNEL, categories={"truth": count, "": 0})
    image = (tmp_path / NAME).read_bytes()
    assert image.startswith(b"\x89PNG")
    assert image.endswith(b"IEND\xaeB`\x82")


def test_other_numbers_are_another_picture(tmp_path):
    """And the same ones the same."""
    pictures = []
    for place, dropped in enumerate((4, 4, 5)):
        folder = tmp_path / str(place)
        folder.mkdir()
        funnel = FUNNEL | {"without_consent": dropped}
        draw(folder, np.zeros(5, ROW), funnel=funnel, categories={"": 5})
        pictures.append((folder / NAME).read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


def test_another_process_draws_the_same_bytes(tmp_path):
    """Neither time nor the seed of hashes is in them."""
    pictures = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        environment = os.environ | {"PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", DRAW, folder], env=environment, check=True)
        pictures.append((folder / NAME).read_bytes())
    assert pictures[0] == pictures[1]
