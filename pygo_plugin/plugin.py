"""The base class of gRPC plugins: how a service is served, and how it is used.

Plugins of net/rpc have a base class of their own, `pygo_plugin.netrpc.Plugin`.
"""

from __future__ import annotations

from abc import ABC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar, Generic

    from typing_extensions import TypeVar

    from pygo_plugin.broker import Broker
    from pygo_plugin.client import Client

    T = TypeVar("T", covariant=True, default=Any)
    """What `Client.dispense` returns."""

    A = TypeVar("A", covariant=True, default=T)
    """What `aio.Client.dispense` returns."""

    class Parametrized(ABC, Generic[T, A]):
        pass
else:

    class Subscriptable:
        """A class that is generic for type checkers alone: `Plugin[Counter] is Plugin`."""

        __slots__ = ()

        def __class_getitem__(cls, parameters):
            return cls

    class Parametrized(ABC, Subscriptable):
        __slots__ = ()


__all__ = ["Plugin"]


class PluginBase(Parametrized["T", "A"]):  # no method is abstract: each side needs other ones
    """The base class of what may be in a plugin set, whatever the protocol."""

    _protocol: ClassVar[str]
    """What handshake lines call the protocol: "grpc" or "netrpc"."""

    client: Callable[..., T | A]
    """Makes what `dispense` returns, of what a host has with this protocol."""


class Plugin(PluginBase["T", "A"]):
    """A named service that a plugin serves and a host uses.

        class KVPlugin(Plugin):
            def client_class(self):
                return kv_pb2_grpc.KVStub

            def server_register(self, server):
                kv_pb2_grpc.add_KVServicer_to_server(KVServicer(), server)

    The host needs `client_class()`, or an override of `grpc_client()` or `client()`. The plugin
    needs `server_register()` or `grpc_server()`. Subclasses need not call `super().__init__()`.

    For type checkers it is generic in what `dispense` returns: the class above may derive from
    `Plugin[tuple[grpc.Channel, kv_pb2_grpc.KVStub]]`, and one whose `grpc_client()` returns a
    Counter from `Plugin[Counter]`. See docs/typing.md.
    """

    _protocol = "grpc"

    def client_class(self) -> Callable[[Any], Any] | None:
        """The stub class: what is called with a channel and returns a stub.

        With None, the default, `dispense` returns `(channel, None)`.
        """
        return None

    def server_register(self, server: Any) -> None:
        """Add the servicers to `server`, which has the interface of `grpc.Server`.

        Called once in the plugin's process, before the server starts.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no server_register(server), which is needed to serve it"
        )

    def grpc_server(self, broker: Broker, server: Any) -> None:
        """As `server_register`, for plugins that need the broker. Override one of the two.

        `broker` makes further connections to the host, see `pygo_plugin.broker`. In asyncio
        programs it is a `pygo_plugin.aio.Broker`.
        """
        self.server_register(server)

    def grpc_client(self, broker: Broker, channel: Any) -> T | A:
        """As `client`, for plugins that need the broker. Override one of the two."""
        factory = self.client_class()
        made: Any = (channel, None if factory is None else factory(channel))
        return made  # type: ignore[no-any-return]

    def client(self, client_conn: Client) -> T | A:
        """What `Client.dispense` returns on the host: `(channel, stub)` unless overridden.

        `client_conn` is the started Client. Overrides use `client_conn.new_channel()`, which
        returns a new `grpc.Channel` on the plugin's connection, or connect to
        `client_conn.conn_endpoint()` with another gRPC library.
        """
        broker: Any = None  # made only for plugins that use it
        if type(self).grpc_client is not Plugin.grpc_client:
            broker = client_conn.broker
        return self.grpc_client(broker, client_conn.new_channel())
