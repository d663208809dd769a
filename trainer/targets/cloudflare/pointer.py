"""What the Worker reads to know who answers: one value in KV for each line.

Model and finetune stand in it together, because a finetune belongs to one model.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from store.errors import IntegrityError
from store.records import Noun, to_json
from trainer.targets.target import Traffic


class Voice(Noun, frozen=True, kw_only=True):
    """Who answers, as a request to Workers AI names it."""

    version: str
    """The release, or the base's name: what an answer and its experience carry."""
    model: str
    finetune_id: str | None
    """None: the model without an adapter, which is the untouched base."""
    name: str | None
    base: str
    adapter_sha256: str | None
    prompt_template: str
    begins_with_bos: bool = True

    @property
    def release(self) -> str | None:
        """None for the base."""
        return None if self.finetune_id is None else self.version


class Canary(Voice, frozen=True, kw_only=True):
    """The release on trial."""

    share: Annotated[float, Meta(ge=0, le=1)]
    """Of the conversations; one stays with whom it began."""


class Pointer(Voice, frozen=True, kw_only=True):
    """The value under a line's key."""

    promoted_at: datetime
    previous: Voice | None = None
    """Who answers where the finetune cannot be run."""
    canary: Canary | None = None

    @property
    def traffic(self) -> Traffic:
        """The same in the house's words."""
        canary = self.canary
        return Traffic(
            release=self.release,
            canary=canary.version if canary else None,
            share=canary.share if canary else 0.0,
        )


def voices_in(pointer: Pointer | None) -> list[Voice]:
    """All who answer by it, or did before."""
    if pointer is None:
        return []
    return [v for v in (pointer, pointer.previous, pointer.canary) if v is not None]


def voice_of(pointer: Pointer) -> Voice:
    """Who answers by it, without the rest."""
    return Voice(**{name: getattr(pointer, name) for name in Voice.__struct_fields__})


def encoded(pointer: Pointer) -> bytes:
    """As it lies in KV."""
    return to_json(pointer)


def decoded(value: bytes, key: str) -> Pointer:
    """Raises IntegrityError for a value that is no pointer of ours."""
    try:
        return msgspec.json.decode(value, type=Pointer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise IntegrityError(
            f"What lies in KV under {key} is no pointer of Bhavana's: {error}.",
            hint="Who wrote it? Choose another targets.cloudflare.key, or delete it there.",
        ) from error
