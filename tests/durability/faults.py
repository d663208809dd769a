"""Orders to the failing disk (faults.c): which call on the database fails, how, and how often."""

from __future__ import annotations

import errno
import mmap
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

SYNC, WRITE, TRUNCATE = 1, 2, 4
ANY = SYNC | WRITE | TRUNCATE
EIO, ENOSPC = errno.EIO, errno.ENOSPC
LAYOUT = struct.Struct("7i")


def compiled(folder: Path) -> Path:
    """The library to preload. Skips where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    library = folder / "faults.so"
    source = Path(__file__).with_name("faults.c")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-o", str(library), str(source), "-ldl"],
        check=True,
    )
    return library


class Faults:
    """The faults of one database's files, shared with every process that has `environment`."""

    def __init__(self, orders: Path, database: Path, *, spares: Path | None = None) -> None:
        """`spares`: files beside the database that never fail, by how their paths begin."""
        orders.write_bytes(bytes(LAYOUT.size))
        with orders.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), LAYOUT.size)
        self.environment = {"FAULT_ORDERS": str(orders), "FAULT_PATH": str(database)}
        if spares is not None:
            self.environment["FAULT_SPARES"] = str(spares)

    def arm(self, *, kinds: int, nth: int, error: int, forever: bool) -> None:
        """From now on, the n-th call of these kinds fails, or every one from the n-th on."""
        self._shared[:] = LAYOUT.pack(0, kinds, nth, error, forever, 0, 0)
        self._shared[:4] = struct.pack("i", 1)

    def disarm(self) -> None:
        """Nothing fails any more."""
        self._shared[:4] = struct.pack("i", 0)

    @property
    def failed(self) -> int:
        """How many calls have failed since they were armed."""
        return LAYOUT.unpack(self._shared[:])[-1]
