"""Channels of asyncio programs: grpc.aio's Channel on the C core."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pygo_plugin._base.aio_loops import checkpoint, queue_of, running_loop
from pygo_plugin._base.checks import refuse_copy
from pygo_plugin._base.core import _core
from pygo_plugin._grpc.abstract import Abstract
from pygo_plugin._grpc.aio_calls import (
    Call,
    StreamStreamCall,
    StreamUnaryCall,
    UnaryStreamCall,
    UnaryUnaryCall,
)
from pygo_plugin.errors import _importing

if TYPE_CHECKING:
    import grpc
    from typing_extensions import Self, TypeVar

    from pygo_plugin import stubs

    Q = TypeVar("Q", default=Any)  # requests
    R = TypeVar("R", default=Any)  # replies

    # What the methods of a channel return is described below. Type checkers see grpc.aio's classes,
    # with the wider arguments of ours. The two differ in what a call is, hence the ignores.

    class UnaryUnary(stubs.AsyncUnaryUnary[Q, R], grpc.aio.UnaryUnaryMultiCallable[Q, R]):  # type: ignore[misc]
        pass

    class UnaryStream(stubs.AsyncUnaryStream[Q, R], grpc.aio.UnaryStreamMultiCallable[Q, R]):  # type: ignore[misc]
        pass

    class StreamUnary(stubs.AsyncStreamUnary[Q, R], grpc.aio.StreamUnaryMultiCallable[Q, R]):  # type: ignore[misc]
        pass

    class StreamStream(stubs.AsyncStreamStream[Q, R], grpc.aio.StreamStreamMultiCallable[Q, R]):  # type: ignore[misc]
        pass

    class _Channel(Abstract, grpc.aio.Channel):
        """For type checkers, a channel is a grpc.aio.Channel by inheritance."""
else:
    _Channel = Abstract

_READY = 2
_SHUTDOWN = 4


class _MultiCallable:
    """Calls one method through a channel."""

    _kind: type[Any]
    _keep = False

    def __init__(self, channel: Channel, factory: str, method: str | bytes, *codec: Any) -> None:
        self._channel = channel
        self._factory = factory
        self._codec = codec  # serializer and deserializer
        self._method = method
        self._begin = getattr(channel._core, factory)(method, *codec)._begin
        self._interceptors = channel._interceptors_of(type(self))

    @property
    def __signature__(self) -> Any:
        with _importing("pygo_plugin._grpc.describe"):
            from pygo_plugin._grpc.describe import signature_of

        return signature_of(self)

    def __repr__(self) -> str:
        method = self._method
        path = method.decode("utf-8", "replace") if isinstance(method, bytes) else method
        return f"<{type(self).__name__} of {path}, {self._channel!r}>"

    def _named(self, method: str | bytes) -> Any:
        """A multicallable for another method, which interceptors may choose."""
        if isinstance(method, bytes):
            method = method.decode()
        if method == self._method:
            return self
        return type(self)(self._channel, self._factory, method, *self._codec)

    def _intercepted(self, request: Any, options: Sequence[Any]) -> Any:
        with _importing("pygo_plugin._grpc.aio_interceptors"):
            from pygo_plugin._grpc import aio_interceptors

        return getattr(aio_interceptors, f"Intercepted{self._kind.__name__}")(
            self, request, options
        )

    def _start(self, request: Any, *options: Any) -> Any:
        loop = running_loop()
        channel = self._channel
        if channel._closed:
            raise _closed_error()
        return self._begin(self._kind, channel._queue_of(loop), loop, self._keep, request, *options)


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

        `timeout` is in seconds.
        """
        if self._interceptors:
            options = (timeout, metadata, credentials, wait_for_ready, compression)
            return self._intercepted(request, options)
        return self._start(request, timeout, metadata, credentials, wait_for_ready, compression)

    def _run(self, request: Any, *options: Any) -> Any:
        return self._start(request, *options)


class _Requests(_MultiCallable):
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

        `timeout` is in seconds.
        """
        options = (timeout, metadata, credentials, wait_for_ready, compression)
        if self._interceptors:
            return self._intercepted(request_iterator, options)
        return self._run(request_iterator, *options)

    def _run(self, requests: Any, *options: Any) -> Any:
        call = self._start(None, *options)
        call._send_from(requests)
        return call


class UnaryUnaryMultiCallable(_OneRequest, Abstract):
    """One request, one reply."""

    _implements = ("aio.UnaryUnaryMultiCallable",)
    _kind = UnaryUnaryCall
    _keep = True  # the call goes on when the program drops it, since it ends by itself


class UnaryStreamMultiCallable(_OneRequest, Abstract):
    """One request, a stream of replies."""

    _implements = ("aio.UnaryStreamMultiCallable",)
    _kind = UnaryStreamCall


class StreamUnaryMultiCallable(_Requests, Abstract):
    """A stream of requests, one reply."""

    _implements = ("aio.StreamUnaryMultiCallable",)
    _kind = StreamUnaryCall


class StreamStreamMultiCallable(_Requests, Abstract):
    """A stream of requests, a stream of replies."""

    _implements = ("aio.StreamStreamMultiCallable",)
    _kind = StreamStreamCall


# The method of an interceptor that sees the calls of an arity.
_INTERCEPT = {
    UnaryUnaryMultiCallable: "intercept_unary_unary",
    UnaryStreamMultiCallable: "intercept_unary_stream",
    StreamUnaryMultiCallable: "intercept_stream_unary",
    StreamStreamMultiCallable: "intercept_stream_stream",
}


class Channel(_Channel):
    """A connection to one gRPC server with the interface of grpc.aio.Channel.

    Calls may be made on any loop; each belongs to the loop that made it. The channels that a
    client's `dispense` returns share one connection. Closing a channel ends its own calls and no
    others.
    """

    _implements = ("aio.Channel",)

    def __init__(self, core: _core.Channel, interceptors: Iterable[Any] | None = None) -> None:
        self._core = core
        self._closed = False
        self._last_queue: tuple[Any, Any] | None = None  # weak references to a loop and its queue
        self._watchers: set[asyncio.Future[bool]] = set()
        self._interceptors = tuple(interceptors or ())
        for interceptor in self._interceptors:
            if not any(callable(getattr(interceptor, n, None)) for n in _INTERCEPT.values()):
                raise ValueError(
                    f"an interceptor needs one of the methods {', '.join(_INTERCEPT.values())}, "
                    f"and {interceptor!r} has none"
                )

    def __repr__(self) -> str:
        return f"<aio.{type(self).__name__} to {self._core._shown()}>"  # type: ignore[attr-defined]

    __reduce_ex__ = refuse_copy

    def _queue_of(self, loop: asyncio.AbstractEventLoop) -> _core.LoopQueue:
        """The queue of a loop. Usually it is that of the last call."""
        known = self._last_queue
        queue = known[1]() if known is not None and known[0]() is loop else None
        if queue is None:
            queue = queue_of(loop)
            self._last_queue = (weakref.ref(loop), weakref.ref(queue))
        return queue

    def _interceptors_of(self, kind: type[_MultiCallable]) -> Sequence[Any]:
        found = (getattr(i, _INTERCEPT[kind], None) for i in self._interceptors)
        return tuple(method for method in found if method is not None)

    # Stubs call these methods to make a callable for each method of a service.

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Q], bytes] | None = None,
        response_deserializer: Callable[[bytes], R] | None = None,
        _registered_method: bool | None = False,
    ) -> UnaryUnary[Q, R]:
        """A callable for a method with one request and one reply."""
        codec = (request_serializer, response_deserializer)
        make: Callable[..., Any] = UnaryUnaryMultiCallable
        return make(self, "unary_unary", method, *codec)  # type: ignore[no-any-return]

    def unary_stream(
        self,
        method: str,
        request_serializer: Callable[[Q], bytes] | None = None,
        response_deserializer: Callable[[bytes], R] | None = None,
        _registered_method: bool | None = False,
    ) -> UnaryStream[Q, R]:
        """A callable for a method with one request and a stream of replies."""
        codec = (request_serializer, response_deserializer)
        make: Callable[..., Any] = UnaryStreamMultiCallable
        return make(self, "unary_stream", method, *codec)  # type: ignore[no-any-return]

    def stream_unary(
        self,
        method: str,
        request_serializer: Callable[[Q], bytes] | None = None,
        response_deserializer: Callable[[bytes], R] | None = None,
        _registered_method: bool | None = False,
    ) -> StreamUnary[Q, R]:
        """A callable for a method with a stream of requests and one reply."""
        codec = (request_serializer, response_deserializer)
        make: Callable[..., Any] = StreamUnaryMultiCallable
        return make(self, "stream_unary", method, *codec)  # type: ignore[no-any-return]

    def stream_stream(
        self,
        method: str,
        request_serializer: Callable[[Q], bytes] | None = None,
        response_deserializer: Callable[[bytes], R] | None = None,
        _registered_method: bool | None = False,
    ) -> StreamStream[Q, R]:
        """A callable for a method with streams in both directions."""
        codec = (request_serializer, response_deserializer)
        make: Callable[..., Any] = StreamStreamMultiCallable
        return make(self, "stream_stream", method, *codec)  # type: ignore[no-any-return]

    # State.

    def get_state(self, try_to_connect: bool = False) -> Any:
        """The grpc.ChannelConnectivity now."""
        with _importing("pygo_plugin._grpc.enums"):
            from pygo_plugin._grpc.enums import connectivity

        return connectivity(self._core.state(try_to_connect))

    async def wait_for_state_change(self, last_observed_state: Any) -> None:
        """Wait until the state differs from `last_observed_state`, or the channel is closed.

        Raises: ClosedError (where grpcio is installed, a grpc.aio.UsageError as well) when the
        channel is closed already, or `last_observed_state` is SHUTDOWN, which never changes.
        """
        last = getattr(last_observed_state, "value", (last_observed_state,))[0]
        await checkpoint()  # in case there is nothing to wait for
        if self._closed or last == self._core.state() == _SHUTDOWN:
            raise _closed_error()
        await self._wait_for_change(last)

    async def channel_ready(self) -> None:
        """Wait until the channel is connected.

        Raises: ClosedError (where grpcio is installed, a grpc.aio.UsageError as well) when it is
        closed.
        """
        await checkpoint()
        while (state := self._core.state(True)) != _READY:
            if self._closed or state == _SHUTDOWN:
                raise _closed_error()
            await self._wait_for_change(state)

    async def _wait_for_change(self, last: int) -> None:
        loop = asyncio.get_running_loop()
        while self._core.state() == last != _SHUTDOWN:
            changed: asyncio.Future[bool] = loop.create_future()
            self._core._watch_state(last, queue_of(loop), changed)
            self._watchers.add(changed)
            try:
                await changed
            finally:
                self._watchers.discard(changed)

    # The end.

    async def close(self, grace: float | None = None) -> None:
        """Refuse new calls, and cancel those that still run after `grace` seconds (None: now)."""
        if self._closed:
            await checkpoint()
            return
        self._closed = True
        running = [call for call in self._core._async_calls() if not call.done()]
        loop = asyncio.get_running_loop()
        if running and grace:
            await asyncio.wait([_end_of(call, loop) for call in running], timeout=grace)
        for call in running:
            _on_its_loop(call, loop, call.cancel)
        self._core.close()
        for changed in list(self._watchers):
            if not changed.done():
                changed.get_loop().call_soon_threadsafe(_wake, changed)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


def _closed_error() -> Exception:
    with _importing("pygo_plugin._grpc.aio_errors"):
        from pygo_plugin._grpc.aio_errors import closed_error

    return closed_error()


def _on_its_loop(call: Call, here: asyncio.AbstractEventLoop, function: Any, *args: Any) -> None:
    """Call a function on the loop that made the call."""
    if call._loop is here:
        function(*args)
    else:
        with contextlib.suppress(RuntimeError):  # the loop has been closed, which ended its calls
            call._loop.call_soon_threadsafe(function, *args)


def _end_of(call: Call, here: asyncio.AbstractEventLoop) -> Any:
    """A future of this loop that is done when the call has ended, which may be another loop's."""
    if call._loop is here:
        return call._ended
    ended: asyncio.Future[bool] = here.create_future()

    def wake_here(_: Any) -> None:
        with contextlib.suppress(RuntimeError):  # this loop has been closed
            here.call_soon_threadsafe(_wake, ended)

    _on_its_loop(call, here, call._ended.add_done_callback, wake_here)
    return ended


def _wake(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(True)
