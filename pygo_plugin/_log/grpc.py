"""gRPC's own log lines as records of `logging.getLogger("pygo_plugin.grpc")`.

Imported with the first line, on the core's thread for callbacks. gRPC logs errors, and more if its
environment variables GRPC_VERBOSITY and GRPC_TRACE say so.
"""

from __future__ import annotations

import logging

__all__ = ["log_line"]

_logger = logging.getLogger("pygo_plugin.grpc")


def log_line(level: int, text: str, left_out: int) -> None:
    """Log one line. Called by the core.

    `left_out` is the number of lines before it that came faster than they could be logged.
    """
    if left_out:
        _logger.warning("%d lines of gRPC's log were left out here", left_out)
    _logger.log(level, "%s", text)
