"""The context of asyncio servicers: grpc.aio's ServicerContext on the C core."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn

from pygo_plugin._base.aio_loops import UNBROKEN, checkpoint
from pygo_plugin._base.core import _core
from pygo_plugin._core import LoopFuture
from pygo_plugin._grpc import server as _server
from pygo_plugin._grpc.abstract import derived
from pygo_plugin._grpc.aio_calls import end_of_file
from pygo_plugin.errors import _importing

if TYPE_CHECKING:
    import grpc
    from typing_extensions import Self

    # For type checkers, a context is a grpc.aio.ServicerContext by inheritance.
    _Context = grpc.aio.ServicerContext[Any, Any]

    class _AsyncCall(_core.AsyncServerCall, _Context):  # type: ignore[misc]
        pass
else:
    _AsyncCall = _core.AsyncServerCall


END = object()  # what the core returns at the end of the requests, where read() returns EOF


class ServicerContext(_AsyncCall, _server.ServicerContext):  # type: ignore[misc]
    """The context that a coroutine method gets. It implements grpc.aio.ServicerContext."""

    _implements = ("aio.ServicerContext", "ServicerContext")

    _loop: asyncio.AbstractEventLoop
    _deserializer: Any
    _serializer: Any
    _over = False  # whether the call has been answered, or its task has ended
    _sending: LoopFuture | None = None
    _reading: LoopFuture | None = None
    _immediate_reads = 0  # how many requests did not have to be waited for
    _writing = False  # whether anything has been sent before the final status
    _immediate_writes = 0  # how many calls of write() did not have to wait
    _done_callbacks: list[Callable[[Any], Any]] | None = None
    _task: asyncio.Task[None]
    _task_runs = False  # whether the task has run at all

    async def read(self) -> Any:
        """The next request, or EOF."""
        request = await self._next()
        return end_of_file() if request is END else request

    async def write(self, message: Any) -> None:
        """Send one reply. Waits until the next one may be sent.

        Raises: asyncio.CancelledError when the call was cancelled, or the client disconnected.
        """
        await self._wait_idle()
        if not await self._start_send(self._send, self._serialized(message)):
            # The loop is about to cancel the task, and has to get the opportunity to do so, even if
            # the method does nothing but write.
            await checkpoint()
            raise asyncio.CancelledError

    async def send_initial_metadata(  # type: ignore[override]  # a coroutine here
        self, initial_metadata: Iterable[tuple[str, str | bytes]]
    ) -> None:
        """Send metadata ahead of the first reply."""
        await self._wait_idle()  # first, since a call that was answered cannot be flushed
        await self._wait_flushed()
        await checkpoint()
        if self._over:
            raise asyncio.InvalidStateError("the call has been answered")
        if not await self._start_send(self._send_metadata, initial_metadata):
            if not self.is_active():
                raise asyncio.CancelledError
            raise ValueError(
                "initial metadata has been sent already, by an earlier call or with the first reply"
            )

    def set_trailing_metadata(self, trailing_metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Send this metadata with the status.

        Raises: TypeError unless it is an iterable of pairs; a dict is refused too.
        """
        if isinstance(trailing_metadata, dict) or not hasattr(trailing_metadata, "__iter__"):
            raise TypeError(
                "trailing metadata are an iterable of pairs of key and value, not "
                f"{type(trailing_metadata).__name__}: {trailing_metadata!r}"
            )
        super().set_trailing_metadata(trailing_metadata)

    async def abort(  # type: ignore[override]  # a coroutine here
        self,
        code: Any,
        details: str = "",
        trailing_metadata: Iterable[tuple[str, str | bytes]] = (),
    ) -> NoReturn:
        """End the call now with this grpc.StatusCode and text. Raises, to leave the method.

        A second abort(), in a method that has caught the exception of the first, raises a
        grpc.aio.UsageError.
        """
        if self._aborted:
            with _importing("pygo_plugin._grpc.aio_errors"):
                from pygo_plugin._grpc.aio_errors import usage_error

            raise usage_error("Abort already called!")
        if trailing_metadata or isinstance(trailing_metadata, dict):
            self.set_trailing_metadata(trailing_metadata)
        try:
            super().abort(code, details)
        except _server.Aborted as error:
            raise derived(_server.Aborted, "aio.AbortError")(*error.args) from None

    async def abort_with_status(  # type: ignore[override]  # a coroutine here
        self, status: Any
    ) -> NoReturn:
        """End the call now with a grpc.Status: code, details and trailing metadata."""
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    def cancelled(self) -> bool:
        """Whether the call ended before it was answered."""
        return self._was_cancelled()

    def done(self) -> bool:
        """Whether the call has ended."""
        return self._over or not self.is_active()

    def add_done_callback(self, callback: Callable[[Self], Any]) -> None:
        """Have `callback(context)` called when the method has ended."""
        if self._over:
            callback(self)
        elif self._done_callbacks is None:
            self._done_callbacks = [callback]
        else:
            self._done_callbacks.append(callback)

    # Inside.

    async def _next(self) -> Any:
        if self._reading is not None and not self._reading.done():
            await checkpoint()
            raise asyncio.InvalidStateError("another task is reading from this call")
        self._reading = future = LoopFuture(self._loop)
        self._receive(self._deserializer, future, END)
        if future.done():  # the request had arrived before it was asked for
            self._immediate_reads += 1
            if self._immediate_reads % UNBROKEN == 0:
                await asyncio.sleep(0)
        request = await future
        if request is END and self._was_cancelled():
            # The client cancelled the call or disconnected, and may have had more requests.
            raise asyncio.CancelledError
        return request

    def _serialized(self, message: Any) -> bytes:
        data = message if self._serializer is None else self._serializer(message)
        if not isinstance(data, bytes):
            raise TypeError(f"a reply must be serialized to bytes, not {type(data).__name__}")
        return data

    async def _wait_idle(self) -> None:
        """Wait until nothing is being sent. Raises: InvalidStateError if the call was answered."""
        while self._sending is not None and not self._sending.done():
            await asyncio.wait((self._sending,))
        if self._over:
            await checkpoint()
            raise asyncio.InvalidStateError("the call has been answered")

    async def _wait_flushed(self) -> None:
        """Wait until everything has been sent."""
        while self._sending is not None and not self._sending.done():
            await asyncio.wait((self._sending,))
        future = LoopFuture(self._loop)
        if self._flush(future):
            self._sending = future
            await asyncio.wait((future,))

    async def _start_send(self, start: Callable[[Any, Any], bool], argument: Any) -> bool:
        """Call `start(argument, future)`, which sends it, and wait until more may be sent.

        Returns: False if the call has ended.
        """
        future = LoopFuture(self._loop)
        self._writing = True
        if not start(argument, future):
            return False
        if future.done():
            self._immediate_writes += 1
            if self._immediate_writes % UNBROKEN == 0:
                await asyncio.sleep(0)
            return True
        self._sending = future
        # Cancelling the task does not cancel the send in the core.
        await asyncio.shield(future)
        return True

    async def _end(self, message: bytes | None, code: int, details: str) -> None:
        if self._writing:
            # The status must be sent after a reply that waits for flow control.
            await self._wait_flushed()
        self._over = True
        self._finish(message, code, details)

    def _run_callbacks(self) -> None:
        """Call the callbacks. The method has ended."""
        self._over = True
        callbacks, self._done_callbacks = self._done_callbacks or (), None
        for callback in callbacks:
            try:
                callback(self)
            except Exception as error:
                _core.unraisable(error, callback)


class Requests:
    """The requests of one call, for `async for`."""

    def __init__(self, context: ServicerContext) -> None:
        self._context = context

    def __repr__(self) -> str:
        return f"<requests of a call of {self._context._method}>"

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        request = await self._context._next()
        if request is END:
            raise StopAsyncIteration
        return request
