"""What both kinds of supervisors share: they give the policy its events, and do what it says.

An event may come on any thread, and from a signal handler. It is put into a queue, and whoever is
first to get there handles the queue. So no event waits for a lock, and the policy sees one at a
time. What takes time is left to the subclass, which has threads or a loop.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import deque

from pygo_plugin._base import at_exit
from pygo_plugin._base.core import _core
from pygo_plugin._supervise import driver, metrics, policy
from pygo_plugin._supervise.incarnation import Incarnation
from pygo_plugin._supervise.policy import Policy, State
from pygo_plugin.errors import (
    ChecksumError,
    ClosedError,
    ConfigError,
    ForkedError,
    LibraryError,
    MissingPackageError,
    PluginError,
    PluginExitedError,
    StartError,
    VersionError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pygo_plugin._supervise.events import Event
    from pygo_plugin._supervise.options import Settings
    from pygo_plugin._supervise.watch import Watcher

__all__ = ["Supervised", "exit_error", "is_curable"]

# An error of exec() that the same call will not get rid of. Not among them: EAGAIN, ENOMEM, EMFILE,
# and ETXTBSY while the executable is being written.
_INCURABLE_ERRNOS = frozenset({1, 2, 7, 8, 13, 20, 21, 36, 40})
_INCURABLE = (
    ChecksumError,
    ClosedError,  # the interpreter is exiting
    ConfigError,
    ForkedError,
    LibraryError,
    MissingPackageError,
    VersionError,
)

now = time.monotonic
_PAGE = os.sysconf("SC_PAGE_SIZE")


def memory_of(pid: int) -> int | None:
    """How many bytes the process has in memory; None: there is no such process on this machine."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return None


def copy_of(error: PluginError) -> PluginError:
    """The same error for one more caller: its own traceback, and the same cause."""
    made = type(error)(*error.args)
    made.__dict__.update(error.__dict__)
    made.__cause__ = error.__cause__
    return made


def is_curable(error: BaseException) -> bool:
    """Whether a plugin that has failed to start with this error may start at another attempt."""
    if isinstance(error, StartError) and error.errno in _INCURABLE_ERRNOS:
        return False
    return isinstance(error, (PluginError, OSError)) and not isinstance(error, _INCURABLE)


def exit_error(name: str, client: Any) -> PluginExitedError:
    """The error about the end of a client's process. Waits while its end is being found out."""
    core = client._core
    known = core is not None and _core.call_blocking(core.await_exit)
    tail = core.stderr if known else ""
    shown = f"\nThe plugin's stderr ends with:\n{tail}" if tail else ""
    error = PluginExitedError(f"{name}: {core.exit_text if known else 'has ended'}{shown}")
    error.exit_status = client.exit_status
    error.stderr = tail
    return error


class Supervised:
    """A plugin that is kept running: what the routes of calls need of it, and its subclasses.

    Subclasses have to say how things are done that take time: `_launch`, `_ask` and `_end` begin
    them and return; `_arm` has `_timer` called later; `_publish` tells those who wait that
    something has changed; `_report` delivers an event; `_settle` answers a request.
    """

    _current: Incarnation | None
    """The incarnation that takes calls. Read without a lock; `enter()` may still refuse."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._current = None
        self._incarnations: dict[int, Incarnation] = {}
        self._policy = Policy(
            settings.name,
            settings.restart,
            settings.health,
            max_age=settings.max_age,
            max_rss=settings.max_rss,
            drain_timeout=settings.drain_timeout,
            chance=random.Random().random,
        )
        self._forked = False
        self._watcher: Watcher | None = None
        self._template: Any = None  # a use of the plugin's template, so that it stays
        self._busy: set[tuple[str, int]] = set()  # what has been begun, by kind and incarnation
        self._ended = False  # whether it was closed, and nothing of it is left
        self._inbox: deque[tuple[Callable[..., list[policy.Action]], tuple[Any, ...]]] = deque()
        self._handling = threading.Lock()
        self._armed_at: float | None = None

    # ---- What routes need ------------------------------------------------------------------------

    def _call_failed(self, incarnation: Incarnation, error: BaseException) -> None:
        """Take the hint that a call of the incarnation has lost its connection."""
        self._feed(self._policy.suspected, incarnation.number, now())

    def _refuse(self) -> None:
        """Raises: PluginFailedError, ClosedError or ForkedError if nothing will serve."""
        if self._forked:
            raise ForkedError(
                f"{self._settings.name}: its supervisor belongs to the parent of this process"
            )
        over = self._policy.over
        if over is not None:
            raise copy_of(over)
        if self._policy.state is State.NEW:
            raise ClosedError(f"{self._settings.name}: its supervisor has not been started")

    def _usable(self) -> Incarnation | None:
        """The current incarnation if it takes calls. Raises: as _refuse."""
        current = self._current
        if current is not None and not current._closed:
            return current
        self._refuse()
        return None

    def _why_absent(self) -> str:
        """Why no incarnation takes calls now, for the error of a call that does not wait longer."""
        state = self._policy.state.value.replace("_", " ")
        return f"{self._settings.name}: no process of the plugin takes calls, which is {state}"

    def _has_news(self) -> bool:
        """Whether _usable() would not return None."""
        current = self._current
        if current is not None and not current._closed:
            return True
        return self._forked or self._policy.over is not None or self._policy.state is State.NEW

    def _prepare(self) -> None:
        """Get ready to start something. Raises: ForkedError; ClosedError at the exit."""
        self._refuse_fork()
        if at_exit.ending or driver.ending:
            raise ClosedError(f"{self.name}: the interpreter is exiting, and starts no plugins")
        at_exit.register()
        driver.register(self)
        metrics.register(self)
        if self._watcher is None and self._policy.state is State.NEW:
            self._watch()

    def _watch(self, cmd: Any = None) -> None:
        """Watch the files of the option `watch`; with True that which is run. Raises: ConfigError.

        `cmd` None: what the options have.
        """
        paths, config = self._settings.watch, self._settings.config
        if paths is False:
            return
        from pygo_plugin._supervise.watch import Watcher, program_file

        if paths is True:
            cmd = config.cmd() if cmd is None else cmd
            paths = (program_file(self.name, cmd, config.cwd),)
        made = Watcher(self, self.name, paths)
        if self._watcher is not None:
            self._watcher.stop()
        self._watcher = made

    def _changed_files(self) -> None:
        self._feed(self._policy.reload_requested, None, None, now())

    def _refuse_fork(self) -> None:
        if self._forked:
            self._refuse()

    # ---- What users are told ---------------------------------------------------------------------

    @property
    def name(self) -> str:
        """What messages and the log call the plugin. See `Client.name`."""
        return self._settings.name

    @property
    def state(self) -> State:
        """What the plugin is doing, a `supervise.State`."""
        return self._policy.state

    @property
    def pid(self) -> int:
        """The id of the process that takes calls; -1 if there is none, or if it is unknown."""
        current = self._current
        return -1 if current is None else int(current.client.pid)

    def _describe(self, kind: str) -> str:
        current = self._current
        serving = "" if current is None else f" pid={self.pid} incarnation={current.number}"
        return f"<{kind} {self.name!r} {self.state.value}{serving}>"

    # ---- Events ----------------------------------------------------------------------------------

    def _feed(self, event: Callable[..., list[policy.Action]], *arguments: Any) -> None:
        """Give the policy an event, on any thread. Returns perhaps before it has been handled."""
        self._inbox.append((event, arguments))
        self._pump()

    def _pump(self) -> None:
        """Handle what is in the queue, or have it handled."""
        self._handle_all()

    def _handle_all(self) -> None:
        while self._inbox and self._handling.acquire(blocking=False):
            try:
                while self._inbox:
                    self._handle(*self._inbox.popleft())
            finally:
                self._handling.release()

    def _handle(
        self, event: Callable[..., list[policy.Action]], arguments: tuple[Any, ...]
    ) -> None:
        if self._forked:
            return
        actions = event(*arguments)
        # Before calls are turned away from an old incarnation, the new one is there.
        serving = self._policy.serving
        self._current = None if serving is None else self._incarnations[serving]
        for action in actions:
            self._do(action)
        self._arm(self._policy.wake_at)
        self._publish()

    def _do(self, action: policy.Action) -> None:
        if isinstance(action, policy.Start):
            self._launch(action.number, action.cmd)
        elif isinstance(action, policy.Ping):
            self._ask(self._incarnations[action.number], action.timeout)
        elif isinstance(action, policy.Measure):
            rss = memory_of(self._incarnations[action.number].client.pid)
            self._feed(self._policy.measured, action.number, rss, now())
        elif isinstance(action, policy.Drain):
            self._drain(action.number)
        elif isinstance(action, policy.Kill):
            incarnation = self._incarnations.get(action.number)
            if incarnation is not None and not incarnation.ending:
                incarnation.ending = True
                incarnation.close(ClosedError(f"{self._settings.name}: has been killed"))
                self._end(incarnation)
        elif isinstance(action, policy.Settle):
            self._settle(action.request, action.error)
        else:
            self._report(action.event)

    def _drain(self, number: int) -> None:
        reason = f"{self._settings.name}: this process of the plugin has been replaced"
        if self._incarnations[number].close(ClosedError(reason)):
            self._idle(number)

    def _timer(self) -> None:
        self._feed(self._policy.timer, now())

    # ---- What happens to incarnations ------------------------------------------------------------

    def _new(self, number: int, client: Any) -> Incarnation:
        made = Incarnation(
            number, client, self._settings.max_calls, self._calls_reached, self._idle
        )
        self._incarnations[number] = made
        return made

    def _calls_reached(self, number: int) -> None:
        self._feed(self._policy.calls_reached, number, now())

    def _idle(self, number: int) -> None:
        self._feed(self._policy.drained, number)

    def _started(self, incarnation: Incarnation) -> None:
        pid = incarnation.client.pid
        self._keep_template(incarnation.client)
        self._feed(self._policy.start_succeeded, incarnation.number, pid, now())

    def _keep_template(self, client: Any) -> None:
        """Keep the template of the client, if it has one, for the next incarnation."""
        taken = client._share_template()
        if taken is not None:
            kept, self._template = self._template, taken
            if kept is not None:
                kept.release()

    def _not_started(self, number: int, error: BaseException) -> None:
        incarnation = self._incarnations.pop(number, None)
        if not isinstance(error, PluginError):
            made = StartError(f"{self._settings.name}: cannot be started: {error!r}")
            made.__cause__ = error
            curable, error = is_curable(error), made
        else:
            curable = is_curable(error)
            error.__traceback__ = None  # whose frames have the client, and so its descriptors
        if incarnation is not None:
            incarnation.close(error)
        self._feed(self._policy.start_failed, number, error, curable, now())

    def _answered(self, number: int, problem: str) -> None:
        incarnation = self._incarnations.get(number)
        if problem and (incarnation is None or incarnation.client.exited()):
            self._feed(self._policy.timer, now())  # its end is told, too, and says more
        elif problem:
            self._feed(self._policy.ping_failed, number, problem, now())
        else:
            self._feed(self._policy.ping_succeeded, number, now())

    def _exited(self, incarnation: Incarnation, error: PluginExitedError) -> None:
        incarnation.close(error)
        status, stderr = error.exit_status, error.stderr
        self._feed(self._policy.exited, incarnation.number, error, status, stderr, now())

    def _gone(self, number: int) -> None:
        """Note that the client of an incarnation has been killed, so that nothing is left."""
        self._busy.discard(("end", number))
        self._incarnations.pop(number, None)
        self._feed(self._policy.ended, number, now())

    # ---- The end of the process, and forks -------------------------------------------------------

    def _leave_behind(self) -> None:
        """In a forked child, forget what is the parent's."""
        self._forked = True
        self._current = None
        self._inbox.clear()
        self._handling = threading.Lock()

    def _note_end(self) -> None:
        """Find out whether nothing is left after close()."""
        closed = self._policy.state is State.CLOSED
        if closed and not self._ended and not self._incarnations and not self._busy:
            if self._watcher is not None:
                self._watcher.stop()
            if self._template is not None:
                self._template.release()
            self._end_events()
            self._ended = True

    # ---- For subclasses to say -------------------------------------------------------------------

    def _launch(self, number: int, cmd: Any) -> None:
        raise NotImplementedError

    def _ask(self, incarnation: Incarnation, timeout: float) -> None:
        raise NotImplementedError

    def _end(self, incarnation: Incarnation) -> None:
        raise NotImplementedError

    def _arm(self, at: float | None) -> None:
        raise NotImplementedError

    def _publish(self) -> None:
        raise NotImplementedError

    def _report(self, event: Event) -> None:
        raise NotImplementedError

    def _end_events(self) -> None:
        raise NotImplementedError

    def _settle(self, request: Any, error: PluginError | None) -> None:
        raise NotImplementedError
