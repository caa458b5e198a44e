"""The channel to a plugin: grpcio's grpc.Channel on the C core."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pygo_plugin._base.core import _core
from pygo_plugin._grpc.abstract import Abstract

if TYPE_CHECKING:
    import threading

    from typing_extensions import Self

_SHUTDOWN = 4


class Channel(_core.Channel, Abstract):
    """A connection to one gRPC server, as stubs take it; it implements grpc.Channel.

    The channels that one plugin's `dispense` gives share its connection: closing one cancels its
    own calls and no others.
    """

    _implements = ("Channel",)

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
        """Undo subscribe(callback). Unknown callbacks are ignored."""
        self._watcher().remove(callback)

    def _watcher(self) -> _Watcher:
        watcher: _Watcher | None = self.__dict__.get("_watch")
        if watcher is None:
            # setdefault is atomic: of two threads, one watcher wins.
            watcher = self.__dict__.setdefault("_watch", _Watcher(self))
        return watcher


class _Watcher:
    """Tells subscribers about a channel's state, from a thread that runs while there are any."""

    # How long the thread waits before it looks whether anybody is still interested.
    _PATIENCE = 0.2

    def __init__(self, channel: Channel) -> None:
        import threading

        self._channel = weakref.ref(channel)
        self._lock = threading.Lock()
        self._callbacks: list[list[Any]] = []  # [callback, the last state it was told]
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
            self._tell(state)
            if state == _SHUTDOWN:
                with self._lock:
                    self._callbacks.clear()
                continue
            channel.wait_state(state, self._PATIENCE)
            del channel

    def _tell(self, state: int) -> None:
        with self._lock:
            due = [entry for entry in self._callbacks if entry[1] != state]
            for entry in due:
                entry[1] = state
        for entry in due:
            try:
                entry[0](connectivity(state))
            except Exception as error:
                _core.unraisable(error, entry[0])


def connectivity(state: int) -> Any:
    """The state as grpcio's enumeration, where grpcio is installed; otherwise the number."""
    try:
        import grpc
    except ImportError:
        return state
    return (
        grpc.ChannelConnectivity.IDLE,
        grpc.ChannelConnectivity.CONNECTING,
        grpc.ChannelConnectivity.READY,
        grpc.ChannelConnectivity.TRANSIENT_FAILURE,
        grpc.ChannelConnectivity.SHUTDOWN,
    )[state]
