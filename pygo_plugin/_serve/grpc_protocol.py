"""gRPC as a plugin's protocol, with a server on the C core."""

from __future__ import annotations

from os import environ

from pygo_plugin._base import checks
from pygo_plugin._base.core import _core
from pygo_plugin._serve.protocol import NoSocketError, Protocol, port_range, socket_group
from pygo_plugin.errors import _importing, _needing
from pygo_plugin.plugin import Plugin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from pygo_plugin._serve.protocol import Security
    from pygo_plugin._serve.stdio import Stdio
    from pygo_plugin.config import ServeConfig

__all__ = ["GrpcOptions", "GrpcProtocol", "made"]


class GrpcOptions:
    """The options of a configuration for gRPC's servers and channels."""

    def __init__(self, config: ServeConfig) -> None:
        quota = checks.memory_quota(config)  # one for all connections
        self.of_channels = checks.grpc_options(config, quota, config.channel_options)
        self.of_servers = checks.grpc_options(config, quota, config.server_options)
        self.keywords: dict[str, Any] = {}
        """Keywords for `Server.server()`, only for options that the configuration sets."""
        if config.max_workers is not None:
            self.keywords["max_workers"] = config.max_workers
        if config.interceptors:
            self.keywords["interceptors"] = config.interceptors
        if self.of_servers:
            self.keywords["options"] = self.of_servers


class GrpcProtocol(Protocol):
    """Serves with a server of this package, whose handlers run on threads."""

    name = "grpc"

    def __init__(
        self, server: Any, config: ServeConfig, security: Security, options: GrpcOptions
    ) -> None:
        self.server = server
        self._config = config
        self._security = security
        self._options = options
        self._broker: Any = None  # made when a plugin wants it
        self._broker_core: _core.Broker  # what makes its connections
        self._add_port: Callable[[str], int]  # makes the server listen, and returns the port

    def add_services(self, name: str, stdio: Stdio) -> None:
        self.server.add_plugin_services(name, stdio.core, self._config.shutdown_grace)

    def register(self, plugins: Mapping[str, Any]) -> None:
        self._prepare_broker()
        for name, plugin in plugins.items():
            with _needing(f"the plugin {name!r}"):  # its author may import generated stubs here
                self._register(plugin)

    def _register(self, plugin: Any) -> None:
        if type(plugin).grpc_server is Plugin.grpc_server:
            plugin.server_register(self.server)
        else:
            if self._broker is None:
                self._broker = self._make_broker()
            plugin.grpc_server(self._broker, self.server)

    def prepare_to_listen(self) -> str | None:
        if self._security.tls is None:
            self._add_port = self.server.add_insecure_port
        else:
            credentials = self._credentials()
            self._add_port = lambda address: int(self.server.add_secure_port(address, credentials))
        if self.mux is None:
            return None
        self._add_port(self.mux.target)  # where its streams arrive
        return self.mux.directory  # the host removes all of it if it has to kill this process

    def listen_unix(self, place: _core.SocketPlace) -> None:
        if self.mux is not None:
            self.mux.listen("unix", place.bind)
        elif not self._add_port(place.target):  # older grpcio does not raise
            raise OSError(f"{place.path}: no socket can be made there")

    def listen_tcp(self, address: str) -> int:
        if self.mux is not None:
            return self.mux.listen("tcp", address)
        return self._add_port(address)

    def listens(self, network: str) -> None:
        if self._broker is not None:
            self._broker.use(network, port_range())

    def multiplexes(self) -> bool | None:
        # Hosts that do not know the field would take it for a part of the certificate.
        return self.mux is not None if _asked_to_multiplex() else None

    def start(self) -> Any:
        return self.server.start()

    def log_to(self, descriptor: int) -> None:
        if self.mux is not None:
            try:
                self.mux.log_to(descriptor)
            except OSError:
                pass  # this process was started without a stderr

    def stop(self, grace: float | None) -> Any:
        return self.server.stop(grace)

    def cuts_output_off(self, grace: float | None) -> bool:
        return not grace

    def remove_sockets(self) -> None:
        if self.mux is not None:
            self.mux.remove()

    def wait(self) -> Any:
        self.server.wait_for_termination()

    def has_connections(self) -> bool:
        return self._broker is not None or self.mux is not None

    def close(self) -> None:
        if self._broker is not None:
            self._broker.close()
        if self.mux is not None:
            self.mux.close()

    # What differs between the kinds of servers.

    def _credentials(self) -> Any:
        """The server's credentials. Raises: ValueError if it cannot use the TLS."""
        assert self._security.tls is not None
        return self._security.tls.server_credentials()

    def _prepare_broker(self) -> None:
        """Add the broker's service, and multiplex if the host wants it. Raises: NoSocketError."""
        if self._config.test is None and _asked_to_multiplex():
            self.mux = made(_core.Mux)
        self._broker_core = self.server.add_broker(
            self._security.tls, self.mux, self._options.of_channels
        )

    def _broker_class(self) -> Any:
        with _importing("pygo_plugin.broker"):
            from pygo_plugin.broker import Broker

        return Broker

    def _make_broker(self) -> Any:
        options = {"options": self._options.of_servers}
        return self._broker_class()(self._broker_core, "", group=socket_group(), options=options)


def made(make: Callable[[], Any]) -> Any:
    """Call `make`, which makes a socket inside this process. Raises: NoSocketError."""
    try:
        return make()
    except OSError as error:
        raise NoSocketError(str(error)) from None


def _asked_to_multiplex() -> bool:
    return environ.get("PLUGIN_MULTIPLEX_GRPC") == "true"
