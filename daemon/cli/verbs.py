"""Every verb of the command line. Each file named here holds the verbs of one errand."""

from __future__ import annotations

from daemon.cli import (
    agreement,
    answers,
    chat,
    copies,
    counts,
    datasets,
    doctor,
    evaluations,
    files,
    heads,
    keys,
    loop,
    maintenance,
    people,
    policy,
    review,
    rollback,
    scoring,
    search,
    service,
    tags,
    train,
)
from daemon.cli.app import app

__all__ = ["VERBS", "app"]

VERBS = (
    service,
    doctor,
    loop,
    rollback,
    train,
    evaluations,
    answers,
    chat,
    scoring,
    search,
    review,
    agreement,
    tags,
    counts,
    heads,
    datasets,
    policy,
    files,
    people,
    keys,
    maintenance,
    copies,
)
"""Importing them registers their verbs with the app."""
