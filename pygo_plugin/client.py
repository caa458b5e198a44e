"""The host's side: launch a plugin, use it, end it.

The options, the environment, which plugin set is used, managed clients, and what happens to a
plugin that is never killed. See docs/launching.md and docs/lifecycle.md.
"""

from __future__ import annotations

import os
import threading
import warnings
import weakref

from pygo_plugin._base import at_exit, checks
from pygo_plugin._base.core import _core
from pygo_plugin._host.launch import (
    endpoint_to_join,
    environment_of,
    find_program,
    group_name,
    name_of,
)
from pygo_plugin._host.naming import printable, program_of
from pygo_plugin._host.options import check_all, check_target, for_core, given
from pygo_plugin._host.output import OutputMirror
from pygo_plugin._log.host import LogMirror, plugin_logger
from pygo_plugin.config import ClientConfig, HandshakeConfig, ReattachConfig, plugin_sets
from pygo_plugin.errors import (
    ClosedError,
    ConfigError,
    ConfigTypeError,
    ForkedError,
    PluginError,
    StartError,
    _importing,
    _needing,
)
from pygo_plugin.plugin import PluginBase

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Any, Generic, overload

    from typing_extensions import Self, TypeVar

    from pygo_plugin._grpc.channel import Channel
    from pygo_plugin._host.runner import Adapter
    from pygo_plugin.config import Cmd, StrPath, Writer
    from pygo_plugin.runners import Runner
    from pygo_plugin.security import SecureConfig, TLSConfig

    C = TypeVar("C", default=Any)
    """What `dispense` returns, if all plugins have this type. It is invariant: see `dispense`."""

    P = TypeVar("P")

    class _Parametrized(Generic[C]):
        pass
else:
    from pygo_plugin.plugin import Subscriptable as _Parametrized

__all__ = ["Address", "Client", "cleanup_clients"]

PING_TIMEOUT = 10.0  # seconds
DISPENSE_TIMEOUT = 60.0  # seconds, within which a plugin that speaks net/rpc makes an object

_managed: set[Client] = set()
# Reentrant, as a client's lock is: a signal handler may call kill() while its thread holds it.
_managed_lock = threading.RLock()


def _in_forked_child() -> None:
    """Forget the parent's clients, and replace the lock, which a thread of the parent may hold."""
    global _managed_lock
    _managed_lock = threading.RLock()
    _managed.clear()


os.register_at_fork(after_in_child=_in_forked_child)


class Address:
    """Where a plugin listens."""

    __slots__ = ("_network", "_string")

    def __init__(self, network: str, string: str) -> None:
        self._network = network
        self._string = string

    def network(self) -> str:
        """The kind of address: "unix" or "tcp"."""
        return self._network

    def string(self) -> str:
        """The socket's path, or "host:port"."""
        return self._string

    def __str__(self) -> str:
        return self._string

    def __repr__(self) -> str:
        return f"Address({self._network!r}, {self._string!r})"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Address):
            return (self._network, self._string) == (other._network, other._string)
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self._network, self._string))


class Client(_Parametrized["C"]):
    """One plugin process, from its launch to its end.

        with Client(["./plugin"], handshake_config=HANDSHAKE, plugins={"kv": KVPlugin()}) as client:
            channel, kv = client.dispense("kv")

    `Client(config)` takes a ClientConfig, and `Client(cmd, **options)` the options that a
    ClientConfig takes, which describes them. The constructor starts nothing. Leaving the `with`
    block kills the plugin. Every method may be called on any thread.

    In a forked child of a host whose plugins run, starting and calling raise ForkedError, and
    `kill` does nothing: the plugin is the parent's. A child of a host that has none, or has killed
    all that it had, may have plugins of its own; see docs/lifecycle.md.
    """

    def __init__(
        self,
        cmd: ClientConfig[C, Any] | Cmd | StrPath | Sequence[StrPath] | None = None,
        *,
        # Keywords, written by scripts/options.py from KEYWORDS, with PluginBase[C, Any]:
        plugins: Mapping[str, PluginBase[C, Any]] | None = None,
        versioned_plugins: Mapping[int, Mapping[str, PluginBase[C, Any]]] | None = None,
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
    ) -> None:
        """Raises: ConfigError (a ValueError) if an option has a wrong value."""
        options = given(locals())
        self._core: _core.Client | None = None
        self._killed = False
        self._starting = 0  # how many threads are in start()
        if isinstance(cmd, ClientConfig):
            extra = sorted(name for name, value in options.items() if value is not None)
            if extra:
                raise ConfigError(
                    f"Client(config, {extra[0]}=...): options next to a ClientConfig; set "
                    f"{', '.join(extra)} on the config instead"
                )
            self._config = cmd
        else:
            self._config = ClientConfig(cmd=cmd, **options)
            check_target(self._config, self.name)
        # Guards _core, _killed, _starting, _channel and _broker. Reentrant, since a signal handler
        # may call kill() while its thread holds the lock.
        self._lock = threading.RLock()
        self._adapter: Adapter | None = None  # between the runner, if there is one, and the core
        self._remove_socket_dir: Any = None  # a weakref.finalize, if there is a runner
        self._template: Any = None  # a Use, if the option is set, once it starts
        self._release_template: Any = None  # a weakref.finalize
        self._endpoint: tuple[str, str, str, str, int] | None = None  # what start() has returned
        self._channel: Channel | None = None  # made at first use, as the broker is
        self._broker: Any = None  # a BrokerBase or, with net/rpc, a MuxBrokerBase
        self._quota: _core.MemoryQuota | None = None  # for all connections

    # Life cycle.

    def start(self) -> Address:
        """Launch the plugin, or connect to the running one, and wait for its handshake.

        Idempotent: later calls, on any thread, wait for the first and share its outcome.

        Raises: ConfigError; StartError and its subclasses, and TLSError, after which the process
        has ended; ChecksumError; ReattachError; ClosedError after `kill()`; LibraryError if
        gRPC's library is missing; ForkedError in a forked child.
        """
        self._refuse_fork()
        if at_exit.ending:
            raise ClosedError(f"{self.name}: the interpreter is exiting, and starts no plugins")
        with self._lock:
            self._starting += 1
        try:
            if self._config.template and self._template is None:
                self._take_template()
            self._endpoint = _core.call_blocking(self._open().start)
        except PluginError as error:
            with _managed_lock:
                _managed.discard(self)
            if self._adapter is not None and error.__cause__ is None:
                error.__cause__, self._adapter.error = self._adapter.error, None
            if self._remove_socket_dir is not None:
                self._remove_socket_dir()
            if type(error) is StartError:
                self._hint_at_list(error)
            raise
        finally:
            with self._lock:
                self._starting -= 1
            if self._killed and self._remove_socket_dir is not None:
                self._remove_socket_dir()
            if self._killed and self._release_template is not None:
                self._release_template()
        return Address(*self._endpoint[:2])

    def kill(self) -> None:
        """End the plugin: ask it to shut down, wait up to `kill_timeout`, then kill it.

        When this returns, everything that the plugin has logged and printed has been delivered.
        Idempotent; a second caller waits for the first. A client that was killed cannot be started
        again. A plugin that was reattached to with `test` set goes on running. A runner that is
        about to start the plugin gets 5 s to do so; a plugin that it starts later is killed then.
        """
        if _core.forked():
            return
        self._refuse_start()
        core = self._core
        try:
            if core is not None:
                _core.call_blocking(core.kill)
        finally:
            with _managed_lock:
                _managed.discard(self)
            if self._release_template is not None:
                self._release_template()
            # If a runner is still about to start the plugin, start() removes the directory.
            if self._remove_socket_dir is not None and not self._starting:
                self._remove_socket_dir()

    def exited(self) -> bool:
        """Whether the plugin's process has ended, or `kill()` has been called. Never blocks."""
        return self._killed or (self._core is not None and self._core.exited())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    def __del__(self, _warn: Any = warnings.warn, _forked: Any = _core.forked) -> None:
        # The program that starts a process has to end it, as with subprocess. The core kills it
        # right after this.
        core = getattr(self, "_core", None)
        if core is None or self._killed or self._endpoint is None or self._config.detach:
            return
        if _forked() or core.exited():
            return
        _warn(f"{self!r} was never killed", ResourceWarning, stacklevel=2, source=self)

    # Use.

    if TYPE_CHECKING:
        # mypy joins the types of different plugins to "object", which would refuse every use.
        @overload
        def dispense(self: Client[object], name: str) -> Any: ...
        @overload
        def dispense(self: Client[tuple[Channel, object]], name: str) -> tuple[Channel, Any]: ...
        @overload
        def dispense(self, name: PluginBase[P, Any]) -> P: ...
        @overload
        def dispense(self, name: str) -> C: ...

    def dispense(self, name: str | PluginBase[Any, Any]) -> Any:
        """What the plugin `name` offers: by default `(channel, stub)`. Starts the plugin if needed.

        Instead of the name it takes the plugin itself, an object of the plugin set. Then type
        checkers know what it returns, even if the plugins are of different types: docs/typing.md.

        Each `dispense` returns a new channel on the client's one connection. Closing a channel
        cancels only the calls of that channel. With net/rpc, what it returns calls a new object in
        the plugin's process, see `netrpc.Plugin`.

        Raises: ConfigError (a ValueError) for an unknown name or plugin; what `start()` raises;
        with net/rpc ServerError if the plugin does not know the name or cannot make the object.
        """
        self._check_plugin(name)
        self.start()
        name, plugin = self._named_plugin(name)
        if plugin._protocol == "grpc":
            with _needing(f"{self.name}: the plugin {name!r}"):  # it may import generated stubs
                return plugin.client(self._user_client())
        return plugin.client(self.broker, self._dispense(name, self._explainer()))

    def ping(self, timeout: float = PING_TIMEOUT) -> str:
        """Ask the plugin's health service. Starts the plugin if needed.

        Returns: "" if it is healthy, otherwise what is wrong, such as that it does not answer
        within `timeout` seconds, cannot be started, or has been killed.
        Raises: ConfigError and ForkedError, since these are no failures of the plugin.
        """
        try:
            self.start()
            _core.call_blocking(self._open().ping, timeout)
        except (ConfigError, ForkedError):
            raise
        except PluginError as error:
            return str(error) or type(error).__name__
        return ""

    def new_channel(self) -> Channel:
        """A new `grpc.Channel` on the plugin's connection, which the caller has to close.

        Starts the plugin if needed. Raises: what `start()` raises; ConfigError if the plugin speaks
        net/rpc, which has no channels.
        """
        self.start()
        self._require_grpc("new_channel()")
        return self._described(self._open().channel())

    def _described(self, channel: Any) -> Channel:
        """A channel of the core, which gets the name that repr() shows."""
        channel._peer = f"{self.name!r} at {self.conn_endpoint()}"
        return channel  # type: ignore[no-any-return]  # of the class that the core is given

    # What is known once it has started.

    @property
    def channel(self) -> Channel:
        """The client's own `grpc.Channel`, always the same.

        Raises: ClosedError before the start and after `kill()`, ForkedError in a forked child,
        ConfigError if the plugin speaks net/rpc, which has no channels.
        """
        self._refuse_fork()
        self._require_grpc("channel")
        with self._lock:
            core, _ = self._started_locked("channel")
            found = self._channel
            if found is None:
                found = self._channel = self._described(core.channel())
            return found

    @property
    def broker(self) -> Any:
        """Makes further connections to the plugin, in either direction.

        A `pygo_plugin.broker.Broker`, see docs/broker.md; with net/rpc a `netrpc.MuxBroker`, see
        docs/netrpc.md.

        Raises: ClosedError before the start and after `kill()`, ForkedError in a forked child.
        """
        return self._make_broker()

    @property
    def name(self) -> str:
        """What messages and the log call the plugin.

        The option `name`, or the base name of the script, the module or the executable that `cmd`
        names; the name of the runner; the name or the address in a ReattachConfig.
        """
        return printable(name_of(self._config))

    @property
    def id(self) -> str:
        """The process id of the plugin, or what its runner calls it; "" before the start."""
        if self._config.runner is not None:
            return str(self._config.runner.id)
        return str(self.pid) if self.pid >= 0 else ""

    @property
    def pid(self) -> int:
        """The process id; -1 before the start, or if it is unknown (see ReattachConfig)."""
        return -1 if self._core is None else self._core.pid

    @property
    def exit_status(self) -> int | None:
        """None before the process has ended; then its status, -N for signal N as in `subprocess`.

        Always None for a process that is not a child of the host, which cannot know its status.
        """
        return None if self._core is None else self._core.exit_status

    @property
    def protocol(self) -> str:
        """The protocol that the plugin speaks, "grpc" or "netrpc"; "" before the start."""
        return self._endpoint[3] if self._endpoint else ""

    @property
    def negotiated_version(self) -> int:
        """The application protocol version that both sides speak; 0 before the start."""
        return self._endpoint[4] if self._endpoint else 0

    def conn_endpoint(self) -> str:
        """The plugin's gRPC target: "unix:/path" or "host:port"; "" before the start."""
        return self._endpoint[2] if self._endpoint else ""

    def reattach_config(self) -> ReattachConfig:
        """What another client needs to connect to this plugin; not `valid` before the start."""
        if self._endpoint is None:
            return ReattachConfig()
        network, address, _, protocol, version = self._endpoint
        given = self._config.reattach_config()
        test = given is not None and given.test
        started = 0 if self._core is None else self._core.start_time
        name = "" if self.name == printable(address) else self.name
        return ReattachConfig(protocol, network, address, self.pid, test, version, started, name)

    def __repr__(self) -> str:
        if self._endpoint is None:
            state = "killed" if self._killed else "not started"
        elif self.exit_status is not None:
            state = f"pid={self.pid} exit_status={self.exit_status}"
        else:
            state = f"pid={self.pid} {'exited' if self.exited() else 'running'}"
        return f"<pygo_plugin.Client {self.name!r} {state}>"

    __reduce_ex__ = checks.refuse_copy

    # The seam for aio.Client, which uses a subclass of this class that overrides the next three
    # methods: they return or call what depends on the kind of client that the user holds.

    def _user_client(self) -> Any:
        """The client that `Plugin.client()` gets."""
        return self

    def _call_on_exit(self, status: int | None) -> None:
        """Call `on_exit` with the user's client. Called on the core's thread for callbacks."""
        handler = self._config.on_exit
        if handler is not None:
            handler(self, status)

    def _broker_class(self) -> Any:
        """The subclass of BrokerBase for the client's one broker."""
        with _importing("pygo_plugin.broker"):
            from pygo_plugin.broker import Broker

        return Broker

    def _mux_broker_class(self) -> Any:
        """The subclass of MuxBrokerBase, for a plugin that speaks net/rpc."""
        with _importing("pygo_plugin._netrpc.mux_broker"):
            from pygo_plugin._netrpc.mux_broker import MuxBroker

        return MuxBroker

    def _check_plugin(self, name: str | PluginBase) -> None:
        """Refuse a name or a plugin that is in no set, before anything is started for it.

        Raises: ConfigError.
        """
        sets = plugin_sets(self._config, self.name)
        if not any(_names(plugins, name) for plugins in sets.values()):
            raise self._unknown(name, sets)

    # Private.

    def _make_broker(self) -> Any:
        """The client's one broker, made at first use."""
        make = self._mux_broker_class() if self.protocol == "netrpc" else self._broker_class()
        self._refuse_fork()
        with self._lock:
            core, endpoint = self._started_locked("broker")
            if self._broker is None and endpoint[3] == "netrpc":
                self._broker = make(core.mux_broker(), self._explainer())
            elif self._broker is None:
                config = self._config
                options = checks.grpc_options(config, self._quota, config.server_options)
                directory, group = self._sockets()
                self._broker = make(
                    core.broker(),
                    self.name,
                    endpoint[0],
                    (config.min_port, config.max_port),
                    options={"options": options},
                    directory=directory,
                    group=group,
                )
            return self._broker

    def _sockets(self) -> tuple[str | None, str | None]:
        """Where the host makes its own sockets for the plugin, and which group may use them."""
        if self._adapter is not None:
            return self._adapter.socket_dir, self._adapter.group
        directory = self._config.unix_socket_dir
        return os.path.abspath(directory) if directory else None, self._config.unix_socket_group

    def _started_locked(self, what: str) -> tuple[_core.Client, tuple[str, str, str, str, int]]:
        """The core's client, and what its start has returned. Raises: ClosedError."""
        if self._endpoint is None or self._core is None or self._killed:
            state = "has been killed" if self._killed else "has not been started"
            raise ClosedError(f"{self.name}: {state}, so there is no {what}")
        return self._core, self._endpoint

    def _prepare_runner(self, runner: Runner) -> str:
        """Make the runner's socket directory. Returns: the variable that names it."""
        from pygo_plugin._host.runner import Adapter, make_socket_dir, remove_socket_dir

        path = make_socket_dir(self.name, getattr(runner, "group", None))
        self._remove_socket_dir = weakref.finalize(self, remove_socket_dir, path)
        self._adapter = Adapter(runner, path)
        return f"PLUGIN_UNIX_SOCKET_DIR={path}"

    def _refuse_start(self) -> None:
        """Have later starts fail, and close the broker, before the process is ended."""
        with self._lock:
            self._killed = True
            broker = self._broker
        if broker is not None and self.protocol == "grpc":
            broker.close()

    def _refuse_fork(self) -> None:
        """Raises: ForkedError in a forked child."""
        if _core.forked():  # before a lock is taken, which a thread of the parent may hold for ever
            try:
                _core.refuse_forked()
            except ForkedError as error:
                raise ForkedError(f"{self.name}: {error}") from None

    def _named_plugin(self, wanted: str | PluginBase) -> tuple[str, PluginBase]:
        """A plugin in the set of the negotiated version, and its name. Called after the start.

        `wanted` is either of the two.
        """
        sets = plugin_sets(self._config, self.name)
        # A reattached plugin may serve a version that is in no set.
        plugins = sets.get(self.negotiated_version, self._config.plugins)
        names = _names(plugins, wanted)
        if not names:
            raise self._unknown(wanted, {self.negotiated_version: plugins})
        if len(names) > 1:
            raise ConfigError(
                f"{self.name}: {wanted!r} is in the plugin set under several names, "
                f"{', '.join(map(repr, names))}: dispense it by one of them"
            )
        name, plugin = names[0], plugins[names[0]]
        if plugin._protocol != self.protocol:
            raise ConfigError(
                f"{self.name}: this host has a {plugin._protocol} plugin as {name!r} of version "
                f"{self.negotiated_version}, and the plugin's process speaks {self.protocol} in "
                f"that version: give the host a {self.protocol} plugin of that name, or a version "
                f"that both sides serve over {plugin._protocol}"
            )
        return name, plugin

    def _require_grpc(self, what: str) -> None:
        """Raises: ConfigError if the plugin speaks net/rpc."""
        if self.protocol == "netrpc":
            raise ConfigError(
                f"{self.name}: {what} is for gRPC, and this plugin speaks net/rpc: use dispense() "
                f"and the broker"
            )

    def _dispense(
        self,
        name: str,
        explain: Callable[[str], Exception] | None,
        timeout: float = DISPENSE_TIMEOUT,
    ) -> Any:
        """A `netrpc.Client` of a new object in the plugin's process. Blocks.

        `explain` makes the exceptions of calls whose connection is lost.
        """
        with _importing("pygo_plugin._netrpc.client"):
            from pygo_plugin._netrpc.client import Client as RpcClient

        dispense = self._open().dispense
        made = _core.call_blocking(dispense, RpcClient, name, timeout, None, explain)
        made._peer = f"{name!r} of {self.name!r}"
        return made

    def _explainer(self) -> Callable[[str], Exception]:
        """A function that makes the exception for a lost net/rpc connection of its text.

        The function blocks while the plugin is about to exit. It holds the client weakly: what
        calls the plugin does not keep it alive.
        """
        name, owner = self.name, weakref.ref(self)

        def explain(text: str) -> Exception:
            client = owner()
            core = None if client is None else client._core
            if client is None or core is None or not _core.call_blocking(core.await_exit):
                return ClosedError(f"{name}: {text}")
            if client._killed:
                return ClosedError(f"{name}: has been killed ({text})")
            tail = core.stderr
            shown = f"\nThe plugin's stderr ends with:\n{tail}" if tail else ""
            error = ClosedError(f"{name}: {core.exit_text} ({text}){shown}")
            error.exit_status, error.stderr = core.exit_status, tail
            return error

        return explain

    def _hint_at_list(self, error: StartError) -> None:
        """Add to the error about a program that does not exist that a str is never split."""
        cmd = self._config.cmd()
        if cmd is None or len(cmd.args) != 1:
            return
        words = cmd.path.split()
        directory = cmd.dir or self._config.cwd
        if len(words) > 1 and find_program(words[0], directory) is not None:
            hint = f"a str is one program and never split; arguments need a list: {words!r}"
            error.args = (f"{error}: {hint}",)

    def _unknown(self, name: Any, sets: Mapping[int, Mapping[str, object]]) -> ConfigError:
        """The error about a name or a plugin that is in none of the sets."""
        known = sorted({known for plugins in sets.values() for known in plugins})
        names = ", ".join(map(repr, known)) or "none"
        if isinstance(name, PluginBase):
            version = f" of version {next(iter(sets))}" if len(sets) == 1 else ""
            return ConfigError(
                f"{self.name}: {name!r} is no plugin{version} of this client; its plugins are: "
                f"{names}"
            )
        if isinstance(name, type) and issubclass(name, PluginBase):
            return ConfigTypeError(
                f"{self.name}: dispense() takes a name or an object of the plugin set, not the "
                f"class {name.__name__}; known: {names}"
            )
        return ConfigError(f"{self.name}: no plugin named {name!r}; known: {names}")

    def _open(self) -> _core.Client:
        """The core's client, made at first use, since the options may change until then."""
        with self._lock:
            if self._killed:
                raise ClosedError(f"{self.name}: has been killed, and cannot be started again")
            if self._core is None:
                self._core = self._make_core()
                return self._open()  # checks again: kill() may have been called meanwhile
            return self._core

    def _make_core(self) -> _core.Client:
        """The core's client, from the options as they are now. Raises: ConfigError."""
        config, name, cmd = self._config, self.name, self._config.cmd()
        check_all(config, name)
        handshake = config.handshake_config
        versions = sorted(plugin_sets(config, name))
        argv, env = self._command()
        pid, exited = _callbacks(self)
        path = name if cmd is None else program_of(cmd.args)
        log = LogMirror(
            plugin_logger(config.logger, name), path, pid, config.stderr, config.name or path
        )
        output = None
        if config.sync_stdout is not None or config.sync_stderr is not None:
            output = OutputMirror(config.sync_stdout, config.sync_stderr)
        at_exit.register()
        self._quota = checks.memory_quota(config)
        core = _core.Client(
            name=name,
            argv=argv,
            env=env,
            directory=None if cmd is None else cmd.dir or config.cwd or None,
            cookie_key=handshake.magic_cookie_key,
            cookie_value=handshake.magic_cookie_value,
            versions=versions,
            reattach=endpoint_to_join(config),
            log=log,
            log_level=log.lowest_level(),
            want_raw=config.stderr is not None,
            output=output,
            runner=self._adapter,
            kill_group=group_name(config),
            channel_options=checks.grpc_options(config, self._quota, config.channel_options),
            on_exit=None if config.on_exit is None else exited,
            template=None if self._template is None else self._template.core,
            **for_core(config),
        )
        if config.managed:
            with _managed_lock:
                _managed.add(self)
        return core

    def _take_template(self) -> None:
        """Use the template of the program, which is started if there is none."""
        from pygo_plugin._host import template

        config, name, cmd = self._config, self.name, self._config.cmd()
        check_all(config, name)
        argv, env = self._command()
        if argv is None or cmd is None or self._killed:
            return
        handshake = config.handshake_config
        cookie = f"{handshake.magic_cookie_key}={handshake.magic_cookie_value}"
        logger = plugin_logger(config.logger, name)
        taken = template.use(
            argv,
            [*env, cookie] if handshake.magic_cookie_key else env,
            cmd.dir or config.cwd or "",
            config._start_timeout,
            lambda: self._killed,
            lambda reason: logger.warning("%s", template.refusal(name, reason)),
        )
        with self._lock:
            if self._template is None:
                self._template = taken
                self._release_template = weakref.finalize(self, taken.release)
                return
        taken.release()  # another thread was faster

    def _share_template(self) -> Any:
        """Another use of the template, which keeps it; None if there is none."""
        return None if self._template is None else self._template.again()

    def _command(self) -> tuple[list[str] | None, list[str]]:
        """What is launched: the arguments, None if nothing is, and the environment."""
        config, cmd = self._config, self._config.cmd()
        # With this variable a Python plugin's sys.stderr leads to sync_stderr, otherwise to its
        # log: see _serve/stdio.py.
        env = [] if config.sync_stderr is None else ["PYGO_PLUGIN_SYNC_STDERR=1"]
        if cmd is not None:
            return list(cmd.args), environment_of(config, cmd, self.name, env)
        if config.runner is not None:
            return [self.name], [*env, self._prepare_runner(config.runner)]
        return None, env


def _names(plugins: Mapping[str, PluginBase], wanted: str | PluginBase) -> list[str]:
    """The names in a plugin set of what `dispense` is given: a name, or a plugin."""
    if isinstance(wanted, PluginBase):
        return [name for name, plugin in plugins.items() if plugin is wanted]
    return [wanted] if wanted in plugins else []


def _callbacks(client: Client) -> tuple[Callable[[], int], Callable[[int | None], None]]:
    """Functions for the core: one returns the process id, one is called when the process has ended.

    The core keeps them. They hold the client weakly, since the garbage collector does not find
    cycles that go through the core.
    """
    owner = weakref.ref(client)

    def pid() -> int:
        client = owner()
        return -1 if client is None else client.pid

    def exited(status: int | None) -> None:
        client = owner()
        if client is not None:
            client._call_on_exit(status)

    return pid, exited


def cleanup_clients() -> None:
    """Kill all clients that were made with `managed=True`, in parallel.

    Programs need not call it: every plugin that still runs is killed when the interpreter exits.
    """
    if _core.forked():
        return
    with _managed_lock:
        clients = list(_managed)
        _managed.clear()
    for client in clients:
        client._refuse_start()
    _core.call_blocking(_core.kill_all, True)
