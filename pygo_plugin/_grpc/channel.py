"""Channels: grpcio's grpc.Channel on the C core."""

from __future__ import annotations

import weakref

from pygo_plugin._base.checks import refuse_copy
from pygo_plugin._base.core import _core
from pygo_plugin._grpc.abstract import Abstract
from pygo_plugin.errors import _importing

TYPE_CHECKING = False  # typing is not imported at run time: a plugin's start would pay for it
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    import grpc
    from typing_extensions import Self, TypeVar

    from pygo_plugin import stubs

    Q = TypeVar("Q", default=Any)  # requests
    R = TypeVar("R", default=Any)  # replies

    # What the methods of a channel return is of the core. Type checkers see grpcio's classes, with
    # the wider arguments of ours. The two differ in what a call is, hence the ignores.

    class UnaryUnary(stubs.UnaryUnary[Q, R], grpc.UnaryUnaryMultiCallable[Q, R]):  # type: ignore[misc]
        pass

    class UnaryStream(stubs.UnaryStream[Q, R], grpc.UnaryStreamMultiCallable[Q, R]):  # type: ignore[misc]
        pass

    class StreamUnary(stubs.StreamUnary[Q, R], grpc.StreamUnaryMultiCallable[Q, R]):  # type: ignore[misc]
        pass

    class StreamStream(stubs.StreamStream[Q, R], grpc.StreamStreamMultiCallable[Q, R]):  # type: ignore[misc]
        pass

    class _Typed(_core.Channel, grpc.Channel):
        """For type checkers, a channel is a grpc.Channel by inheritance."""

        def unary_unary(  # type: ignore[override]
            self,
            method: str,
            request_serializer: Callable[[Q], bytes] | None = None,
            response_deserializer: Callable[[bytes], R] | None = None,
            _registered_method: bool | None = False,
        ) -> UnaryUnary[Q, R]: ...
        def unary_stream(  # type: ignore[override]
            self,
            method: str,
            request_serializer: Callable[[Q], bytes] | None = None,
            response_deserializer: Callable[[bytes], R] | None = None,
            _registered_method: bool | None = False,
        ) -> UnaryStream[Q, R]: ...
        def stream_unary(  # type: ignore[override]
            self,
            method: str,
            request_serializer: Callable[[Q], bytes] | None = None,
            response_deserializer: Callable[[bytes], R] | None = None,
            _registered_method: bool | None = False,
        ) -> StreamUnary[Q, R]: ...
        def stream_stream(  # type: ignore[override]
            self,
            method: str,
            request_serializer: Callable[[Q], bytes] | None = None,
            response_deserializer: Callable[[bytes], R] | None = None,
            _registered_method: bool | None = False,
        ) -> StreamStream[Q, R]: ...
        def subscribe(
            self, callback: Callable[[Any], Any], try_to_connect: bool | None = False
        ) -> None: ...
        def unsubscribe(self, callback: Callable[[Any], Any]) -> None: ...

else:
    _Typed = _core.Channel

_SHUTDOWN = 4
_STATES = ("idle", "connecting", "ready", "not connected", "shut down")


class Channel(_Typed, Abstract):
    """A connection to one gRPC server. It implements grpc.Channel, which stubs take.

    The channels that a client's `dispense` returns share one connection. Closing a channel cancels
    its own calls and no others.
    """

    _implements = ("Channel",)
    _peer = ""  # what it is connected to, for repr()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {self._shown()}>"

    __reduce_ex__ = refuse_copy

    def _shown(self) -> str:
        """What it is connected to, and its state."""
        if _core.forked():  # a thread of the parent may hold the lock of the state
            return f"{self._peer}, of the parent process"
        return f"{self._peer}, {_STATES[self.state()]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def subscribe(
        self, callback: Callable[[Any], Any], try_to_connect: bool | None = False
    ) -> None:
        """Have `callback(grpc.ChannelConnectivity)` called now and at each change of state."""
        self._watcher().add(callback, bool(try_to_connect))

    def unsubscribe(self, callback: Callable[[Any], Any]) -> None:
        """Undo subscribe(callback). Does nothing for an unknown callback."""
        self._watcher().remove(callback)

    def _watcher(self) -> _Watcher:
        watcher: _Watcher | None = self.__dict__.get("_watch")
        if watcher is None:
            # setdefault is atomic: if two threads make a watcher, both get the first.
            watcher = self.__dict__.setdefault("_watch", _Watcher(self))
        return watcher


class _Watcher:
    """Calls subscribers when a channel's state changes, on a thread that ends when none is left."""

    # Seconds that the thread waits for a change before it checks whether subscribers are left.
    _CHECK_INTERVAL = 0.2

    def __init__(self, channel: Channel) -> None:
        import threading

        self._channel = weakref.ref(channel)
        self._lock = threading.Lock()
        self._callbacks: list[list[Any]] = []  # [callback, the last state it was called with]
        self._thread: threading.Thread | None = None
        self._connect = False

    def add(self, callback: Callable[[Any], Any], connect: bool) -> None:
        import threading

        with self._lock:
            self._callbacks.append([callback, None])
            self._connect |= connect
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="pygo-connectivity", daemon=True
                )
                self._thread.start()

    def remove(self, callback: Callable[[Any], Any]) -> None:
        with self._lock:
            for entry in self._callbacks:
                if entry[0] == callback:
                    self._callbacks.remove(entry)
                    return

    def _run(self) -> None:
        while True:
            channel = self._channel()
            with self._lock:
                if channel is None or not self._callbacks:
                    self._thread = None
                    return
                connect, self._connect = self._connect, False
            state = channel.state(connect)
            self._call_subscribers(state)
            if state == _SHUTDOWN:
                with self._lock:
                    self._callbacks.clear()
                continue
            channel.wait_state(state, self._CHECK_INTERVAL)
            del channel

    def _call_subscribers(self, state: int) -> None:
        with _importing("pygo_plugin._grpc.enums"):
            from pygo_plugin._grpc.enums import connectivity

        with self._lock:
            due = [entry for entry in self._callbacks if entry[1] != state]
            for entry in due:
                entry[1] = state
        for entry in due:
            try:
                entry[0](connectivity(state))
            except Exception as error:
                _core.unraisable(error, entry[0])
