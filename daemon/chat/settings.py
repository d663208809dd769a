"""The section [serving] of the configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta

from store.records import Noun
from trainer.serving import EXTRA, is_installed

SERVES = "local"
"""The target whose releases are answered with; others have servers of their own."""


class ServingSettings(Noun, frozen=True, kw_only=True):
    """Whether this daemon answers people, with what, and what it keeps of it."""

    enabled: bool = False
    record: bool = False
    """Whether what is said here becomes an experience, unless a client says `store: false`."""
    training_consent: Literal["never", "asked"] = "never"
    """asked: an exchange may be learned from where the client says that the person agreed."""
    gguf: str = ""
    """The base as a GGUF file; empty: trainer.base is one."""
    gpu_layers: Annotated[int, Meta(ge=-1)] = -1
    """How many of its layers lie on a GPU, where llama.cpp was built for one; -1: what fits."""
    threads: Annotated[int, Meta(ge=0)] = 0
    """Of the process; 0: one for each processor."""
    slots: Annotated[int, Meta(ge=1, le=256)] = 4
    """Answers at once."""
    context: Annotated[int, Meta(ge=256)] = 4096
    """Tokens of one conversation with its answer."""
    most_tokens: Annotated[int, Meta(ge=1)] = 1024
    """Of one answer; also where a client does not say."""
    most_messages: Annotated[int, Meta(ge=1, le=200)] = 100
    temperature: Annotated[float, Meta(ge=0, le=2)] = 0.0
    """Where a client does not say; 0 is how the gates heard it."""
    most_waiting: Annotated[int, Meta(ge=0)] = 16
    """Requests that wait for a slot; more are refused."""
    wait_seconds: Annotated[float, Meta(gt=0)] = 30.0
    """How long one waits for a slot."""
    answer_seconds: Annotated[float, Meta(gt=0)] = 300.0
    """How long one answer may take."""

    def faults(self, target: str) -> Iterator[str]:
        """What keeps these settings from being used."""
        if not self.enabled:
            return
        if target != SERVES:
            yield (
                f"serving.enabled: this daemon answers with the releases of trainer.target "
                f"{SERVES!r}; {target!r} answers by itself."
            )
        if not is_installed():
            yield f"serving.enabled: llama.cpp is missing; run `pip install 'bhavana[{EXTRA}]'`."
        if self.most_tokens >= self.context:
            yield "serving.most_tokens: must be less than serving.context, which holds both."
