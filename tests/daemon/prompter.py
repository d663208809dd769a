"""`python prompter.py`: runs verbs of the command line in processes of their own, cheaply.

`python -m daemon VERB` takes more than a second of a processor to import what it needs. Here it is
done once, before any thread is made; then each line on stdin, a `Verb`, is run in a forked child by
the real `main`, which ends as an interpreter does. How it ended is told.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys

import msgspec

from daemon.cli import ALL, HURRIED, main

PATIENCE_SECONDS = 300


class Verb(msgspec.Struct):
    """What is to be run, and where."""

    arguments: list[str]
    environment: dict[str, str]
    stdout: str
    """The file for it."""
    stderr: str


def become(verb: Verb) -> None:
    """Makes this process the one that was asked for."""
    signal.alarm(PATIENCE_SECONDS)  # whatever happens, it does not stay
    os.environ.clear()
    os.environ.update(verb.environment)
    for path, number in ((os.devnull, 0), (verb.stdout, 1), (verb.stderr, 2)):
        opened = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = ["bhavana", *verb.arguments]


def serve() -> Verb | None:
    """Forks a child for each line; returns in the child what it is, and None when stdin ends."""
    told = os.dup(1)
    os.set_inheritable(told, False)
    lines = os.fdopen(os.dup(0), "rb")
    os.write(told, b"ready\n")
    for line in lines:
        verb = msgspec.json.decode(line, type=Verb)
        pid = os.fork()
        if pid == 0:
            os.close(told)
            return verb
        _, status = os.waitpid(pid, 0)
        os.write(told, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    return None


if __name__ == "__main__":
    for name in (ALL, *HURRIED.values()):
        importlib.import_module(name)
    gc.freeze()
    if (asked := serve()) is not None:
        become(asked)
        main()
