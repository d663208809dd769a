"""The section [targets] of the configuration: a subsection for each target that needs one."""

from __future__ import annotations

from msgspec import field

from store.records import Noun
from trainer.targets.cloudflare.settings import CloudflareSettings
from trainer.targets.ollama.settings import OllamaSettings


class TargetsSettings(Noun, frozen=True, kw_only=True):
    """How targets are reached. The local one has nothing to set."""

    ollama: OllamaSettings = field(default_factory=OllamaSettings)
    cloudflare: CloudflareSettings = field(default_factory=CloudflareSettings)
