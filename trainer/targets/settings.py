"""The section [targets] of the configuration: a subsection for each target that needs one."""

from __future__ import annotations

from msgspec import field

from store.records import Noun
from trainer.targets.cloudflare.settings import CloudflareSettings


class TargetsSettings(Noun, frozen=True, kw_only=True):
    """How targets are reached. The local one has nothing to set."""

    cloudflare: CloudflareSettings = field(default_factory=CloudflareSettings)
