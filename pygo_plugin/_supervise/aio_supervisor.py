"""The supervisor for asyncio: the same policy, with tasks and timers of an event loop."""

from __future__ import annotations

import asyncio
import threading
import warnings
import weakref
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pygo_plugin._base import checks
from pygo_plugin._base.aio_threads import in_thread
from pygo_plugin._host.aio_client import Client
from pygo_plugin._supervise import driver
from pygo_plugin._supervise.dispense import dispense
from pygo_plugin._supervise.options import Settings
from pygo_plugin._supervise.policy import State, state_of
from pygo_plugin._supervise.report import report
from pygo_plugin._supervise.route import route_of
from pygo_plugin._supervise.supervised import Supervised, copy_of, exit_error, now
from pygo_plugin.errors import ClosedError, PluginError

if TYPE_CHECKING:
    import logging
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
    from typing import Generic, Literal, overload

    from typing_extensions import Self, TypeVar

    from pygo_plugin._grpc.aio_channel import Channel
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

_Waiter = tuple["Callable[[], bool]", "asyncio.Future[None]"]


class Supervisor(_Parametrized["C"], Supervised):
    """A plugin that is started again when it ends, watched, and replaced without interruption.

        async with aio.Supervisor(["./plugin"], handshake_config=HANDSHAKE, plugins=PLUGINS) as p:
            channel, kv = await p.dispense("kv")
            reply = await kv.Get(request)

    Takes what `pygo_plugin.Supervisor` takes, and `interceptors` as `aio.Client` does. `on_event`
    and `on_exit` may be coroutine functions, and run on the loop of the first start, to which the
    supervisor belongs: that loop has to run for the plugin to be watched. Calls may come from other
    loops, too.
    """

    def __init__(
        self,
        cmd: ClientConfig[Any, C] | Cmd | StrPath | Sequence[StrPath] | None = None,
        *,
        # Keywords, written by scripts/options.py from AIO_SUPERVISED, with PluginBase[Any, C]:
        plugins: Mapping[str, PluginBase[Any, C]] | None = None,
        versioned_plugins: Mapping[int, Mapping[str, PluginBase[Any, C]]] | None = None,
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
        interceptors: Iterable[Any] | None = None,
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
        self._loop: asyncio.AbstractEventLoop | None = None  # of the first start
        self._thread = 0  # which runs the loop
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timer_handle: asyncio.TimerHandle | None = None
        self._waiters: set[_Waiter] = set()
        self._outbox: deque[Event] = deque()
        self._delivers = False
        self._deliverer: asyncio.Task[Any] | None = None
        self._listeners: list[_Events] = []

    # Life cycle.

    async def start(self) -> None:
        """Launch the plugin, and wait until it serves. Idempotent.

        Launches that fail are repeated, as ends are; see `Restart`. A task that is cancelled here
        stops waiting; the plugin is started nevertheless.

        Raises: as `pygo_plugin.Supervisor.start`.
        """
        await self._request(self._policy.start_requested)

    async def restart(self) -> None:
        """Kill the plugin if it runs, start it with a new budget, and wait until it serves.

        Calls under way fail. After a `PluginFailedError` this is what starts the plugin again.

        Raises: as `start`.
        """
        await self._request(self._policy.restart_requested)

    async def reload(self, cmd: Cmd | StrPath | Sequence[StrPath] | None = None) -> None:
        """Replace the process without interruption. See `pygo_plugin.Supervisor.reload`.

        Raises: as `pygo_plugin.Supervisor.reload`.
        """
        command = self._settings.command(cmd)
        await self._request(self._policy.reload_requested, command)
        if command is not None and self._settings.watch is True:
            self._watch(command)

    async def close(self) -> None:
        """End the plugin for good, as `aio.Client.kill` does. Idempotent.

        The plugin is killed even if the task that awaits this is cancelled. When this returns,
        `on_event` has been called with all events, unless that is what awaits it. In a forked child
        this does nothing: the plugin is the parent's.
        """
        if self._forked:
            return
        self._choose_loop()
        self._feed(self._policy.close_requested)
        task = asyncio.current_task()

        def closed() -> bool:
            return self._ended and (not self._delivers or self._deliverer is task)

        await self._wait(closed, None)

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

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
        async def dispense(self: Supervisor[object], name: str) -> Any: ...
        @overload
        async def dispense(
            self: Supervisor[tuple[Channel, object]], name: str
        ) -> tuple[Channel, Any]: ...
        @overload
        async def dispense(self, name: PluginBase[Any, P]) -> P: ...
        @overload
        async def dispense(self, name: str) -> C: ...

    async def dispense(self, name: str | PluginBase[Any, Any]) -> Any:
        """What the plugin `name` offers: by default `(channel, stub)`. Starts the plugin if needed.

        Raises: as `pygo_plugin.Supervisor.dispense`.
        """
        await self.start()
        current = await self._wait_current(None)
        return dispense(route_of(self, True), current.client, name)

    # What is known.

    async def wait_for(self, state: State | str, timeout: float | None = None) -> bool:
        """Wait until the plugin is in this state, or has been in it since the call.

        Returns: False if it was not within `timeout` seconds.
        Raises: ClosedError if the supervisor is closed meanwhile; ForkedError in a forked child.
        """
        wanted = state_of(state)
        if timeout is not None:
            checks.seconds("Supervisor.wait_for: timeout", timeout)
        self._refuse_fork()
        deadline = None if timeout is None else now() + timeout
        seen = False

        def condition() -> bool:
            nonlocal seen
            seen = seen or self._policy.state is wanted
            return seen or self._ended

        await self._wait(condition, deadline)
        if not seen and self._ended:
            raise ClosedError(f"{self.name}: its supervisor has been closed")
        return seen

    def events(self) -> AsyncIterator[Event]:
        """All events from now on, in their order. It ends when the supervisor is closed.

        Several are independent of one another. Only for the loop of the supervisor.
        """
        return _Events(self._listeners, self._ended)

    def __repr__(self) -> str:
        return self._describe("pygo_plugin.aio.Supervisor")

    __reduce_ex__ = checks.refuse_copy

    # Waiting.

    def _choose_loop(self) -> None:
        """Belong to the running loop, unless to another one already."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.get_ident()

    async def _request(self, event: Callable[..., Any], *arguments: Any) -> None:
        """Give the policy a request, and wait until it is answered."""
        self._prepare()
        self._choose_loop()
        request: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._feed(event, *arguments, request, now())
        try:
            await request
        finally:
            del request  # the traceback of its exception keeps this frame

    async def _wait_current(self, deadline: float | None) -> Incarnation:
        """The incarnation that takes calls, as soon as there is one.

        `deadline` is a time of `time.monotonic`.

        Raises: TimeoutError; PluginFailedError if the plugin is given up; ClosedError before the
        start and after `close()`; ForkedError in a forked child.
        """
        while True:
            found = self._usable()
            if found is not None:
                return found
            if not await self._wait(self._has_news, deadline):
                raise TimeoutError(self._why_absent())

    async def _wait(self, condition: Callable[[], bool], deadline: float | None) -> bool:
        """Wait until the condition holds after an event. It must not raise."""
        if condition():
            return True
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        waiter = (condition, future)
        self._waiters.add(waiter)
        timer = None
        if deadline is not None:
            timer = loop.call_later(max(0.0, deadline - now()), _set, future)
        try:
            if not condition():  # on another thread, an event may have come before the waiter
                await future
            return condition()
        finally:
            self._waiters.discard(waiter)
            if timer is not None:
                timer.cancel()

    # What takes time: see Supervised.

    def _pump(self) -> None:
        loop = self._loop
        if loop is None or threading.get_ident() == self._thread:
            self._handle_all()
        elif not loop.is_closed():
            loop.call_soon_threadsafe(self._handle_all)

    def _begin(self, coroutine: Coroutine[Any, Any, None]) -> None:
        assert self._loop is not None
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _launch(self, number: int, cmd: Any) -> None:
        self._busy.add(("launch", number))
        self._begin(self._launch_now(number, cmd))

    async def _launch_now(self, number: int, cmd: Any) -> None:
        try:
            config = self._settings.client_config(cmd, _exit_handler(self, number))
            client = Client(config, interceptors=self._settings.interceptors)
            incarnation = self._new(number, client)
            if not self._policy.wants(number):  # it was given up before this got here
                raise ClosedError(f"{self.name}: is not started any more")
            await client.start()
        except BaseException as error:
            self._busy.discard(("launch", number))
            self._not_started(number, error)
            if isinstance(error, asyncio.CancelledError):
                raise
        else:
            self._busy.discard(("launch", number))
            self._started(incarnation)

    def _ask(self, incarnation: Incarnation, timeout: float) -> None:
        self._busy.add(("ping", incarnation.number))
        self._begin(self._ask_now(incarnation, timeout))

    async def _ask_now(self, incarnation: Incarnation, timeout: float) -> None:
        problem = await incarnation.client.ping(timeout)
        self._busy.discard(("ping", incarnation.number))
        self._answered(incarnation.number, problem)

    def _end(self, incarnation: Incarnation) -> None:
        self._busy.add(("end", incarnation.number))
        self._begin(self._end_now(incarnation))

    async def _end_now(self, incarnation: Incarnation) -> None:
        try:
            await incarnation.client.kill()
            await self._find_out(incarnation, "kill")
        finally:
            self._gone(incarnation.number)

    def _call_on_exit(self, number: int, client: Any, status: int | None) -> Any:
        """Take the news that a process has ended. Returns: what `on_exit` has, perhaps to await."""
        incarnation = self._incarnations.get(number)
        if incarnation is not None:
            incarnation.close()
            self._busy.add(("exit", number))
            self._begin(self._find_out(incarnation, "exit"))
        handler = self._settings.config.on_exit
        return None if handler is None else handler(client, status)

    async def _find_out(self, incarnation: Incarnation, after: str) -> None:
        """Find out how a process has ended, and say so; done after its end, and after `_end`."""
        error = await in_thread(exit_error, self.name, incarnation.client._client)
        self._busy.discard((after, incarnation.number))
        self._exited(incarnation, error)

    def _arm(self, at: float | None) -> None:
        if at == self._armed_at:
            return
        self._armed_at = at
        if self._timer_handle is not None:
            self._timer_handle.cancel()
            self._timer_handle = None
        if at is not None and self._loop is not None:
            later = max(0.0, at - now())
            self._timer_handle = self._loop.call_later(later, _fire, weakref.ref(self))

    def _publish(self) -> None:
        self._note_end()
        for condition, future in tuple(self._waiters):
            if condition():
                _wake(future, self._loop)

    def _report(self, event: Event) -> None:
        for listener in tuple(self._listeners):
            listener.put(event)
        self._outbox.append(event)
        if not self._delivers:
            self._delivers = True
            self._begin(self._deliver())

    async def _deliver(self) -> None:
        """Call the user's function with the events that wait, one at a time and in order."""
        self._deliverer = asyncio.current_task()
        try:
            while self._outbox:
                event = self._outbox.popleft()
                report(event)
                if self._settings.on_event is not None:
                    try:
                        outcome = self._settings.on_event(event)
                        if asyncio.iscoroutine(outcome):
                            await outcome
                    except Exception as error:
                        context = {"message": f"on_event of {self!r}", "exception": error}
                        asyncio.get_running_loop().call_exception_handler(context)
        finally:
            self._delivers = False
            self._deliverer = None
            self._publish()

    def _end_events(self) -> None:
        for listener in tuple(self._listeners):
            listener.put(None)

    def _settle(self, request: asyncio.Future[None], error: PluginError | None) -> None:
        made = None if error is None else copy_of(error)
        _wake(request, self._loop, made)

    # The end of the process, and forks.

    def _exit(self) -> None:
        """Close at the interpreter's exit, which kills all plugins by itself."""
        self._policy.close_requested()
        self._current = None

    def _leave_behind(self) -> None:
        super()._leave_behind()
        self._outbox.clear()
        self._waiters.clear()
        self._tasks.clear()


def _set(future: asyncio.Future[None], error: BaseException | None = None) -> None:
    if not future.done():
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


def _wake(
    future: asyncio.Future[None],
    own: asyncio.AbstractEventLoop | None,
    error: BaseException | None = None,
) -> None:
    """Set a future, which may be of another loop than the supervisor's own."""
    loop = future.get_loop()
    if loop is own:
        _set(future, error)
    elif not loop.is_closed():
        loop.call_soon_threadsafe(_set, future, error)


def _fire(owner: weakref.ref[Supervisor]) -> None:
    supervisor = owner()
    if supervisor is not None:
        supervisor._armed_at = None
        supervisor._timer()


def _exit_handler(owner: Supervisor, number: int) -> Callable[[Any, int | None], Any]:
    """`on_exit` of a client, which does not keep the supervisor alive."""
    found = weakref.ref(owner)

    def exited(client: Any, status: int | None) -> Any:
        supervisor = found()
        return None if supervisor is None else supervisor._call_on_exit(number, client, status)

    return exited


class _Events:
    """An async iterator over the events of one supervisor, until it is closed."""

    def __init__(self, listeners: list[_Events], closed: bool) -> None:
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._listeners = listeners
        self._over = False
        listeners.append(self)
        if closed:
            self.put(None)

    def put(self, event: Event | None) -> None:
        self._queue.put_nowait(event)

    def __aiter__(self) -> _Events:
        return self

    async def __anext__(self) -> Event:
        event = None if self._over else await self._queue.get()
        if event is None:
            await self.aclose()
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """Take no more events. Idempotent."""
        self._over = True
        if self in self._listeners:
            self._listeners.remove(self)
        self.put(None)  # for another task that waits
