"""The policy in the configuration: where each value comes from, and how it is set for good.

The configuration file says what is in force; the log says what was, since when, and why.
"""

from __future__ import annotations

import os
import signal
import stat
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import tomlkit

from daemon.service import running_daemon
from daemon.settings import PREFIX, load, said
from daemon.wiring import open_store
from store import policies
from store.errors import Misconfigured, Rejected
from store.records import Noun, Policy
from trainer.job import write_atomically

Origin = Literal["default", "phase", "file", "environment"]


class Done(Noun, frozen=True, kw_only=True):
    """What setting the policy did."""

    file: str
    changed: dict[str, policies.Values]
    """Of what the configuration said before."""
    recorded: bool
    """False where the log had this policy as its last one already."""
    daemon: int | None
    """The process that serves; None where none does."""
    told: bool
    """Whether that process was told to read its configuration again: only its owner may."""


def origins(path: Path | None, environment: Mapping[str, str]) -> dict[str, Origin]:
    """Where each value of the policy comes from."""
    file, variables = (_section(tree) for tree in said(path, environment))

    def origin(name: str) -> Origin:
        if name in variables:
            return "environment"
        if name in file:
            return "file"
        return "phase" if name in policies.OF_THE_PHASE else "default"

    return {name: origin(name) for name in Policy.__struct_fields__}


def set_policy(
    path: Path,
    environment: Mapping[str, str],
    changes: Mapping[str, Any],
    *,
    reason: str,
    actor: str,
) -> Done:
    """Writes the values into the configuration file, records the policy that then is in force, and
    tells a running daemon to read its configuration.

    A file is made where there is none; of one that is there all else stays as it is. Raises
    Misconfigured for what the loader would refuse, and Rejected for a value that an environment
    variable overrules; nothing is changed then.
    """
    known = path if path.exists() else None
    before = load(known, environment)
    _require_free(changes, environment)
    after = load(known, environment, policy=changes)
    written = _written(path, known, changes)
    with open_store(after) as store:
        # First the log, which may refuse: then nothing is changed.
        recorded = policies.change(store, after.policy, reason=reason, actor=actor)
        if written is not None:
            _replace(path, written)
    daemon, told = _tell(after.data)
    return Done(
        file=str(path),
        changed=policies.difference(before.policy, after.policy),
        recorded=recorded,
        daemon=daemon,
        told=told,
    )


def _section(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    section = tree.get("policy", {})
    return section if isinstance(section, dict) else {}


def _require_free(changes: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    overruled = sorted(changes.keys() & _section(said(None, environment)[1]).keys())
    if overruled:
        names = ", ".join(f"{PREFIX}POLICY__{name.upper()}" for name in overruled)
        raise Rejected(
            f"The environment overrules what would be set: {names}.",
            hint="Take it out of the environment, here and where the daemon is started.",
        )


def _written(path: Path, known: Path | None, changes: Mapping[str, Any]) -> bytes | None:
    """The file with these values; None where it has them. Raises Misconfigured."""
    old = "" if known is None else known.read_text()
    wanted = tomllib.loads(old)
    wanted.setdefault("policy", {}).update(changes)
    if known is not None and wanted == tomllib.loads(old):
        return None
    document = tomlkit.parse(old)
    section = document.setdefault("policy", tomlkit.table())
    for name, value in changes.items():
        section[name] = _item(value)
    new = document.as_string()
    place = path if known is not None else _nearest(path.parent)
    if not (os.access(place, os.W_OK) and os.access(_nearest(path.parent), os.W_OK)):
        raise Misconfigured(
            f"{path} cannot be written by this user.",
            hint="Set the policy as a user who may, or name another file with --config.",
        )
    if tomllib.loads(new) != wanted:
        raise Misconfigured(
            f"In {path} [policy] is written in a way that this cannot change.",
            hint="Write it as one table, a key a line.",
        )
    return new.encode()


def _item(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    table = tomlkit.inline_table()
    table.update(value)
    return table


def _nearest(folder: Path) -> Path:
    """The folder, or the one that it would be made in."""
    return next(place for place in (folder, *folder.parents) if place.exists())


def _replace(path: Path, content: bytes) -> None:
    """Writes the file, whole or not at all; it belongs to whom it belonged."""
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    old = path.stat() if path.exists() else None
    write_atomically(path, content)
    if old is not None:
        path.chmod(stat.S_IMODE(old.st_mode))
        with suppress(PermissionError):
            os.chown(path, old.st_uid, old.st_gid)


def _tell(data: Path) -> tuple[int | None, bool]:
    """The process that serves the data folder, and whether it was told to read again."""
    address = running_daemon(data)
    if address is None:
        return None, False
    try:
        os.kill(address.pid, signal.SIGHUP)
    except ProcessLookupError:
        return None, False
    except PermissionError:
        return address.pid, False
    return address.pid, True
