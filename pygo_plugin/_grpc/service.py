"""Stubs and registration of a gRPC service straight from its protobuf descriptor.

What `*_pb2_grpc.py` would hold is made here from what `*_pb2.py` knows already, for our channels
and servers as for grpcio's, blocking and asyncio. Neither grpcio nor typing is imported: the
author's `import kv_pb2` is to remain what a plugin's start costs.
"""

from __future__ import annotations

import sys

from pygo_plugin._grpc.abstract import Abstract
from pygo_plugin.errors import ConfigError, ConfigTypeError
from pygo_plugin.plugin import Plugin

TYPE_CHECKING = False  # typing is not imported at run time: a plugin's start would pay for it
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from inspect import Signature
    from typing import Any, Generic, TypeVar

    S = TypeVar("S")

    class _Base(Generic[S]):
        pass
else:

    class _Base:
        __slots__ = ()

        def __class_getitem__(cls, stub):  # Service[KVStub], where annotations are evaluated
            return cls


__all__ = ["Method", "MethodHandler", "Service", "ServicePlugin", "service"]

_UNIMPLEMENTED = 12
_CO_COROUTINE = 0x80
_CO_ASYNC_GENERATOR = 0x200

_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
_IN_WORDS = (
    "One request, one reply.",
    "One request, a stream of replies.",
    "A stream of requests, one reply.",
    "A stream of requests, a stream of replies.",
)


def service(source: Any, name: str | None = None) -> Service[Any]:
    """The service that a protobuf descriptor describes, ready to be called and to be served.

        KV = service(kv_pb2, "KV")  # or service(kv_pb2.DESCRIPTOR.services_by_name["KV"])

    `source` is a generated `*_pb2` module, its file descriptor, or a service descriptor. `name`,
    with or without the package, chooses from a file of several services.

    For type checkers the result is a `Service[Any]`, whose stubs have any method. Annotate it with
    a class of your own to have calls checked: `KV: Service[KVStub] = ...`, see
    `pygo_plugin.stubs`.

    Raises: ConfigError when there is no such service; ConfigTypeError (a TypeError) for a `source`
    that is something else.
    """
    found = _as_service(source)
    if found is None:
        found = _choose(_as_file(source), name)
    elif name is not None and name not in (found.name, found.full_name):
        raise ConfigError(
            f"service(): the descriptor given is that of {found.full_name}, not {name}"
        )
    return Service(found)


class Service(_Base["S"]):
    """One gRPC service: the stub class, the servicer class, and how to register one.

    Made by `service()`. It holds for any channel and any server, ours and grpcio's, blocking and
    asyncio.
    """

    __slots__ = ("_made", "descriptor", "methods", "name")

    name: str
    """The full name, such as `kv.KV`."""

    methods: Mapping[str, Method]
    """The methods by name, in the order of the `.proto` file. Not to be changed."""

    descriptor: Any
    """The `google.protobuf.descriptor.ServiceDescriptor`."""

    def __init__(self, descriptor: Any) -> None:
        self.descriptor = descriptor
        self.name = descriptor.full_name
        self.methods = {one.name: Method(self.name, one) for one in descriptor.methods}
        self._made: dict[str, Any] = {}

    @property
    def Stub(self) -> Callable[[Any], S]:
        """The class whose instances, made of a channel, have one callable per method."""
        stub: Callable[[Any], S] = self._once("Stub", _make_stub)
        return stub

    @property
    def Servicer(self) -> type[Any]:
        """A base for servicers: what is not overridden answers UNIMPLEMENTED.

        A servicer need not derive from it if it has all methods.
        """
        servicer: type[Any] = self._once("Servicer", _make_servicer)
        return servicer

    def add_to_server(self, servicer: Any, server: Any) -> None:
        """Have `server` answer the service's calls with the methods of `servicer`.

        Raises: ConfigTypeError when `servicer` lacks methods, is a class instead of an instance, or
        is asynchronous and the server is not; or when `server` is no server.
        """
        _register(self, servicer, server)

    def plugin(self, servicer: Any = None) -> ServicePlugin:
        """The `Plugin` of this service, for both sides.

        `servicer`, which only serving takes, is a servicer or what makes one when the plugin starts
        to serve, usually its class.
        """
        return ServicePlugin(self, servicer)

    def _once(self, key: str, make: Callable[[Service[Any]], Any]) -> Any:
        # setdefault is atomic: of two threads, one class wins.
        return self._made.get(key) or self._made.setdefault(key, make(self))

    def __repr__(self) -> str:
        return f"<service {self.name}: {', '.join(self.methods) or 'no methods'}>"


class ServicePlugin(Plugin):
    """The Plugin of a `Service`: hosts get its stub, the plugin's process serves a servicer.

    plugins={"kv": KV.plugin()}            # in the host
    plugins={"kv": KV.plugin(KVServicer)}  # in the plugin
    """

    def __init__(self, service: Service[Any], servicer: Any = None) -> None:
        if not isinstance(service, Service):
            raise ConfigTypeError(
                f"ServicePlugin() takes what pygo_plugin.service() returns, not {_name(service)}"
            )
        self.service = service
        self._servicer = servicer

    def client_class(self) -> Callable[[Any], Any]:
        return self.service.Stub

    def server_register(self, server: Any) -> None:
        if self._servicer is None:
            raise ConfigError(
                f"{self.service.name}: this plugin has no servicer to serve; give "
                f"service(...).plugin() one"
            )
        servicer = self._servicer
        # Both a class and a function that makes servicers lack what their result has.
        if isinstance(servicer, type) or (
            callable(servicer) and not _has_any(servicer, self.service.methods)
        ):
            servicer = servicer()
        self.service.add_to_server(servicer, server)

    def __repr__(self) -> str:
        return f"<plugin of {self.service!r}>"


class Method:
    """One method of a service."""

    __slots__ = (
        "_descriptor",
        "name",
        "path",
        "request_streaming",
        "response_streaming",
    )

    name: str
    path: str
    """How gRPC calls it: `/kv.KV/Get`."""
    request_streaming: bool
    response_streaming: bool

    def __init__(self, service_name: str, descriptor: Any) -> None:
        self._descriptor = descriptor
        self.name = descriptor.name
        self.path = f"/{service_name}/{self.name}"
        self.request_streaming, self.response_streaming = _streaming(descriptor)

    @property
    def kind(self) -> str:
        """`unary_unary`, `unary_stream`, `stream_unary` or `stream_stream`."""
        return _KINDS[2 * self.request_streaming + self.response_streaming]

    @property
    def request(self) -> type[Any]:
        """The class of the requests."""
        return _message_class(self._descriptor.input_type)

    @property
    def response(self) -> type[Any]:
        """The class of the replies."""
        return _message_class(self._descriptor.output_type)

    def describe(self) -> str:
        """The method as a `.proto` file declares it."""
        requests = "stream " * self.request_streaming + self._descriptor.input_type.full_name
        replies = "stream " * self.response_streaming + self._descriptor.output_type.full_name
        return f"rpc {self.name}({requests}) returns ({replies})"

    def __repr__(self) -> str:
        return f"<{self.describe()}>"


class MethodHandler(Abstract):
    """What a server is given for one method: the attributes of grpc.RpcMethodHandler."""

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

    def _replace(self, **changes: Any) -> MethodHandler:
        """A copy with changes: grpcio's handlers are named tuples, and interceptors use that."""
        return MethodHandler(**{**self.__dict__, **changes})


class _GenericHandler(Abstract):
    """A grpc.ServiceRpcHandler."""

    _implements = ("ServiceRpcHandler",)

    def __init__(self, name: str, handlers: dict[str, MethodHandler]) -> None:
        self._name = name
        self._handlers = {f"/{name}/{method}": one for method, one in handlers.items()}

    def service_name(self) -> str:
        return self._name

    def service(self, details: Any) -> MethodHandler | None:
        return self._handlers.get(details.method)


# ---- The stub -----------------------------------------------------------------------------------


class _StubMethod:
    """What a stub class shows for a method. Instances hold the channel's callable in its place."""

    def __init__(self, method: Method) -> None:
        self._method = method
        self.__name__ = method.name

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        method = self._method
        words = _IN_WORDS[_KINDS.index(method.kind)]
        return f"{method.describe()}\n\n{words}"

    @property
    def __signature__(self) -> Signature:
        from inspect import Parameter, Signature

        method = self._method
        first = "request_iterator" if method.request_streaming else "request"
        options = ("timeout", "metadata", "credentials", "wait_for_ready", "compression")
        return Signature(
            [
                Parameter(first, Parameter.POSITIONAL_OR_KEYWORD, annotation=method.request),
                *(
                    Parameter(option, Parameter.POSITIONAL_OR_KEYWORD, default=None)
                    for option in options
                ),
            ],
            return_annotation=method.response,
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise ConfigTypeError(
            f"{self._method.name} was called on the stub's class; make an instance of it, with a "
            f"channel, and call its {self._method.name}"
        )

    def __repr__(self) -> str:
        return f"<stub of {self._method.describe()}>"


class _StubBase:
    """Common to all stubs."""

    _service: Service[Any]

    def __init__(self, channel: Any) -> None:
        owner = self._service
        try:
            for name, method in owner.methods.items():
                make = getattr(channel, method.kind)
                # No lambda around the class's own functions: they are what is called per call.
                self.__dict__[name] = make(
                    method.path,
                    request_serializer=method.request.SerializeToString,
                    response_deserializer=method.response.FromString,
                )
        except AttributeError:
            if all(callable(getattr(channel, kind, None)) for kind in _KINDS):
                raise
            raise ConfigTypeError(_not_a_channel(owner, channel)) from None

    def __repr__(self) -> str:
        return f"<stub of {self._service.name}>"


def _make_stub(owner: Service[Any]) -> type[_StubBase]:
    name = owner.descriptor.name
    body: dict[str, Any] = {method.name: _StubMethod(method) for method in owner.methods.values()}
    body.update(
        __doc__=_class_doc(f"Calls {owner.name} through a channel.", owner),
        __module__=__name__,
        __qualname__=f"{name}Stub",
        _service=owner,
    )
    return type(f"{name}Stub", (_StubBase,), body)


def _not_a_channel(owner: Service[Any], given: Any) -> str:
    text = f"{owner.name}: Stub() takes a channel, not {_name(given)}"
    if callable(getattr(given, "new_channel", None)):
        return f"{text}; pass its .channel"
    if isinstance(given, str):
        return f"{text}; make one for that target first"
    if isinstance(given, tuple):
        return f"{text}; dispense() returns (channel, stub)"
    return text


# ---- The servicer -------------------------------------------------------------------------------


class _ServicerBase:
    """Common to all servicers."""

    _service: Service[Any]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, a servicer of {self._service.name}>"


def _make_servicer(owner: Service[Any]) -> type[_ServicerBase]:
    name = owner.descriptor.name
    body: dict[str, Any] = {
        method.name: _unimplemented(method, f"{name}Servicer") for method in owner.methods.values()
    }
    body.update(
        __doc__=_class_doc(f"Answers the calls of {owner.name}.", owner),
        __module__=__name__,
        __qualname__=f"{name}Servicer",
        _service=owner,
    )
    return type(f"{name}Servicer", (_ServicerBase,), body)


def _unimplemented(method: Method, owner: str) -> Callable[..., Any]:
    def unimplemented(self: Any, request: Any, context: Any) -> Any:
        # grpcio's servers know no numbers, ours do. A context of asyncio returns an awaitable.
        grpc = sys.modules.get("grpc")
        code = _UNIMPLEMENTED if grpc is None else grpc.StatusCode.UNIMPLEMENTED
        return context.abort(code, "Method not implemented!")

    unimplemented.__name__ = method.name
    unimplemented.__qualname__ = f"{owner}.{method.name}"
    unimplemented.__doc__ = (
        f"{method.describe()}\n\n{_IN_WORDS[_KINDS.index(method.kind)]} "
        "Unless overridden, calls end with UNIMPLEMENTED."
    )
    return unimplemented


def _register(owner: Service[Any], servicer: Any, server: Any) -> None:
    add_generic = getattr(server, "add_generic_rpc_handlers", None)
    if not callable(add_generic):
        raise ConfigTypeError(
            f"{owner.name}: add_to_server(servicer, server) takes a server second, not "
            f"{_name(server)}"
        )
    _check_servicer(owner, servicer, server)
    handlers = {
        name: MethodHandler(
            method.request_streaming,
            method.response_streaming,
            method.request.FromString,
            method.response.SerializeToString,
            **{method.kind: getattr(servicer, name)},
        )
        for name, method in owner.methods.items()
    }
    add_generic((_GenericHandler(owner.name, handlers),))
    # What finds a method without asking each generic handler. Older grpcio has none of it.
    add_registered = getattr(server, "add_registered_method_handlers", None)
    if callable(add_registered):
        add_registered(owner.name, handlers)


def _check_servicer(owner: Service[Any], servicer: Any, server: Any) -> None:
    if isinstance(servicer, type):
        raise ConfigTypeError(
            f"{owner.name}: the servicer must be an instance; pass {servicer.__name__}() "
            f"instead of the class"
        )
    missing = [name for name in owner.methods if not callable(getattr(servicer, name, None))]
    if missing:
        raise ConfigTypeError(
            f"{owner.name}: {_name(servicer)} lacks {', '.join(missing)}"
            f"{_misspelt(servicer, missing)}; let it derive from the service's Servicer if those "
            f"are to be UNIMPLEMENTED"
        )
    life = ("start", "stop", "wait_for_termination")
    if not any(_is_async(getattr(server, name, None)) for name in life):
        wrong = [name for name in owner.methods if _is_async(getattr(servicer, name))]
        if wrong:
            raise ConfigTypeError(
                f"{owner.name}: {', '.join(wrong)} of {_name(servicer)} "
                f"{'is a coroutine function' if len(wrong) == 1 else 'are coroutine functions'}, "
                f"which an asyncio server takes and {_name(server)} does not"
            )


def _misspelt(servicer: Any, missing: list[str]) -> str:
    """A hint at methods that differ by case or underscores alone."""
    plain = {name.replace("_", "").lower(): name for name in missing}
    found = [name for name in dir(servicer) if name.replace("_", "").lower() in plain]
    if not found:
        return ""
    hints = (f"{name} is not {plain[name.replace('_', '').lower()]}" for name in found)
    return f" ({', '.join(hints)})"


def _is_async(function: Any) -> bool:
    """Whether calling it gives a coroutine or an asynchronous generator."""
    # As inspect would say, which is slow to load.
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return bool(getattr(code, "co_flags", 0) & (_CO_COROUTINE | _CO_ASYNC_GENERATOR))


def _has_any(servicer: Any, names: Mapping[str, Method]) -> bool:
    return any(hasattr(servicer, name) for name in names)


# ---- Descriptors --------------------------------------------------------------------------------

# There are three implementations of protobuf, and their descriptors have no base in common.


def _as_service(source: Any) -> Any:
    """The service descriptor that `source` is, or carries as `DESCRIPTOR`; or None."""
    for one in (source, getattr(source, "DESCRIPTOR", None)):
        if hasattr(one, "methods_by_name") and hasattr(one, "full_name"):
            return one
    return None


def _as_file(source: Any) -> Any:
    """The file descriptor that `source` is, or carries as `DESCRIPTOR`."""
    for one in (source, getattr(source, "DESCRIPTOR", None)):
        if hasattr(one, "services_by_name"):
            return one
    hint = ""
    if isinstance(source, str):
        hint = "; import the module and pass that"
    elif getattr(source, "__name__", "").endswith("_pb2_grpc"):
        hint = f"; pass {source.__name__[: -len('_grpc')]}, it describes the service"
    elif hasattr(getattr(source, "DESCRIPTOR", source), "fields_by_name"):
        hint = ", which is a message; pass the module that defines the service"
    raise ConfigTypeError(
        f"service() takes a *_pb2 module or a protobuf service descriptor, not "
        f"{_name(source)}{hint}"
    )


def _choose(file: Any, name: str | None) -> Any:
    services = file.services_by_name
    known = ", ".join(services)
    if not known:
        raise ConfigError(f"{file.name} defines no service")
    if name is None:
        if len(services) > 1:
            raise ConfigError(
                f"{file.name} defines more than one service, say which: service(..., name) with "
                f"one of {known}"
            )
        (found,) = services.values()
        return found
    prefix = f"{file.package}."
    short = name[len(prefix) :] if file.package and name.startswith(prefix) else name
    if short not in services:
        raise ConfigError(f"{file.name} defines no service {name}, only {known}")
    return services[short]


def _streaming(method: Any) -> tuple[bool, bool]:
    try:
        return method.client_streaming, method.server_streaming
    except AttributeError:  # protobuf before 4.23, but for some of its implementations
        from google.protobuf.descriptor_pb2 import MethodDescriptorProto

        proto = MethodDescriptorProto()
        method.CopyToProto(proto)
        return proto.client_streaming, proto.server_streaming


def _message_class(descriptor: Any) -> type[Any]:
    """The message class of the descriptor's own pool: that of the `*_pb2` module, if it has one."""
    from google.protobuf import message_factory

    get: Any = getattr(message_factory, "GetMessageClass", None)
    if get is None:  # protobuf before 4.22
        get = message_factory.MessageFactory(descriptor.file.pool).GetPrototype  # type: ignore[attr-defined]
    found: type[Any] = get(descriptor)
    return found


def _class_doc(first: str, owner: Service[Any]) -> str:
    def lines() -> Iterator[str]:
        yield first
        yield ""
        for method in owner.methods.values():
            yield f"    {method.describe()}"

    return "\n".join(lines())


def _name(value: Any) -> str:
    """What messages call a value of the wrong type."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if type(value).__name__ == "module":
        return f"the module {value.__name__}"
    return type(value).__name__
