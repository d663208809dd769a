"""The verb that looks whether everything is there: doctor."""

from __future__ import annotations

from collections.abc import Sequence

from daemon.cli.app import AsJson, app, config_file, settings, show
from daemon.doctor import Check, examine
from store.errors import Halted, Misconfigured


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Look whether everything is there and works, and say what to do where it does not.

    Changes nothing, and may run beside the daemon. Exit code 3 when something fails.
    """
    try:
        checks = examine(settings(), config_file())
    except Misconfigured as error:
        step = error.hint or "Mend the configuration; `bhavana config` shows it."
        checks = [Check(name="configuration", state="fail", said=error.message, next=step)]
    show(checks, as_json, lambda: _text(checks))
    failed = [check.name for check in checks if check.state == "fail"]
    if failed:
        raise Halted(f"Something is not as it has to be: {', '.join(failed)}.")


def _text(checks: Sequence[Check]) -> str:
    lines = []
    for check in checks:
        lines.append(f"{check.state:5} {check.name:14} {check.said}")
        if check.next:
            lines.append(f"{'':20} next: {check.next}")
    return "\n".join(lines)
