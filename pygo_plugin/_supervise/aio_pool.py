"""Pools of asyncio: several processes of one plugin, which share its calls."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pygo_plugin._base import checks
from pygo_plugin._base.aio_loops import checkpoint
from pygo_plugin._base.core import _core
from pygo_plugin._supervise.aio_channel import RoutedChannel
from pygo_plugin._supervise.aio_supervisor import Supervisor, _Events, _set, _wake
from pygo_plugin._supervise.channel import Facade
from pygo_plugin._supervise.dispense import dispense
from pygo_plugin._supervise.group import Group, LentRoute, Sizes
from pygo_plugin._supervise.map import method_of
from pygo_plugin._supervise.options import Settings
from pygo_plugin._supervise.route import now
from pygo_plugin.errors import ClosedError

if TYPE_CHECKING:
    import logging
    from collections.abc import (
        AsyncIterable,
        AsyncIterator,
        Callable,
        Iterable,
        Mapping,
        Sequence,
    )
    from typing import Generic, Literal, overload

    from typing_extensions import Self, TypeVar

    from pygo_plugin._grpc.aio_channel import Channel
    from pygo_plugin._supervise.events import Event
    from pygo_plugin._supervise.incarnation import Incarnation
    from pygo_plugin._supervise.options import Health, Idempotent, Restart
    from pygo_plugin._supervise.policy import State
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

__all__ = ["Member", "Pool"]


class Pool(_Parametrized["C"]):
    """Several processes of one plugin, which share its calls.

        async with aio.Pool(["./plugin"], handshake_config=HANDSHAKE, plugins=PLUGINS) as pool:
            channel, kv = await pool.dispense("kv")
            await kv.Get(GetRequest(key="k"))  # by the process with the fewest calls under way

    Takes what `aio.Supervisor` takes, and the sizes of `pygo_plugin.Pool`. It belongs to the loop
    of its first start, as its supervisors do. Calls may come from other loops, too.
    """

    def __init__(
        self,
        cmd: ClientConfig[Any, C] | Cmd | StrPath | Sequence[StrPath] | None = None,
        *,
        # Keywords, written by scripts/options.py from AIO_POOLED, with PluginBase[Any, C]:
        size: int | None = None,
        min_size: int | None = None,
        max_size: int | None = None,
        idle_timeout: float | None = None,
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
        self._group = _Group(Settings("Pool", cmd, keywords), Sizes(keywords))

    # Life cycle.

    async def start(self) -> None:
        """Launch the processes, all at the same time, and wait for them. Idempotent.

        Raises: PluginFailedError if all of them are given up; ClosedError after `close()`;
        ForkedError in a forked child.
        """
        group = self._group
        members = group.begin()
        await group.ask(members, "start_requested")

    async def restart(self) -> None:
        """Start the processes again that were given up, with new budgets. Waits for them.

        Raises: as `start`.
        """
        await self._group.ask(self._group.begin(given_up=True), "restart_requested")

    async def close(self) -> None:
        """End all processes, at the same time, as `Client.kill` does. Idempotent.

        Raises: nothing. In a forked child it does nothing: the plugins are the parent's.
        """
        await self._group.shut()

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

    # Use.

    if TYPE_CHECKING:
        # mypy joins the types of different plugins to "object", which would refuse every use.
        @overload
        async def dispense(self: Pool[object], name: str) -> Any: ...
        @overload
        async def dispense(
            self: Pool[tuple[Channel, object]], name: str
        ) -> tuple[Channel, Any]: ...
        @overload
        async def dispense(self, name: PluginBase[Any, P]) -> P: ...
        @overload
        async def dispense(self, name: str) -> C: ...

    async def dispense(self, name: str | PluginBase[Any, Any]) -> Any:
        """What the plugin `name` offers: by default `(channel, stub)`. Starts the pool if needed.

        Each call goes to the process with the fewest calls under way.

        Raises: ConfigError (a ValueError) for an unknown name or plugin; what `start()` raises.
        """
        await self.start()
        group = self._group
        incarnation = await group.take_later(None)
        try:
            return dispense(group, incarnation.client, name)
        finally:
            group.leave(incarnation)

    def member(self, timeout: float | None = None) -> _Lending:
        """Lends one process, which gets no other calls meanwhile.

        `async with pool.member() as client:` gives an object with the `dispense`, `new_channel` and
        `broker` of a client, for that process alone. If it ends, the next one is lent in its place.
        `timeout` is how many seconds are spent waiting until one is free; None: no limit.

        Raises: TimeoutError; what `start()` raises.
        """
        _core.check_timeout(timeout)
        return _Lending(self, timeout)

    def map(
        self,
        name: str | PluginBase[Any, Any],
        method: str,
        requests: AsyncIterable[Any] | Iterable[Any],
        *,
        ordered: bool = True,
        lookahead: int | None = None,
        timeout: float | None = None,
    ) -> Map:
        """Call a method for each request. Returns: an async iterator over the replies.

        ordered    in the order of the requests; False: as they come
        lookahead  how many calls are under way, or have replies that wait, at most; by default two
                   for each process that there may be
        timeout    seconds for each call

        Requests are taken as replies are. The first call that fails ends the iteration with its
        error. The others are cancelled, as they are when the iterator is closed or dropped.

        Raises: as `dispense`; ConfigError if there is no such method.
        """
        if lookahead is None:
            lookahead = 2 * self._group.sizes.most
        checks.positive("Pool.map: lookahead", lookahead)
        _core.check_timeout(timeout)
        return Map(self, name, method, requests, ordered, lookahead, timeout)

    # What is known.

    @property
    def name(self) -> str:
        """What messages call the plugin. See `Client.name`."""
        return self._group.name

    @property
    def state(self) -> State:
        """A `supervise.State`: HEALTHY if a process is, FAILED if all of them were given up."""
        return self._group.state()

    @property
    def size(self) -> int:
        """How many processes there are, or are being started."""
        return self._group.size()

    @property
    def pids(self) -> list[int]:
        """The ids of the processes that take calls."""
        return self._group.pids()

    def events(self) -> AsyncIterator[Event]:
        """The events of all processes from now on; `name` says which one each is about.

        It ends when the pool is closed. Closing it, or dropping it, ends it earlier.
        """
        return _Events(self._group.listeners, self._group.closed)

    def __repr__(self) -> str:
        return self._group.describe("pygo_plugin.aio.Pool")

    __reduce_ex__ = checks.refuse_copy


class _Group(Group):
    """The members of one pool, and those who wait for them, on any loop."""

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        self._loop: asyncio.AbstractEventLoop | None = None  # of the first start
        self._thread = 0
        self._waiters: set[asyncio.Future[None]] = set()

    def _make(self, settings: Settings) -> _Member:
        return _Member(settings, self)

    async def ask(self, members: Sequence[Any], event: str) -> None:
        """Give each member a request, and wait for the answers.

        Raises: the first error if it has come from all of them.
        """
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.get_ident()
        if not members:
            await checkpoint()
            return
        asked = [member._ask_for(event) for member in members]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        errors = [answer for answer in answers if answer is not None]
        if errors and len(errors) == len(members):
            raise errors[0]

    async def shut(self) -> None:
        """Close the pool, and wait until its processes have ended."""
        if self.forked:
            return
        self.close()
        closing = [member.close() for member in tuple(self.members)]
        await (asyncio.gather(*closing) if closing else checkpoint())
        self.end_events()

    async def take_later(self, deadline: float | None) -> Incarnation:
        while True:
            found = self.take()
            if found is not None:
                return found
            reason = self.refuse()
            if not await self.wait(self.has_news, deadline):
                raise TimeoutError(reason)

    async def wait(self, condition: Callable[[], bool], deadline: float | None) -> bool:
        """Wait until the condition holds. Returns: False if it does not until then."""
        loop = asyncio.get_running_loop()
        while not condition():
            future: asyncio.Future[None] = loop.create_future()
            self._waiters.add(future)
            timer = None
            if deadline is not None:
                timer = loop.call_later(max(0.0, deadline - now()), _set, future)
            try:
                if not condition():  # on another thread, news may have come before the waiter
                    await future
            finally:
                self._waiters.discard(future)
                if timer is not None:
                    timer.cancel()
            if deadline is not None and now() >= deadline:
                return condition()
        return True

    def _notify(self) -> None:
        here = self._loop if threading.get_ident() == self._thread else None
        for future in tuple(self._waiters):
            _wake(future, here)

    def _leave_behind(self) -> None:
        super()._leave_behind()
        self._waiters.clear()


class _Member(Supervisor):
    """A supervisor that tells its pool what happens."""

    def __init__(self, settings: Settings, group: _Group) -> None:
        self._group = group
        self._set_up(settings)

    def _ask_for(self, event: str) -> asyncio.Future[None]:
        """Give the policy a request. Returns: a future of the answer."""
        self._prepare()
        self._loop, self._thread = self._group._loop, self._group._thread
        assert self._loop is not None
        request: asyncio.Future[None] = self._loop.create_future()
        self._feed(getattr(self._policy, event), request, now())
        return request

    def _start_soon(self) -> None:
        loop = self._group._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._start_now)

    def _start_now(self) -> None:
        self._ask_for("start_requested").add_done_callback(_ignore)

    def _publish(self) -> None:
        super()._publish()
        self._group.changed(self)

    def _report(self, event: Event) -> None:
        super()._report(event)
        for listener in tuple(self._group.listeners):
            listener.put(event)


def _ignore(request: asyncio.Future[None]) -> None:
    """Ignore that a process was given up that nobody waits for."""
    if not request.cancelled():
        request.exception()


class Member(Facade):
    """One process of a pool, lent to one user: it has what a client has."""

    def __init__(self, supervisor: _Member) -> None:
        super().__init__(LentRoute(supervisor, True), RoutedChannel)
        self._supervisor = supervisor

    async def dispense(self, name: str | PluginBase[Any, Any]) -> Any:
        """What the plugin `name` offers, of this process. Raises: as `Pool.dispense`."""
        route = self._route
        incarnation = await route.take_later(None)
        try:
            return dispense(route, incarnation.client, name)
        finally:
            route.leave(incarnation)

    async def restart(self) -> None:
        """Kill the process, start another one in its place, and wait until it serves."""
        self._route.refuse()
        await self._supervisor.restart()

    def __repr__(self) -> str:
        return f"<member {self._route.name!r} of a pool>"


class _Lending:
    """`async with pool.member() as client:`."""

    def __init__(self, pool: Pool[Any], timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self._lent: Member | None = None

    async def __aenter__(self) -> Member:
        if self._lent is not None:
            raise ClosedError(f"{self._pool.name}: this member is lent already")
        deadline = None if self._timeout is None else now() + self._timeout
        await self._pool.start()
        group = self._pool._group
        wanted: list[Any] = []
        found = False
        try:
            while not wanted:
                if not await group.wait(lambda: group.borrow(wanted), deadline):
                    raise TimeoutError(group.refuse())
                if not wanted:
                    group.refuse()
            found = True
        finally:
            if wanted and not found:
                group.give_back(wanted[0].member)
        self._lent = Member(wanted[0].member)
        return self._lent

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        lent, self._lent = self._lent, None
        if lent is not None:
            lent._route.returned = True
            self._pool._group.give_back(lent._supervisor)
        await checkpoint()


class Map:
    """An async iterator over the results of many calls, with bounded look-ahead."""

    def __init__(
        self,
        pool: Pool[Any],
        name: Any,
        method: str,
        requests: AsyncIterable[Any] | Iterable[Any],
        ordered: bool,
        lookahead: int,
        timeout: float | None,
    ) -> None:
        self._pool = pool
        self._name = name
        self._method = method
        self._function: Any = None
        self._requests: Any = requests
        self._ordered = ordered
        self._lookahead = lookahead
        self._timeout = timeout
        self._calls: deque[asyncio.Task[Any]] = deque()

    def __aiter__(self) -> Map:
        return self

    async def __anext__(self) -> Any:
        try:
            if self._function is None:
                dispensed = await self._pool.dispense(self._name)
                self._function = method_of(dispensed, str(self._name), self._method)
                self._requests = _iterate(self._requests)
            while self._requests is not None and len(self._calls) < self._lookahead:
                async for request in self._requests:
                    self._calls.append(asyncio.ensure_future(self._call(request)))
                    break
                else:
                    self._requests = None
            if not self._calls:
                raise StopAsyncIteration
            if self._ordered:
                call = self._calls.popleft()
            else:
                done, _ = await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)
                call = next(iter(done))
                self._calls.remove(call)
            try:
                return await call
            finally:
                del call  # with a failure, the traceback has this frame
        except BaseException:
            self._cancel()
            raise

    async def _call(self, request: Any) -> Any:
        return await self._function(request, timeout=self._timeout)

    def _cancel(self) -> None:
        self._requests = None
        self._function = self._function or _ended
        calls, self._calls = self._calls, deque()
        for call in calls:
            call.cancel()

    async def aclose(self) -> None:
        """Cancel the calls that are under way, and end the iteration. Idempotent."""
        calls = list(self._calls)
        self._cancel()
        await (asyncio.wait(calls) if calls else checkpoint())

    def __del__(self) -> None:
        for call in self.__dict__.get("_calls", ()):
            if not call.get_loop().is_closed():
                call.cancel()


def _ended(*_: Any, **__: Any) -> Any:
    """Stands for the function of an iteration that was closed before it began."""


async def _iterate(requests: Any) -> AsyncIterator[Any]:
    if hasattr(requests, "__aiter__"):
        async for request in requests:
            yield request
    else:
        for request in requests:
            yield request
