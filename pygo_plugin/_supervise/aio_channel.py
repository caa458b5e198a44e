"""Channels of asyncio whose calls go to whichever incarnation of a plugin takes calls."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pygo_plugin._base.aio_loops import checkpoint, running_loop
from pygo_plugin._base.checks import refuse_copy
from pygo_plugin._base.core import _core
from pygo_plugin._grpc.abstract import Abstract
from pygo_plugin._grpc.aio_calls import CANCELLED, LOCALLY_CANCELLED, Call
from pygo_plugin._grpc.aio_errors import closed_error, rpc_error
from pygo_plugin._grpc.aio_metadata import metadata
from pygo_plugin._grpc.channel import _SHUTDOWN, _STATES
from pygo_plugin._grpc.enums import connectivity, status_code
from pygo_plugin._supervise import metrics
from pygo_plugin._supervise.calls import _DEADLINE_EXCEEDED, _UNAVAILABLE, explain
from pygo_plugin._supervise.channel import _CONNECTING, _READY, _TRANSIENT_FAILURE, ChannelBase
from pygo_plugin._supervise.route import Leave, now, remaining
from pygo_plugin.errors import ClosedError, PluginError, RpcError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import TracebackType

    from typing_extensions import Self

    from pygo_plugin._supervise.incarnation import Incarnation

__all__ = ["RoutedChannel"]

POLL = 0.02  # seconds between two looks at the state of a channel


def absent(route: Any, late: bool, cause: BaseException | None) -> RpcError:
    """The error of a call that no incarnation takes: at its deadline (`late`), or at once."""
    code = _DEADLINE_EXCEEDED if late else _UNAVAILABLE
    error = rpc_error((code, route.refuse(), (), ""), (), None)
    error.__cause__ = cause
    return error


class _Call:
    """One RPC, used only on the loop that made it. See `_supervise.calls.Call`."""

    def __init__(
        self,
        method: _MultiCallable,
        begin: Callable[[Any, float | None], Any],
        timeout: float | None,
    ) -> None:
        _core.check_timeout(timeout)
        self._method = method
        self._route = method._route
        self._begin = begin
        self._loop = running_loop()
        self._deadline = None if timeout is None else now() + timeout
        self._repeats = method._repeats
        self._inner: Any = None
        self._incarnation: Any = None
        self._failure: BaseException | None = None  # why there is no inner call
        self._starting: asyncio.Task[None] | None = None
        self._callbacks: list[Callable[[Any], Any]] = []
        self._cancelled_here = False
        self._replied = False
        self._watched = False
        if method._channel._closed:
            raise closed_error()
        incarnation = self._route.take()
        if incarnation is None or not self._start(incarnation):
            self._start_later(None)

    # ---- Attempts --------------------------------------------------------------------------------

    def _start_later(self, cause: BaseException | None) -> None:
        self._inner = None
        self._starting = self._loop.create_task(self._start_waiting(cause))

    async def _start_waiting(self, cause: BaseException | None) -> None:
        route = self._route
        try:
            while True:
                incarnation = route.take()
                if incarnation is None:
                    if not route.waits:
                        raise absent(route, False, cause)
                    try:
                        incarnation = await route.take_later(self._deadline)
                    except TimeoutError:
                        raise absent(route, True, cause) from cause
                if self._start(incarnation):
                    return
        except asyncio.CancelledError:
            self._cancel_start()
            raise
        except Exception as error:
            self._failure = error
            self._run_callbacks()

    def _start(self, incarnation: Incarnation) -> bool:
        """Begin. Returns: False if the incarnation is being killed."""
        leave = Leave(self._route, incarnation)
        try:
            inner = self._begin(self._method._callable(incarnation), remaining(self._deadline))
        except ClosedError:
            if incarnation.closed and not self._method._channel._closed:
                return False
            raise
        self._incarnation, self._inner = incarnation, inner
        # A callback of the call itself would keep the call, which is cancelled when it is dropped.
        (inner._ended if isinstance(inner, Call) else inner).add_done_callback(leave)
        if self._watched:
            inner.add_done_callback(self._inner_over)
        return True

    async def _started(self) -> Any:
        """The inner call. Raises: why there is none."""
        while self._inner is None:
            if self._failure is not None:
                await checkpoint()
                raise self._failure
            assert self._starting is not None
            await asyncio.wait((self._starting,))
        return self._inner

    async def _started_or_cancel(self) -> Any:
        try:
            return await self._started()
        except asyncio.CancelledError:
            self.cancel()
            raise
        except RpcError:
            if self._cancelled_here:
                raise asyncio.CancelledError from None
            raise

    def _is_repeated(self, error: BaseException) -> bool:
        """Give an error its cause. Returns: whether the call has been begun again."""
        if not explain(self._route, self._incarnation, error):
            return False
        if self._repeats <= 0 or self._replied:
            return False
        self._repeats -= 1
        self._start_later(error.__cause__)
        return True

    # ---- grpc.aio.Call ---------------------------------------------------------------------------

    def cancel(self) -> bool:
        """End the call with CANCELLED. Returns: False if it has ended already."""
        if self._inner is not None:
            return self._inner.cancel()  # type: ignore[no-any-return]
        if self._failure is not None or self._starting is None:
            return False
        self._starting.cancel()
        self._cancel_start()
        return True

    def _cancel_start(self) -> None:
        if self._failure is None:
            self._cancelled_here = True
            self._failure = rpc_error((CANCELLED, LOCALLY_CANCELLED, (), ""), (), None)
            self._run_callbacks()

    def cancelled(self) -> bool:
        """Whether the call ended with CANCELLED."""
        if self._inner is not None:
            return self._inner.cancelled()  # type: ignore[no-any-return]
        return self._cancelled_here and self._failure is not None

    def done(self) -> bool:
        """Whether the call has ended."""
        return self._failure is not None if self._inner is None else self._inner.done()

    def time_remaining(self) -> float | None:
        """The seconds until the deadline; None without one."""
        return remaining(self._deadline)

    def add_done_callback(self, callback: Callable[[Any], Any]) -> None:
        """Have `callback(call)` called when the call ends, or now if it has ended already."""
        if self.done():
            callback(self)
            return
        self._callbacks.append(callback)
        if not self._watched:
            self._watched = True
            if self._inner is not None:
                self._inner.add_done_callback(self._inner_over)

    def _inner_over(self, inner: Any) -> None:
        # After the tasks that await it, which may begin it again.
        self._loop.call_soon(self._over_unless_repeated, inner)

    def _over_unless_repeated(self, inner: Any) -> None:
        if inner is self._inner:
            self._run_callbacks()

    def _run_callbacks(self) -> None:
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback(self)
            except Exception as error:
                _core.unraisable(error, callback)

    async def _ended(self) -> Any:
        """The inner call, or the RpcError that there is instead of it."""
        try:
            return await self._started()
        except RpcError as error:
            return _Failed(error)

    async def initial_metadata(self) -> Any:
        """The metadata sent ahead of the first reply. Waits for it."""
        return await (await self._ended()).initial_metadata()

    async def trailing_metadata(self) -> Any:
        """The metadata that came with the status. Waits for the end of the call."""
        return await (await self._ended()).trailing_metadata()

    async def code(self) -> Any:
        """The grpc.StatusCode. Waits for the end of the call."""
        return await (await self._ended()).code()

    async def details(self) -> str:
        """The text that came with the status. Waits for the end of the call."""
        return await (await self._ended()).details()  # type: ignore[no-any-return]

    async def debug_error_string(self) -> str:
        """How gRPC describes a failure. Waits for the end of the call."""
        return await (await self._ended()).debug_error_string()  # type: ignore[no-any-return]

    async def wait_for_connection(self) -> None:
        """Wait until the call has a connection. Raises: the call's error if it fails first."""
        inner = await self._started_or_cancel()
        try:
            await inner.wait_for_connection()
        except RpcError as error:
            explain(self._route, self._incarnation, error)
            raise

    def __repr__(self) -> str:
        return f"<routed call, {'waiting' if self._inner is None else repr(self._inner)}>"

    __reduce_ex__ = refuse_copy


class _Failed:
    """How a call ended that no incarnation has taken."""

    def __init__(self, error: Any) -> None:
        self._error = error

    async def initial_metadata(self) -> Any:
        return metadata(())

    trailing_metadata = initial_metadata

    async def code(self) -> Any:
        return status_code(self._error.code().value[0])

    async def details(self) -> str:
        return str(self._error.details())

    async def debug_error_string(self) -> str:
        return ""


class _OneReply(_Call):
    def __await__(self) -> Generator[Any, None, Any]:
        while True:
            inner = self._inner
            if inner is None:
                inner = yield from self._started_or_cancel().__await__()
            try:
                return (yield from inner.__await__())
            except RpcError as error:
                if not self._is_repeated(error):
                    raise


class _Replies(_Call):
    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        while True:
            inner = self._inner or await self._started_or_cancel()
            try:
                reply = await inner.__aiter__().__anext__()
            except RpcError as error:
                if not self._is_repeated(error):
                    raise
            else:
                self._replied = True
                return reply

    async def read(self) -> Any:
        """The next reply, or EOF. Raises: the call's error."""
        while True:
            inner = self._inner or await self._started_or_cancel()
            try:
                reply = await inner.read()
            except RpcError as error:
                if not self._is_repeated(error):
                    raise
            else:
                self._replied = True
                return reply


class _Requests(_Call):
    async def write(self, request: Any) -> None:
        """Send one request. Waits until the next one may be sent."""
        inner = await self._started_or_cancel()
        try:
            await inner.write(request)
        except RpcError as error:
            explain(self._route, self._incarnation, error)
            raise

    async def done_writing(self) -> None:
        """Tell the plugin that no more requests follow. Idempotent."""
        inner = await self._started_or_cancel()
        await inner.done_writing()


class UnaryUnaryCall(_OneReply, Abstract):
    """One RPC with one request and one reply: `reply = await call`."""

    _implements = ("aio.UnaryUnaryCall",)


class UnaryStreamCall(_Replies, Abstract):
    """One RPC with one request and a stream of replies."""

    _implements = ("aio.UnaryStreamCall",)


class StreamUnaryCall(_Requests, _OneReply, Abstract):
    """One RPC with a stream of requests and one reply."""

    _implements = ("aio.StreamUnaryCall",)


class StreamStreamCall(_Requests, _Replies, Abstract):
    """One RPC with streams in both directions."""

    _implements = ("aio.StreamStreamCall",)


class _MultiCallable:
    """Calls one method of the incarnation that a route gives."""

    _factory: str
    _kind: type[_Call]

    def __init__(self, channel: RoutedChannel, method: str | bytes, *codec: Any) -> None:
        self._channel = channel
        self._route = channel._route
        self._path = method.decode() if isinstance(method, bytes) else method
        self._codec = codec  # serializer and deserializer
        # By which an incarnation keeps its own callable. Not this one, which would then live on.
        self._key = object()
        streams = self._factory.startswith("stream")
        self._repeats = 0 if streams else self._route.retries.of(self._path)

    def __del__(self) -> None:
        self._channel._forget(self._key)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._path}, {self._channel!r}>"

    def _callable(self, incarnation: Incarnation) -> Any:
        """The incarnation's own multicallable of the method. Raises: ClosedError."""
        found = incarnation.callables.get(self._key)
        if found is None:
            channel = self._channel._open(incarnation)
            found = getattr(channel, self._factory)(self._path, *self._codec)
            if metrics.active():
                found = metrics.Measured(self._route.name, self._path, found)
            incarnation.callables[self._key] = found
        return found


class _OneRequest(_MultiCallable):
    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: int | None = None,
    ) -> Any:
        """Start a call. Await it for its reply, or iterate over it if the replies are a stream.

        `timeout` is in seconds, and includes waiting for the plugin.
        """

        def begin(method: Any, timeout: float | None) -> Any:
            return method(
                request,
                timeout=timeout,
                metadata=metadata,
                credentials=credentials,
                wait_for_ready=wait_for_ready,
                compression=compression,
            )

        return self._kind(self, begin, timeout)


class _ManyRequests(_MultiCallable):
    def __call__(
        self,
        request_iterator: Any = None,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: int | None = None,
    ) -> Any:
        """Start a call. Without an (async) iterable of requests, send them with `write()`.

        `timeout` is in seconds, and includes waiting for the plugin.
        """

        def begin(method: Any, timeout: float | None) -> Any:
            return method(
                request_iterator, timeout, metadata, credentials, wait_for_ready, compression
            )

        return self._kind(self, begin, timeout)


class UnaryUnaryMultiCallable(_OneRequest, Abstract):
    """One request, one reply."""

    _implements = ("aio.UnaryUnaryMultiCallable",)
    _factory = "unary_unary"
    _kind = UnaryUnaryCall


class UnaryStreamMultiCallable(_OneRequest, Abstract):
    """One request, a stream of replies."""

    _implements = ("aio.UnaryStreamMultiCallable",)
    _factory = "unary_stream"
    _kind = UnaryStreamCall


class StreamUnaryMultiCallable(_ManyRequests, Abstract):
    """A stream of requests, one reply."""

    _implements = ("aio.StreamUnaryMultiCallable",)
    _factory = "stream_unary"
    _kind = StreamUnaryCall


class StreamStreamMultiCallable(_ManyRequests, Abstract):
    """A stream of requests, a stream of replies."""

    _implements = ("aio.StreamStreamMultiCallable",)
    _factory = "stream_stream"
    _kind = StreamStreamCall


class RoutedChannel(ChannelBase, Abstract):
    """A grpc.aio.Channel to a plugin that is kept running, good for all of its incarnations.

    Calls may be made on any loop; each belongs to the loop that made it. Closing it ends its own
    calls and no others.
    """

    _implements = ("aio.Channel",)

    # Stubs call these methods to make a callable for each method of a service.

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> UnaryUnaryMultiCallable:
        """A callable for a method with one request and one reply."""
        return UnaryUnaryMultiCallable(self, method, request_serializer, response_deserializer)

    def unary_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> UnaryStreamMultiCallable:
        """A callable for a method with one request and a stream of replies."""
        return UnaryStreamMultiCallable(self, method, request_serializer, response_deserializer)

    def stream_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> StreamUnaryMultiCallable:
        """A callable for a method with a stream of requests and one reply."""
        return StreamUnaryMultiCallable(self, method, request_serializer, response_deserializer)

    def stream_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> StreamStreamMultiCallable:
        """A callable for a method with streams in both directions."""
        return StreamStreamMultiCallable(self, method, request_serializer, response_deserializer)

    # State.

    def _state(self) -> int:
        if self._closed:
            return _SHUTDOWN
        if self._route.peek() is not None:
            return _READY
        try:
            self._route.refuse()
        except ClosedError:
            return _SHUTDOWN
        except PluginError:
            return _TRANSIENT_FAILURE
        return _CONNECTING

    def get_state(self, try_to_connect: bool = False) -> Any:
        """The grpc.ChannelConnectivity now: READY while an incarnation takes calls."""
        return connectivity(self._state())

    async def wait_for_state_change(self, last_observed_state: Any) -> None:
        """Wait until the state differs from `last_observed_state`, or the channel is closed."""
        last = getattr(last_observed_state, "value", (last_observed_state,))[0]
        await checkpoint()
        if self._closed or last == self._state() == _SHUTDOWN:
            raise closed_error()
        while self._state() == last:  # noqa: ASYNC110  # supervisors tell no channels
            await asyncio.sleep(POLL)

    async def channel_ready(self) -> None:
        """Wait until an incarnation takes calls. Raises: ClosedError when it is closed."""
        await checkpoint()
        while (state := self._state()) != _READY:
            if state == _SHUTDOWN:
                raise closed_error()
            await asyncio.sleep(POLL)

    # The end.

    async def close(self, grace: float | None = None) -> None:
        """Refuse new calls, and cancel those that still run after `grace` seconds (None: now)."""
        self._closed = True
        closing = [channel.close(grace) for channel in self._channels()]
        await (asyncio.gather(*closing) if closing else checkpoint())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<aio.RoutedChannel to {self._route.name!r}, {_STATES[self._state()]}>"

    __reduce_ex__ = refuse_copy
