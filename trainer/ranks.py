"""`python -m trainer.ranks --processes N MODULE DIR`: a job in several processes, one for each GPU.

This is `accelerate launch` with two things added: it ends with the exit code of the process that
failed, where accelerate would say 1 for all, and it ends when the process that started it is gone,
as its ranks do when it is.
"""

from __future__ import annotations

import argparse
import os
import sys

from accelerate.commands.launch import launch_command, launch_command_parser
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from store.orphans import EXIT_RETRYABLE, PARENT_VARIABLE, end_without_parent
from trainer.launchers.accelerate import options


def run(module: str, folder: str, processes: int) -> int:
    """Runs the job and returns the exit code of the rank that failed first; 0 when none did."""
    end_without_parent()
    os.environ[PARENT_VARIABLE] = str(os.getpid())  # the ranks are this process's children
    arguments = [*options(processes), "--module", module, folder]
    try:
        launch_command(launch_command_parser().parse_args(arguments))
    except ChildFailedError as failed:
        return _code(failed.get_first_failure()[1].exitcode)
    except SignalException:  # asked to stop; the ranks were asked, too, and have ended
        return EXIT_RETRYABLE
    return 0


def _code(code: int) -> int:
    """An exit code that a process can have: of one that a signal ended, as shells say it."""
    return 128 - code if code < 0 else code


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m trainer.ranks", description=__doc__)
    parser.add_argument("--processes", type=int, required=True, metavar="N")
    parser.add_argument("module", metavar="MODULE", help="such as trainer.finetune")
    parser.add_argument("folder", metavar="DIR", help="job folder with job.json")
    arguments = parser.parse_args()
    return run(arguments.module, arguments.folder, arguments.processes)


if __name__ == "__main__":
    sys.exit(main())
