"""Exports of other programs, and of ours, become experiences.

IMPORTS is the roster: a new format is one file and one line here. The first that fits a document
reads it.
"""

from __future__ import annotations

from converters.imports import librechat, messages, openwebui, sharegpt
from converters.imports.exchange import Import

IMPORTS: dict[str, Import] = {
    "openwebui": openwebui.IMPORT,
    "librechat": librechat.IMPORT,
    "sharegpt": sharegpt.IMPORT,
    "messages": messages.IMPORT,
}
