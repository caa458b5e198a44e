"""Services and their methods from protobuf descriptors.

protobuf has three implementations, whose descriptors have no base class in common: descriptors are
recognized by their attributes.
"""

from __future__ import annotations

from pygo_plugin._service.method import MessageType, Method, describe_type
from pygo_plugin.errors import ConfigError, ConfigTypeError, _needing

TYPE_CHECKING = False  # typing is not imported at run time: a plugin's start would pay for it
if TYPE_CHECKING:
    from typing import Any

    from pygo_plugin._service.method import Deserializer, Serializer

__all__ = ["find_service", "methods_of", "streaming_of"]


def find_service(source: Any, name: str | None) -> Any:
    """The service descriptor that `source` is or contains. See `service()`."""
    found = _as_service(source)
    if found is None:
        return _choose(_as_file(source), name)
    if name is not None and name not in (found.name, found.full_name):
        raise ConfigError(
            f"service(): the descriptor given is that of {found.full_name}, not {name}"
        )
    return found


def methods_of(service: Any) -> list[Method]:
    """The methods of a service descriptor, in the order of the `.proto` file."""
    return [_method(service.full_name, descriptor) for descriptor in service.methods]


def _method(service_name: str, descriptor: Any) -> Method:
    request_streaming, response_streaming = streaming_of(descriptor)
    return Method(
        service_name,
        descriptor.name,
        _message_type(descriptor.input_type),
        _message_type(descriptor.output_type),
        request_streaming=request_streaming,
        response_streaming=response_streaming,
        source=descriptor,
    )


def _message_type(descriptor: Any) -> MessageType:
    def load() -> tuple[type[Any], Serializer, Deserializer]:
        message = _message_class(descriptor)
        # The class's own functions and no lambda around them, which would slow each call.
        return message, message.SerializeToString, message.FromString

    return MessageType(descriptor.full_name, load)


def _as_service(source: Any) -> Any:
    """The service descriptor that `source` is, or carries as `DESCRIPTOR`; or None."""
    for candidate in (source, getattr(source, "DESCRIPTOR", None)):
        if hasattr(candidate, "methods_by_name") and hasattr(candidate, "full_name"):
            return candidate
    return None


def _as_file(source: Any) -> Any:
    """The file descriptor that `source` is, or carries as `DESCRIPTOR`."""
    for candidate in (source, getattr(source, "DESCRIPTOR", None)):
        if hasattr(candidate, "services_by_name"):
            return candidate
    hint = ""
    if isinstance(source, str):
        hint = "; import the module and pass that"
    elif getattr(source, "__name__", "").endswith("_pb2_grpc"):
        hint = f"; pass {source.__name__[: -len('_grpc')]}, it describes the service"
    elif hasattr(getattr(source, "DESCRIPTOR", source), "fields_by_name"):
        hint = ", which is a message; pass the module that defines the service"
    raise ConfigTypeError(
        f"service() takes a *_pb2 module or a protobuf service descriptor, not "
        f"{describe_type(source)}{hint}"
    )


def _choose(file: Any, name: str | None) -> Any:
    """The service called `name` in a file descriptor, or its only one."""
    services = file.services_by_name
    known = ", ".join(services)
    if not known:
        raise ConfigError(f"{file.name} defines no service")
    if name is None:
        if len(services) > 1:
            raise ConfigError(
                f"{file.name} defines more than one service; choose one with service(..., name): "
                f"{known}"
            )
        (found,) = services.values()
        return found
    prefix = f"{file.package}."
    short = name[len(prefix) :] if file.package and name.startswith(prefix) else name
    if short not in services:
        raise ConfigError(f"{file.name} defines no service {name}, only {known}")
    return services[short]


def streaming_of(method: Any) -> tuple[bool, bool]:
    """Whether a method's requests and its replies are streams."""
    try:
        return method.client_streaming, method.server_streaming
    except AttributeError:  # protobuf before 4.23, except in some of its implementations
        with _needing("a service of a protobuf descriptor"):
            from google.protobuf.descriptor_pb2 import MethodDescriptorProto
        proto = MethodDescriptorProto()
        method.CopyToProto(proto)
        return proto.client_streaming, proto.server_streaming


def _message_class(descriptor: Any) -> type[Any]:
    """The message class of the descriptor's own pool: that of the `*_pb2` module, if it has one."""
    with _needing("a service of a protobuf descriptor"):
        from google.protobuf import message_factory
    get: Any = getattr(message_factory, "GetMessageClass", None)
    if get is None:  # protobuf before 4.22
        get = message_factory.MessageFactory(descriptor.file.pool).GetPrototype  # type: ignore[attr-defined]
    found: type[Any] = get(descriptor)
    return found
