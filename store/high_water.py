"""The high-water mark: how far the log once reached, kept outside the database.

A log that lost its end without a trace (a flipped byte in SQLite's write-ahead log drops what
comes after it, and every check of SQLite's own still says ok) is shorter than its mark.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from store.errors import IntegrityError

DIGITS = 20


class HighWater:
    """A file with one number, which only rises. Written after each commit, never before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def read(self) -> int:
        """The mark; 0 where there is none yet. Raises IntegrityError for an unreadable one."""
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            return 0
        if not text.strip().isdecimal():
            raise IntegrityError(
                f"The high-water mark {self.path} is damaged.",
                hint="Run `bhavana store verify`; if all else is well, remove the file.",
            )
        return int(text)

    def rise(self, position: int) -> None:
        """Notes that everything up to this position is committed; a higher mark stays.

        Not synced: after a power cut the mark may be too low, which hides nothing that it knew
        before, and costs no commit an extra sync.
        """
        if self._file is None:
            self._file = self._opened()
        fcntl.flock(self._file, fcntl.LOCK_EX)  # another process may have come further
        try:
            known = os.pread(self._file, DIGITS, 0)
            if not known.isdigit() or int(known) < position:
                os.pwrite(self._file, _line(position), 0)
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _opened(self) -> int:
        """The file's descriptor; a new file is there whole or not at all, after a power cut too."""
        if not self.path.exists():
            partial = self.path.with_name(f"{self.path.name}.partial")
            with partial.open("wb") as file:
                partial.chmod(0o600)
                file.write(_line(0))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        return os.open(self.path, os.O_RDWR | os.O_CLOEXEC)

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _line(position: int) -> bytes:
    return f"{position:0{DIGITS}d}\n".encode()
