"""Where a model on the server comes from, in its `license`: the one field that is kept with a
model, shown to whoever asks, and in no prompt.

It also makes the digests of two releases of the same adapter differ.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import Struct

from store.records import to_json

MARK = "bhavana "
LINE = re.compile(rf"^{MARK}(\{{.*\}})\s*$", re.MULTILINE)


class Provenance(Struct, frozen=True, omit_defaults=True):
    """What we wrote on a model that we made; a release has its base's as well."""

    base: str = ""
    """Hash of the base that was trained on."""
    base_tag: str = ""
    release: str = ""
    adapter: str = ""
    """Hash of the adapter, as evaluated."""


def written(provenance: Provenance) -> str:
    """As it is written into `license`."""
    return MARK + to_json(provenance).decode()


def read(license_text: str) -> Provenance:
    """What stands in a license, lines of the base and of the release together."""
    found: dict[str, str] = {}
    for line in LINE.findall(license_text):
        try:
            found |= msgspec.json.decode(line, type=dict[str, str])
        except msgspec.MsgspecError:
            continue  # somebody else's
    return msgspec.convert(found, Provenance)
