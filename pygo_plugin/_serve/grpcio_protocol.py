"""gRPC as a plugin's protocol, with a server of grpcio that an override of `Server.server()` made.

grpcio's servers know nothing of plugins. The services that every plugin has are added by
grpcio_services.py, and the broker by grpcio_broker.py.
"""

from __future__ import annotations

from pygo_plugin._serve.grpc_protocol import GrpcProtocol, made
from pygo_plugin.errors import _needing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pygo_plugin._serve.grpcio_broker import Bridge
    from pygo_plugin._serve.stdio import Stdio

__all__ = ["GrpcioProtocol"]


class GrpcioProtocol(GrpcProtocol):
    """Serves with any object that has the interface of `grpc.Server`."""

    _bridge: Bridge | None = None  # to the broker; made when a plugin wants it

    def add_services(self, name: str, stdio: Stdio) -> None:
        with _needing("a server that is not of this package"):
            from pygo_plugin._serve import grpcio_services
        grpcio_services.add_plugin_services(self.server, name, stdio, self._config.shutdown_grace)

    def cuts_output_off(self, grace: float | None) -> bool:
        return True

    def has_connections(self) -> bool:
        return self._bridge is not None or super().has_connections()

    def close(self) -> None:
        super().close()
        if self._bridge is not None:
            self._bridge.close()

    def _credentials(self) -> Any:
        if self._security.config is None:
            raise ValueError(
                "the host asks for AutoMTLS, whose keys the TLS library inside grpcio does not "
                "take; serve with default_grpc_server() instead of a server of grpcio's own"
            )
        return self._security.config._grpcio_server_credentials()

    def _prepare_broker(self) -> None:
        pass  # the bridge is made when a plugin wants the broker

    def _make_broker(self) -> Any:
        from pygo_plugin._serve.grpcio_broker import Bridge

        tls, options = self._security.tls, self._options.of_channels
        self._bridge = made(lambda: Bridge(self.server, tls, options))
        self._broker_core = self._bridge.core
        return super()._make_broker()
