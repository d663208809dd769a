"""Logging, once: structlog on stderr, readable on a terminal, JSON in service.

Never log what people said: ids, counts and reasons only.
"""

from __future__ import annotations

import logging
import os
import sys

import structlog


def set_up() -> None:
    """Sends structlog and the standard library's loggers to stderr, one line per event."""
    wanted = os.environ.get("BHAVANA_LOG_FORMAT", "console" if sys.stderr.isatty() else "json")
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer()
        if wanted == "console"
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, last],
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
                last,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    # A tick that comes while a cycle turns is skipped by design, every second.
    logging.getLogger("apscheduler.scheduler").setLevel(logging.ERROR)
