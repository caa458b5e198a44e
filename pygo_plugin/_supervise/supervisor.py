"""The supervisor whose methods block."""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import warnings
import weakref
from collections import deque

from pygo_plugin._base import checks
from pygo_plugin._base.core import _core
from pygo_plugin._supervise import driver
from pygo_plugin._supervise.dispense import dispense
from pygo_plugin._supervise.options import Settings
from pygo_plugin._supervise.policy import State, state_of
from pygo_plugin._supervise.report import report
from pygo_plugin._supervise.route import route_of
from pygo_plugin._supervise.supervised import Supervised, copy_of, exit_error, now
from pygo_plugin.client import Client
from pygo_plugin.errors import ClosedError, PluginError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Any, Generic, Literal, overload

    from typing_extensions import Self, TypeVar

    from pygo_plugin._grpc.channel import Channel
    from pygo_plugin._supervise.events import Event
    from pygo_plugin._supervise.incarnation import Incarnation
    from pygo_plugin._supervise.options import Health, Idempotent, Restart
    from pygo_plugin.config import (
        ClientConfig,
        Cmd,
        HandshakeConfig,
        ReattachConfig,
        StrPath,
        Writer,
    )
    from pygo_plugin.plugin import PluginBase
    from pygo_plugin.runners import Runner
    from pygo_plugin.security import SecureConfig, TLSConfig

    C = TypeVar("C", default=Any)
    """What `dispense` returns, if all plugins have this type. It is invariant: see `dispense`."""

    P = TypeVar("P")

    class _Parametrized(Generic[C]):
        pass
else:
    from pygo_plugin.plugin import Subscriptable as _Parametrized

__all__ = ["Supervisor"]


def _block(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function that waits for a lock of `threading` or `queue`, and lets greenlets run."""
    green = sys.modules.get("pygo_plugin._base.green")
    if green is not None and green._has_patched_locks():
        return function(*arguments)  # such a lock lets them run by itself, on this thread only
    return _core.call_blocking(function, *arguments)


class _Request:
    """What a caller waits for: the end of a start, a restart or a reload."""

    def __init__(self) -> None:
        self.done = False
        self.error: PluginError | None = None


class _Watch:
    """A caller that waits for a state, which may pass before the caller runs."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.seen = False


class Supervisor(_Parametrized["C"], Supervised):
    """A plugin that is started again when it ends, watched, and replaced without interruption.

        with Supervisor(["./plugin"], handshake_config=HANDSHAKE, plugins=plugins) as plugin:
            channel, kv = plugin.dispense("kv")

    Takes what `Client` takes, except that a runner is given as a function that makes one, and the
    options of its own that docs/supervision.md describes. What `dispense` returns is good for all
    processes of the plugin, one after the other. The constructor starts nothing. Leaving the `with`
    block kills the plugin. Every method may be called on any thread; a forked child raises
    ForkedError.
    """

    def __init__(
        self,
        cmd: ClientConfig[C, Any] | Cmd | StrPath | Sequence[StrPath] | None = None,
        *,
        # Keywords, written by scripts/options.py from SUPERVISED, with PluginBase[C, Any]:
        plugins: Mapping[str, PluginBase[C, Any]] | None = None,
        versioned_plugins: Mapping[int, Mapping[str, PluginBase[C, Any]]] | None = None,
        handshake_config: HandshakeConfig | None = None,
        env: Mapping[str, StrPath] | Sequence[str] | None = None,
        cwd: StrPath | None = None,
        name: str | None = None,
        reattach_config: ReattachConfig | None = None,
        runner: Callable[[], Runner] | None = None,
        min_port: int | None = None,
        max_port: int | None = None,
        start_timeout: float | None = None,
        kill_timeout: float | None = None,
        allowed_protocols: Sequence[str] | None = None,
        managed: bool | None = None,
        detach: bool | None = None,
        template: bool | None = None,
        on_exit: Callable[[Any, int | None], Any] | None = None,
        logger: logging.Logger | None = None,
        stderr: Writer | int | None = None,
        sync_stdout: Writer | int | None = None,
        sync_stderr: Writer | int | None = None,
        plugin_log_buffer_size: int | None = None,
        skip_host_env: bool | None = None,
        auto_mtls: bool | None = None,
        tls_config: TLSConfig | None = None,
        secure_config: SecureConfig | None = None,
        unix_socket_dir: StrPath | None = None,
        unix_socket_group: str | int | None = None,
        broker_multiplex: bool | None = None,
        kill_group: bool | None = None,
        max_receive_message_length: int | None = None,
        max_send_message_length: int | None = None,
        max_metadata_size: int | None = None,
        memory_quota: int | None = None,
        channel_options: Iterable[tuple[str | bytes, Any]] | None = None,
        server_options: Iterable[tuple[str | bytes, Any]] | None = None,
        skip_output: bool | int | None = None,
        restart: Restart | Literal["always", "on_failure", "never"] | None = None,
        health: Health | Literal[False] | None = None,
        retry: Mapping[str, int] | Idempotent | None = None,
        wait: bool | None = None,
        max_calls: int | None = None,
        max_age: float | None = None,
        max_rss: int | None = None,
        drain_timeout: float | None = None,
        watch: bool | StrPath | Iterable[StrPath] | None = None,
        on_event: Callable[[Event], Any] | None = None,
    ) -> None:
        """Raises: ConfigError (a ValueError) if an option has a wrong value, or two conflict."""
        keywords = locals()
        self._set_up(Settings("Supervisor", cmd, keywords))

    def _set_up(self, settings: Settings) -> None:
        super().__init__(settings)
        # Its lock is reentrant, since a signal handler may use the supervisor.
        self._changed = threading.Condition()
        self._watches: set[_Watch] = set()
        self._outbox: deque[Event] = deque()
        self._delivering = threading.Lock()
        self._deliverer = 0  # the thread that is calling `on_event`
        self._listeners: list[_Events] = []

    # Life cycle.

    def start(self) -> None:
        """Launch the plugin, and wait until it serves. Idempotent.

        Launches that fail are repeated, as ends are; see `Restart`.

        Raises: PluginFailedError if the plugin is given up, whose `__cause__` is the last launch's
        error; ClosedError after `close()`; ForkedError in a forked child.
        """
        self._request(self._policy.start_requested)

    def restart(self) -> None:
        """Kill the plugin if it runs, start it with a new budget, and wait until it serves.

        Calls under way fail. After a `PluginFailedError` this is what starts the plugin again.

        Raises: as `start`.
        """
        self._request(self._policy.restart_requested)

    def reload(self, cmd: Cmd | StrPath | Sequence[StrPath] | None = None) -> None:
        """Replace the process by a new one, of another executable if `cmd` names one, and wait.

        The process that serves goes on until the new one is healthy. Then new calls go to the new
        one, and the old one has `drain_timeout` seconds to finish what is under way. If the new one
        does not become healthy, nothing changes. Once a new one serves, its `cmd` is also what is
        started after its end. A plugin that was given up is started, as by `restart`.

        Raises: ConfigError for a wrong `cmd`; the error of the new process if it does not serve,
        such as StartError; otherwise as `start`.
        """
        command = self._settings.command(cmd)
        self._request(self._policy.reload_requested, command)
        if command is not None and self._settings.watch is True:
            self._watch(command)

    def close(self) -> None:
        """End the plugin for good, as `Client.kill` does. Idempotent; a second caller waits.

        When this returns, `on_event` has been called with all events, unless that is what calls it.

        Raises: nothing. In a forked child it does nothing: the plugin is the parent's.
        """
        if self._forked:
            return
        self._feed(self._policy.close_requested)
        thread = threading.get_ident()
        self._wait(lambda: self._ended and self._has_delivered(thread), None)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self, _warn: Any = warnings.warn) -> None:
        policy = getattr(self, "_policy", None)
        if policy is None or self._forked or driver.ending:
            return
        if policy.state not in (State.NEW, State.CLOSED):
            _warn(f"{self!r} was never closed", ResourceWarning, stacklevel=2, source=self)

    # Use.

    if TYPE_CHECKING:
        # mypy joins the types of different plugins to "object", which would refuse every use.
        @overload
        def dispense(self: Supervisor[object], name: str) -> Any: ...
        @overload
        def dispense(
            self: Supervisor[tuple[Channel, object]], name: str
        ) -> tuple[Channel, Any]: ...
        @overload
        def dispense(self, name: PluginBase[P, Any]) -> P: ...
        @overload
        def dispense(self, name: str) -> C: ...

    def dispense(self, name: str | PluginBase[Any, Any]) -> Any:
        """What the plugin `name` offers: by default `(channel, stub)`. Starts the plugin if needed.

        It is good for all incarnations of the plugin: see docs/supervision.md#calls.

        Raises: ConfigError (a ValueError) for an unknown name or plugin; what `start()` raises.
        """
        self.start()
        return dispense(route_of(self), self._wait_current(None).client, name)

    # What is known.

    def wait_for(self, state: State | str, timeout: float | None = None) -> bool:
        """Wait until the plugin is in this state, or has been in it since the call.

        Returns: False if it was not within `timeout` seconds.
        Raises: ClosedError if the supervisor is closed meanwhile; ForkedError in a forked child.
        """
        wanted = state_of(state)
        if timeout is not None:
            checks.seconds("Supervisor.wait_for: timeout", timeout)
        self._refuse_fork()
        watch = _Watch(wanted)
        self._watches.add(watch)
        try:
            if self._policy.state is wanted:
                return True
            deadline = None if timeout is None else now() + timeout
            self._wait(lambda: watch.seen or self._ended, deadline)
        finally:
            self._watches.discard(watch)
        if not watch.seen and self._ended:
            raise ClosedError(f"{self.name}: its supervisor has been closed")
        return watch.seen

    def events(self) -> Iterator[Event]:
        """All events from now on, in their order. It ends when the supervisor is closed.

        Closing it, or dropping it, ends it earlier. Several are independent of one another.
        """
        return _Events(self._listeners, self._ended)

    def __repr__(self) -> str:
        return self._describe("pygo_plugin.Supervisor")

    __reduce_ex__ = checks.refuse_copy

    # Waiting.

    def _request(self, event: Callable[..., Any], *arguments: Any) -> None:
        """Give the policy a request, and wait until it is answered."""
        self._prepare()
        request = _Request()
        self._feed(event, *arguments, request, now())
        self._wait(lambda: request.done, None)
        if request.error is not None:
            raise copy_of(request.error)

    def _wait_current(self, deadline: float | None) -> Incarnation:
        """The incarnation that takes calls, as soon as there is one.

        `deadline` is a time of `time.monotonic`. Ctrl-C interrupts.

        Raises: TimeoutError; PluginFailedError if the plugin is given up; ClosedError before the
        start and after `close()`; ForkedError in a forked child.
        """
        while True:
            found = self._usable()
            if found is not None:
                return found
            if not self._wait(self._has_news, deadline):
                raise TimeoutError(self._why_absent())

    def _wait(self, condition: Callable[[], bool], deadline: float | None) -> bool:
        return bool(_block(self._wait_blocked, condition, deadline))

    def _wait_blocked(self, condition: Callable[[], bool], deadline: float | None) -> bool:
        with self._changed:
            timeout = None if deadline is None else max(0.0, deadline - now())
            return self._changed.wait_for(condition, timeout)

    # What takes time: see Supervised.

    def _pump(self) -> None:
        # Not on the caller's thread, where Ctrl-C might interrupt it halfway.
        if driver.is_worker():
            self._handle_all()
        else:
            driver.run(self._handle_all)

    def _launch(self, number: int, cmd: Any) -> None:
        self._busy.add(("launch", number))
        driver.run(lambda: self._launch_now(number, cmd))

    def _launch_now(self, number: int, cmd: Any) -> None:
        try:
            client = Client(self._settings.client_config(cmd, _exit_handler(self, number)))
            incarnation = self._new(number, client)
            if not self._policy.wants(number):  # it was given up before this got here
                raise ClosedError(f"{self.name}: is not started any more")
            client.start()
        except BaseException as error:
            self._busy.discard(("launch", number))
            self._not_started(number, error)
        else:
            self._busy.discard(("launch", number))
            self._started(incarnation)

    def _ask(self, incarnation: Incarnation, timeout: float) -> None:
        self._busy.add(("ping", incarnation.number))
        driver.run(lambda: self._ask_now(incarnation, timeout))

    def _ask_now(self, incarnation: Incarnation, timeout: float) -> None:
        problem = incarnation.client.ping(timeout)
        self._busy.discard(("ping", incarnation.number))
        self._answered(incarnation.number, problem)

    def _end(self, incarnation: Incarnation) -> None:
        self._busy.add(("end", incarnation.number))
        driver.run(lambda: self._end_now(incarnation))

    def _end_now(self, incarnation: Incarnation) -> None:
        try:
            incarnation.client.kill()
            self._find_out(incarnation, "kill")
        finally:
            self._gone(incarnation.number)

    def _call_on_exit(self, number: int, client: Any, status: int | None) -> None:
        """Take the news that a process has ended. Called on the core's thread for callbacks."""
        incarnation = self._incarnations.get(number)
        if incarnation is not None:
            incarnation.close()
            self._busy.add(("exit", number))
            driver.run(lambda: self._find_out(incarnation, "exit"))
        handler = self._settings.config.on_exit
        if handler is not None:
            handler(client, status)

    def _find_out(self, incarnation: Incarnation, after: str) -> None:
        """Find out how a process has ended, and say so; done after its end, and after `_end`."""
        error = exit_error(self.name, incarnation.client)
        self._busy.discard((after, incarnation.number))
        self._exited(incarnation, error)

    def _arm(self, at: float | None) -> None:
        driver.arm(self, at)

    def _publish(self) -> None:
        with self._changed:
            state = self._policy.state
            for watch in tuple(self._watches):
                watch.seen = watch.seen or watch.state is state
            self._note_end()
            self._changed.notify_all()

    def _report(self, event: Event) -> None:
        self._outbox.append(event)
        for listener in tuple(self._listeners):
            listener.put(event)
        driver.run(self._deliver)

    def _deliver(self) -> None:
        """Call the user's function with the events that wait, one at a time and in order."""
        while self._outbox and self._delivering.acquire(blocking=False):
            try:
                self._deliverer = threading.get_ident()
                while self._outbox:
                    event = self._outbox.popleft()
                    report(event)
                    handler = self._settings.on_event
                    if handler is not None:
                        try:
                            handler(event)
                        except BaseException as error:
                            _core.unraisable(error, handler)
            finally:
                self._deliverer = 0
                self._delivering.release()
        with self._changed:
            self._changed.notify_all()

    def _has_delivered(self, thread: int) -> bool:
        """Whether no event waits, as far as this thread can wait for that."""
        idle = not self._outbox and not self._delivering.locked()
        return idle or self._deliverer == thread

    def _end_events(self) -> None:
        for listener in tuple(self._listeners):
            listener.put(None)

    def _settle(self, request: Any, error: PluginError | None) -> None:
        request.error, request.done = error, True

    # The end of the process, and forks.

    def _exit(self) -> None:
        """Close at the interpreter's exit, which kills all plugins by itself."""
        self._feed(self._policy.close_requested)
        self._handle_all()

    def _leave_behind(self) -> None:
        super()._leave_behind()
        self._changed = threading.Condition()
        self._delivering = threading.Lock()
        self._outbox.clear()
        self._watches.clear()


def _exit_handler(owner: Supervisor, number: int) -> Callable[[Any, int | None], None]:
    """`on_exit` of a client, which does not keep the supervisor alive."""
    found = weakref.ref(owner)

    def exited(client: Any, status: int | None) -> None:
        supervisor = found()
        if supervisor is not None:
            supervisor._call_on_exit(number, client, status)

    return exited


class _Events:
    """An iterator over the events of one supervisor, until it is closed."""

    def __init__(self, listeners: list[_Events], closed: bool) -> None:
        self._queue: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._listeners = listeners
        self._over = False
        listeners.append(self)
        if closed:
            self.put(None)

    def put(self, event: Event | None) -> None:
        self._queue.put(event)

    def __iter__(self) -> _Events:
        return self

    def __next__(self) -> Event:
        event = None if self._over else _block(self._queue.get)
        if event is None:
            self.close()
            raise StopIteration
        return event  # type: ignore[no-any-return]

    def close(self) -> None:
        """Take no more events. Idempotent."""
        self._over = True
        with contextlib.suppress(ValueError):
            self._listeners.remove(self)
        self._queue.put(None)  # for another thread that waits
