"""The services that every plugin has, for a server of grpcio.

Their messages are small, and are encoded by hand: that takes no generated code, and no
grpcio-health-checking. The core's servers (`_grpc.server.Server`) have these services built in.
"""

from __future__ import annotations

import threading
from concurrent import futures

import grpc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pygo_plugin._serve.stdio import Stdio

__all__ = ["add_plugin_services"]

SERVING = b"\x08\x01"  # HealthCheckResponse{status: SERVING}
EMPTY = b""


def add_plugin_services(server: Any, service_name: str, stdio: Stdio, grace: float) -> None:
    """Add grpc.health.v1.Health for the services `service_name` and "", the controller, and stdio.

    The controller's Shutdown stops the server as `stop(grace)` does. Health has no Watch, which
    gRPC's health protocol leaves optional.
    """

    def check(request: bytes, context: Any) -> bytes:
        service = health_request_service(request)
        if service not in ("", service_name):
            context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service {service!r}")
        return SERVING

    def list_all(request: bytes, context: Any) -> bytes:
        # HealthListResponse.statuses: field 1, a map; each entry has a name and a status.
        entries = [
            b"\x0a" + bytes([len(name)]) + name + b"\x12" + bytes([len(SERVING)]) + SERVING
            for name in sorted({b"", service_name.encode()})
        ]
        return b"".join(b"\x0a" + bytes([len(entry)]) + entry for entry in entries)

    def shutdown(request: bytes, context: Any) -> bytes:
        stdio.finish()  # otherwise its stream would last until `grace` is over
        server.stop(grace)  # returns at once, so that this call can be answered
        return EMPTY

    def stream_stdio(request: bytes, context: Any) -> Iterator[bytes]:
        reader = stdio.core.reader()
        if not context.add_callback(reader.close):
            reader.close()
        return reader

    # The stream lasts as long as the server, and must not occupy one of the author's threads.
    stream_stdio.experimental_thread_pool = OwnThread("pygo-stdio")  # type: ignore[attr-defined]

    services: dict[str, dict[str, Any]] = {
        "grpc.health.v1.Health": {
            "Check": grpc.unary_unary_rpc_method_handler(check),
            "List": grpc.unary_unary_rpc_method_handler(list_all),
        },
        "plugin.GRPCController": {"Shutdown": grpc.unary_unary_rpc_method_handler(shutdown)},
        "plugin.GRPCStdio": {"StreamStdio": grpc.unary_stream_rpc_method_handler(stream_stdio)},
    }
    server.add_generic_rpc_handlers(
        tuple(
            grpc.method_handlers_generic_handler(name, methods)
            for name, methods in services.items()
        )
    )


class OwnThread(futures.ThreadPoolExecutor):
    """Runs each call on a new daemon thread, for which the interpreter's exit does not wait."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
        future: futures.Future[Any] = futures.Future()

        def run() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=run, name=self._name, daemon=True).start()
        return future


def health_request_service(message: bytes) -> str:
    """Decode HealthCheckRequest.service, a string with field number 1. Skips other fields."""
    service = b""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        field, wire_type = key >> 3, key & 7
        if wire_type == 0:
            _, position = _varint(message, position)
        elif wire_type in (1, 5):
            position += 8 if wire_type == 1 else 4
        elif wire_type == 2:
            length, position = _varint(message, position)
            if field == 1:
                service = message[position : position + length]
            position += length
        else:
            break  # groups are not part of proto3
    return service.decode("utf-8", "replace")


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(message):
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    return value, position
