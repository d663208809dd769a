"""A process that imports the daemon once and forks a real command line whenever it is asked.

Importing takes seconds, and a test that kills the daemon a thousand times cannot wait for that.
What is forked runs `daemon.cli.main` with arguments, environment and output files of its own:
from there on it is what `python -m daemon` is. One JSON document a line, in and out.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import daemon.cli.verbs  # noqa: F401  # what takes the time
from daemon.cli import main

DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG: no daemon outlives a test run, however that was ended."""
OUTPUT = os.O_WRONLY | os.O_CREAT | os.O_APPEND


def live(order: dict[str, Any]) -> None:
    """Becomes the process that was ordered; ends as the command line ends, or with its parent."""
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for descriptor, path in ((1, order["stdout"]), (2, order["stderr"])):
        os.dup2(os.open(path, OUTPUT, 0o600), descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = ["bhavana", *order["arguments"]]
    exec(order["first"], {})  # what a negative control breaks on purpose; usually nothing
    main()


def reap(pid: int) -> int | None:
    """The exit code, negative for a signal; None while it lives."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def serve() -> None:
    """Forks and reaps as the lines on stdin say; at their end no child is left alive."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # that is for who started us
    children: set[int] = set()
    for line in sys.stdin:
        order = json.loads(line)
        if "reap" in order:
            answer = reap(order["reap"])
            if answer is not None:
                children.discard(order["reap"])
        else:
            answer = os.fork()
            if answer == 0:
                live(order)
                return
            children.add(answer)
        print(json.dumps(answer), flush=True)
    for child in children:
        os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    print(json.dumps(len(list(Path("/proc/self/task").iterdir()))), flush=True)
    serve()
