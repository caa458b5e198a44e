"""Calls through interceptors, of the kinds that grpc.aio's channels take.

grpcio's implementation makes only grpcio's own calls. This one behaves the same. Imported with the
first call of a channel that has interceptors.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from typing import TYPE_CHECKING, Any, NamedTuple

from pygo_plugin._base.aio_loops import checkpoint
from pygo_plugin._grpc.abstract import Abstract, imported
from pygo_plugin._grpc.aio_calls import (
    CANCELLED,
    FINISHED,
    HALF_CLOSED,
    LOCALLY_CANCELLED,
    MIXED,
    Call,
    end_of_file,
)
from pygo_plugin._grpc.aio_errors import AioRpcError, usage_error
from pygo_plugin._grpc.aio_metadata import metadata
from pygo_plugin._grpc.enums import status_code

if TYPE_CHECKING:
    from typing_extensions import Self

    from pygo_plugin._grpc.aio_channel import _MultiCallable


class _CallDetails(NamedTuple):
    """The options of a call, as interceptors see them without grpcio."""

    method: bytes
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None


_STOP = object()  # the end of the requests, in the queue of those that are written


class _Intercepted(Abstract):
    """A call that goes through interceptors, which may delay it, change it, or answer it."""

    def __init__(self, multi: _MultiCallable, request: Any, options: tuple[Any, ...]) -> None:
        self._loop = asyncio.get_running_loop()
        self._multi = multi
        timeout, pairs, credentials, wait_for_ready, self._compression = options
        method = multi._method
        grpc = imported()
        details = (_CallDetails if grpc is None else grpc.aio.ClientCallDetails)(
            method if isinstance(method, bytes) else method.encode(),
            timeout,
            metadata(tuple(pairs or ())),
            credentials,
            wait_for_ready,
        )
        self._task = self._loop.create_task(self._call_from(0, details, request))

    async def _call_from(self, index: int, details: Any, request: Any) -> Any:
        """Make the call through the interceptors from `index` on."""
        multi = self._multi
        if index == len(multi._interceptors):
            return multi._named(details.method)._run(
                request,
                details.timeout,
                details.metadata,
                details.credentials,
                details.wait_for_ready,
                self._compression,
            )
        call: list[Any] = []

        async def proceed(details: Any, request: Any) -> Any:
            call[:] = [await self._call_from(index + 1, details, request)]
            return call[0]

        answer = await multi._interceptors[index](proceed, details, request)
        return self._as_call(answer, call[0] if call else None)

    def _as_call(self, answer: Any, call: Any) -> Any:
        """The answer of an interceptor as a call. `call` is the call that it made, or None."""
        return answer

    async def _call(self) -> Any:
        """Wait for the call that the interceptors return."""
        # wait() does not cancel the call when the task that waits is cancelled.
        if not self._task.done():
            await asyncio.wait((self._task,))
        else:
            await checkpoint()
        return self._task.result()

    def __repr__(self) -> str:
        method = self._multi._method
        path = method.decode("utf-8", "replace") if isinstance(method, bytes) else method
        return f"<{type(self).__name__} of {path}, {'ended' if self.done() else 'running'}>"

    def cancel(self) -> bool:
        """End the call with CANCELLED. Returns: False if it has ended already."""
        if not self._task.done():
            return self._task.cancel()
        if self._task.cancelled() or self._task.exception() is not None:
            return False
        return bool(self._task.result().cancel())

    def cancelled(self) -> bool:
        """Whether the call ended with CANCELLED."""
        if not self._task.done():
            return False
        if self._task.cancelled():
            return True
        error = self._task.exception()
        if error is not None:
            return isinstance(error, AioRpcError) and error.code().value[0] == CANCELLED
        return bool(self._task.result().cancelled())

    def done(self) -> bool:
        """Whether the call has ended."""
        if not self._task.done():
            return False
        if self._task.cancelled() or self._task.exception() is not None:
            return True
        return bool(self._task.result().done())

    def add_done_callback(self, callback: Callable[[Self], Any]) -> None:
        """Have `callback(call)` called when the call ends, or now if it has ended already."""

        def call_at_end(task: asyncio.Task[Any]) -> None:
            if task.cancelled() or task.exception() is not None:
                callback(self)
            else:
                task.result().add_done_callback(lambda _: callback(self))

        if self._task.done():
            call_at_end(self._task)
        else:
            self._task.add_done_callback(call_at_end)

    def time_remaining(self) -> float | None:
        """Seconds until the deadline; None without one, or while interceptors delay the call."""
        if not self._task.done() or self._task.cancelled() or self._task.exception() is not None:
            return None
        left: float | None = self._task.result().time_remaining()
        return left

    async def _ask(self, name: str, cancelled: Any) -> Any:
        """What the call's method `name` returns, or `cancelled` if an interceptor was cancelled."""
        try:
            call = await self._call()
        except AioRpcError as error:
            return getattr(error, name)()
        except asyncio.CancelledError:
            if not self._task.cancelled():
                raise  # the task that waits was cancelled
            return cancelled
        return await getattr(call, name)()

    async def initial_metadata(self) -> Any:
        """The metadata sent ahead of the first reply. Waits for it."""
        return await self._ask("initial_metadata", None)

    async def trailing_metadata(self) -> Any:
        """The metadata that came with the status. Waits for the end of the call."""
        return await self._ask("trailing_metadata", None)

    async def code(self) -> Any:
        """The grpc.StatusCode. Waits for the end of the call."""
        return await self._ask("code", status_code(CANCELLED))

    async def details(self) -> Any:
        """The text that came with the status. Waits for the end of the call."""
        return await self._ask("details", LOCALLY_CANCELLED)

    async def debug_error_string(self) -> Any:
        """How gRPC describes a failure. Waits for the end of the call."""
        return await self._ask("debug_error_string", "")

    async def wait_for_connection(self) -> None:
        """Wait until the channel is connected."""
        await (await self._call()).wait_for_connection()


class _OneReply(_Intercepted):
    def __await__(self) -> Generator[Any, None, Any]:
        if self._task.done():
            yield from checkpoint().__await__()
        call = yield from self._task.__await__()
        reply = yield from call.__await__()
        return reply

    def _as_call(self, answer: Any, call: Any) -> Any:
        return answer if isinstance(answer, (Call, _Intercepted, _Reply)) else _Reply(answer)


class _Replies(_Intercepted):
    _iterator: AsyncIterator[Any] | None = None

    def __aiter__(self) -> AsyncIterator[Any]:
        if self._iterator is None:
            self._iterator = self._iterate()
        return self._iterator

    async def _iterate(self) -> AsyncIterator[Any]:
        try:
            call = await self._task
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        async for reply in call:
            yield reply

    async def read(self) -> Any:
        """The next reply, or EOF. Raises: the call's error."""
        async for reply in self:
            return reply
        await checkpoint()
        return end_of_file()

    def _as_call(self, answer: Any, call: Any) -> Any:
        if isinstance(answer, (Call, _Intercepted, _ReplyStream)) or call is None:
            return answer
        return _ReplyStream(call, answer)


class _Requests(_Intercepted):
    _queue: asyncio.Queue[Any] | None = None
    _half_closed = False

    def __init__(self, multi: _MultiCallable, request: Any, options: tuple[Any, ...]) -> None:
        if request is None:
            self._queue = asyncio.Queue(maxsize=1)
            request = self._requests_of(self._queue)
        super().__init__(multi, request, options)

    @staticmethod
    async def _requests_of(queue: asyncio.Queue[Any]) -> AsyncIterator[Any]:
        """The requests given to write(), as the iterator that interceptors get."""
        while (request := await queue.get()) is not _STOP:
            yield request

    async def write(self, request: Any) -> None:
        """Send one request. Waits until the next one may be sent."""
        queue = self._queue_for_writes()
        await self._refuse_finished()
        if self._half_closed:
            raise asyncio.InvalidStateError(HALF_CLOSED)
        await self._put(queue, request)
        await self._refuse_finished()

    async def done_writing(self) -> None:
        """Tell the server that no more requests follow. Idempotent."""
        queue = self._queue_for_writes()
        if not self._half_closed:
            self._half_closed = True
            await self._put(queue, _STOP)
        else:
            await checkpoint()

    def _queue_for_writes(self) -> asyncio.Queue[Any]:
        if self._queue is None:
            raise usage_error(MIXED)
        return self._queue

    async def _refuse_finished(self) -> None:
        """Raise an InvalidStateError if the call has ended. Waits for the interceptors."""
        try:
            call = await self._call()
        except (asyncio.CancelledError, AioRpcError):
            if not self._task.cancelled() and self._task.exception() is None:
                raise
            raise asyncio.InvalidStateError(FINISHED) from None
        if call.done():
            raise asyncio.InvalidStateError(FINISHED)

    async def _put(self, queue: asyncio.Queue[Any], item: Any) -> None:
        """Wait until the item is in the queue, or the call ends."""
        put = self._loop.create_task(queue.put(item))
        ended = self._loop.create_task(self.code())
        try:
            await asyncio.wait((put, ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            put.cancel()
            ended.cancel()


class _Reply:
    """A reply that an interceptor returned instead of a call."""

    def __init__(self, reply: Any) -> None:
        self._reply = reply

    def __await__(self) -> Generator[Any, None, Any]:
        yield from checkpoint().__await__()
        return self._reply

    def cancel(self) -> bool:
        return False

    def cancelled(self) -> bool:
        return False

    def done(self) -> bool:
        return True

    def add_done_callback(self, callback: Callable[[Any], Any]) -> None:
        callback(self)

    def time_remaining(self) -> float | None:
        return None

    async def initial_metadata(self) -> Any:
        await checkpoint()
        return metadata(())

    async def trailing_metadata(self) -> Any:
        await checkpoint()
        return metadata(())

    async def code(self) -> Any:
        await checkpoint()
        return status_code(0)

    async def details(self) -> str:
        await checkpoint()
        return ""

    async def debug_error_string(self) -> str:
        await checkpoint()
        return ""

    async def wait_for_connection(self) -> None:
        await checkpoint()


class _ReplyStream:
    """Replies that an interceptor returned instead of its call, which has everything else."""

    def __init__(self, call: Any, replies: Any) -> None:
        self._call = call
        self._replies = replies

    def __aiter__(self) -> Any:
        return self._replies.__aiter__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


class InterceptedUnaryUnaryCall(_OneReply):
    """A UnaryUnaryCall that goes through interceptors."""

    _implements = ("aio.UnaryUnaryCall",)


class InterceptedUnaryStreamCall(_Replies):
    """A UnaryStreamCall that goes through interceptors."""

    _implements = ("aio.UnaryStreamCall",)


class InterceptedStreamUnaryCall(_Requests, _OneReply):
    """A StreamUnaryCall that goes through interceptors."""

    _implements = ("aio.StreamUnaryCall",)


class InterceptedStreamStreamCall(_Requests, _Replies):
    """A StreamStreamCall that goes through interceptors."""

    _implements = ("aio.StreamStreamCall",)
