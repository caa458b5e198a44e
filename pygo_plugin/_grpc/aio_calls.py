"""Calls in flight with the interfaces of grpc.aio, each for the loop that made it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Generator
from typing import TYPE_CHECKING, Any

from pygo_plugin._base.aio_loops import UNBROKEN, checkpoint
from pygo_plugin._base.core import _core
from pygo_plugin._core import LoopFuture
from pygo_plugin._grpc.abstract import Abstract
from pygo_plugin.errors import _importing, _not_imported

if TYPE_CHECKING:
    from typing_extensions import Self

_CANCELLED = 1
_UNKNOWN = 2
_READY = 2

_LOCALLY = "Locally cancelled by application!"
_FINISHED = "RPC already finished."
_HALF_CLOSED = 'RPC is half closed after calling "done_writing".'
_MIXED = "The iterator and read/write APIs may not be mixed on a single RPC."

_END = object()  # of a stream; EOF is for those who call read()


class Call(_core.AsyncCall, Abstract):
    """What the calls of all arities have in common. For use on the loop that made it.

    Cancelling a task that waits for the call cancels the call.
    """

    _final: _core._CallStatus | None = None
    _locally = False  # cancelled from this side
    _arrived: _core.LoopFuture | None = None  # initial metadata
    _callbacks: list[Callable[[Any], Any]] | None = None  # None: none were ever added

    def cancel(self) -> bool:
        """End the call with CANCELLED; False if it has ended."""
        ended = self._ended
        if self._final is not None or (ended.done() and not ended.cancelled()):
            return False
        self._final = (_CANCELLED, _LOCALLY, (), "")
        self._locally = True
        self._cancel(_CANCELLED, _LOCALLY)
        if not ended.done():
            ended.set_result(True)
        self._run_callbacks()
        return True

    def cancelled(self) -> bool:
        """Whether the call ended with CANCELLED."""
        return self.done() and self._status_now()[0] == _CANCELLED

    def done(self) -> bool:
        """Whether the call has ended."""
        return self._final is not None or self._ended.done()

    def add_done_callback(self, callback: Callable[[Self], Any]) -> None:
        """Have `callback(call)` called when the call ends; at once if it has ended already."""
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
        """The metadata sent ahead of the first reply. Waits for them."""
        with _importing("pygo_plugin._grpc.aio_errors"):
            from pygo_plugin._grpc.aio_errors import metadata

        if not self.done():
            if self._arrived is None:
                self._arrived = LoopFuture(self._loop)
                self._on_metadata(self._arrived)
            await asyncio.wait((self._arrived, self._ended), return_when=asyncio.FIRST_COMPLETED)
        else:
            await checkpoint()
        return metadata(() if self._locally else self._metadata())

    async def trailing_metadata(self) -> Any:
        """The metadata that came with the status. Waits for the end of the call."""
        with _importing("pygo_plugin._grpc.aio_errors"):
            from pygo_plugin._grpc.aio_errors import metadata

        return metadata((await self._status_then())[2])

    async def code(self) -> Any:
        """The grpc.StatusCode. Waits for the end of the call."""
        with _importing("pygo_plugin._grpc.errors"):
            from pygo_plugin._grpc.errors import status_code

        return status_code((await self._status_then())[0])

    async def details(self) -> str:
        """The text that came with the status. Waits for the end of the call."""
        return (await self._status_then())[1]

    async def debug_error_string(self) -> str:
        """gRPC's own account of a failure. Waits for the end of the call."""
        return (await self._status_then())[3] or ""

    async def wait_for_connection(self) -> None:
        """Wait until the channel is connected. Raises what the call failed with meanwhile."""
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
        name = type(self).__name__
        if not self.done():
            return f"<{name}, under way>"
        code, details, _, _ = self._status_now()
        return f"<{name}, ended with status {code}, details {details!r}>"

    # Inside.

    def _status_now(self) -> _core._CallStatus:
        """The status of a call that has ended."""
        if self._final is None:
            if self._ended.cancelled():  # with a task that awaited it
                self.cancel()
            else:
                self._final = self._status()
        assert self._final is not None
        return self._final

    async def _status_then(self) -> _core._CallStatus:
        if not self.done():
            # A task that is cancelled while it only asks how the call ended does not end it.
            await asyncio.wait((self._ended,))
        else:
            await checkpoint()
        return self._status_now()

    async def _raise_for_status(self) -> None:
        status = await self._status_then()
        if self._locally:
            raise asyncio.CancelledError
        if status[0] != 0:
            raise self._error(status)

    def _error(self, status: _core._CallStatus) -> BaseException:
        with _importing("pygo_plugin._grpc.aio_errors"):
            from pygo_plugin._grpc.aio_errors import rpc_error

        return rpc_error(status, self._metadata())


class _OneReply(Call):
    """A call with one reply, which awaiting it gives."""

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
        if self._locally or ended.cancelled() or self._code() != 0:
            status = self._status_now()
            if self._locally:
                raise asyncio.CancelledError
            raise self._error(status)
        return self._the_reply()


class _Replies(Call):
    """A call whose replies are iterated over, or read one by one. Dropping it cancels it."""

    _reading: LoopFuture | None = None
    _unbroken = 0  # replies that were there at once
    _iterated: bool | None = None  # or read; None: neither yet

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
        """The next reply, or EOF. Raises what the call failed with."""
        try:  # nearer to the messages than _importing() should be
            from pygo_plugin._grpc.aio_errors import EOF
        except OSError as error:
            raise _not_imported("pygo_plugin._grpc.aio_errors", error) from error
        if self.done():
            await self._raise_for_status()
            return EOF
        self._use(iterated=False)
        reply = await self._next()
        if reply is _END:
            await self._raise_for_status()
            return EOF
        return reply

    def _use(self, iterated: bool) -> None:
        if self._iterated is None:
            self._iterated = iterated
        elif self._iterated is not iterated:
            with _importing("pygo_plugin._grpc.aio_errors"):
                from pygo_plugin._grpc.aio_errors import usage_error

            raise usage_error(_MIXED)

    async def _next(self) -> Any:
        if self._reading is not None and not self._reading.done():
            await checkpoint()
            raise asyncio.InvalidStateError("another task is reading from this RPC")
        if self._locally:
            return _END
        self._reading = future = LoopFuture(self._loop)
        self._receive(future, _END)
        try:
            if future.done():  # at once, because the connection has brought it before
                self._unbroken += 1
                if self._unbroken % UNBROKEN == 0:
                    await asyncio.sleep(0)
            return await future
        except asyncio.CancelledError:
            self.cancel()
            raise
        except BaseException:  # the deserializer's
            self._cancel(_CANCELLED, "Exception deserializing response!")
            raise


class _Requests(Call):
    """A call whose requests come from an iterator, or are written one by one."""

    _outbox: _core.AsyncSender
    _written = False  # by write(), that is, not by an iterator
    _half_closed = False
    _sending: LoopFuture | None = None
    _unsuspended = 0  # requests whose write() had nothing to wait for

    def _feed_from(self, requests: Any) -> None:
        self._outbox = sender = self._sender()
        if requests is None:
            self._written = True
            return
        # The task does not keep the call going: dropping a half-read stream ends it.
        feeder = self._loop.create_task(_feed(sender, requests, self._loop))
        self._ended.add_done_callback(lambda _: feeder.cancel())

    async def write(self, request: Any) -> None:
        """Send one request. Waits until the next one may be sent."""
        self._use_writes()
        while self._sending is not None and not self._sending.done():
            await asyncio.wait((self._sending,))
        if self.done():
            if not self._locally:
                await self._raise_for_status()
            await checkpoint()
            raise asyncio.InvalidStateError(_FINISHED)
        if self._half_closed:
            await checkpoint()
            raise asyncio.InvalidStateError(_HALF_CLOSED)
        future = LoopFuture(self._loop)
        await self._sent(self._outbox.send(request, future), future)

    async def done_writing(self) -> None:
        """Say that no more requests follow. Idempotent."""
        self._use_writes()
        while self._sending is not None and not self._sending.done():
            await asyncio.wait((self._sending,))
        if self._half_closed or self.done():
            await checkpoint()
            return
        self._half_closed = True
        future = LoopFuture(self._loop)
        await self._sent(self._outbox.close(future), future)

    def _use_writes(self) -> None:
        if not self._written:
            with _importing("pygo_plugin._grpc.aio_errors"):
                from pygo_plugin._grpc.aio_errors import usage_error

            raise usage_error(_MIXED)

    async def _sent(self, started: bool, future: LoopFuture) -> None:
        sent = False
        if started:
            self._sending = future
            try:
                if future.done():
                    self._unsuspended += 1
                    if self._unsuspended % UNBROKEN == 0:
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
    """One RPC with streams both ways."""

    _implements = ("aio.StreamStreamCall",)


async def _feed(sender: _core.AsyncSender, requests: Any, loop: asyncio.AbstractEventLoop) -> None:
    """Send what `requests` yields."""

    unsuspended = 0

    async def send(request: Any) -> bool:
        nonlocal unsuspended
        future = LoopFuture(loop)
        if not sender.send(request, future):
            return False
        if future.done():
            unsuspended += 1
            if unsuspended % UNBROKEN == 0:
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
        sender.fail(_CANCELLED, "Cancelled")  # unless it is over, which is the usual reason
        raise
    except BaseException as error:
        sender.fail(_UNKNOWN, f"Exception iterating requests! {error!r}")
        if not isinstance(error, Exception):
            raise
        _core.unraisable(error, requests)
    else:
        sender.close(LoopFuture(loop))
