"""The results of many calls, with bounded look-ahead."""

from __future__ import annotations

import queue
from collections import deque
from concurrent.futures import Future

from pygo_plugin._base.core import _core
from pygo_plugin._supervise import driver
from pygo_plugin.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

__all__ = ["Map", "method_of"]


def method_of(dispensed: Any, name: str, method: str) -> Any:
    """The function of what was dispensed: of the stub in `(channel, stub)`, or of the object.

    Raises: ConfigError.
    """
    holder = dispensed[-1] if isinstance(dispensed, tuple) and dispensed else dispensed
    found = getattr(holder, method, None)
    if not callable(found):
        raise ConfigError(f"map: what the plugin {name!r} offers has no method {method!r}")
    return found


class Map:
    """An iterator over the results. Calls that have been begun are cancelled when it is dropped."""

    def __init__(
        self,
        method: Any,
        requests: Iterable[Any],
        ordered: bool,
        lookahead: int,
        timeout: float | None,
    ) -> None:
        self._method = method
        self._requests: Iterator[Any] | None = iter(requests)
        self._ordered = ordered
        self._lookahead = lookahead
        self._timeout = timeout
        self._calls: deque[Any] = deque()
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def __iter__(self) -> Map:
        return self

    def __next__(self) -> Any:
        try:
            while self._requests is not None and len(self._calls) < self._lookahead:
                for request in self._requests:
                    self._begin(request)
                    break
                else:
                    self._requests = None
            if not self._calls:
                raise StopIteration
            if self._ordered:
                call = self._calls.popleft()
            else:
                call = _core.call_blocking(self._ended.get)
                if call is None:  # closed by another thread
                    raise StopIteration
                self._calls.remove(call)
            try:
                return call.result()
            finally:
                del call  # with a failure, the traceback has this frame
        except BaseException:
            self.close()
            raise

    def _begin(self, request: Any) -> None:
        start = getattr(self._method, "future", None)
        if start is not None:
            call = start(request, timeout=self._timeout)
        else:
            call = _Job(self._method, request, self._timeout)
        self._calls.append(call)
        if not self._ordered:
            call.add_done_callback(self._ended.put)

    def close(self) -> None:
        """Cancel the calls that are under way, and end the iteration. Idempotent."""
        self._requests = None
        calls, self._calls = self._calls, deque()
        for call in calls:
            call.cancel()
        self._ended.put(None)

    def __del__(self) -> None:
        if self.__dict__.get("_calls"):
            self.close()


class _Job(Future):  # type: ignore[type-arg]
    """A call by a function that blocks, on a worker."""

    def __init__(self, function: Any, request: Any, timeout: float | None) -> None:
        super().__init__()
        driver.run(lambda: self._run(function, request, timeout))

    def _run(self, function: Any, request: Any, timeout: float | None) -> None:
        if not self.set_running_or_notify_cancel():
            return
        try:
            reply = function(request, timeout=timeout)
        except BaseException as error:
            self.set_exception(error)
        else:
            self.set_result(reply)
