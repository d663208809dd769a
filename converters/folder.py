"""Folders of files that are there whole or not at all, as Hugging Face's `load_dataset` reads them.

What the files say is not known here, but for the parts that every card has.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from store.errors import Conflict, Rejected


def write_whole(
    folder: Path, files: Mapping[str, bytes], *, check: Callable[[], None] = lambda: None
) -> None:
    """Writes the files, in their order, into a folder that is not there or empty.

    They lie in one beside it, which takes its name when all are on the disk and `check` raises
    nothing; what fails leaves nothing. The folder is its owner's alone.
    """
    with becoming(folder) as partial:
        for name, content in files.items():
            write_synced(partial / name, content)
        check()


@contextmanager
def becoming(folder: Path) -> Iterator[Path]:
    """A new folder beside it, which takes its name at the end; what raises leaves nothing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=_beside(folder), dir=folder.parent))
    try:
        yield partial
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def discard_partial(folder: Path) -> None:
    """Deletes what a writing of this folder left that was killed."""
    if folder.parent.is_dir():
        for path in folder.parent.iterdir():
            if path.name.startswith(_beside(folder)):
                shutil.rmtree(path, ignore_errors=True)


def discard(folder: Path) -> None:
    """Deletes a folder: under its name it is whole or gone, even where this is killed."""
    aside = Path(tempfile.mkdtemp(prefix=_beside(folder), dir=folder.parent))
    folder.rename(aside)
    shutil.rmtree(aside)


def _beside(folder: Path) -> str:
    return f".{folder.name}.partial-"


def write_synced(path: Path, content: bytes) -> None:
    """The file is on disk after a power cut, as what is recorded of it will be."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def named_by_a_person(folder: Path) -> Iterator[None]:
    """Faults of the disk, and of who may write where, in our words."""
    try:
        yield
    except OSError as error:
        raise Rejected(
            f"{folder} cannot be written: {error.strerror}.", hint="Name another folder."
        ) from error


def require_vacant(folder: Path) -> None:
    """Raises Conflict unless the folder is not there, or is empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict(f"{folder} is there already.", hint="Name a folder that is not.")


def hashes(files: Mapping[str, bytes]) -> dict[str, str]:
    """SHA-256 of each file."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


# --- what cards have in common ------------------------------------------------------------

COPY = """\
This is a copy: what is erased from Bhavana later, and what nobody consents to any longer, is in it
still. Delete it when you have trained from it, and export anew."""


def data_files(splits: Iterable[str], suffix: str) -> str:
    """The lines of a card by which loaders find the file of each split."""
    return "\n".join(f"      - {{split: {split}, path: {split}{suffix}}}" for split in splits)


def table(counts: Mapping[str, object]) -> str:
    """The lines of a table of counts and figures."""
    return "\n".join(f"| {name.replace('_', ' ')} | {n} |" for name, n in counts.items())
