"""The base class of gRPC plugins: how a service is served, and how it is used.

Plugins of net/rpc have a base class of their own, `pygo_plugin.netrpc.Plugin`.
"""

from __future__ import annotations

from abc import ABC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar

    from pygo_plugin.broker import Broker
    from pygo_plugin.client import Client

__all__ = ["Plugin"]


class PluginBase(ABC):  # no method is abstract, since each side needs other methods
    """The base class of what may be in a plugin set, whatever the protocol."""

    _protocol: ClassVar[str]
    """What handshake lines call the protocol: "grpc" or "netrpc"."""

    client: Callable[..., Any]
    """Makes what `dispense` returns, of what a host has with this protocol."""


class Plugin(PluginBase):
    """A named service that a plugin serves and a host uses.

        class KVPlugin(Plugin):
            def client_class(self):
                return kv_pb2_grpc.KVStub

            def server_register(self, server):
                kv_pb2_grpc.add_KVServicer_to_server(KVServicer(), server)

    The host needs `client_class()`, or an override of `grpc_client()` or `client()`. The plugin
    needs `server_register()` or `grpc_server()`. Subclasses need not call `super().__init__()`.
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

    def grpc_client(self, broker: Broker, channel: Any) -> Any:
        """As `client`, for plugins that need the broker. Override one of the two."""
        factory = self.client_class()
        return channel, None if factory is None else factory(channel)

    def client(self, client_conn: Client) -> Any:
        """What `Client.dispense` returns on the host: `(channel, stub)` unless overridden.

        `client_conn` is the started Client. Overrides use `client_conn.new_channel()`, which
        returns a new `grpc.Channel` on the plugin's connection, or connect to
        `client_conn.conn_endpoint()` with another gRPC library.
        """
        broker: Any = None  # made only for plugins that use it
        if type(self).grpc_client is not Plugin.grpc_client:
            broker = client_conn.broker
        return self.grpc_client(broker, client_conn.new_channel())
