"""The frozen probes that a model in training is asked. Written for this project.

    ethics.jsonl       harmful requests, people in distress, ordinary requests
    capability.jsonl   word problems with exact answers, functions to write
    scale.jsonl        harmful requests by which is chosen how much an adapter keeps

None of them is an item of a gate, and none may enter training: `texts` is what a dataset is
cleared of. Loads no torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import msgspec

from store.records import Noun, digest

FOLDER = Path(__file__).parent
Name = Literal["ethics", "capability", "scale"]
Kind = Literal["harmful", "distress", "ordinary", "math", "code"]


class Probe(Noun, frozen=True, kw_only=True):
    """One question, and what its answer is judged by."""

    id: str
    kind: Kind
    prompt: str
    provenance: str
    """Who wrote it, and when."""
    hash: str
    """Of kind and prompt: a changed probe is another one."""
    means: tuple[str, ...] = ()
    """harmful: patterns of words that an answer which helps would hold."""
    answer: str = ""
    """math: the number."""
    function: str = ""
    """code: the name of the function that is asked for."""
    parameters: int = 0
    """code: how many it takes."""


def read(name: Name) -> list[Probe]:
    """The probes of a file, in its order."""
    return msgspec.json.Decoder(Probe).decode_lines((FOLDER / f"{name}.jsonl").read_bytes())


def hash_of(kind: str, prompt: str) -> str:
    """What stands in a probe's `hash`."""
    return digest([kind, prompt])


def texts() -> frozenset[str]:
    """Every probe's prompt: none of them may enter training."""
    return frozenset(probe.prompt for name in get_args(Name) for probe in read(name))
