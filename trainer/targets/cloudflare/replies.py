"""Cloudflare's answers, as far as they are read. Everything that is not needed may be otherwise."""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec
from msgspec import Struct

from store.errors import Unavailable
from store.records import Noun


class Envelope(Struct):
    """Around every answer but a value of KV."""

    success: bool
    result: Any = None


class Token(Struct):
    """Of the token's verification."""

    status: str


class Answer(Struct):
    """Of a run."""

    response: str


class Property(Struct):
    """One of a model's; values are booleans, text, lists."""

    property_id: str = ""
    value: Any = None


class Model(Struct):
    """One of the catalog."""

    name: str = ""
    properties: list[Property] = []


class Finetune(Noun, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """One of the account's adapters, as Cloudflare lists it."""

    id: str
    model: str
    name: str
    description: str = ""


class CatalogEntry(Noun, frozen=True, kw_only=True):
    """What the catalog says of a model."""

    serves_lora: bool
    deprecated_on: date | None
    """Planned or past."""


def catalog_entry(model: Model) -> CatalogEntry:
    """Both properties are read: `lora` was still true where a model was deprecated."""
    said = {each.property_id: each.value for each in model.properties}
    return CatalogEntry(
        serves_lora=str(said.get("lora")).lower() == "true",
        deprecated_on=_day(said.get("planned_deprecation_date")),
    )


def finetunes_in(result: Any) -> tuple[Finetune, ...]:
    """Of a list in any of its forms. Raises Unavailable for another one.

    The schema says one object, a sample in the docs a list in a list, wrangler a list.
    """
    if isinstance(result, dict):
        result = [result]
    elif isinstance(result, list) and all(isinstance(inner, list) for inner in result):
        result = [finetune for inner in result for finetune in inner]
    try:
        return msgspec.convert(result, tuple[Finetune, ...])
    except msgspec.ValidationError as error:
        raise Unavailable(
            f"Cloudflare lists the finetunes in a form that is not known: {error}.",
            hint="Nothing is uploaded while it is not clear what is there already.",
        ) from error


def _day(value: Any) -> date | None:
    """Of a moment or a day as the catalog writes them; a word that is none counts as past."""
    if not value:
        return None
    try:
        return date.fromisoformat(str(value)[:10])
    except ValueError:
        return date.min
