"""What a supervisor reports: `on_event`, `events()`, the log and the metrics get these."""

from __future__ import annotations

from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pygo_plugin.errors import PluginError

__all__ = [
    "Event",
    "Exited",
    "GaveUp",
    "Healthy",
    "NotReplaced",
    "Reloaded",
    "Restarting",
    "Started",
    "Unhealthy",
]


@dataclass(frozen=True)
class Event:
    """Something that has happened to a supervised plugin.

    name    what messages call the plugin
    number  which incarnation of it this is about: 1 is the first process
    """

    name: str
    number: int


@dataclass(frozen=True)
class Started(Event):
    """A process has come to its handshake. It takes no calls before it is healthy."""

    pid: int


@dataclass(frozen=True)
class Healthy(Event):
    """The process takes calls from now on, or has answered after it was unhealthy."""


@dataclass(frozen=True)
class Unhealthy(Event):
    """The process has not answered as a healthy one does, `failures` times in a row.

    `reason` is what `Client.ping` has returned. `killed` says whether it is killed for that.
    """

    reason: str
    failures: int
    killed: bool


@dataclass(frozen=True)
class Exited(Event):
    """The process has ended: by itself, or since it was replaced, killed or closed (`expected`).

    `exit_status` is as in `subprocess`, None if it is unknown. `stderr` is its last part.
    """

    exit_status: int | None
    stderr: str
    expected: bool


@dataclass(frozen=True)
class Restarting(Event):
    """The plugin will be started again in `delay` seconds, for the `attempt`-th time in a row.

    `number` is the incarnation that will be started, `error` why the one before it is gone.
    """

    delay: float
    attempt: int
    error: PluginError


@dataclass(frozen=True)
class Reloaded(Event):
    """This incarnation has replaced the one that was serving, without an interruption.

    `reason` says why: "reload", "max_calls", "max_age" or "max_rss".
    """

    reason: str


@dataclass(frozen=True)
class NotReplaced(Event):
    """A replacement has not become healthy. The incarnation before it goes on serving."""

    reason: str
    error: PluginError


@dataclass(frozen=True)
class GaveUp(Event):
    """The plugin is not started again before `restart()` or `reload()`. Calls raise `error`."""

    error: PluginError
