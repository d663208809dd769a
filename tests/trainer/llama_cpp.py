"""llama.cpp's server with a model and adapters, asked for its next tokens."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.trainer.children import ROOT
from trainer.targets.agreement import TOP, by_text

Next = Callable[..., dict[str, float]]
"""(text, adapter=None, scale=1.0) -> what comes next, as agreement.compare takes it."""


@contextmanager
def serving(model: Path | None = None, adapters: Sequence[Path] = ()) -> Iterator[Next]:
    """A server of the embedded base or another model; each request names its adapter, or none."""
    arguments = [] if model is None else ["--model", str(model)]
    for path in adapters:
        arguments += ["--adapter", str(path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.scorers.judge.model_server", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        address = process.stdout.readline().decode().strip()
        with httpx.Client(base_url=address, timeout=300) as client:

            def following(
                text: str, adapter: Path | None = None, scale: float = 1.0
            ) -> dict[str, float]:
                asked = {
                    "prompt": text,
                    "n_predict": 1,
                    "n_probs": TOP,
                    "temperature": 0,
                    "lora": [
                        {"id": number, "scale": scale if path == adapter else 0.0}
                        for number, path in enumerate(adapters)
                    ],
                }
                told = client.post("/completion", json=asked).raise_for_status().json()
                places = told.get("completion_probabilities") or [{"top_logprobs": []}]
                return by_text((bytes(t["bytes"]), t["logprob"]) for t in places[0]["top_logprobs"])

            yield following
        process.stdin.close()
        assert process.wait(30) == 0
