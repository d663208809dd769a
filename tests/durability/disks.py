"""Small disks of a test's own: ext4 in a file, and memory of a fixed size. They need root."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

MEGABYTE = 1 << 20
# Neither the journal's thread nor the flusher writes by itself while a copy is made: what is on
# the disk is what somebody asked to have there.
OPTIONS = "loop,commit=300,errors=remount-ro"


def make_ext4(image: Path, megabytes: int) -> None:
    """Makes a file that holds an empty ext4."""
    with image.open("wb") as file:
        file.truncate(megabytes * MEGABYTE)
    _run("mkfs.ext4", "-q", "-F", str(image))


@contextlib.contextmanager
def ext4(image: Path, at: Path) -> Iterator[Path]:
    """Mounts the image; what its journal holds is replayed. Skips where that is not allowed."""
    with _mounted(at, "-o", OPTIONS, str(image)):
        yield at


@contextlib.contextmanager
def memory(at: Path, megabytes: int) -> Iterator[Path]:
    """Mounts a disk in memory. Skips where that is not allowed."""
    with _mounted(at, "-t", "tmpfs", "-o", f"size={megabytes}m", "none"):
        yield at


def fill(disk: Path, *, leave: int) -> Path:
    """Fills the disk but for so many bytes; removing the file that it returns frees it."""
    ballast = disk / "ballast"
    free = os.statvfs(disk)
    ballast.write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - leave)))
    return ballast


def turn_read_only(at: Path) -> None:
    """What ext4 does to itself on a fault of its disk: everything is read-only at once.

    Nobody may be in the middle of a sync. Linux 6.18 tells some of those that all is well and
    writes nothing: a loop of pwrite and fdatasync alone lost its last record in 4 of 150 aborts.
    """
    _run("mount", "-o", "remount,abort", str(at))


def copy_of(image: Path, to: Path) -> None:
    """The disk as it is now, without asking the file system on it to write anything first."""
    _run("cp", "--sparse=always", str(image), str(to))


@contextlib.contextmanager
def _mounted(at: Path, *arguments: str) -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    at.mkdir(exist_ok=True)
    try:
        _run("mount", *arguments, str(at))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"mounting is not allowed here: {getattr(error, 'stderr', error)}")
    try:
        yield
    finally:
        # Whoever still holds a file there is the next one's concern: the mount is gone at once.
        _run("umount", "--lazy", str(at))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
