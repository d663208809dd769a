"""Landlock: this process and its children read the given paths and nothing else, write nothing.

Structures and numbers are those of linux/landlock.h; the three calls have the same numbers on
every architecture.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

from .kernel import call

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
VERSION = 1
PATH_BENEATH = 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""How many rights on files each version of the interface knows; from the fifth on sixteen."""
NET_RIGHTS = 0b11  # bind, connect
SCOPES = 0b11  # abstract sockets of others, signals to others


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def ruleset(readable: Iterable[str]) -> int:
    """A descriptor of the rules; all that this kernel can forbid is forbidden but reading these.

    Raises OSError where the kernel has no Landlock, or it was not switched on at boot.
    """
    version = call("syscall", CREATE_RULESET, None, ctypes.c_size_t(0), VERSION)
    rules = _Ruleset(fs=(1 << FS_RIGHTS.get(version, 16)) - 1, net=NET_RIGHTS, scoped=SCOPES)
    known = 8 if version < 4 else 16 if version < 6 else 24  # bytes of it that this kernel knows
    made = call("syscall", CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(known), 0)
    for path in readable:
        _allow(made, path)
    return made


def restrict(rules: int) -> None:
    """Puts this process below these rules, for good; again: below them once more.

    Who is below them once more can neither trace nor signal who is below them once.
    """
    call("syscall", RESTRICT_SELF, rules, 0)


def _allow(rules: int, path: str) -> None:
    opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rights = READ_FILE | READ_DIR if Path(path).is_dir() else READ_FILE
        beneath = _PathBeneath(allowed=rights, parent=opened)
        call("syscall", ADD_RULE, rules, PATH_BENEATH, ctypes.byref(beneath), 0)
    finally:
        os.close(opened)
