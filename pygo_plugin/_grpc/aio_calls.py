"""Running calls with the interfaces of grpc.aio. Each belongs to the event loop that made it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Generator
from typing import TYPE_CHECKING, Any

from pygo_plugin._base.aio_loops import UNBROKEN, checkpoint
from pygo_plugin._base.checks import refuse_copy
from pygo_plugin._base.core import _core
from pygo_plugin._core import LoopFuture
from pygo_plugin._grpc.abstract import Abstract
from pygo_plugin.errors import _importing

if TYPE_CHECKING:
    from typing_extensions import Self

CANCELLED = 1
_UNKNOWN = 2
_READY = 2

LOCALLY_CANCELLED = "Locally cancelled by application!"
FINISHED = "RPC already finished."
HALF_CLOSED = 'RPC is half closed after calling "done_writing".'
MIXED = "The iterator and read/write APIs may not be mixed on a single RPC."

_END = object()  # what the core returns at the end of a stream, where read() returns EOF


class Call(_core.AsyncCall, Abstract):
    """The base class of the calls of all arities. A call is used only on the loop that made it.

    Cancelling a task that waits for the call cancels the call.
    """

    _final: _core._CallStatus | None = None
    _cancelled_here = False  # whether cancel() was called, or a task that waits was cancelled
    _metadata_arrived: _core.LoopFuture | None = None  # done when the initial metadata is here
    _callbacks: list[Callable[[Any], Any]] | None = None  # None until one is added

    def cancel(self) -> bool:
        """End the call with CANCELLED. Returns: False if it has ended already."""
        ended = self._ended
        if self._final is not None or (ended.done() and not ended.cancelled()):
            return False
        self._final = (CANCELLED, LOCALLY_CANCELLED, (), "")
        self._cancelled_here = True
        self._cancel(CANCELLED, LOCALLY_CANCELLED)
        if not ended.done():
            ended.set_result(True)
        self._run_callbacks()
        return True

    def cancelled(self) -> bool:
        """Whether the call ended with CANCELLED."""
        return self.done() and self._status_now()[0] == CANCELLED

    def done(self) -> bool:
        """Whether the call has ended."""
        return self._final is not None or self._ended.done()

    def add_done_callback(self, callback: Callable[[Self], Any]) -> None:
        """Have `callback(call)` called when the call ends, or now if it has ended already."""
        if self.done():
            callback(self)
            return
        if self._callbacks is None:
            self._callbacks = []
            self._ended.add_done_callback(lambda _: self._run_callbacks())
        self._callbacks.append(callback)

    def _run_callbacks(self) -> None:
        callbacks, self._callbacks = self._callbacks or (), []
        for callback in callbacks:
            try:
                callback(self)
            except Exception as error:
                _core.unraisable(error, callback)

    async def initial_metadata(self) -> Any:
        """The metadata sent ahead of the first reply. Waits for it."""
        with _importing("pygo_plugin._grpc.aio_metadata"):
            from pygo_plugin._grpc.aio_metadata import metadata

        if not self.done():
            if self._metadata_arrived is None:
                self._metadata_arrived = LoopFuture(self._loop)
                self._on_metadata(self._metadata_arrived)
            await asyncio.wait(
                (self._metadata_arrived, self._ended), return_when=asyncio.FIRST_COMPLETED
            )
        else:
            await checkpoint()
        return metadata(() if self._cancelled_here else self._metadata())

    async def trailing_metadata(self) -> Any:
        """The metadata that came with the status. Waits for the end of the call."""
        with _importing("pygo_plugin._grpc.aio_metadata"):
            from pygo_plugin._grpc.aio_metadata import metadata

        return metadata((await self._wait_for_status())[2])

    async def code(self) -> Any:
        """The grpc.StatusCode. Waits for the end of the call."""
        with _importing("pygo_plugin._grpc.enums"):
            from pygo_plugin._grpc.enums import status_code

        return status_code((await self._wait_for_status())[0])

    async def details(self) -> str:
        """The text that came with the status. Waits for the end of the call."""
        return (await self._wait_for_status())[1]

    async def debug_error_string(self) -> str:
        """How gRPC describes a failure. Waits for the end of the call."""
        return (await self._wait_for_status())[3] or ""

    async def wait_for_connection(self) -> None:
        """Wait until the channel is connected. Raises: the call's error if it fails first."""
        from pygo_plugin._base.aio_loops import queue_of

        while not self.done():
            state = self._channel.state(True)
            if state == _READY:
                await checkpoint()
                return
            changed = LoopFuture(self._loop)
            self._channel._watch_state(state, queue_of(self._loop), changed)
            await asyncio.wait((changed, self._ended), return_when=asyncio.FIRST_COMPLETED)
        await self._raise_for_status()

    def __repr__(self) -> str:
        with _importing("pygo_plugin._grpc.describe"):
            from pygo_plugin._grpc.describe import show_call

        return show_call(self, self._status_now() if self.done() else None)

    __reduce_ex__ = refuse_copy

    # Inside.

    def _status_now(self) -> _core._CallStatus:
        """The status of a call that has ended."""
        if self._final is None:
            if self._ended.cancelled():  # a task that awaited it was cancelled
                self.cancel()
            else:
                self._final = self._status()
        assert self._final is not None
        return self._final

    async def _wait_for_status(self) -> _core._CallStatus:
        if not self.done():
            # wait() does not cancel the future when this task is cancelled: a task that only asks
            # how the call ended must not end it.
            await asyncio.wait((self._ended,))
        else:
            await checkpoint()
        return self._status_now()

    async def _raise_for_status(self) -> None:
        status = await self._wait_for_status()
        if self._cancelled_here:
            raise asyncio.CancelledError
        if status[0] != 0:
            raise self._error(status)

    def _error(self, status: _core._CallStatus) -> BaseException:
        with _importing("pygo_plugin._grpc.aio_errors"):
            from pygo_plugin._grpc.aio_errors import rpc_error

        return rpc_error(status, self._metadata(), self._cut_off())


class _OneReply(Call):
    """A call with one reply, which is the result of awaiting it."""

    def __await__(self) -> Generator[Any, None, Any]:
        ended = self._ended
        if not ended.done():
            try:
                yield from ended
            except asyncio.CancelledError:
                self.cancel()
                raise
        else:
            yield from checkpoint().__await__()
        if self._cancelled_here or ended.cancelled() or self._code() != 0:
            status = self._status_now()
            if self._cancelled_here:
                raise asyncio.CancelledError
            raise self._error(status)
        return self._the_reply()


class _Replies(Call):
    """A call whose replies are iterated over, or read one by one. Dropping it cancels it."""

    _reading: LoopFuture | None = None
    _immediate_reads = 0  # how many replies did not have to be waited for
    _iterated: bool | None = None  # False: replies are read with read(); None: neither so far

    def __aiter__(self) -> Self:
        self._use(iterated=True)
        return self

    async def __anext__(self) -> Any:
        reply = await self._next()
        if reply is _END:
            await self._raise_for_status()
            raise StopAsyncIteration
        return reply

    async def read(self) -> Any:
        """The next reply, or EOF. Raises: the call's error."""
        reply = _END
        if not self.done():
            self._use(iterated=False)
            reply = await self._next()
        if reply is _END:
            await self._raise_for_status()
            return end_of_file()
        return reply

    def _use(self, iterated: bool) -> None:
        """Note how replies are read. Raises: UsageError if the two ways are mixed."""
        if self._iterated is None:
            self._iterated = iterated
        elif self._iterated is not iterated:
            with _importing("pygo_plugin._grpc.aio_errors"):
                from pygo_plugin._grpc.aio_errors import usage_error

            raise usage_error(MIXED)

    async def _next(self) -> Any:
        if self._reading is not None and not self._reading.done():
            await checkpoint()
            raise asyncio.InvalidStateError("another task is reading from this RPC")
        if self._cancelled_here:
            return _END
        self._reading = future = LoopFuture(self._loop)
        self._receive(future, _END)
        try:
            if future.done():  # the reply had arrived before it was asked for
                self._immediate_reads += 1
                if self._immediate_reads % UNBROKEN == 0:
                    await asyncio.sleep(0)
            return await future
        except asyncio.CancelledError:
            self.cancel()
            raise
        except BaseException:  # raised by the deserializer
            self._cancel(CANCELLED, "Exception deserializing response!")
            raise


class _Requests(Call):
    """A call whose requests come from an iterator, or are written one by one."""

    _requests: _core.AsyncSender
    _uses_write = False  # whether requests come from write() and not from an iterator
    _half_closed = False
    _sending: LoopFuture | None = None
    _immediate_writes = 0  # how many calls of write() did not have to wait

    def _send_from(self, requests: Any) -> None:
        """Send what the iterable yields; None: requests come from write()."""
        self._requests = sender = self._sender()
        if requests is None:
            self._uses_write = True
            return
        # The task holds no reference to the call: a call that the program drops is cancelled.
        task = self._loop.create_task(_send_all(sender, requests, self._loop))
        self._ended.add_done_callback(lambda _: task.cancel())

    async def write(self, request: Any) -> None:
        """Send one request. Waits until the next one may be sent."""
        self._check_uses_write()
        while self._sending is not None and not self._sending.done():
            await asyncio.wait((self._sending,))
        if self.done():
            if not self._cancelled_here:
                await self._raise_for_status()
            await checkpoint()
            raise asyncio.InvalidStateError(FINISHED)
        if self._half_closed:
            await checkpoint()
            raise asyncio.InvalidStateError(HALF_CLOSED)
        future = LoopFuture(self._loop)
        await self._wait_sent(self._requests.send(request, future), future)

    async def done_writing(self) -> None:
        """Tell the server that no more requests follow. Idempotent."""
        self._check_uses_write()
        while self._sending is not None and not self._sending.done():
            await asyncio.wait((self._sending,))
        if self._half_closed or self.done():
            await checkpoint()
            return
        self._half_closed = True
        future = LoopFuture(self._loop)
        await self._wait_sent(self._requests.close(future), future)

    def _check_uses_write(self) -> None:
        if not self._uses_write:
            with _importing("pygo_plugin._grpc.aio_errors"):
                from pygo_plugin._grpc.aio_errors import usage_error

            raise usage_error(MIXED)

    async def _wait_sent(self, started: bool, future: LoopFuture) -> None:
        """Wait for a send, if the core has started it. Raises: the call's error if it failed."""
        sent = False
        if started:
            self._sending = future
            try:
                if future.done():
                    self._immediate_writes += 1
                    if self._immediate_writes % UNBROKEN == 0:
                        await asyncio.sleep(0)
                sent = await future
            except asyncio.CancelledError:
                self.cancel()
                raise
        if not sent:
            await self._raise_for_status()


class UnaryUnaryCall(_OneReply):
    """One RPC with one request and one reply: `reply = await call`."""

    _implements = ("aio.UnaryUnaryCall",)


class UnaryStreamCall(_Replies):
    """One RPC with one request and a stream of replies."""

    _implements = ("aio.UnaryStreamCall",)


class StreamUnaryCall(_Requests, _OneReply):
    """One RPC with a stream of requests and one reply."""

    _implements = ("aio.StreamUnaryCall",)


class StreamStreamCall(_Requests, _Replies):
    """One RPC with streams in both directions."""

    _implements = ("aio.StreamStreamCall",)


async def _send_all(
    sender: _core.AsyncSender, requests: Any, loop: asyncio.AbstractEventLoop
) -> None:
    """Send what `requests` yields."""

    immediate = 0

    async def send(request: Any) -> bool:
        nonlocal immediate
        future = LoopFuture(loop)
        if not sender.send(request, future):
            return False
        if future.done():
            immediate += 1
            if immediate % UNBROKEN == 0:
                await asyncio.sleep(0)
        sent: bool = await future
        return sent

    try:
        if isinstance(requests, AsyncIterable):
            async for request in requests:
                if not await send(request):
                    return
        else:
            for request in requests:
                if not await send(request):
                    return
    except asyncio.CancelledError:
        sender.fail(CANCELLED, "Cancelled")  # does nothing if the call has ended
        raise
    except BaseException as error:
        sender.fail(_UNKNOWN, f"Exception iterating requests! {error!r}")
        if not isinstance(error, Exception):
            raise
        _core.unraisable(error, requests)
    else:
        sender.close(LoopFuture(loop))


def end_of_file() -> Any:
    """What read() returns at the end of the messages."""
    with _importing("pygo_plugin._grpc.aio_errors"):
        from pygo_plugin._grpc import aio_errors

    return aio_errors.end_of_file()
