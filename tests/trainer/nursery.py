"""`python nursery.py`: runs training jobs in processes of their own, cheaply, for tests that kill.

torch and transformers take seconds to import. Here it is done once, before any thread is made;
then each line on stdin, a job folder and a limit of memory in MB (0: none), is run in a forked
child by the real `main`. The child's pid is told, and at its end how it ended.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path

import torch

import trainer.job
from trainer import finetune

trainer.job.NICENESS = 0


def child(folder: str, megabytes: int) -> int:
    """One try of the job, as `python -m trainer.finetune FOLDER` makes it."""
    log = os.open(f"{folder}/log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if megabytes:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + megabytes * 1_000_000
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sys.argv = ["finetune", folder]
    return finetune.main()


def main() -> None:
    """Serves until stdin ends."""
    torch.set_num_threads(1)
    out = os.fdopen(os.dup(1), "w", buffering=1)
    print("ready", file=out)
    for line in sys.stdin:
        folder, megabytes = line.split()
        pid = os.fork()
        if pid == 0:
            signal.alarm(300)  # whatever happens, it does not stay
            code = 1
            try:
                code = child(folder, int(megabytes))
            except SystemExit as ended:
                code = int(ended.code or 0)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        print(pid, file=out)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), file=out)


if __name__ == "__main__":
    main()
