"""Select the experiences worth learning from and write them as a dataset.

FORMATS is the roster: a new format is one file and one line here.
"""

from __future__ import annotations

from converters import chat
from converters.selection import Format

FORMATS: dict[str, Format] = {
    "chat": chat.row,
}
