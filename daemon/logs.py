"""Logging, once: structlog on stderr, readable on a terminal, JSON in service.

Never log what people said: ids, counts and reasons only. A key that slips into a line all the
same, in an address or in an error's text, is blotted out.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

OUR_KEYS = re.compile(r"\b(bhv[pt]?_[A-Za-z0-9]{0,12})[A-Za-z0-9_.=-]*")
PASSWORDS = re.compile(r"(://[^/\s:@]*:)[^@\s/]+@")
SECRET_NAMES = re.compile(r"(?i)secret|password|authorization|api_?key|token$")


def blot_secrets(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> dict[str, Any]:
    """The line without secrets, told by a field's name or by a text's shape."""
    return {
        name: "[secret]" if SECRET_NAMES.search(name) else _blotted(value)
        for name, value in line.items()
    }


def _blotted(value: Any) -> Any:
    if isinstance(value, str):
        return PASSWORDS.sub(r"\1[secret]@", OUR_KEYS.sub(r"\1[secret]", value))
    if isinstance(value, dict):
        return {name: _blotted(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_blotted(entry) for entry in value]
    return value


def set_up() -> None:
    """Sends structlog and the standard library's loggers to stderr, one line per event."""
    wanted = os.environ.get("BHAVANA_LOG_FORMAT", "console" if sys.stderr.isatty() else "json")
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if wanted == "console"
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, blot_secrets, last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                blot_secrets,
                last,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    # A tick that comes while a cycle turns is skipped by design, every second.
    logging.getLogger("apscheduler.scheduler").setLevel(logging.ERROR)
