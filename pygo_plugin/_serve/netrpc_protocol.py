"""net/rpc as a plugin's protocol."""

from __future__ import annotations

from _weakref import ref

from pygo_plugin._base.core import _core
from pygo_plugin._netrpc.plugin import Plugin
from pygo_plugin._serve.protocol import Protocol
from pygo_plugin.errors import _importing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pygo_plugin._serve.protocol import Security
    from pygo_plugin._serve.stdio import Stdio
    from pygo_plugin.config import ServeConfig
    from pygo_plugin.plugin import PluginBase

__all__ = ["NetrpcProtocol"]

LINGER = 0.5  # seconds that the last bytes have to reach the host


class NetrpcProtocol(Protocol):
    """Serves net/rpc; methods of the served objects run on threads."""

    name = "netrpc"

    _server: _core.NetRpcPlugin

    def __init__(self, config: ServeConfig, security: Security) -> None:
        self._config = config
        self._security = security
        self._plugins: Mapping[str, Any] = {}

    def add_services(self, name: str, stdio: Stdio) -> None:
        this = ref(self)  # weak, because the core keeps the function

        def answer(request: _core.Dispense) -> None:
            protocol = this()
            if protocol is None:
                request.fail("the plugin has stopped")
            else:
                protocol._answer(request)

        config = self._config
        self._server = _core.NetRpcPlugin(
            answer, stdio.core, self._security.tls, config.shutdown_grace, config.max_workers or 0
        )

    def register(self, plugins: Mapping[str, PluginBase]) -> None:
        for name, plugin in plugins.items():
            if type(plugin).server is Plugin.server:  # type: ignore[attr-defined]
                raise NotImplementedError(
                    f"{type(plugin).__name__}, plugin {name!r}, has no server(broker), which is "
                    f"needed to serve it"
                )
        self._plugins = plugins

    def prepare_to_listen(self) -> str | None:
        return None

    def listen_unix(self, place: _core.SocketPlace) -> None:
        self._server.listen("unix", place.bind)

    def listen_tcp(self, address: str) -> int:
        return self._server.listen("tcp", address)

    def listens(self, network: str) -> None:
        pass  # the broker's connections are streams of the host's

    def start(self) -> Any:
        self._server.start()

    def stop(self, grace: float | None) -> Any:
        self._server.stop(grace)
        with _importing("pygo_plugin._base.stopped"):
            from pygo_plugin._base.stopped import Stopped
        return Stopped(self._server)

    def cuts_output_off(self, grace: float | None) -> bool:
        return False

    def deliver(self) -> None:
        self._server.drain(LINGER)

    def wait(self) -> Any:
        _core.call_blocking(self._server.wait, None)

    def has_connections(self) -> bool:
        return True

    def close(self) -> None:
        self._server.close(LINGER)

    def _answer(self, request: _core.Dispense) -> None:
        """Make what a host asks for, and answer with the id under which it is accepted.

        Called on a thread of the core.
        """
        plugin = self._plugins.get(request.name)
        if plugin is None:
            request.fail(f"unknown plugin type: {request.name}")  # go-plugin's words
            return
        try:
            broker = self._make_broker(request.broker)
            service_id = broker.next_id()
            self._serve(broker, service_id, plugin.server(broker))
        except Exception as error:
            with _importing("pygo_plugin._netrpc.server"):
                from pygo_plugin._netrpc.server import method_failed

            request.fail(method_failed(f"{type(plugin).__name__}.server", error, False))
        else:
            request.reply(service_id)

    # What differs between threads and asyncio.

    def _make_broker(self, core: Any) -> Any:
        with _importing("pygo_plugin._netrpc.mux_broker"):
            from pygo_plugin._netrpc.mux_broker import MuxBroker

        return MuxBroker(core, None, self._config.max_workers or 0)

    def _serve(self, broker: Any, service_id: int, target: Any) -> None:
        broker.accept_and_serve(service_id, target)
