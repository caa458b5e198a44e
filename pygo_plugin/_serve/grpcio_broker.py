"""The broker of a plugin whose server is grpcio's own.

The broker service is the C core's. So there is a server of the core's with nothing else, behind a
socket of this process's, and grpcio's passes each host's stream on to that, message by message.
Brokered connections themselves are the core's on either side, as ever.
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
    """Adds the broker service to a server of grpcio's, before its start."""

    core: _core.Broker
    """What makes brokered connections."""

    def __init__(self, server: Any, tls: _core.TLS | None, options: Any = ()) -> None:
        """`tls`, and gRPC's `options`, are for brokered connections. Raises: OSError."""
        self._server = _server.Server(max_workers=1)
        self.core = self._server.add_broker(tls, None, options)
        place = _core.SocketPlace(None, None)
        self._server._core.listen(place.target, None)
        place.publish()
        self._server.start()
        self._channel = rpc.insecure_channel(place.target)
        channel: Any = self._channel  # a grpc.Channel, which type checkers cannot know
        try:
            grpc.channel_ready_future(channel).result(TIMEOUT)
        except BaseException:
            self.close()
            raise
        finally:
            place.remove()  # nobody else is to connect, nor to find it when this process is killed
        self._stream = self._channel.stream_stream(f"/{SERVICE}/{METHOD}")
        handler: Any = grpc.stream_stream_rpc_method_handler(self._pass_on)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),)
        )

    def _pass_on(self, messages: Iterator[bytes], context: Any) -> Any:
        call = self._stream(messages)
        if not context.add_callback(call.cancel):
            call.cancel()
        try:
            yield from call
        except grpc.RpcError:
            pass  # cancelled, as either side has gone

    # As that of output: each host has one as long as it is there.
    _pass_on.experimental_thread_pool = OwnThread("pygo-broker")  # type: ignore[attr-defined]

    def close(self) -> None:
        """End every host's stream. Idempotent."""
        self._channel.close()
        self._server.stop(None)
