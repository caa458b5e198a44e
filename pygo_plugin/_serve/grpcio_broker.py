"""The broker of a plugin that serves with a server of grpcio.

Only the C core implements the broker service. Therefore a server of the core with this one service
listens on a socket inside this process, and grpcio's server forwards the stream of each host to it,
message by message. Brokered connections are always made by the core.
"""

from __future__ import annotations

import grpc

from pygo_plugin import rpc
from pygo_plugin._base.core import _core
from pygo_plugin._grpc import server as _server
from pygo_plugin._serve.grpcio_services import OwnThread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

SERVICE, METHOD = "plugin.GRPCBroker", "StartStream"
TIMEOUT = 10.0  # seconds, for a connection inside this process


class Bridge:
    """Adds the broker service to a server of grpcio, before its start."""

    core: _core.Broker
    """The core's broker, which makes the connections."""

    def __init__(self, server: Any, tls: _core.TLS | None, options: Any = ()) -> None:
        """`tls` and gRPC's `options` are those of brokered connections. Raises: OSError."""
        self._server = _server.Server(max_workers=1)
        self.core = self._server.add_broker(tls, None, options)
        place = _core.SocketPlace(None, None)
        self._server._core.listen(place.target, None)
        place.publish()
        self._server.start()
        self._channel = rpc.insecure_channel(place.target)
        try:
            grpc.channel_ready_future(self._channel).result(TIMEOUT)
        except BaseException:
            self.close()
            raise
        finally:
            place.remove()  # so that no other process connects, and nothing is left after a kill
        self._stream = self._channel.stream_stream(f"/{SERVICE}/{METHOD}")
        handler: Any = grpc.stream_stream_rpc_method_handler(self._forward)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),)
        )

    def _forward(self, messages: Iterator[bytes], context: Any) -> Any:
        call = self._stream(messages)
        if not context.add_callback(call.cancel):
            call.cancel()
        try:
            yield from call
        except grpc.RpcError:
            pass  # cancelled, since one of the two sides has ended

    # The stream lasts as long as the host, and must not occupy one of the author's threads.
    _forward.experimental_thread_pool = OwnThread("pygo-broker")  # type: ignore[attr-defined]

    def close(self) -> None:
        """End the streams of all hosts. Idempotent."""
        self._channel.close()
        self._server.stop(None)
