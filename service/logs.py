"""What is logged, as JSON lines on stderr."""

import json
import logging
import sys
from typing import Any

import structlog


def access_logger() -> Any:
    """JSON lines on stderr. Each request writes one, so logger and encoder are made once."""
    encode = json.JSONEncoder(default=repr).encode
    stamped = structlog.processors.TimeStamper(fmt="iso", utc=True)
    return structlog.wrap_logger(
        structlog.WriteLogger(sys.stderr),
        processors=[stamped, structlog.processors.JSONRenderer(lambda line, **_: encode(line))],
        wrapper_class=structlog.BoundLogger,
    ).bind()


def log_as_json() -> None:
    """Warnings and errors of all libraries as JSON lines on stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
