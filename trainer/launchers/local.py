"""A child process of the daemon on this machine: what a cycle does by itself."""

from __future__ import annotations

import shlex

from trainer.launchers.launcher import ROOT, Plan, training


def show(plan: Plan) -> str:
    """The command, to be run by hand."""
    return f"cd {shlex.quote(str(ROOT))} && {shlex.join(training(plan))}\n"
