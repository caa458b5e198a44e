#!/usr/bin/env python3
"""A plugin that logs in the ways of Python's libraries, configured before it serves or in a call.

logging_plugin.py SERVER WAY [--before]: KV.Get of "setup" configures, and of "emit" logs TEXT.
"""

from __future__ import annotations

import logging
import logging.config
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any

from pygo_plugin_peer import HANDSHAKE, GrpcioServer

from pygo_plugin import Plugin, ServeConfig, Server

TEXT = "this has to reach the host"


class Way:
    """Logs to standard error. `setup` gives what logs."""

    def __init__(self, setup: Callable[[], Callable[[], object]]) -> None:
        self._setup = setup
        self.emit: Callable[[], object] | None = None

    def setup(self) -> None:
        self.emit = self._setup()


def log() -> None:
    logging.getLogger("a.library").warning(TEXT)


def basic_config() -> Callable[[], object]:
    logging.basicConfig(format="own: %(message)s", force=True)
    return log


def dict_config() -> Callable[[], object]:
    handler = {"class": "logging.StreamHandler", "stream": "ext://sys.stderr"}
    root = {"handlers": ["own"], "level": "INFO"}
    logging.config.dictConfig({"version": 1, "handlers": {"own": handler}, "root": root})
    return log


def new_handler() -> Callable[[], object]:
    logger = logging.getLogger("own")
    logger.propagate = False
    logger.addHandler(logging.StreamHandler())
    return lambda: logger.warning(TEXT)


def held() -> Callable[[], object]:
    stream = sys.stderr
    return lambda: print(TEXT, file=stream)


def wrapped() -> Callable[[], object]:
    """As what colours output does it."""

    class Wrapper:
        def __init__(self, stream: Any) -> None:
            self._stream = stream

        def __getattr__(self, name: str) -> Any:
            return getattr(self._stream, name)

    wrapper = Wrapper(sys.stderr)
    sys.stderr = wrapper  # type: ignore[assignment]
    return lambda: print(TEXT, file=sys.stderr)


def loguru_default() -> Callable[[], object]:
    from loguru import logger

    return lambda: logger.info(TEXT)


def structlog_to_stderr() -> Callable[[], object]:
    import structlog

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=sys.stderr))
    return lambda: structlog.get_logger().info(TEXT)


def no_handler() -> Callable[[], object]:
    logging.getLogger().handlers.clear()
    return log


def print_exception() -> None:
    try:
        raise ValueError(TEXT)
    except ValueError:
        traceback.print_exc()


def child() -> None:
    subprocess.run(["sh", "-c", f"echo {TEXT} >&2"], check=True, stderr=sys.stderr)


WAYS = {
    # These hold the stream of the time when they are configured,
    "basicConfig": basic_config,
    "dictConfig": dict_config,
    "handler": new_handler,
    "held": held,
    "wrapped": wrapped,
    "loguru": loguru_default,
    "structlog": structlog_to_stderr,
    # and these look for sys.stderr whenever they write.
    "lastResort": no_handler,
    "warning": lambda: lambda: warnings.warn(TEXT, stacklevel=1),
    "print_exc": lambda: print_exception,
    "print": lambda: lambda: print(TEXT, file=sys.stderr),
    "child": lambda: child,
}


def main(kind: str, name: str, before: bool) -> None:
    way = Way(WAYS[name])
    if before:
        way.setup()

    class Logging(Plugin):
        def server_register(self, server: Any) -> None:
            import kv_pb2
            import kv_pb2_grpc

            class Servicer(kv_pb2_grpc.KVServicer):
                def Get(self, request: Any, context: Any) -> Any:
                    if request.key == "setup":
                        way.setup()
                    else:
                        assert way.emit is not None
                        way.emit()
                    return kv_pb2.GetResponse()

            kv_pb2_grpc.add_KVServicer_to_server(Servicer(), server)

    config = ServeConfig(handshake_config=HANDSHAKE, plugins={"kv": Logging()})
    if kind == "aio":
        import asyncio

        from pygo_plugin import aio

        asyncio.run(aio.serve(config))
        return
    server = {"core": Server, "grpcio": GrpcioServer}[kind](config)
    if not server.serve(wait=True):
        sys.exit(server.error_msg)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], "--before" in sys.argv)
