"""Ollama's documents, as far as we read them."""

from __future__ import annotations

import re

from msgspec import Struct, field

LAYER = re.compile(r"^(FROM|ADAPTER) .*sha256[-:]([0-9a-f]{64})\s*$", re.MULTILINE)
"""Of a Modelfile, whose paths end in the digests of blobs."""


class Tag(Struct, frozen=True):
    """A model on the server. The digest is its manifest's: a copy has the same."""

    name: str
    digest: str = ""
    modified_at: str = ""


class Tags(Struct, frozen=True):
    """All models, or those in memory."""

    models: list[Tag] = []


class Shown(Struct, frozen=True):
    """What a model is made of."""

    modelfile: str = ""
    template: str = ""
    license: str = ""

    @property
    def bases(self) -> list[str]:
        """SHA-256 of each model layer; one in a sound model."""
        return [digest for kind, digest in LAYER.findall(self.modelfile) if kind == "FROM"]

    @property
    def adapters(self) -> list[str]:
        """SHA-256 of each adapter, all of which are added up."""
        return [digest for kind, digest in LAYER.findall(self.modelfile) if kind == "ADAPTER"]


class Alternative(Struct, frozen=True):
    """A token with its log-probability."""

    token: str = ""
    logprob: float = 0.0
    raw: list[int] | None = field(default=None, name="bytes")

    @property
    def text(self) -> bytes | str:
        """Its bytes where the server tells them: a token can be a part of a character."""
        return self.token if self.raw is None else bytes(self.raw)


class Token(Alternative, frozen=True):
    """A token of an answer, and what else it might have been."""

    top_logprobs: list[Alternative] = []


class Generated(Struct, frozen=True):
    """An answer."""

    response: str = ""
    done: bool = False
    done_reason: str = ""
    logprobs: list[Token] | None = None


class Version(Struct, frozen=True):
    """Of the server."""

    version: str


class Progress(Struct, frozen=True):
    """A line of what it says while it makes a model."""

    status: str = ""
    error: str = ""
