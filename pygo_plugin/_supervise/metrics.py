"""OpenTelemetry's metrics of supervised plugins, in programs that have imported its API.

    pygo_plugin.up                1 while a process takes calls, otherwise 0
    pygo_plugin.restarts          how many times the plugin was started again after its end
    pygo_plugin.calls             how many calls have ended, by method and status
    pygo_plugin.call.duration     how long they took, in seconds, by method and status

All have the attribute `plugin`, its name. A program that measures has imported the API in order to
give it a provider; other programs do not pay for it.
"""

from __future__ import annotations

import sys
import time
import weakref

from pygo_plugin._supervise import events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["Measured", "Stopwatch", "active", "called", "happened", "register", "status_of"]

DROPPED = "DROPPED"  # the status of streams to which nothing refers when their end is told
_API = "opentelemetry.metrics"

_made: _Instruments | None = None
_supervisors: weakref.WeakSet[Any] = weakref.WeakSet()


class _Instruments:
    def __init__(self, api: Any) -> None:
        meter = api.get_meter("pygo_plugin")
        self._observation = api.Observation
        self.restarts = meter.create_counter(
            "pygo_plugin.restarts", description="Starts of the plugin after its end"
        )
        self.calls = meter.create_counter(
            "pygo_plugin.calls", description="Calls to the plugin that have ended"
        )
        self.durations = meter.create_histogram(
            "pygo_plugin.call.duration", "s", "How long calls to the plugin took"
        )
        meter.create_observable_gauge(
            "pygo_plugin.up", [self._observe], description="1 while a process takes calls"
        )

    def _observe(self, options: object) -> Iterable[Any]:
        return [
            self._observation(int(supervisor._current is not None), {"plugin": supervisor.name})
            for supervisor in list(_supervisors)
            if not supervisor._ended
        ]


def _instruments() -> _Instruments | None:
    """The instruments, once the program has imported the API."""
    global _made
    if _made is None:
        api = sys.modules.get(_API)
        if api is not None and hasattr(api, "get_meter"):  # it may be being imported
            _made = _Instruments(api)
    return _made


def register(supervisor: Any) -> None:
    """Have `pygo_plugin.up` tell of the supervisor from now on."""
    _supervisors.add(supervisor)
    _instruments()


def happened(event: events.Event) -> None:
    """Count an event."""
    if isinstance(event, events.Restarting):
        instruments = _instruments()
        if instruments is not None:
            instruments.restarts.add(1, {"plugin": event.name})


def active() -> bool:
    """Whether calls are counted."""
    return _made is not None or _API in sys.modules


def called(name: str, method: str, status: str, seconds: float) -> None:
    """Count a call to the plugin `name` that has ended."""
    instruments = _instruments()
    if instruments is not None:
        attributes = {"plugin": name, "method": method, "status": status}
        instruments.calls.add(1, attributes)
        instruments.durations.record(seconds, attributes)


class Measured:
    """A multicallable of one process, blocking or of asyncio, whose calls are counted."""

    def __init__(self, name: str, method: str, inner: Any) -> None:
        self._name = name
        self._method = method
        self._inner = inner

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._measure(self._inner, arguments, options)

    def with_call(self, *arguments: Any, **options: Any) -> Any:
        return self._measure(self._inner.with_call, arguments, options)

    def future(self, *arguments: Any, **options: Any) -> Any:
        return self._measure(self._inner.future, arguments, options)

    def _measure(self, function: Any, arguments: Any, options: Any) -> Any:
        began = time.monotonic()
        try:
            result = function(*arguments, **options)
        except Exception as error:
            self._end(began, status_of(error))
            raise
        if not hasattr(result, "time_remaining"):  # it is a reply
            self._end(began, "OK")
            return result
        # A stream, and any call of asyncio, ends when nothing refers to it any more.
        blocking = hasattr(result, "add_callback")
        weakly = not blocking or hasattr(result, "__next__")
        call: Any = weakref.ref(result) if weakly else lambda: result
        if blocking:
            if not result.add_callback(lambda: self._end(began, code_of(call()))):
                self._end(began, code_of(result))
        else:  # of asyncio
            ended = getattr(result, "_ended", result)
            ended.add_done_callback(lambda _: _later(self._end_of(began, call())))
        return result

    def _end(self, began: float, status: str) -> None:
        called(self._name, self._method, status, time.monotonic() - began)

    async def _end_of(self, began: float, call: Any) -> None:
        seconds = time.monotonic() - began
        status = DROPPED if call is None else (await call.code()).name
        called(self._name, self._method, status, seconds)


class Stopwatch:
    """Measures one call over net/rpc. Calling it ends it, with the call's error if there is one."""

    def __init__(self, name: str, method: str) -> None:
        self._name = name
        self._method = method
        self._began = time.monotonic()

    def __call__(self, error: BaseException | None) -> None:
        if active():
            called(self._name, self._method, status_of(error), time.monotonic() - self._began)


_tasks: set[Any] = set()


def _later(coroutine: Any) -> None:
    import asyncio

    task = asyncio.ensure_future(coroutine)
    _tasks.add(task)  # the loop refers to tasks weakly
    task.add_done_callback(_tasks.discard)


def code_of(call: Any) -> str:
    """The name of the status of a call that has ended. None: the program has dropped it."""
    return DROPPED if call is None else str(call.code().name)


def status_of(error: BaseException | None) -> str:
    """The status of a call that has raised this: its code, or the name of the class."""
    if error is None:
        return "OK"
    code = getattr(error, "code", None)
    return str(code().name) if callable(code) else type(error).__name__
