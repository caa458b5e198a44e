"""Further connections between host and plugin, for asyncio programs. See `pygo_plugin.broker`."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from pygo_plugin import broker
from pygo_plugin._base.aio_loops import checkpoint
from pygo_plugin._base.aio_threads import in_thread
from pygo_plugin._grpc import broker_files
from pygo_plugin._grpc.aio_channel import Channel
from pygo_plugin._grpc.aio_server import Server
from pygo_plugin.broker import DIAL_TIMEOUT
from pygo_plugin.errors import ConfigError, RpcError

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")


class BrokerServer(Server):
    """A server for the id `id`, with the interface of `grpc.aio.Server`.

    The broker keeps it until it is stopped, or the connection between host and plugin ends.
    """

    id: int
    _owner: Any = None  # a weak reference to its broker
    _place: Any = None

    def _shown(self) -> str:
        return f"{type(self).__name__} for connection {self.id}"

    async def stop(self, grace: float | None = None) -> None:
        """As Server.stop(). The socket has been removed when this returns."""
        await broker.stop_server(self, super().stop, grace)


class Broker(broker.BrokerBase):
    """Makes further connections to the other side. See `pygo_plugin.broker.Broker`.

    A server serves on the loop that starts it. Methods of servicers may be coroutines.
    """

    _PUBLIC = "aio.Broker"

    def accept(self, service_id: int, **options: Any) -> BrokerServer:
        """A server that the other side reaches by dialling `service_id`.

        Add servicers to it, then start it.

        Raises: BrokerError; ClosedError after the client's `kill()`.
        """
        server = BrokerServer(**self._server_options(options))
        self._listen(server, service_id)
        return server

    async def accept_and_serve(
        self, service_id: int, register: Any, **options: Any
    ) -> BrokerServer:
        """Start a server that the other side reaches by dialling `service_id`.

        `register` is a servicer, a list of servicers, or a function that is called with the server
        and adds servicers to it.
        """
        server = BrokerServer(**self._server_options(options))
        broker.register_all(server, register)
        self._listen(server, service_id)
        await server.start()
        return server

    async def dial(self, service_id: int, timeout: float = DIAL_TIMEOUT) -> Channel:
        """Connect to what the other side accepts under `service_id`, within `timeout` seconds.

        Raises: BrokerError if the connection cannot be made, with the reason.
        """
        self._check_dial(service_id)
        disconnects = self._disconnects
        opened = await in_thread(self._core.dial, service_id, timeout)
        return Channel(self._opened(opened, service_id, disconnects))

    def serve(self, *servicers: Any, **options: Any) -> Serving:
        """Serve servicers while an `async with` block runs. Its variable is the id to pass on.

        async with broker.serve(AddHelper()) as id:
            await counter.Put(PutRequest(add_server=id))
        """
        return Serving(self, servicers, options)

    async def stub(
        self, service_id: int, stub: Callable[[Any], T], timeout: float = DIAL_TIMEOUT
    ) -> T:
        """Dial `service_id`, and make a stub of the channel."""
        factory = getattr(stub, "Stub", stub)  # of a pygo_plugin.Service
        return factory(await self.dial(service_id, timeout))

    def serve_io(self, file: Any, **options: Any) -> Serving:
        """Let the other side read from, or write to, a binary file object of this side.

        Used as `serve()`. The file's methods run on threads. When the other side closes its end,
        the file is flushed, not closed.
        """
        return self.serve(broker_files.FileServicer(file), **options)

    async def open_io(
        self, service_id: int, mode: str = "rb", timeout: float = DIAL_TIMEOUT
    ) -> RemoteFile:
        """Open the file that the other side serves under `service_id`, with mode "rb" or "wb"."""
        if mode not in broker_files.MODES:
            raise ConfigError(broker_files.WRONG_MODE.format(mode))
        return RemoteFile(await self.dial(service_id, timeout))


class Serving:
    """A server that runs while an `async with` block does. Entering the block returns its id."""

    server: BrokerServer

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {getattr(self, 'server', 'a server that is to start')}>"

    def __init__(self, owner: Broker, servicers: tuple[Any, ...], options: dict[str, Any]) -> None:
        self._owner = owner
        self._servicers = servicers
        self._options = options

    async def __aenter__(self) -> int:
        service_id = self._owner.next_id()
        self.server = await self._owner.accept_and_serve(
            service_id, self._servicers, **self._options
        )
        return service_id

    async def __aexit__(self, *raised: object) -> None:
        await self.server.stop(None)


class RemoteFile:
    """A file of the other side. It is not buffered: each operation is one call or more."""

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<{type(self).__name__} over {self._channel!r}, {state}>"

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._methods = broker_files.methods_of(channel)
        self._closed = False

    async def read(self, size: int = -1) -> bytes:
        """Read at most `size` bytes, or all if it is negative. Returns: b"" at the end."""
        if size == 0:
            await checkpoint()
            return b""
        if size > 0:
            wanted = broker_files.encode_size(min(size, broker_files.MAX_DATA))
            return broker_files.decode_data(await self._call("Read", wanted))
        everything = io.BytesIO()
        while part := await self.read(broker_files.MAX_DATA):
            everything.write(part)
        return everything.getvalue()

    async def write(self, data: Any) -> int:
        """Write all of `data`. Returns: the number of bytes."""
        whole = memoryview(data).cast("B")
        at = 0
        if not whole:
            await checkpoint()
        while at < len(whole):
            part = broker_files.encode_data(whole[at : at + broker_files.MAX_DATA])
            at += broker_files.decode_size(await self._call("Write", part))
        return at

    async def close(self) -> None:
        """Have the other side flush the file, and close the connection. Idempotent."""
        if not self._closed:
            self._closed = True
            try:
                await self._call("Close", b"")
            finally:
                await self._channel.close()
        else:
            await checkpoint()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    async def _call(self, method: str, request: bytes) -> bytes:
        try:
            reply: bytes = await self._methods[method](request)
        except RpcError as error:
            raise OSError(broker_files.failure(error)) from error
        return reply
