"""Pools whose methods block: several processes of one plugin, which share its calls."""

from __future__ import annotations

import threading

from pygo_plugin._base import checks
from pygo_plugin._base.core import _core
from pygo_plugin._supervise.channel import Facade, RoutedChannel
from pygo_plugin._supervise.dispense import dispense
from pygo_plugin._supervise.group import Group, LentRoute, Sizes
from pygo_plugin._supervise.map import Map, method_of
from pygo_plugin._supervise.options import Settings
from pygo_plugin._supervise.route import now
from pygo_plugin._supervise.supervised import copy_of
from pygo_plugin._supervise.supervisor import Supervisor, _Events, _Request
from pygo_plugin.errors import ClosedError

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

        with Pool(["./plugin"], handshake_config=HANDSHAKE, plugins=PLUGINS, size=4) as pool:
            channel, kv = pool.dispense("kv")
            kv.Get(GetRequest(key="k"))  # by the process with the fewest calls under way

    Takes what `Supervisor` takes: each process is supervised on its own. Every method may be called
    on any thread.
    """

    def __init__(
        self,
        cmd: ClientConfig[C, Any] | Cmd | StrPath | Sequence[StrPath] | None = None,
        *,
        # Keywords, written by scripts/options.py from POOLED, with PluginBase[C, Any]:
        size: int | None = None,
        min_size: int | None = None,
        max_size: int | None = None,
        idle_timeout: float | None = None,
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
        self._group = _Group(Settings("Pool", cmd, keywords), Sizes(keywords))

    # Life cycle.

    def start(self) -> None:
        """Launch the processes, all at the same time, and wait for them. Idempotent.

        Raises: PluginFailedError if all of them are given up; ClosedError after `close()`;
        ForkedError in a forked child.
        """
        group = self._group
        members = group.begin()
        group.ask(members, "start_requested")

    def restart(self) -> None:
        """Start the processes again that were given up, with new budgets. Waits for them.

        Raises: as `start`.
        """
        self._group.ask(self._group.begin(given_up=True), "restart_requested")

    def close(self) -> None:
        """End all processes, at the same time, as `Client.kill` does. Idempotent.

        Raises: nothing. In a forked child it does nothing: the plugins are the parent's.
        """
        self._group.shut()

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

    # Use.

    if TYPE_CHECKING:
        # mypy joins the types of different plugins to "object", which would refuse every use.
        @overload
        def dispense(self: Pool[object], name: str) -> Any: ...
        @overload
        def dispense(self: Pool[tuple[Channel, object]], name: str) -> tuple[Channel, Any]: ...
        @overload
        def dispense(self, name: PluginBase[P, Any]) -> P: ...
        @overload
        def dispense(self, name: str) -> C: ...

    def dispense(self, name: str | PluginBase[Any, Any]) -> Any:
        """What the plugin `name` offers: by default `(channel, stub)`. Starts the pool if needed.

        Each call goes to the process with the fewest calls under way.

        Raises: ConfigError (a ValueError) for an unknown name or plugin; what `start()` raises.
        """
        self.start()
        group = self._group
        incarnation = group.take_later(None)
        try:
            return dispense(group, incarnation.client, name)
        finally:
            group.leave(incarnation)

    def member(self, timeout: float | None = None) -> _Lending:
        """Lends one process, which gets no other calls meanwhile.

        `with pool.member() as client:` gives an object with the `dispense`, `new_channel` and
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
        requests: Iterable[Any],
        *,
        ordered: bool = True,
        lookahead: int | None = None,
        timeout: float | None = None,
    ) -> Map:
        """Call a method for each request. Returns: an iterator over the replies.

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
        found = method_of(self.dispense(name), str(name), method)
        return Map(found, requests, ordered, lookahead, timeout)

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

    def events(self) -> Iterator[Event]:
        """The events of all processes from now on; `name` says which one each is about.

        It ends when the pool is closed. Closing it, or dropping it, ends it earlier.
        """
        return _Events(self._group.listeners, self._group.closed)

    def __repr__(self) -> str:
        return self._group.describe("pygo_plugin.Pool")

    __reduce_ex__ = checks.refuse_copy


class _Group(Group):
    """The members of one pool, and those who wait for them."""

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        self._changed = threading.Condition()

    def _make(self, settings: Settings) -> _Member:
        return _Member(settings, self)

    def ask(self, members: Sequence[Any], event: str) -> None:
        """Give each member a request, and wait for the answers.

        Raises: the first error if it has come from all of them.
        """
        requests = [member._ask_for(event) for member in members]
        for member, request in zip(members, requests):
            member._wait(lambda request=request: request.done, None)
        errors = [request.error for request in requests if request.error is not None]
        if errors and len(errors) == len(members):
            raise copy_of(errors[0])

    def shut(self) -> None:
        """Close the pool, and wait until its processes have ended."""
        if self.forked:
            return
        self.close()
        for member in tuple(self.members):
            member.close()
        self.end_events()

    def take_later(self, deadline: float | None) -> Incarnation:
        while True:
            found = self.take()
            if found is not None:
                return found
            reason = self.refuse()
            if not self.wait(self.has_news, deadline):
                raise TimeoutError(reason)

    def wait(self, condition: Callable[[], bool], deadline: float | None) -> bool:
        """Wait until the condition holds. Returns: False if it does not until then."""
        return bool(_core.call_blocking(self._wait, condition, deadline))

    def _wait(self, condition: Callable[[], bool], deadline: float | None) -> bool:
        with self._changed:
            timeout = None if deadline is None else max(0.0, deadline - now())
            return self._changed.wait_for(condition, timeout)

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _leave_behind(self) -> None:
        super()._leave_behind()
        self._changed = threading.Condition()


class _Member(Supervisor):
    """A supervisor that tells its pool what happens."""

    def __init__(self, settings: Settings, group: _Group) -> None:
        self._group = group
        self._set_up(settings)

    def _ask_for(self, event: str) -> _Request:
        """Give the policy a request without waiting for the answer."""
        self._prepare()
        request = _Request()
        self._feed(getattr(self._policy, event), request, now())
        return request

    def _start_soon(self) -> None:
        self._ask_for("start_requested")

    def _publish(self) -> None:
        super()._publish()
        self._group.changed(self)

    def _report(self, event: Event) -> None:
        super()._report(event)
        for listener in tuple(self._group.listeners):
            listener.put(event)


class Member(Facade):
    """One process of a pool, lent to one user: it has what a client has."""

    def __init__(self, supervisor: _Member) -> None:
        super().__init__(LentRoute(supervisor, False), RoutedChannel)
        self._supervisor = supervisor

    def dispense(self, name: str | PluginBase[Any, Any]) -> Any:
        """What the plugin `name` offers, of this process. Raises: as `Pool.dispense`."""
        route = self._route
        incarnation = route.take() or route.take_later(None)
        try:
            return dispense(route, incarnation.client, name)
        finally:
            route.leave(incarnation)

    def restart(self) -> None:
        """Kill the process, start another one in its place, and wait until it serves."""
        self._route.refuse()
        self._supervisor.restart()

    def __repr__(self) -> str:
        return f"<member {self._route.name!r} of a pool>"


class _Lending:
    """`with pool.member() as client:`."""

    def __init__(self, pool: Pool[Any], timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self._lent: Member | None = None

    def __enter__(self) -> Member:
        if self._lent is not None:
            raise ClosedError(f"{self._pool.name}: this member is lent already")
        deadline = None if self._timeout is None else now() + self._timeout
        self._pool.start()
        group = self._pool._group
        wanted: list[Any] = []
        found = False
        try:
            while not wanted:
                if not group.wait(lambda: group.borrow(wanted), deadline):
                    raise TimeoutError(group.refuse())
                if not wanted:
                    group.refuse()
            found = True
        finally:
            if wanted and not found:
                group.give_back(wanted[0].member)
        self._lent = Member(wanted[0].member)
        return self._lent

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        lent, self._lent = self._lent, None
        if lent is not None:
            lent._route.returned = True
            self._pool._group.give_back(lent._supervisor)
