"""What a server is given for the methods that it serves."""

from __future__ import annotations

from pygo_plugin._grpc.abstract import Abstract

TYPE_CHECKING = False  # typing is not imported at run time: a plugin's start would pay for it
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Behavior = Callable[[Any, Any], Any]
    Deserializer = Callable[[bytes], Any]
    Serializer = Callable[[Any], bytes]

__all__ = [
    "GenericHandler",
    "MethodHandler",
    "method_handlers_generic_handler",
    "stream_stream_rpc_method_handler",
    "stream_unary_rpc_method_handler",
    "unary_stream_rpc_method_handler",
    "unary_unary_rpc_method_handler",
]


class MethodHandler(Abstract):
    """The handler of one method, with the attributes of grpc.RpcMethodHandler."""

    _implements = ("RpcMethodHandler",)

    def __init__(
        self,
        request_streaming: bool = False,
        response_streaming: bool = False,
        request_deserializer: Callable[[bytes], Any] | None = None,
        response_serializer: Callable[[Any], bytes] | None = None,
        unary_unary: Callable[[Any, Any], Any] | None = None,
        unary_stream: Callable[[Any, Any], Any] | None = None,
        stream_unary: Callable[[Any, Any], Any] | None = None,
        stream_stream: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        self.request_streaming = request_streaming
        self.response_streaming = response_streaming
        self.request_deserializer = request_deserializer
        self.response_serializer = response_serializer
        self.unary_unary = unary_unary
        self.unary_stream = unary_stream
        self.stream_unary = stream_unary
        self.stream_stream = stream_stream

    def __repr__(self) -> str:
        kinds = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
        kind = kinds[2 * bool(self.request_streaming) + bool(self.response_streaming)]
        return f"<{type(self).__name__} {kind}: {getattr(self, kind)!r}>"

    def _replace(self, **changes: Any) -> MethodHandler:
        """A copy with changes: grpcio's handlers are named tuples, and interceptors use that."""
        return MethodHandler(**{**self.__dict__, **changes})


class GenericHandler(Abstract):
    """The handlers of one service: a grpc.ServiceRpcHandler."""

    _implements = ("ServiceRpcHandler",)

    def __init__(self, name: str, handlers: dict[str, MethodHandler]) -> None:
        self._name = name
        self._handlers = {f"/{name}/{method}": handler for method, handler in handlers.items()}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._name}: {', '.join(self._handlers)}>"

    def service_name(self) -> str:
        return self._name

    def service(self, details: Any) -> MethodHandler | None:
        return self._handlers.get(details.method)


# ---- As grpcio has them, for pygo_plugin.rpc -----------------------------------------------------


def unary_unary_rpc_method_handler(
    behavior: Behavior,
    request_deserializer: Deserializer | None = None,
    response_serializer: Serializer | None = None,
) -> MethodHandler:
    """The handler of a method with one request and one reply: `behavior(request, context)`."""
    return MethodHandler(
        False, False, request_deserializer, response_serializer, unary_unary=behavior
    )


def unary_stream_rpc_method_handler(
    behavior: Behavior,
    request_deserializer: Deserializer | None = None,
    response_serializer: Serializer | None = None,
) -> MethodHandler:
    """The handler of a method with one request; `behavior(request, context)` yields replies."""
    return MethodHandler(
        False, True, request_deserializer, response_serializer, unary_stream=behavior
    )


def stream_unary_rpc_method_handler(
    behavior: Behavior,
    request_deserializer: Deserializer | None = None,
    response_serializer: Serializer | None = None,
) -> MethodHandler:
    """The handler of a method with one reply: `behavior(requests, context)` returns it."""
    return MethodHandler(
        True, False, request_deserializer, response_serializer, stream_unary=behavior
    )


def stream_stream_rpc_method_handler(
    behavior: Behavior,
    request_deserializer: Deserializer | None = None,
    response_serializer: Serializer | None = None,
) -> MethodHandler:
    """The handler of a method of two streams: `behavior(requests, context)` yields replies."""
    return MethodHandler(
        True, True, request_deserializer, response_serializer, stream_stream=behavior
    )


def method_handlers_generic_handler(
    service: str, method_handlers: dict[str, MethodHandler]
) -> GenericHandler:
    """The handler of a service whose methods have these handlers, by their names."""
    return GenericHandler(service, method_handlers)
