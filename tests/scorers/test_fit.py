"""The fit: the same data give the same weights, and missing data are named."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from scorers import fit, fitting, heads, labelled

ROOT = Path(__file__).resolve().parents[2]
LAST_DIGITS = 5e-5
SHARED = Path(os.environ.get("BHAVANA_SHARED", ROOT.parent / "shared"))


def test_says_which_folder_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without data the command names the folder and ends with 1."""
    assert fit.main(["--data", str(tmp_path / "nowhere")]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_says_which_set_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a folder but without a set, the command names the set."""
    assert fit.main(["--data", str(tmp_path)]) == 1
    assert "harmbench_response" in capsys.readouterr().err


def test_cells_weigh_alike() -> None:
    """A set with a thousand rows teaches no louder than one with ten."""
    rows = [labelled.Example("p", "r", 1, "large")] * 9 + [labelled.Example("p", "r", 1, "small")]
    rows += [labelled.Example("p", "r", 0, "plain")] * 5
    weights = fitting.weigh(rows, prior=0.5)
    assert weights[:9].sum() == pytest.approx(weights[9])
    assert weights[:10].sum() == pytest.approx(weights[10:].sum())


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="the labelled data are not here")
def test_fits_the_shipped_weights_again(tmp_path: Path) -> None:
    """A refit with the same data gives what is shipped, to the fifth digit that is written.

    Another processor adds in another order, so the last digit may be another there.
    """
    cache = os.environ.get("BHAVANA_FIT_CACHE", str(tmp_path / "cache"))
    arguments = ["--data", str(SHARED / "data"), "--weights", str(tmp_path / "w"), "--cache", cache]
    assert fit.main(arguments) == 0
    for path in heads.WEIGHTS.glob("*.json"):
        again = tmp_path / "w" / path.name
        assert _described(again) == _described(path)
        fitted, shipped = _weights(again), _weights(path)
        assert fitted.keys() == shipped.keys()
        for name, values in shipped.items():
            assert fitted[name] == pytest.approx(values, abs=LAST_DIGITS), (path.name, name)


def _weights(path: Path) -> dict[str, Any]:
    return load_file(path.with_suffix(".safetensors"))


def _described(path: Path) -> dict[str, Any]:
    """What the file says of the weights, but for digests of them."""
    told: dict[str, Any] = json.loads(path.read_bytes())
    del told["weights_sha256"]
    return told | {"built_on": list(told["built_on"])}
