"""The section [targets] of the configuration: a subsection for each target that needs one."""

from __future__ import annotations

from store.records import Noun


class TargetsSettings(Noun, frozen=True, kw_only=True):
    """How targets are reached. The local one has nothing to set."""
