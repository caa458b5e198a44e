"""The host's side for asyncio: a Client whose methods that wait are coroutines."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pygo_plugin import client as _client
from pygo_plugin._base.aio_loops import checkpoint
from pygo_plugin._base.aio_threads import in_thread
from pygo_plugin._base.checks import fill, refuse_copy
from pygo_plugin._grpc.aio_channel import Channel
from pygo_plugin._host.options import AIO_OPTIONS, given
from pygo_plugin.errors import ClosedError, _importing, _needing

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Generic, overload

    from typing_extensions import Self, TypeVar

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


class Client(_Parametrized["C"]):
    """One plugin process, from its launch to its end.

        async with aio.Client(["./plugin"], handshake_config=HANDSHAKE, plugins=PLUGINS) as client:
            channel, kv = await client.dispense("kv")
            reply = await kv.Get(request)

    Takes what `pygo_plugin.Client` takes, and `interceptors` of grpc.aio's kinds for the calls of
    its channels, the first one outermost. `on_exit` may be a coroutine function, and runs on the
    loop of the first start. Apart from that the client belongs to no loop: several may use it.
    """

    _interceptors: tuple[Any, ...]

    def __init__(
        self,
        cmd: ClientConfig[Any, C] | Cmd | StrPath | Sequence[StrPath] | None = None,
        *,
        # Keywords, written by scripts/options.py from AIO_KEYWORDS, with PluginBase[Any, C]:
        plugins: Mapping[str, PluginBase[Any, C]] | None = None,
        versioned_plugins: Mapping[int, Mapping[str, PluginBase[Any, C]]] | None = None,
        handshake_config: HandshakeConfig | None = None,
        env: Mapping[str, StrPath] | Sequence[str] | None = None,
        cwd: StrPath | None = None,
        name: str | None = None,
        reattach_config: ReattachConfig | None = None,
        runner: Runner | None = None,
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
    ) -> None:
        """Raises: ConfigError (a ValueError) if an option has a wrong value."""
        options = locals()
        fill(self, AIO_OPTIONS, options)
        self._client = _BlockingClient(self, cmd, given(options))
        self._loop: asyncio.AbstractEventLoop | None = None  # of the first start
        self._exit_task: asyncio.Future[Any] | None = None  # of an `on_exit` that is a coroutine
        self._channel: Channel | None = None

    # Life cycle.

    async def start(self) -> _client.Address:
        """Launch the plugin, or connect to the running one, and wait for its handshake.

        Idempotent. If the task that awaits it is cancelled, the plugin is killed.

        Raises: as `pygo_plugin.Client.start`.
        """
        if self._client.conn_endpoint():
            await checkpoint()
            return self._client.start()
        self._choose_loop()
        starting = asyncio.ensure_future(in_thread(self._client.start))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(_ignore_exception)  # needed if this is cancelled again
            await self.kill()
            # The start now fails at once, unless a runner's start() does not return.
            await asyncio.wait((starting,), timeout=1)
            raise
        finally:
            del starting  # else it and this frame, which the traceback holds, form a cycle

    async def kill(self) -> None:
        """End the plugin: ask it to shut down, wait up to `kill_timeout`, then kill it.

        Idempotent. The plugin is killed even if the task that awaits this is cancelled.
        """
        await in_thread(self._client.kill)

    def exited(self) -> bool:
        """Whether the plugin's process has ended, or `kill()` has been called."""
        return self._client.exited()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.kill()

    def _share_template(self) -> Any:
        return self._client._share_template()

    def _choose_loop(self) -> None:
        """Have `on_exit` run on this loop, if no other loop has started the plugin before."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()

    def _run_on_exit(self, handler: Callable[..., Any], status: int | None) -> None:
        """Call `on_exit` on this loop."""
        outcome = handler(self, status)
        if asyncio.iscoroutine(outcome):
            self._exit_task = asyncio.ensure_future(outcome)

    # Use.

    if TYPE_CHECKING:
        # mypy joins the types of different plugins to "object", which would refuse every use.
        @overload
        async def dispense(self: Client[object], name: str) -> Any: ...
        @overload
        async def dispense(
            self: Client[tuple[Channel, object]], name: str
        ) -> tuple[Channel, Any]: ...
        @overload
        async def dispense(self, name: PluginBase[Any, P]) -> P: ...
        @overload
        async def dispense(self, name: str) -> C: ...

    async def dispense(self, name: str | PluginBase[Any, Any]) -> Any:
        """What the plugin `name` offers: by default `(channel, stub)`. Starts the plugin if needed.

        Instead of the name it takes the plugin itself, as `pygo_plugin.Client.dispense` does.

        The plugin's `client()` gets this client, whose `new_channel()` gives channels of asyncio.
        With net/rpc it gets a broker and a client of `netrpc.aio`.

        Raises: as `pygo_plugin.Client.dispense`.
        """
        self._client._check_plugin(name)
        await self.start()
        name, plugin = self._client._named_plugin(name)
        if plugin._protocol == "grpc":
            with _needing(f"{self.name}: the plugin {name!r}"):  # it may import generated stubs
                return plugin.client(self)
        from pygo_plugin._netrpc.aio import Client as RpcClient

        core = await in_thread(self._client._dispense, name, None)
        rpc_client = RpcClient(core, self._client._explainer())
        return plugin.client(self.broker, rpc_client)

    async def ping(self, timeout: float = _client.PING_TIMEOUT) -> str:
        """Ask the plugin's health service. Starts the plugin if needed.

        Returns and raises: as `pygo_plugin.Client.ping`. `timeout` is in seconds.
        """
        self._choose_loop()
        return await in_thread(self._client.ping, timeout)

    def new_channel(self) -> Channel:
        """A new channel on the plugin's connection, which the caller has to close.

        Raises: ClosedError before the start and after `kill()`; ConfigError if the plugin speaks
        net/rpc, which has no channels.
        """
        if not self._client.conn_endpoint():
            raise ClosedError(f"{self.name}: has not been started, so there is no channel")
        return Channel(self._client.new_channel(), self._interceptors)

    @property
    def channel(self) -> Channel:
        """The client's own channel, always the same.

        Raises: as `new_channel`.
        """
        channel = self._client.channel
        if self._channel is None:
            self._channel = Channel(channel, self._interceptors)
        return self._channel

    @property
    def broker(self) -> Any:
        """Makes further connections to the plugin, in either direction.

        An `aio.Broker`, see docs/broker.md; with net/rpc a `netrpc.aio.MuxBroker`, see
        docs/netrpc.md.

        Raises: ClosedError before the start and after `kill()`.
        """
        return self._client.broker  # of _BlockingClient's class

    # What is known once it has started.

    @property
    def name(self) -> str:
        """What messages and the log call the plugin. See `pygo_plugin.Client.name`."""
        return self._client.name

    @property
    def id(self) -> str:
        """The process id of the plugin, or what its runner calls it; "" before the start."""
        return self._client.id

    @property
    def pid(self) -> int:
        """The process id; -1 before the start, or if it is unknown."""
        return self._client.pid

    @property
    def exit_status(self) -> int | None:
        """None before the process has ended; then as in `subprocess`, -N for signal N."""
        return self._client.exit_status

    @property
    def protocol(self) -> str:
        """The protocol that the plugin speaks, "grpc" or "netrpc"; "" before the start."""
        return self._client.protocol

    @property
    def negotiated_version(self) -> int:
        """The application protocol version that both sides speak; 0 before the start."""
        return self._client.negotiated_version

    def conn_endpoint(self) -> str:
        """The plugin's gRPC target: "unix:/path" or "host:port"; "" before the start."""
        return self._client.conn_endpoint()

    def reattach_config(self) -> ReattachConfig:
        """What another client needs to connect to this plugin; not `valid` before the start."""
        return self._client.reattach_config()

    def __repr__(self) -> str:
        return repr(self._client).replace("pygo_plugin.Client", "pygo_plugin.aio.Client", 1)

    __reduce_ex__ = refuse_copy


class _BlockingClient(_client.Client):
    """The client whose blocking methods an aio.Client runs on threads.

    Callbacks and plugins get the aio.Client instead of this one.
    """

    def __init__(self, owner: Client, cmd: Any, options: dict[str, Any]) -> None:
        super().__init__(cmd, **options)
        self._owner = weakref.ref(owner)

    def _user_client(self) -> Client | None:
        return self._owner()

    def _call_on_exit(self, status: int | None) -> None:
        client, handler = self._owner(), self._config.on_exit
        if client is not None and client._loop is not None and handler is not None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                client._loop.call_soon_threadsafe(client._run_on_exit, handler, status)

    def _broker_class(self) -> Any:
        with _importing("pygo_plugin._grpc.aio_broker"):
            from pygo_plugin._grpc.aio_broker import Broker

        return Broker

    def _mux_broker_class(self) -> Any:
        with _importing("pygo_plugin._netrpc.aio_mux_broker"):
            from pygo_plugin._netrpc.aio_mux_broker import MuxBroker

        return MuxBroker


def _ignore_exception(task: asyncio.Future[Any]) -> None:
    """Ignore that the start of a plugin that has been killed fails."""
    if not task.cancelled():
        task.exception()
