"""A world of its own: no network, no other process, and of the files only what may be read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from .kernel import call

NEWNS, NEWUTS, NEWIPC, NEWUSER = 0x00020000, 0x04000000, 0x08000000, 0x10000000
NEWPID, NEWNET = 0x20000000, 0x40000000
NOSUID, NODEV, REMOUNT, BIND, RECURSIVE, PRIVATE = 2, 4, 32, 4096, 16384, 1 << 18
READ_ONLY = 1
KEPT_FLAGS = READ_ONLY | NOSUID | NODEV | 8 | 1024 | 2048
"""Flags of a mount that a user namespace may not take off: noexec, noatime, nodiratime, too."""
DETACH = 2
NEW_ROOT = "/tmp"  # noqa: S108  # a mount point that is everywhere; only this process sees it
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}


def enter(readable: Sequence[str]) -> None:
    """Takes this process into its own namespaces; the next child is the first of its own.

    Root needs no user namespace. Raises OSError where the kernel or the machine's policy forbids.
    """
    uid, gid = os.getuid(), os.getgid()
    call("unshare", NEWNS | NEWPID | NEWNET | NEWIPC | NEWUTS | (NEWUSER if uid else 0))
    if uid:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    os.umask(0o022)
    _mount(None, "/", None, RECURSIVE | PRIVATE)
    _mount("tmpfs", NEW_ROOT, "tmpfs", NOSUID | NODEV, "size=64k,mode=755")
    old = Path(NEW_ROOT, "old")
    old.mkdir()
    call("syscall", PIVOT_ROOT.get(os.uname().machine, -1), NEW_ROOT.encode(), bytes(old))
    os.chdir("/")
    for path in readable:
        _show("/old", path)
    call("umount2", b"/old", DETACH)
    Path("/old").rmdir()
    _mount(None, "/", None, REMOUNT | BIND | READ_ONLY | NOSUID | NODEV)


def _show(old: str, path: str) -> None:
    """Shows a folder or a file of the old root at its place in this one, to be read only."""
    source, target = Path(old + path), Path(path)
    if target.exists():  # below one that is shown already
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        target.symlink_to(source.readlink())
        return
    if source.is_dir():
        target.mkdir()
    else:
        target.touch()
    _mount(str(source), path, None, BIND | RECURSIVE)
    kept = os.statvfs(path).f_flag & KEPT_FLAGS
    _mount(None, path, None, REMOUNT | BIND | READ_ONLY | NOSUID | NODEV | kept)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    texts = [text.encode() if text is not None else None for text in (source, target, kind)]
    call("mount", *texts, flags, data.encode())
