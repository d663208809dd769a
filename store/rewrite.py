"""Rewrites SQLite's database from its rows, so that no page keeps a trace of what is gone.

`secure_delete` overwrites a row where it lies, but not the bytes that stay behind in a page from
which SQLite moved it before. VACUUM takes those, too, but in as much memory as the database is
large where the library keeps what is temporary there. So the rows go into a file and come back.
"""

from __future__ import annotations

import glob
import os
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from store.engine import BUSY_TIMEOUT_SECONDS, in_our_words, raw_errors, sqlite_module
from store.errors import Unavailable

STEPS = 64
"""Pieces in which the rows come back; more than one, so that the first does not commit yet."""


def rewrite(engine: Engine, database: Path) -> bool:
    """Rewrites the database in one transaction; False when somebody else wrote meanwhile.

    Takes three times the room on disk while it runs: as it is, beside it, and in its write-ahead
    log, which is to be emptied afterwards. Killed halfway, the database is as it was. Raises
    StorageFault, Unavailable.
    """
    beside = f"{database.name}-rewritten-"
    for left in database.parent.glob(f"{glob.escape(beside)}*"):
        left.unlink(missing_ok=True)  # by one that was killed; one under way fails without loss
    try:
        descriptor, name = tempfile.mkstemp(prefix=beside, dir=database.parent)
    except OSError as error:
        raise Unavailable(f"No file can be made beside the store: {error.strerror}.") from error
    os.close(descriptor)
    copy = Path(name)
    try:
        with in_our_words(), engine.connect() as connection, raw_errors(connection, "rewrite"):
            written = connection.connection.driver_connection  # no transaction is open on it
            module = sqlite_module()
            with closing(module.connect(database, timeout=BUSY_TIMEOUT_SECONDS)) as reader:
                before = _version(reader)
                reader.execute("VACUUM INTO ?", (name,))
                # Opened as it is there: never an empty one in place of one that was removed.
                with closing(module.connect(f"{copy.as_uri()}?mode=rw", uri=True)) as rows:
                    [pages] = rows.execute("PRAGMA page_count").fetchone()

                    def nobody_wrote(_status: int, left: int, _pages: int) -> None:
                        # The write lock is held from the first step to the commit in the last.
                        if left and _version(reader) != before:
                            raise _WrittenMeanwhile

                    rows.backup(written, pages=max(1, pages // STEPS), progress=nobody_wrote)
    except _WrittenMeanwhile:
        return False
    finally:
        copy.unlink(missing_ok=True)
    return True


class _WrittenMeanwhile(Exception):
    """What was copied is no longer the newest."""


def _version(reader: Any) -> object:
    """Another one as soon as any other connection has committed."""
    return reader.execute("PRAGMA data_version").fetchone()
