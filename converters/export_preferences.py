"""What people say of answers, as a folder that Hugging Face's `load_dataset` and TRL read.

    train.jsonl, …   the rows of each split
    README.md        the card, with the funnel
    manifest.json    format, position, policy, hashes

The same store, position, policy and code give byte-identical files. It is a copy, out of reach
of erasure and of consent; of the splits, an empty one has no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from converters.folder import COPY, named_by_a_person, require_vacant, write_whole
from converters.preferred import Contents, choose, written
from converters.selection import Asked
from store.errors import Halted
from store.events import Store
from store.losses import require_whole
from store.privacy import erased_among


def export_preferences(store: Store, folder: Path, asked: Asked, *, format: str) -> Contents:
    """Writes what people prefer into a folder that is not there or empty: all of it, or nothing.

    Raises Rejected for an unknown format, Conflict for a folder that holds something,
    NotEnoughData when there are fewer rows than the policy asks for, Halted when events are
    missing or something was erased meanwhile. The folder is its owner's alone.
    """
    with named_by_a_person(folder):
        require_vacant(folder)
    require_whole(store)  # a withdrawal of consent may be among what is missing
    chosen = choose(store, asked, format)
    files, contents = written(chosen, asked, format, after=f"\n{COPY}\n")
    with named_by_a_person(folder):
        write_whole(folder, files, check=lambda: _require_unerased(store, chosen.members))
    return contents


def _require_unerased(store: Store, members: Sequence[int]) -> None:
    if erased_among(store, members):
        raise Halted("Something in it was erased while it was written.", hint="Export it again.")
