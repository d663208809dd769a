"""A question to a module of ours in a process of its own: what it loads is gone when it ends.

The module calls `end_without_parent` before it begins.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from typing import TypeVar

import msgspec

from scorers.assess import LAST_WORDS, POLL_SECONDS, ROOT, TRY_LATER
from store.errors import ChildFailed, Unavailable
from store.orphans import with_this_parent
from store.records import Noun, to_json

Answer = TypeVar("Answer", bound=Noun)


def ask(
    module: str,
    question: Noun,
    kind: type[Answer],
    *,
    seconds: float,
    stop: threading.Event | None = None,
) -> Answer:
    """What `python -m module --json` answers on stdout when it is given the question on stdin.

    Raises ChildFailed when it ends without an answer or needs longer than so many seconds, and
    Unavailable when `stop` was set, or when it says itself that it should be asked later.
    """
    stop = stop or threading.Event()
    deadline = time.monotonic() + seconds
    with ExitStack() as files:
        # Files, not pipes: whoever writes into a pipe waits for its reader, who may hang.
        asked, said, stderr = (files.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        asked.write(to_json(question))
        asked.seek(0)
        child = subprocess.Popen(
            [sys.executable, "-m", module, "--json"],
            stdin=asked,
            stdout=said,
            stderr=stderr,
            cwd=ROOT,
            env=with_this_parent(),
        )
        try:
            while child.poll() is None:
                if stop.wait(POLL_SECONDS):
                    raise Unavailable(f"Stopping; {module} will run at the next start.")
                if time.monotonic() > deadline:
                    raise ChildFailed(f"{module} did not end within {seconds:.0f} s.")
        finally:
            child.kill()
            child.wait()
        said.seek(0)
        stderr.seek(0)
        words = stderr.read()[-LAST_WORDS:].decode("utf-8", "replace").strip()
        if child.returncode == TRY_LATER:
            raise Unavailable(words)
        try:
            return msgspec.json.decode(said.read(), type=kind)
        except msgspec.MsgspecError as error:
            ended = f"{module} ended with code {child.returncode} and no answer."
            raise ChildFailed(f"{ended} {words}".strip()) from error
