"""What pools of both kinds share: members, who is given a call, growing and shrinking."""

from __future__ import annotations

import copy
import os
import threading
from collections import Counter

from pygo_plugin._base import checks as check
from pygo_plugin._supervise import driver
from pygo_plugin._supervise.balance import Balance, Entry
from pygo_plugin._supervise.options import AIO_KEYWORDS, KEYWORDS, Settings
from pygo_plugin._supervise.policy import State
from pygo_plugin._supervise.retry import Retries
from pygo_plugin._supervise.route import now, route_of
from pygo_plugin._supervise.supervised import copy_of
from pygo_plugin.errors import ClosedError, ConfigError, ForkedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pygo_plugin._supervise.incarnation import Incarnation

__all__ = ["AIO_POOL_KEYWORDS", "POOL_KEYWORDS", "POOL_OPTIONS", "Group", "LentRoute", "Sizes"]


def _size(what: str, value: Any) -> int | None:
    return None if value is None else check.positive(what, value)


def _option(name: str, doc: str) -> check.Option:
    return check.Option(name, check.Kind(_size, "int", "int | None"), None, doc)


POOL_OPTIONS = (
    _option(
        "size",
        "How many processes there are. By default as many as this process may use processors.",
    ),
    _option("min_size", "How many there are at least, where their number varies. Default: 1."),
    _option(
        "max_size",
        "How many there are at most: one more is started when a call finds all of them busy.",
    ),
    check.Option(
        "idle_timeout",
        check.SECONDS,
        60.0,
        "Seconds without calls after which a process beyond `min_size` is ended.",
    ),
)
POOL_KEYWORDS = (*POOL_OPTIONS, *KEYWORDS)
AIO_POOL_KEYWORDS = (*POOL_OPTIONS, *AIO_KEYWORDS)


class Sizes:
    """The options of POOL_OPTIONS, checked: `least`, `most`, `idle_timeout`."""

    size: int | None
    min_size: int | None
    max_size: int | None
    idle_timeout: float

    def __init__(self, keywords: Mapping[str, Any]) -> None:
        """Raises: ConfigError."""
        check.fill(self, POOL_OPTIONS, keywords)
        size, least, most = self.size, self.min_size, self.max_size
        for name, value in (("min_size", least), ("max_size", most)):
            if size is not None and value is not None:
                raise ConfigError(
                    f"Pool: size does not go with {name}: size={size} is a number that does not "
                    f"vary; give min_size and max_size, or size alone"
                )
        if least is not None and most is None:
            raise ConfigError(
                f"Pool: min_size={least} needs max_size, the number up to which it grows; a number "
                f"that does not vary is size={least}"
            )
        if most is not None and least is not None and least > most:
            raise ConfigError(f"Pool: min_size is {least}, more than max_size {most}")
        if most is None:
            least = most = size or len(os.sched_getaffinity(0))
        self.least: int = least or 1
        self.most: int = most


class Group:
    """The members of a pool, and the route of its calls: see route.Route.

    A member is a supervisor with the attributes that `adopt` gives it, which tells `changed` when
    its state has changed.
    """

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        self.name = settings.name
        self.waits = settings.wait
        self.retries = Retries(settings.retry)
        self.settings = settings
        self.sizes = sizes
        # Reentrant, since a signal handler may call the plugin while its thread holds the lock.
        self._lock = threading.RLock()
        self._balance = Balance()
        self.members: list[Any] = []
        self.started = False
        self.closed = False
        self.forked = False
        self._grows = sizes.most > sizes.least
        self._number = 0
        self.listeners: list[Any] = []  # of events
        self._armed_at: float | None = None  # see driver.arm

    # ---- The route of calls ----------------------------------------------------------------------

    def take(self) -> Incarnation | None:
        """The incarnation with the fewest calls, which has counted one in; None: there is none."""
        while True:
            with self._lock:
                entry = self._balance.take()
            if entry is None:
                if self._grows and self.started:
                    self._grow()
                return None
            incarnation: Incarnation = entry.incarnation
            if incarnation.enter():
                if self._grows and entry.calls > 1:
                    self._grow()
                return incarnation
            with self._lock:
                self._balance.leave(entry)
                self._balance.remove(entry)

    def leave(self, incarnation: Incarnation) -> None:
        """Count a call out."""
        entry = incarnation.entry
        with self._lock:
            self._balance.leave(entry)
            if not entry.calls:
                if self._grows:
                    entry.idle_since = now()
                reserved = not entry.present
            else:
                reserved = False
        incarnation.leave()
        if reserved:
            self._notify()

    def peek(self) -> Incarnation | None:
        """The incarnation that would be taken."""
        with self._lock:
            entry = self._balance.least()
        return None if entry is None or entry.incarnation.closed else entry.incarnation

    def failed(self, incarnation: Incarnation, error: BaseException) -> None:
        """Pass on the hint that a call has lost its connection."""
        incarnation.entry.member._call_failed(incarnation, error)

    def has_news(self) -> bool:
        """Whether there is an incarnation, or a reason why there will be none."""
        return bool(len(self._balance)) or self.forked or self.closed or self._over() is not None

    def refuse(self) -> str:
        """Why no member takes calls now. Raises: why none will."""
        self.refuse_fork()
        if self.closed:
            raise ClosedError(f"{self.name}: its pool has been closed")
        if not self.started:
            raise ClosedError(f"{self.name}: its pool has not been started")
        over = self._over()
        if over is not None:
            raise copy_of(over)
        with self._lock:
            states = Counter("lent" if m._lent else m.state.value for m in self.members)
        shown = ", ".join(f"{n} {s.replace('_', ' ')}" for s, n in sorted(states.items()))
        return f"{self.name}: no member of the pool takes calls; it has {shown or 'none'}"

    def refuse_fork(self) -> None:
        """Raises: ForkedError in a forked child."""
        if self.forked:
            raise ForkedError(f"{self.name}: its pool belongs to the parent of this process")

    def _over(self) -> Any:
        """The error of the pool if all of its members were given up."""
        with self._lock:
            errors = [member._policy.over for member in self.members if not member._retired]
        return errors[0] if errors and None not in errors else None

    def begin(self, given_up: bool = False) -> list[Any]:
        """Make the first members. Returns: those that are to be started, or were given up.

        Raises: ClosedError; ForkedError.
        """
        self.refuse_fork()
        with self._lock:
            if not self.closed and not self.started:
                driver.register(self)
                for _ in range(self.sizes.least):
                    self.adopt()
                self.started = True
            if self.closed:
                self.refuse()
            if given_up:
                return [m for m in self.members if m._policy.over is not None]
            # Of a pool that has been started, nothing is waited for that others have asked for.
            return [m for m in self.members if not m._retired and m._policy.serving is None] * (
                not len(self._balance)
            )

    # ---- Members ---------------------------------------------------------------------------------

    def adopt(self) -> Any:
        """A new member, which has not been started."""
        with self._lock:
            self._number += 1
            settings = copy.copy(self.settings)
            settings.name = f"{self.name} #{self._number}"
            member = self._make(settings)
            member._entry = None
            member._lent = member._retired = False
            self.members.append(member)
        return member

    def changed(self, member: Any) -> None:
        """Have calls go to the member, or not any more, after what has happened to it."""
        with self._lock:
            if self.forked:
                return
            current = member._current
            if current is not None and current.closed:
                current = None
            entry = member._entry
            if entry is not None and entry.incarnation is not current:
                self._balance.remove(entry)
                member._entry = None
            wanted = not member._lent and not member._retired
            if current is not None and member._entry is None and wanted:
                current.entry = member._entry = entry = Entry(current, member)
                entry.idle_since = now()
                self._balance.add(entry)
            if member._ended and member in self.members and not self.closed:
                self.members.remove(member)
        self._notify()

    def borrow(self, wanted: list[Any]) -> bool:
        """Take a member with the fewest calls out of the balance: into `wanted`, once.

        Returns: whether it is there, and its calls are over.
        """
        with self._lock:
            if not wanted:
                entry = self._balance.least()
                if entry is None or (entry.calls and self._grows):
                    self._grow()
                if entry is None:
                    return self.forked or self.closed or self._over() is not None
                self._balance.remove(entry)
                entry.member._lent = True
                entry.member._entry = None
                wanted.append(entry)
            entry = wanted[0]
            return not entry.calls or entry.incarnation.closed

    def give_back(self, member: Any) -> None:
        """Have calls go to a member again that was borrowed."""
        member._lent = False
        self.changed(member)

    def _grow(self) -> None:
        """Start one more member, if all are busy and there may be one more."""
        with self._lock:
            if self.closed or self.forked or not self._grows:
                return
            present = [member for member in self.members if not member._retired]
            coming = sum(
                member._entry is None and not member._lent and member._policy.over is None
                for member in present
            )
            # One at a time: each call that finds all of them busy asks again.
            if len(present) >= self.sizes.most or coming:
                return
            member = self.adopt()
        member._start_soon()
        self._arm()

    # ---- Shrinking -------------------------------------------------------------------------------

    def _arm(self) -> None:
        driver.arm(self, now() + self.sizes.idle_timeout)

    def _timer(self) -> None:
        """End the members that have been idle for too long."""
        with self._lock:
            spare = sum(not member._retired for member in self.members) - self.sizes.least
            idle = self._balance.idle()
            limit = now() - self.sizes.idle_timeout
            retired = [e for e in idle if e.idle_since <= limit][: max(0, spare)]
            for entry in retired:
                entry.member._retired = True
                self._balance.remove(entry)
            again = spare > len(retired) and not self.closed
        for entry in retired:
            entry.member._feed(entry.member._policy.close_requested)
        if again:
            due = [e.idle_since for e in idle if e not in retired]
            at = min(due, default=now()) + self.sizes.idle_timeout
            driver.arm(self, max(at, now() + self.sizes.idle_timeout / 8))

    # ---- The end ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Have the members end, and refuse calls."""
        with self._lock:
            self.closed = True
            members = list(self.members)
        driver.arm(self, None)
        for member in members:
            member._feed(member._policy.close_requested)
        self._notify()

    def _exit(self) -> None:
        self.closed = True

    def _leave_behind(self) -> None:
        self._lock = threading.RLock()
        self.forked = True
        self._balance = Balance()

    # ---- For subclasses to say -------------------------------------------------------------------

    def _make(self, settings: Settings) -> Any:
        """A member with these settings."""
        raise NotImplementedError

    def _notify(self) -> None:
        """Tell those who wait that something has changed."""
        raise NotImplementedError

    # ---- What is known ---------------------------------------------------------------------------

    def state(self) -> State:
        """HEALTHY if a member is; FAILED if all were given up; otherwise that of a member."""
        if self.closed:
            return State.CLOSED
        if not self.started:
            return State.NEW
        with self._lock:
            states = {member.state for member in self.members if not member._retired}
        for state in (State.HEALTHY, State.RELOADING, State.UNHEALTHY, State.STARTING):
            if state in states:
                return state
        return State.BACKING_OFF if State.BACKING_OFF in states else State.FAILED

    def size(self) -> int:
        """How many members there are."""
        with self._lock:
            return sum(not member._retired for member in self.members)

    def pids(self) -> list[int]:
        """The ids of the processes that take calls."""
        with self._lock:
            return [member.pid for member in self.members if member.pid > 0]

    def end_events(self) -> None:
        """Have those end who iterate over events."""
        for listener in tuple(self.listeners):
            listener.put(None)

    def describe(self, kind: str) -> str:
        """What repr() shows."""
        serving = "" if self.closed or self.forked else f" serving={len(self._balance)}"
        return f"<{kind} {self.name!r} {self.state().value} size={self.size()}{serving}>"


class LentRoute:
    """The calls of those who have borrowed a member, until they give it back."""

    def __init__(self, member: Any, asynchronous: bool) -> None:
        self._inner = route_of(member, asynchronous)
        self.name = self._inner.name
        self.waits = self._inner.waits
        self.retries = self._inner.retries
        self.returned = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def take(self) -> Incarnation | None:
        return None if self.returned else self._inner.take()

    def peek(self) -> Incarnation | None:
        return None if self.returned else self._inner.peek()

    def take_later(self, deadline: float | None) -> Any:
        self._refuse_returned()
        return self._inner.take_later(deadline)

    def refuse(self) -> str:
        self._refuse_returned()
        return str(self._inner.refuse())

    def _refuse_returned(self) -> None:
        if self.returned:
            raise ClosedError(f"{self.name}: this member of the pool has been given back")
