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
import weakref

from pygo_plugin._supervise import events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["called", "happened", "register"]

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


def called(name: str, method: str, status: str, seconds: float) -> None:
    """Count a call to the plugin `name` that has ended."""
    instruments = _instruments()
    if instruments is not None:
        attributes = {"plugin": name, "method": method, "status": status}
        instruments.calls.add(1, attributes)
        instruments.durations.record(seconds, attributes)
