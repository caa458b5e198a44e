"""Channels whose calls go to whichever incarnation of a plugin takes calls."""

from __future__ import annotations

import weakref

from pygo_plugin._base.checks import refuse_copy
from pygo_plugin._base.core import _core
from pygo_plugin._grpc.abstract import Abstract
from pygo_plugin._grpc.channel import _SHUTDOWN, _STATES, _Watcher
from pygo_plugin._supervise import metrics
from pygo_plugin._supervise.calls import Call, ResponseStream, absent, explain
from pygo_plugin._supervise.route import Waiting, now, remaining
from pygo_plugin.errors import ClosedError, PluginError, RpcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    from typing_extensions import Self

    from pygo_plugin._supervise.incarnation import Incarnation
    from pygo_plugin._supervise.route import Route

__all__ = ["Facade", "RoutedChannel"]

_CONNECTING, _READY, _TRANSIENT_FAILURE = 1, 2, 3


class _MultiCallable:
    """Calls one method of the incarnation that a route gives."""

    _factory: str

    def __init__(self, channel: RoutedChannel, method: str | bytes, *codec: Any) -> None:
        self._channel = channel
        self._route = channel._route
        self._path = method.decode() if isinstance(method, bytes) else method
        self._codec = codec  # serializer and deserializer
        # By which an incarnation keeps its own callable. Not this one, which would then live on.
        self._key = object()
        # Requests that come from an iterator cannot be had a second time.
        streams = self._factory.startswith("stream")
        self._repeats = 0 if streams else self._route.retries.of(self._path)

    def __del__(self) -> None:
        self._channel._forget(self._key)

    @property
    def __signature__(self) -> Any:
        from pygo_plugin._grpc.describe import signature_of

        return signature_of(self)

    @property
    def _method(self) -> bytes:
        return self._path.encode()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._path}, {self._channel!r}>"

    def _callable(self, incarnation: Incarnation) -> Any:
        """The incarnation's own multicallable of the method.

        Raises: ClosedError if its client is being killed.
        """
        found = incarnation.callables.get(self._key)
        if found is None:
            channel = self._channel._open(incarnation)
            found = getattr(channel, self._factory)(self._path, *self._codec)
            if metrics.active():
                found = metrics.Measured(self._route.name, self._path, found)
            incarnation.callables[self._key] = found
        return found

    def _take(self, deadline: float | None, cause: BaseException | None) -> tuple[Incarnation, Any]:
        """An incarnation that has counted the call in, and its multicallable. Waits for one."""
        route = self._route
        while True:
            incarnation = route.take()
            if incarnation is None:
                if not route.waits:
                    raise absent(route, False, cause)
                try:
                    incarnation = route.take_later(deadline)
                except TimeoutError:
                    raise absent(route, True, cause) from cause
            try:
                return incarnation, self._callable(incarnation)
            except BaseException as error:
                closed = incarnation.closed
                route.leave(incarnation)
                if not (isinstance(error, ClosedError) and closed) or self._channel._closed:
                    raise

    def _run(
        self,
        form: str,
        request: Any,
        timeout: float | None,
        options: tuple[Any, ...],
        lost: RpcError | None = None,
    ) -> Any:
        """Make a call with all that may happen to it: waiting, and repetitions.

        `lost` is the error of the first attempt, if there was one.
        """
        _core.check_timeout(timeout)
        deadline = None if timeout is None else now() + timeout
        repeats = self._repeats - (lost is not None)
        cause = None if lost is None else lost.__cause__
        while True:
            incarnation, method = self._take(deadline, cause)
            try:
                return getattr(method, form)(request, remaining(deadline), *options)
            except RpcError as error:
                if not explain(self._route, incarnation, error) or repeats <= 0:
                    raise
                repeats -= 1
                cause = error.__cause__
            finally:
                self._route.leave(incarnation)


class _OneReply(_MultiCallable):
    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: int | None = None,
    ) -> Any:
        """The reply. `timeout` is in seconds, and includes waiting for the plugin.

        Raises: RpcError; PluginFailedError if the plugin was given up.
        """
        route = self._route
        incarnation = route.take()
        if incarnation is not None:
            try:
                method = incarnation.callables.get(self._key) or self._callable(incarnation)
                began = now() if self._repeats else 0.0
                return method(request, timeout, metadata, credentials, wait_for_ready, compression)
            except ClosedError:
                if not incarnation.closed or self._channel._closed:
                    raise
                lost = None
            except RpcError as error:
                if not explain(route, incarnation, error) or not self._repeats:
                    raise
                lost = error
                if timeout is not None:
                    timeout = max(0.0, began + timeout - now())
            finally:
                route.leave(incarnation)
        else:
            lost = None
        options = (metadata, credentials, wait_for_ready, compression)
        return self._run("__call__", request, timeout, options, lost)

    def with_call(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: int | None = None,
    ) -> tuple[Any, Any]:
        """The reply, and the call that has given it."""
        options = (metadata, credentials, wait_for_ready, compression)
        return self._run("with_call", request, timeout, options)  # type: ignore[no-any-return]

    def future(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: int | None = None,
    ) -> Call:
        """The call, which is a future of the reply."""

        def begin(method: Any, timeout: float | None) -> Any:
            return method.future(
                request, timeout, metadata, credentials, wait_for_ready, compression
            )

        return Call(self, begin, timeout, self._repeats)


class _Replies(_MultiCallable):
    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: int | None = None,
    ) -> ResponseStream:
        """The call, which is an iterator of the replies."""

        def begin(method: Any, timeout: float | None) -> Any:
            return method(request, timeout, metadata, credentials, wait_for_ready, compression)

        return ResponseStream(self, begin, timeout, self._repeats)


class UnaryUnaryMultiCallable(_OneReply, Abstract):
    """One request, one reply."""

    _implements = ("UnaryUnaryMultiCallable",)
    _factory = "unary_unary"


class UnaryStreamMultiCallable(_Replies, Abstract):
    """One request, a stream of replies."""

    _implements = ("UnaryStreamMultiCallable",)
    _factory = "unary_stream"


class StreamUnaryMultiCallable(_OneReply, Abstract):
    """A stream of requests, one reply."""

    _implements = ("StreamUnaryMultiCallable",)
    _factory = "stream_unary"


class StreamStreamMultiCallable(_Replies, Abstract):
    """A stream of requests, a stream of replies."""

    _implements = ("StreamStreamMultiCallable",)
    _factory = "stream_stream"


class ChannelBase:
    """What the channels of both kinds share: they keep a channel of each incarnation.

    An incarnation keeps those in its `callables`, by keys, and so they go with it.
    """

    def __init__(self, route: Any) -> None:
        self._route = route
        self._key = object()
        self._incarnations: weakref.WeakSet[Incarnation] = weakref.WeakSet()
        self._closed = False

    def _open(self, incarnation: Incarnation) -> Any:
        """The incarnation's channel for this one. Raises: ClosedError."""
        channel = incarnation.callables.get(self._key)
        if channel is None:
            # setdefault is atomic: if two threads make a channel, both get the first.
            self._incarnations.add(incarnation)
            made = incarnation.client.new_channel()
            channel = incarnation.callables.setdefault(self._key, made)
        return channel

    def _forget(self, key: object) -> None:
        """Have no incarnation keep what it has by this key."""
        for incarnation in tuple(self._incarnations):
            incarnation.callables.pop(key, None)

    def _channels(self) -> list[Any]:
        found = (incarnation.callables.get(self._key) for incarnation in self._incarnations)
        return [channel for channel in found if channel is not None]

    def __del__(self) -> None:
        self._forget(self._key)


class RoutedChannel(ChannelBase, Abstract):
    """A grpc.Channel to a plugin that is kept running, good for all of its incarnations.

    Closing it cancels its own calls and no others.
    """

    _implements = ("Channel",)

    def __init__(self, route: Route) -> None:
        super().__init__(route)
        self._waiting = Waiting(route)

    def _open(self, incarnation: Incarnation) -> Any:
        channel = super()._open(incarnation)
        if self._closed:
            channel.close()
        return channel

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

    def state(self, connect: bool = False) -> int:
        """The number of the grpc.ChannelConnectivity now."""
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

    def wait_state(self, last: int, timeout: float | None = None) -> int:
        """The state as soon as it is another one than `last`, or after `timeout` seconds."""
        import threading

        deadline = None if timeout is None else now() + timeout
        pause: threading.Event = threading.Event()
        while (state := self.state()) == last and (deadline is None or now() < deadline):
            pause.wait(0.02)
        return state

    def subscribe(
        self, callback: Callable[[Any], Any], try_to_connect: bool | None = False
    ) -> None:
        """Have `callback(grpc.ChannelConnectivity)` called now and at each change of state."""
        self._watcher().add(callback, bool(try_to_connect))

    def unsubscribe(self, callback: Callable[[Any], Any]) -> None:
        """Undo subscribe(callback). Does nothing for an unknown callback."""
        self._watcher().remove(callback)

    def _watcher(self) -> _Watcher:
        # setdefault is atomic: if two threads make a watcher, both get the first.
        watcher: _Watcher | None = self.__dict__.get("_watch")
        if watcher is None:
            watcher = self.__dict__.setdefault("_watch", _Watcher(self))  # type: ignore[arg-type]
        return watcher

    # The end.

    def close(self) -> None:
        """Cancel the calls of this channel, and refuse new ones. Idempotent."""
        self._closed = True
        for channel in self._channels():
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<RoutedChannel to {self._route.name!r}, {_STATES[self.state()]}>"

    __reduce_ex__ = refuse_copy


class Facade:
    """What `Plugin.client()` gets instead of a client: its channels outlive each incarnation.

    Everything else is asked of the client of the incarnation that takes calls.
    """

    def __init__(self, route: Any, make: Callable[[Any], Any]) -> None:
        self._route = route
        self._make = make
        self._own: Any = None

    @property
    def channel(self) -> Any:
        """A channel that is always the same."""
        if self._own is None:
            self._own = self._make(self._route)
        return self._own

    def new_channel(self) -> Any:
        """A new channel, good for all incarnations."""
        return self._make(self._route)

    @property
    def name(self) -> str:
        """What messages call the plugin."""
        return self._route.name  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> Any:
        incarnation = self._route.peek()
        if incarnation is None:
            raise ClosedError(f"{self._route.refuse()}, so it has no {name} now")
        return getattr(incarnation.client, name)

    def __repr__(self) -> str:
        return f"<client of {self._route.name!r}, of whichever process serves>"
