"""Plugins that stay up: `Supervisor`, its options, states and events. See docs/supervision.md."""

from pygo_plugin._supervise.events import (
    Event,
    Exited,
    GaveUp,
    Healthy,
    NotReplaced,
    Reloaded,
    Restarting,
    Started,
    Unhealthy,
)
from pygo_plugin._supervise.options import Health, Restart, idempotent
from pygo_plugin._supervise.policy import State
from pygo_plugin._supervise.supervisor import Supervisor

__all__ = [
    "Supervisor",
    # options
    "Health",
    "Restart",
    "idempotent",
    # what is known
    "State",
    # events
    "Event",
    "Started",
    "Healthy",
    "Unhealthy",
    "Exited",
    "Restarting",
    "Reloaded",
    "NotReplaced",
    "GaveUp",
]
