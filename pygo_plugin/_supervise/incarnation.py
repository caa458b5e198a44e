"""One process of a supervised plugin, from its start to its end."""

from __future__ import annotations

import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pygo_plugin.errors import PluginError

__all__ = ["Incarnation"]


class Incarnation:
    """One process of a supervised plugin, which counts the calls that it answers.

    number     1 for the first one
    client     the `Client`, or the `aio.Client`, of this process alone
    callables  what the calls' side keeps for this incarnation: multicallables, dispensed objects
    failure    why it takes no calls any more; None while it may
    calls      how many are under way
    entry      what a pool keeps for it

    Every method may be called on any thread.
    """

    __slots__ = (
        "__weakref__",
        "_closed",
        "_limit",
        "_lock",
        "_on_idle",
        "_on_limit",
        "_taken",
        "callables",
        "calls",
        "client",
        "ending",
        "entry",
        "failure",
        "number",
    )

    def __init__(
        self,
        number: int,
        client: Any,
        limit: int | None,
        on_limit: Callable[[int], object],
        on_idle: Callable[[int], object],
    ) -> None:
        """`on_limit` is called with the number after `limit` calls, `on_idle` after the last one.

        Both are called on threads of callers, and must not block.
        """
        self.number = number
        self.client = client
        self.callables: dict[Any, Any] = {}
        self.failure: PluginError | None = None
        self.calls = 0
        self.entry: Any = None
        self.ending = False  # whether its client is being killed
        # Reentrant, since a signal handler may call the plugin while its thread holds the lock.
        self._lock = threading.RLock()
        self._closed = False
        self._taken = 0
        self._limit = limit
        self._on_limit = on_limit
        self._on_idle = on_idle

    def enter(self) -> bool:
        """Count a call in. Returns: False if this incarnation takes none any more."""
        with self._lock:
            if self._closed:
                return False
            self.calls += 1
            self._taken += 1
            reached = self._taken == self._limit
        if reached:
            self._on_limit(self.number)
        return True

    def leave(self) -> None:
        """Count a call out, which has been counted in."""
        with self._lock:
            self.calls -= 1
            idle = self._closed and self.calls == 0
        if idle:
            self._on_idle(self.number)

    def close(self, failure: PluginError | None = None) -> bool:
        """Take no calls any more, for this reason unless it has one. Returns: whether it is idle.

        Without a reason, it is set by a later call: the plugin's end is known before its status.
        """
        with self._lock:
            self._closed = True
            if self.failure is None:
                self.failure = failure
            return self.calls == 0

    @property
    def closed(self) -> bool:
        """Whether it takes no calls any more."""
        return self._closed

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<incarnation {self.number} {state} calls={self.calls} {self.client!r}>"
