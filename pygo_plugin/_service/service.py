"""Stubs and servicers without generated code: what `*_pb2_grpc.py` would hold, made at run time.

They work with this package's channels and servers and with grpcio's, blocking and asyncio. Neither
grpcio nor typing is imported here, which would slow a plugin's start.
"""

from __future__ import annotations

from pygo_plugin._service.method import describe_type
from pygo_plugin._service.protobuf import find_service, methods_of
from pygo_plugin.errors import ConfigError, ConfigTypeError, _importing
from pygo_plugin.plugin import Plugin

TYPE_CHECKING = False  # typing is not imported at run time: a plugin's start would pay for it
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Generic

    from typing_extensions import TypeVar

    from pygo_plugin import aio
    from pygo_plugin._grpc.channel import Channel
    from pygo_plugin._service.method import Method

    S = TypeVar("S", default=Any)  # the stub's type

    class _ServiceBase(Generic[S]):
        pass

    class _PluginBase(Plugin[tuple[Channel, S], tuple[aio.Channel, S]], Generic[S]):
        pass
else:
    from pygo_plugin.plugin import Subscriptable as _ServiceBase

    _PluginBase = Plugin


__all__ = ["Service", "ServicePlugin", "service"]


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
    descriptor = find_service(source, name)
    return Service(descriptor.full_name, methods_of(descriptor), descriptor)


class Service(_ServiceBase["S"]):
    """One service: its methods, its stub class, its servicer class, and how to register one.

    Made by `service()`. It works with any channel and any server, of this package and of grpcio,
    blocking and asyncio.
    """

    __slots__ = ("_made", "descriptor", "methods", "name")

    name: str
    """The full name, such as `kv.KV`."""

    methods: Mapping[str, Method]
    """The methods by name, in the order of their declaration. Not to be changed."""

    descriptor: Any
    """The `google.protobuf.descriptor.ServiceDescriptor` that it was made from."""

    def __init__(self, name: str, methods: Iterable[Method], descriptor: Any = None) -> None:
        self.name = name
        self.methods = {method.name: method for method in methods}
        self.descriptor = descriptor
        self._made: dict[str, Any] = {}  # the classes, once they have been asked for

    @property
    def Stub(self) -> Callable[[Any], S]:
        """The class whose instances, made of a channel, have one callable per method."""
        stub: Callable[[Any], S] | None = self._made.get("Stub")
        if stub is None:
            with _importing("pygo_plugin._service.stub"):
                from pygo_plugin._service.stub import make_stub

            # setdefault is atomic: if two threads make a class, both get the first.
            stub = self._made.setdefault("Stub", make_stub(self))
        return stub

    @property
    def Servicer(self) -> type[Any]:
        """A base class for servicers: methods that are not overridden answer UNIMPLEMENTED.

        A servicer need not derive from it if it has all methods.
        """
        servicer: type[Any] | None = self._made.get("Servicer")
        if servicer is None:
            with _importing("pygo_plugin._service.servicer"):
                from pygo_plugin._service.servicer import make_servicer

            servicer = self._made.setdefault("Servicer", make_servicer(self))
        return servicer

    def add_to_server(self, servicer: Any, server: Any) -> None:
        """Have `server` answer the service's calls with the methods of `servicer`.

        Raises: ConfigTypeError when `servicer` lacks methods, is a class instead of an instance, or
        is asynchronous and the server is not; or when `server` is no server.
        """
        with _importing("pygo_plugin._service.servicer"):
            from pygo_plugin._service.servicer import add_servicer

        add_servicer(self, servicer, server)

    def plugin(self, servicer: Any = None) -> ServicePlugin[S]:
        """The `Plugin` of this service, for both sides.

        `servicer` is needed only to serve. It is a servicer, or what makes one when the plugin
        starts to serve: usually a class.
        """
        return ServicePlugin(self, servicer)

    def __copy__(self) -> Service[S]:
        return self

    def __deepcopy__(self, memo: object) -> Service[S]:
        return self

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{self!r} cannot be pickled, because protobuf's descriptors cannot: call service() in "
            "each process"
        )

    def _document(self, summary: str) -> str:
        """The docstring of a class made of this service."""
        declarations = (f"    {method.describe()}" for method in self.methods.values())
        return "\n".join((summary, "", *declarations))

    def __repr__(self) -> str:
        return f"<service {self.name}: {', '.join(self.methods) or 'no methods'}>"


class ServicePlugin(_PluginBase["S"]):
    """The Plugin of a `Service`: hosts get its stub, the plugin's process serves a servicer.

    plugins={"kv": KV.plugin()}            # in the host
    plugins={"kv": KV.plugin(KVServicer)}  # in the plugin
    """

    def __init__(self, service: Service[S], servicer: Any = None) -> None:
        if not isinstance(service, Service):
            raise ConfigTypeError(
                f"ServicePlugin() takes what pygo_plugin.service() returns, not "
                f"{describe_type(service)}"
            )
        self.service = service
        self._servicer = servicer

    def client_class(self) -> Callable[[Any], S]:
        return self.service.Stub

    def server_register(self, server: Any) -> None:
        if self._servicer is None:
            raise ConfigError(
                f"{self.service.name}: this plugin has no servicer to serve; give "
                f"service(...).plugin() one"
            )
        servicer = self._servicer
        if isinstance(servicer, type) or (
            # A function that makes servicers has none of a servicer's methods.
            callable(servicer) and not any(hasattr(servicer, name) for name in self.service.methods)
        ):
            servicer = servicer()
        self.service.add_to_server(servicer, server)

    def __repr__(self) -> str:
        return f"<plugin of {self.service!r}>"
