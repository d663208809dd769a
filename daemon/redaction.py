"""Redaction as the doors apply it: by source, counted, never logged."""

from __future__ import annotations

from functools import lru_cache

from prometheus_client import Counter

from daemon import metrics
from store.redaction import KINDS, Recorded, RedactionSettings, redact


class Redactor:
    """Replaces personal data and secrets in what comes in, under the rules of its source."""

    def __init__(self, settings: RedactionSettings) -> None:
        self._rules = lru_cache(1024)(settings.rules_for)
        self._counted: dict[str, Counter] = {kind: metrics.REDACTED.labels(kind) for kind in KINDS}

    def withholds(self, source: str | None) -> bool:
        """Whether no words of this source are stored."""
        return self._rules(source or "").content == "withhold"

    def __call__(self, item: Recorded, source: str | None) -> Recorded:
        """The item as it may be stored. Whatever this raises, the item must not be."""
        redacted = redact(item, self._rules(source or ""))
        for kind, count in redacted.counts.items():
            self._counted[kind].inc(count)
        return redacted.value
