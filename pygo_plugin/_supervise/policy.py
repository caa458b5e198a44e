"""What a supervisor does next: a state machine without threads, clocks and processes.

Each method is an event. It takes the time in seconds and returns actions, which a driver carries
out; their outcomes are further events. Between events, the driver waits until `wake_at` and calls
`timer`. tests/unit/test_supervise_policy.py drives it at random.

    NEW -start-> STARTING -healthy-> HEALTHY <-answers, or not-> UNHEALTHY
                    ^  |                |  ^                         |
                    |  +---ended--+     |  +-replaced, or not--+     |
                    |             v     v                      |     |
                    +--------- BACKING_OFF <---ended-----------+-----+
                                  |     |                      |
                           out of budget|       HEALTHY -> RELOADING
                                  v
                                FAILED -restart, reload-> STARTING        any -close-> CLOSED

At most one process serves. While it is replaced there is a second one, which is coming; the first
one is drained once the second one serves.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import Any, NamedTuple, Union

from pygo_plugin._supervise import events
from pygo_plugin.errors import ClosedError, ConfigError, PluginError, PluginFailedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pygo_plugin._supervise.options import Health, Restart

__all__ = [
    "Action",
    "Drain",
    "Emit",
    "Kill",
    "Measure",
    "Ping",
    "Policy",
    "Settle",
    "Start",
    "State",
]

MEASURE_INTERVAL = 1.0  # seconds between two looks at the memory of the process
FIRST_PING = 0.05  # seconds between the first questions to a new process, which become longer


class State(enum.Enum):
    """What a supervised plugin is doing. The values are the names in lower case."""

    NEW = "new"
    """It has not been started."""
    STARTING = "starting"
    """A process is being started, and none serves."""
    HEALTHY = "healthy"
    """A process takes calls."""
    UNHEALTHY = "unhealthy"
    """A process takes calls, but has not answered the last question after its health."""
    BACKING_OFF = "backing_off"
    """The process has ended, and another one will be started."""
    RELOADING = "reloading"
    """A process takes calls, and the one that will replace it is being started."""
    FAILED = "failed"
    """The plugin was given up. `restart()` and `reload()` start it again."""
    CLOSED = "closed"
    """The supervisor has been closed."""


def state_of(wanted: State | str) -> State:
    """A state of its name, in any case. Raises: ConfigError."""
    try:
        return State(wanted.lower() if isinstance(wanted, str) else wanted)
    except ValueError:
        names = ", ".join(state.value for state in State)
        raise ConfigError(f"wait_for() takes one of the states {names}, not {wanted!r}") from None


class Start(NamedTuple):
    """Launch a process of `cmd`, or as configured: `start_succeeded` or `start_failed` follow."""

    number: int
    cmd: Any


class Ping(NamedTuple):
    """Ask the process after its health: then `ping_succeeded` or `ping_failed`."""

    number: int
    timeout: float


class Measure(NamedTuple):
    """Find out how many bytes the process has in memory: then `measured`."""

    number: int


class Drain(NamedTuple):
    """Let the process take no more calls, and say when those under way are over: `drained`."""

    number: int


class Kill(NamedTuple):
    """End the process, or what is left of it: then `ended`."""

    number: int


class Settle(NamedTuple):
    """What a user has asked for is done, or has failed."""

    request: Any
    error: PluginError | None


class Emit(NamedTuple):
    """Report this."""

    event: events.Event


Action = Union[Start, Ping, Measure, Drain, Kill, Settle, Emit]


class _Coming:
    """A process that has been launched and does not serve yet."""

    def __init__(self, number: int, cmd: Any, reason: str) -> None:
        self.number = number
        self.cmd = cmd
        self.reason = reason  # of a replacement: see events.Reloaded
        self.started = False
        self.pinging = False
        self.pause = FIRST_PING
        self.ping_at: float | None = None
        self.healthy_by: float | None = None


class Policy:
    """See the module. It is not thread-safe: a driver gives it one event after the other.

    serving   the number of the process that takes calls; None if there is none
    state     what the plugin is doing
    over      why nothing will serve, in the states FAILED and CLOSED; otherwise None
    """

    def __init__(
        self,
        name: str,
        restart: Restart,
        health: Health | None,
        *,
        max_age: float | None = None,
        max_rss: int | None = None,
        drain_timeout: float = 30.0,
        chance: Callable[[], float],
    ) -> None:
        """`chance` returns numbers from 0 to 1, at random."""
        self._name = name
        self._restart = restart
        self._health = health
        self._max_age = max_age
        self._max_rss = max_rss
        self._drain_timeout = drain_timeout
        self._chance = chance
        self.state = State.NEW
        self.serving: int | None = None
        self._number = 0  # of the last launch
        self._cmd: Any = None  # what is launched; None: what the options say
        self.over: PluginError | None = None  # why nothing is launched any more
        self._requests: list[tuple[Any, int]] = []  # with the first number that fulfils each
        # Processes besides the one that serves.
        self._coming: _Coming | None = None
        self._alive: set[int] = set()  # started, and their ends have not been reported
        self._killed: set[int] = set()  # those whose end is no surprise
        self._draining: dict[int, float] = {}  # until when each one may be drained
        self._dying: int | None = None  # was killed; the next one is launched after its end
        self._dying_error: PluginError | None = None  # why it was; None: to start anew
        # Of the process that serves.
        self._since = 0.0
        self._failures = 0
        self._pinging = False
        self._ping_at: float | None = None
        self._measure_at: float | None = None
        self._replace_at: float | None = None  # by age, or again after a replacement has failed
        self._replace_reason = ""
        self._unreplaced = 0  # replacements that have failed in a row
        self._again: tuple[Any, str] | None = None  # a replacement that is to follow the one coming
        # Of restarts.
        self._restart_at: float | None = None
        self._restarts: deque[float] = deque()  # when, within the window
        self._attempt = 0  # in a row
        self._launches = 0  # since start() or restart()

    def wants(self, number: int) -> bool:
        """Whether a process that is being started is still to come."""
        return self._is_coming(number)

    @property
    def wake_at(self) -> float | None:
        """When `timer` has something to do; None: not before another event."""
        times = [self._restart_at, self._ping_at, self._measure_at, *self._draining.values()]
        if self._coming is None:
            times.append(self._replace_at)
        elif not self._coming.pinging:
            times += [self._coming.ping_at, self._coming.healthy_by]
        return min((time for time in times if time is not None), default=None)

    # ---- Events: what the user asks for ----------------------------------------------------------

    def start_requested(self, request: Any, now: float) -> list[Action]:
        """Start the plugin, unless that has been done."""
        if self.serving is not None or self.over is not None:
            return [Settle(request, self.over)]
        self._requests.append((request, 1))
        return self._begin(now) if self.state is State.NEW else []

    def restart_requested(self, request: Any, now: float) -> list[Action]:
        """Start the plugin anew with its whole budget. A process that serves is killed first."""
        if self.state is State.CLOSED:
            return [Settle(request, self.over)]
        self._forgive()
        if self.serving is None and self._coming is not None:
            self._requests.append((request, self._coming.number))
            return []
        actions = self._abandon_coming()
        self._again = None
        self._requests.append((request, self._number + 1))
        if self.serving is not None:
            return actions + self._kill_serving(None)
        if self._dying is not None:
            self._dying_error = None
            return actions
        return actions + self._begin(now)

    def reload_requested(self, cmd: Any, request: Any, now: float) -> list[Action]:
        """Replace the process, by one of `cmd` if that is not None."""
        if self.state is State.CLOSED:
            return [] if request is None else [Settle(request, self.over)]
        if request is not None:  # otherwise nobody waits
            self._requests.append((request, self._number + 1))
        return self._replace(cmd, "reload", now)

    def close_requested(self) -> list[Action]:
        """End everything."""
        self.state = State.CLOSED
        self.over = ClosedError(f"{self._name}: its supervisor has been closed")
        settled: list[Action] = [Settle(request, self.over) for request, _ in self._requests]
        numbers = {*self._alive, *(() if self._coming is None else (self._coming.number,))}
        self._killed |= numbers
        self.serving = self._coming = self._again = self._dying = None
        self._draining.clear()
        self._requests.clear()
        self._restart_at = self._ping_at = self._measure_at = self._replace_at = None
        return [*settled, *(Kill(number) for number in sorted(numbers))]

    # ---- Events: what has become of processes ----------------------------------------------------

    def start_succeeded(self, number: int, pid: int, now: float) -> list[Action]:
        """The process has come to its handshake."""
        coming = self._coming
        if coming is None or coming.number != number:
            self._killed.add(number)
            return [Kill(number)]  # it is not wanted any more
        self._alive.add(number)
        coming.started = True
        actions: list[Action] = [Emit(events.Started(self._name, number, pid))]
        if self._health is None:
            return actions + self._serve(coming, now)
        coming.healthy_by = now + self._health.startup
        coming.pinging = True
        return [*actions, Ping(number, self._health.timeout)]

    def start_failed(
        self, number: int, error: PluginError, curable: bool, now: float
    ) -> list[Action]:
        """No process has come to its handshake. `curable`: another attempt may succeed."""
        if not self._is_coming(number):
            return []
        return self._not_come(error, curable, now)

    def exited(
        self, number: int, error: PluginError, exit_status: int | None, stderr: str, now: float
    ) -> list[Action]:
        """The process has ended by itself or otherwise. `error` says how."""
        if number not in self._alive and not self._is_coming(number):
            return []
        expected = number in self._killed or number in self._draining
        self._alive.discard(number)
        self._draining.pop(number, None)
        event = events.Exited(self._name, number, exit_status, stderr, expected)
        actions: list[Action] = [Emit(event), Kill(number)]
        if self._is_coming(number):
            return actions + self._not_come(error, True, now)
        if number == self.serving:
            self._leave_serving(now)
            return actions + self._crashed(error, now, clean=exit_status == 0)
        if number == self._dying:
            return actions + self._died(now)
        return actions

    def ended(self, number: int, now: float) -> list[Action]:
        """What has been killed is gone, whether or not its end was reported."""
        self._killed.discard(number)
        self._alive.discard(number)
        return self._died(now) if number == self._dying else []

    def ping_succeeded(self, number: int, now: float) -> list[Action]:
        """The process is healthy."""
        coming = self._coming
        if coming is not None and coming.number == number:
            return self._serve(coming, now)
        if number != self.serving or self._health is None:
            return []
        self._pinging = False
        self._ping_at = now + self._health.interval
        self._failures = 0
        if self.state is not State.UNHEALTHY:
            return []
        self.state = State.HEALTHY
        return [Emit(events.Healthy(self._name, number))]

    def ping_failed(self, number: int, reason: str, now: float) -> list[Action]:
        """The process is not healthy, or has not answered."""
        health, coming = self._health, self._coming
        if health is None:
            return []
        if coming is not None and coming.number == number:
            coming.pinging = False
            coming.ping_at = now + coming.pause
            coming.pause = min(2 * coming.pause, health.interval)
            return self._never_healthy(reason, now) if _due(coming.healthy_by, now) else []
        if number != self.serving:
            return []
        self._pinging = False
        self._ping_at = now + health.interval
        self._failures += 1
        killed = self._failures >= health.failures
        event = events.Unhealthy(self._name, number, reason, self._failures, killed)
        actions: list[Action] = [Emit(event)]
        if killed:
            times = "once" if self._failures == 1 else f"{self._failures} times in a row"
            error = PluginError(
                f"{self._name}: was killed, since it was unhealthy {times}: {reason}"
            )
            return [*actions, *self._kill_serving(error, now)]
        if self.state is State.HEALTHY:
            self.state = State.UNHEALTHY
        return actions

    def suspected(self, number: int, now: float) -> list[Action]:
        """A call has lost its connection: ask soon whether the process is well."""
        if number == self.serving and self._health is not None and not self._pinging:
            self._ping_at = now
        return []

    def measured(self, number: int, rss: int | None, now: float) -> list[Action]:
        """The process has so many bytes in memory; None: that is unknown."""
        if number != self.serving or self._max_rss is None:
            return []
        self._measure_at = now + MEASURE_INTERVAL
        return self._recycle("max_rss", now) if rss is not None and rss > self._max_rss else []

    def calls_reached(self, number: int, now: float) -> list[Action]:
        """The process has taken as many calls as it is to take."""
        return self._recycle("max_calls", now) if number == self.serving else []

    def drained(self, number: int) -> list[Action]:
        """No call is under way any more in a process that takes none."""
        if self._draining.pop(number, None) is None:
            return []
        self._killed.add(number)
        return [Kill(number)]

    def timer(self, now: float) -> list[Action]:
        """Do what is due."""
        actions: list[Action] = []
        for number in [number for number, end in self._draining.items() if end <= now]:
            actions += self.drained(number)
        coming, health = self._coming, self._health
        if coming is not None and health is not None and not coming.pinging:
            if _due(coming.healthy_by, now):
                actions += self._never_healthy("its start took too long", now)
            elif _due(coming.ping_at, now):
                coming.ping_at, coming.pinging = None, True
                actions.append(Ping(coming.number, health.timeout))
        if _due(self._restart_at, now):
            if self._restart.max_restarts is not None:
                self._restarts.append(now)
            actions += self._launch(self._cmd, "", now)
        if self.serving is not None:
            if _due(self._ping_at, now) and health is not None:
                self._ping_at, self._pinging = None, True
                actions.append(Ping(self.serving, health.timeout))
            if _due(self._measure_at, now):
                self._measure_at = None
                actions.append(Measure(self.serving))
            if self._coming is None and _due(self._replace_at, now):
                actions += self._recycle(self._replace_reason, now)
        return actions

    # ---- Launching -------------------------------------------------------------------------------

    def _begin(self, now: float) -> list[Action]:
        """Launch the plugin because the user has said so."""
        self._forgive()
        return self._launch(self._cmd, "", now)

    def _forgive(self) -> None:
        """Forget earlier crashes."""
        self.over = None
        self._restarts.clear()
        self._attempt = self._launches = 0

    def _launch(self, cmd: Any, reason: str, now: float) -> list[Action]:
        self._restart_at = None
        self._number += 1
        self._launches += 1
        self._coming = _Coming(self._number, cmd, reason)
        self.state = State.STARTING if self.serving is None else State.RELOADING
        return [Start(self._number, cmd)]

    def _replace(self, cmd: Any, reason: str, now: float) -> list[Action]:
        """Launch a replacement, or, if no process serves, what will serve."""
        cmd = self._cmd if cmd is None else cmd
        if self._coming is not None:
            self._again = (cmd, reason)
            return []
        if self.serving is not None:
            return self._launch(cmd, reason, now)
        self._cmd = cmd
        if self._dying is not None:
            self._dying_error = None
            return []
        if self.state is State.BACKING_OFF:
            return self._launch(cmd, "", now)
        return self._begin(now)

    def _recycle(self, reason: str, now: float) -> list[Action]:
        """Replace the process that serves, since it has served enough."""
        self._replace_at, self._replace_reason = None, reason
        return self._launch(self._cmd, reason, now) if self._coming is None else []

    def _serve(self, coming: _Coming, now: float) -> list[Action]:
        """Let the process that is coming serve, instead of the one that does."""
        old, number = self.serving, coming.number
        self._coming, self.serving, self._cmd = None, number, coming.cmd
        self._since, self._failures, self._unreplaced = now, 0, 0
        self._pinging = False
        self._ping_at = None if self._health is None else now + self._health.interval
        self._measure_at = None if self._max_rss is None else now + MEASURE_INTERVAL
        self._replace_at = None if self._max_age is None else now + self._max_age
        self._replace_reason = "max_age"
        self.state = State.HEALTHY
        actions: list[Action] = [Emit(events.Healthy(self._name, number))]
        if old is not None:
            self._draining[old] = now + self._drain_timeout
            actions += [Emit(events.Reloaded(self._name, number, coming.reason)), Drain(old)]
        actions += self._settle(number, None)
        return actions + self._follow(now)

    def _follow(self, now: float) -> list[Action]:
        """Launch the replacement that was asked for while another one was coming."""
        if self._again is None:
            return []
        (cmd, reason), self._again = self._again, None
        return self._launch(cmd, reason, now)

    def _settle(self, number: int, error: PluginError | None) -> list[Action]:
        """Answer the requests that this incarnation fulfils, or fails."""
        settled = [request for request, first in self._requests if first <= number]
        self._requests = [entry for entry in self._requests if entry[1] > number]
        return [Settle(request, error) for request in settled]

    # ---- Failures --------------------------------------------------------------------------------

    def _is_coming(self, number: int) -> bool:
        return self._coming is not None and self._coming.number == number

    def _abandon_coming(self) -> list[Action]:
        """End what was launched and does not serve yet."""
        coming, self._coming = self._coming, None
        if coming is None:
            return []
        self._killed.add(coming.number)
        return [Kill(coming.number)]

    def _leave_serving(self, now: float) -> None:
        """Note that the process that served does so no longer."""
        if now - self._since >= self._restart.within:
            self._attempt = 0
        self.serving = None
        self._ping_at = self._measure_at = self._replace_at = None
        self._pinging = False

    def _kill_serving(self, error: PluginError | None, now: float = 0.0) -> list[Action]:
        """Kill the process that serves: it has failed with this error, or is to start anew."""
        number = self.serving
        assert number is not None
        self._leave_serving(now)
        self._killed.add(number)
        if error is not None and self._coming is not None:
            return [Kill(number), *self._crashed(error, now)]
        return self._await_end(number, error)

    def _await_end(self, number: int, error: PluginError | None) -> list[Action]:
        self._dying, self._dying_error = number, error
        self.state = State.STARTING if error is None else State.BACKING_OFF
        return [Kill(number)]

    def _died(self, now: float) -> list[Action]:
        """What was killed has ended: go on."""
        error, self._dying, self._dying_error = self._dying_error, None, None
        return self._begin(now) if error is None else self._crashed(error, now)

    def _never_healthy(self, reason: str, now: float) -> list[Action]:
        """Give up the process that is coming, since it did not become healthy in time."""
        assert self._coming is not None
        assert self._health is not None
        number, startup = self._coming.number, self._health.startup
        error = PluginError(
            f"{self._name}: has not become healthy within {startup:g} s of its handshake: {reason}"
        )
        if self.serving is not None:
            self._killed.add(number)
            return [Kill(number), *self._not_come(error, True, now)]
        actions = self._abandon_coming()
        self._await_end(number, error)
        return actions

    def _not_come(self, error: PluginError, curable: bool, now: float) -> list[Action]:
        """What was launched will not serve."""
        coming, self._coming = self._coming, None
        assert coming is not None
        if self.serving is None:
            if curable or self._again is not None:
                return self._crashed(error, now)
            return self._give_up("another start would fail as well", error)
        self.state = State.UNHEALTHY if self._failures else State.HEALTHY
        event = events.NotReplaced(self._name, coming.number, coming.reason, error)
        actions = [Emit(event), *self._settle(coming.number, error)]
        if self._again is None and (coming.reason != "reload" or self._replace_reason != "max_age"):
            self._unreplaced += 1
            self._replace_at = now + self._restart.delay_of(self._unreplaced, self._chance())
        return actions + self._follow(now)

    def _crashed(self, error: PluginError, now: float, *, clean: bool = False) -> list[Action]:
        """No process serves: launch another one later, unless that has been done too often."""
        restart = self._restart
        self._attempt += 1
        if self._coming is not None:  # a replacement, which serves sooner
            self.state = State.STARTING
            number = self._coming.number
            return [Emit(events.Restarting(self._name, number, 0.0, self._attempt, error))]
        if self._again is not None:
            self._cmd, self._again = self._again[0], None
        if restart.when == "never" or (restart.when == "on_failure" and clean):
            return self._give_up(f'it is not started again (restart is "{restart.when}")', error)
        while self._restarts and self._restarts[0] <= now - restart.within:
            self._restarts.popleft()
        if restart.max_restarts is not None and len(self._restarts) >= restart.max_restarts:
            limit = f"{restart.max_restarts} restart{'s' * (restart.max_restarts != 1)}"
            often = f"{limit} within {restart.within:g} s did not help"
            return self._give_up(often, error)
        delay = restart.delay_of(self._attempt, self._chance())
        self._restart_at = now + delay
        self.state = State.BACKING_OFF
        number = self._number + 1
        return [Emit(events.Restarting(self._name, number, delay, self._attempt, error))]

    def _give_up(self, why: str, error: PluginError) -> list[Action]:
        self.state = State.FAILED
        prefix = f"{self._name}: "
        last = str(error)
        last = last[len(prefix) :] if last.startswith(prefix) else last
        launches = "1 launch" if self._launches == 1 else f"{self._launches} launches"
        failed = PluginFailedError(
            f"{self._name}: was given up after {launches}, since {why}; restart() starts it again. "
            f"The last failure: {last}"
        )
        failed.__cause__ = error
        failed.attempts = self._launches
        failed.exit_status = getattr(error, "exit_status", None)
        failed.stderr = getattr(error, "stderr", "")
        self.over = failed
        event = events.GaveUp(self._name, self._number, failed)
        return [Emit(event), *self._settle(self._number + 1, failed)]


def _due(time: float | None, now: float) -> bool:
    return time is not None and time <= now
