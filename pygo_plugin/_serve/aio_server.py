"""The plugin's side for asyncio: `pygo_plugin.server` on the running event loop."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

from pygo_plugin import server as _plugin_server
from pygo_plugin._base.aio_loops import checkpoint, queue_of, running_loop
from pygo_plugin._base.aio_threads import in_thread
from pygo_plugin._base.core import _core
from pygo_plugin._core import LoopFuture
from pygo_plugin._grpc.aio_server import Server as RpcServer
from pygo_plugin._serve.grpc_protocol import GrpcProtocol
from pygo_plugin._serve.netrpc_protocol import NetrpcProtocol
from pygo_plugin.errors import ConfigError, _importing

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from pygo_plugin.config import ServeConfig


class AioGrpcProtocol(GrpcProtocol):
    """Serves with a server of `pygo_plugin.aio`, on the running loop."""

    def stop(self, grace: float | None) -> None:
        self.server._core.stop(grace)  # which works on any thread

    async def wait(self) -> None:
        await self.server.wait_for_termination()
        await self.server.stop(None)  # for the methods that are still running

    def _broker_class(self) -> Any:
        with _importing("pygo_plugin._grpc.aio_broker"):
            from pygo_plugin._grpc.aio_broker import Broker

        return Broker


class AioNetrpcProtocol(NetrpcProtocol):
    """Serves net/rpc. Coroutine methods run on the running loop."""

    def add_services(self, name: str, stdio: Any) -> None:
        super().add_services(name, stdio)
        self._loop = running_loop()
        self._stopped: LoopFuture = LoopFuture(self._loop)
        self._server.on_stopped(queue_of(self._loop), self._stopped)

    async def start(self) -> None:
        self._server.start()
        await checkpoint()

    def stop(self, grace: float | None) -> None:
        self._server.stop(grace)  # which works on any thread

    async def wait(self) -> None:
        if not self._stopped.done():
            await asyncio.shield(self._stopped)

    def _answer(self, request: _core.Dispense) -> None:
        try:
            self._loop.call_soon_threadsafe(super()._answer, request)
        except RuntimeError:
            request.fail("the plugin's event loop has been closed")

    def _make_broker(self, core: Any) -> Any:
        with _importing("pygo_plugin._netrpc.aio_mux_broker"):
            from pygo_plugin._netrpc.aio_mux_broker import MuxBroker

        return MuxBroker(core, None, self._config.max_workers or 0)

    def _serve(self, broker: Any, service_id: int, target: Any) -> None:
        broker._serve_now(service_id, target)


class Server(_plugin_server.PluginServerBase):
    """Serves the plugins of a ServeConfig in this process, on the running loop.

    Subclasses may override `server()` to configure the gRPC server.
    """

    _PUBLIC = "pygo_plugin.aio.Server"
    _ON_LOOP = True

    def default_grpc_server(self, **opts: Any) -> RpcServer:
        """The server on the C core, with the interface of `grpc.aio.Server`.

        opts: `max_workers`, how many methods that are not coroutines may run at the same time;
        `interceptors` and `maximum_concurrent_rpcs` as grpc.aio has them; `options`, gRPC's channel
        arguments.
        """
        return RpcServer(**opts)

    def _protocol_class(self, server: Any) -> type[AioGrpcProtocol]:
        if not isinstance(server, RpcServer):
            raise ConfigError(
                f"server() must give a server of pygo_plugin.aio, not {type(server).__name__}"
            )
        return AioGrpcProtocol

    def _netrpc_protocol_class(self) -> type[AioNetrpcProtocol]:
        return AioNetrpcProtocol

    async def serve(self, wait: bool = False) -> bool:
        """Start to serve and print the handshake line; with `wait`, return when serving has ended.

        Returns: False if it could not start; `error_msg` says why. What a plugin's
        `server_register` raises is passed on.
        """
        opened = self._open()
        if opened is None:
            return False
        protocol, cleanup, line = opened
        try:
            await protocol.start()
            self._announce(protocol, cleanup, line)
        except (OSError, RuntimeError, ValueError) as error:
            return self._abandon(protocol, cleanup, error)
        self._announce_to_test(protocol, cleanup)
        if wait:
            await self._wait()
        return True

    async def stop(self, grace: float | None = None) -> None:
        """Stop serving: refuse new calls, cancel those that still run after `grace` seconds.

        None cancels them at once. Returns when no call is left and all connections are closed.
        """
        if self._protocol is not None and self._cleanup is not None:
            if self._protocol.cuts_output_off(grace):
                await in_thread(self._stdio.end)
            self._protocol.stop(grace)
            await self._protocol.wait()
            self._protocol.close()
            self._cleanup.finish(interrupts=True)
        else:
            await checkpoint()

    async def _wait(self) -> None:
        """Wait until serving has ended, and clean up."""
        if self._protocol is None or self._cleanup is None:
            return
        try:
            await self._protocol.wait()
        finally:
            self._protocol.close()
            self._stdio.end()
            self._cleanup.finish(interrupts=False)


def serve(cfg: ServeConfig) -> Coroutine[Any, Any, None]:
    """Serve until the host shuts the plugin down: `asyncio.run(aio.serve(config))`.

    If it cannot serve, it says why on stderr and exits with status 1. In test mode it raises a
    StartError instead.
    """
    # A loop cannot be copied to another process. In the line above none runs yet.
    if asyncio._get_running_loop() is None:
        _plugin_server.wait_as_template(cfg)
    return _serve(cfg)


async def _serve(cfg: ServeConfig) -> None:
    server = Server(cfg)
    if not await server.serve():
        _plugin_server._refuse_to_serve(server.error_msg, cfg)
    if cfg.test is None:
        gc.freeze()  # see pygo_plugin.serve
    await server._wait()
