"""Child processes end when the process that started them is gone, however it went."""

from __future__ import annotations

import os
import threading
import time

PARENT_VARIABLE = "BHAVANA_PARENT_PID"
CHECK_SECONDS = 0.5
EXIT_RETRYABLE = 75  # EX_TEMPFAIL: nothing is wrong with the work, start it again


def with_this_parent() -> dict[str, str]:
    """The environment of a child that is to end with this process."""
    return os.environ | {PARENT_VARIABLE: str(os.getpid())}


def end_without_parent() -> None:
    """From now on this process ends when the one that started it is gone."""
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is not None:
        threading.Thread(target=_end_without, args=(int(parent),), daemon=True).start()


def _end_without(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(CHECK_SECONDS)
    os._exit(EXIT_RETRYABLE)
