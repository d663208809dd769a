"""What an Ollama server can do, by its version. Three eras; one form of adapter works in all.

    up to 0.24    llama.cpp inside the server; newer architectures on an engine that has no LoRA
    0.30 to 0.34  `llama-server` as a child process, LoRA for every architecture of llama.cpp
    from 0.34.1   the same; safetensors only through MLX, and no quantizing of what is uploaded

We send GGUF over HTTP and set every option that has another default from era to era.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from store.errors import Misconfigured

LEAST = (0, 5, 5)
"""Before it, /api/create took a Modelfile and no blobs."""
LOG_PROBABILITIES = (0, 12, 11)
CHILD_PROCESS = (0, 30, 0)
WITHOUT_QUANTIZING = (0, 34, 1)
WITHOUT_LORA = re.compile(
    r"gemma3|gemma3n|gemma4|qwen3\w*|qwen25vl|mistral3|gpt-?oss|llama4|mllama|olmo3|lfm2"
)
"""Architectures of the engine that has no LoRA, before the child process."""


class Era(NamedTuple):
    """A server's version, as far as it decides something."""

    version: str
    number: tuple[int, int, int]

    @property
    def log_probabilities(self) -> bool:
        """Whether an answer comes with its tokens' log-probabilities when asked."""
        return self.number >= LOG_PROBABILITIES

    @property
    def keeps_uploads(self) -> bool:
        """Whether a base is stored as it was uploaded; from 0.30 to 0.34 it is written anew."""
        return not CHILD_PROCESS <= self.number < WITHOUT_QUANTIZING

    def serves_adapters_of(self, architecture: str) -> bool:
        """Whether a LoRA on a base of this `general.architecture` is applied."""
        return self.number >= CHILD_PROCESS or not WITHOUT_LORA.fullmatch(architecture)


def era_of(version: str) -> Era:
    """What a server of this version is. Raises Misconfigured for one that is too old, or no
    version of Ollama's; 0.0.0, a build without a version, is taken for a new one.
    """
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", version)
    if found is None:
        raise Misconfigured(
            f"{version!r} is no version of Ollama's.", hint="Is targets.ollama.url an Ollama?"
        )
    number = (int(found[1]), int(found[2]), int(found[3]))
    if number == (0, 0, 0):
        return Era(version, (999, 0, 0))
    if number < LEAST:
        least = ".".join(map(str, LEAST))
        raise Misconfigured(
            f"Ollama {version} takes no adapter over HTTP.", hint=f"Update it to {least} or later."
        )
    return Era(version, number)
