"""What the log and the metrics say of events."""

from __future__ import annotations

import logging

from pygo_plugin._supervise import events, metrics

__all__ = ["report"]

_logger = logging.getLogger("pygo_plugin.supervise")


def report(event: events.Event) -> None:
    """Write the event to the logger `pygo_plugin.supervise`, and count it."""
    metrics.happened(event)
    if isinstance(event, events.Started):
        _write(logging.DEBUG, event, "process %d has started", event.pid)
    elif isinstance(event, events.Healthy):
        _write(logging.INFO, event, "is healthy")
    elif isinstance(event, events.Unhealthy):
        end = ", and is killed" if event.killed else ""
        _write(logging.WARNING, event, "is unhealthy: %s%s", event.reason, end)
    elif isinstance(event, events.Exited):
        level = logging.DEBUG if event.expected else logging.WARNING
        _write(level, event, "has ended, exit status %s", event.exit_status)
    elif isinstance(event, events.Restarting):
        _write(logging.WARNING, event, "is restarted in %.3g s: %s", event.delay, event.error)
    elif isinstance(event, events.Reloaded):
        _write(logging.INFO, event, "has replaced the one before it (%s)", event.reason)
    elif isinstance(event, events.NotReplaced):
        _write(logging.ERROR, event, "was to be a replacement (%s): %s", event.reason, event.error)
    elif isinstance(event, events.GaveUp):
        _logger.error("%s", event.error)


def _write(level: int, event: events.Event, text: str, *arguments: object) -> None:
    _logger.log(level, f"%s: incarnation %d {text}", event.name, event.number, *arguments)
