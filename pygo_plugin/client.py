"""The host's side: launch a plugin, use it, end it.

The C core does the work (csrc/include/gp/client.h); policy is here: options, environment, which
plugin set counts, managed clients, and what happens when nobody kills a plugin.
"""

from __future__ import annotations

import os
import threading
import warnings
import weakref

from pygo_plugin._base import at_exit, checks
from pygo_plugin._base.core import _core
from pygo_plugin._host.options import check_all, check_target, for_core, given
from pygo_plugin._host.output import OutputMirror
from pygo_plugin._log.host import LogMirror, plugin_logger
from pygo_plugin.config import ClientConfig, HandshakeConfig, ReattachConfig, plugin_sets
from pygo_plugin.errors import ClosedError, ConfigError, ForkedError, PluginError, _importing
from pygo_plugin.utils import env_to_list

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Any

    from typing_extensions import Self

    from pygo_plugin._host.runner import Adapter
    from pygo_plugin.broker import Broker, BrokerBase
    from pygo_plugin.config import Cmd, StrPath, Writer
    from pygo_plugin.plugin import Plugin
    from pygo_plugin.runners import Runner
    from pygo_plugin.security import SecureConfig, TLSConfig

__all__ = ["Address", "Client", "cleanup_clients"]

PING_TIMEOUT = 10.0  # seconds

# Set by a host for its own plugins alone: a plugin that is a host itself must not hand them down.
# An inherited PLUGIN_CLIENT_CERT, for one, makes a Go plugin speak TLS to a host that does not.
NOT_INHERITED = (
    "PLUGIN_CLIENT_CERT",
    "PLUGIN_MULTIPLEX_GRPC",
    "PLUGIN_UNIX_SOCKET_DIR",
    "PLUGIN_UNIX_SOCKET_GROUP",
    "PYGO_PLUGIN_DETACHED",
    "PYGO_PLUGIN_GROUP",
    "PYGO_PLUGIN_LOG",
    "PYGO_PLUGIN_SYNC_STDERR",
)

_managed: set[Client] = set()
_managed_lock = threading.RLock()  # as a client's


def _in_forked_child() -> None:
    """The clients are the parent's, and another thread of the parent may have had the lock."""
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


class Client:
    """One plugin process, from its launch to its end.

        with Client(["./plugin"], handshake_config=HANDSHAKE, plugins={"kv": KVPlugin()}) as client:
            channel, kv = client.dispense("kv")

    `Client(config)` takes a ClientConfig, `Client(cmd, **options)` what a ClientConfig would be
    made of; see there for the options. Constructing starts nothing. Leaving the `with` block kills
    the plugin. Every method may be called from any thread.

    In a forked child of a host whose plugins run, starting and calling raise ForkedError, and
    `kill` does nothing: the plugin is the parent's. A child of a host that has none, or has killed
    all that it had, may have plugins of its own; see docs/lifecycle.md.
    """

    def __init__(
        self,
        cmd: ClientConfig | Cmd | StrPath | Sequence[StrPath] | None = None,
        *,
        # Keywords, written by scripts/options.py from OPTIONS without cmd:
        plugins: Mapping[str, Plugin] | None = None,
        versioned_plugins: Mapping[int, Mapping[str, Plugin]] | None = None,
        handshake_config: HandshakeConfig | None = None,
        reattach_config: ReattachConfig | None = None,
        runner: Runner | None = None,
        min_port: int | None = None,
        max_port: int | None = None,
        start_timeout: float | None = None,
        kill_timeout: float | None = None,
        allowed_protocols: Sequence[str] | None = None,
        managed: bool | None = None,
        detach: bool | None = None,
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
        """Raises: ConfigError (a ValueError) when the options cannot be right."""
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
        # Guards what is assigned in _open(), and in kill(): a signal handler may come in between.
        self._lock = threading.RLock()
        self._adapter: Adapter | None = None  # of the runner
        self._remove_socket_dir: Any = None  # weakref.finalize, with a runner
        self._endpoint: tuple[str, str, str, str, int] | None = None
        self._channel: _core.Channel | None = None
        self._broker: BrokerBase | None = None
        self._quota: _core.MemoryQuota | None = None  # of all connections

    # Life cycle.

    def start(self) -> Address:
        """Launch the plugin, or connect to the running one, and wait for its handshake.

        Idempotent: later calls, on any thread, wait for the first and share its outcome.

        Raises: ConfigError; StartError and its kinds and TLSError, after which the process is gone;
        ChecksumError; ReattachError; ClosedError after `kill()`; ForkedError in a forked child.
        """
        self._refuse_fork()
        if at_exit.ending:
            raise ClosedError(f"{self.name}: the interpreter is exiting, and starts no plugins")
        with self._lock:
            self._starting += 1
        try:
            self._endpoint = _core.call_blocking(self._open().start)
        except PluginError as error:
            with _managed_lock:
                _managed.discard(self)
            if self._adapter is not None and error.__cause__ is None:
                error.__cause__, self._adapter.error = self._adapter.error, None
            if self._remove_socket_dir is not None:
                self._remove_socket_dir()
            raise
        finally:
            with self._lock:
                self._starting -= 1
            if self._killed and self._remove_socket_dir is not None:
                self._remove_socket_dir()
        return Address(*self._endpoint[:2])

    def kill(self) -> None:
        """End the plugin: ask it to shut down, wait up to `kill_timeout`, then kill it.

        A runner that is about to start it has 5 s to do so; what it starts later is killed then.
        Everything it logged and printed has been delivered when this returns. Idempotent; a second
        caller waits for the first. A client that was killed cannot be started any more. A plugin
        that was reattached to with `test` set goes on running.
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
            # A runner may still be about to start it: then the directory goes at the end of that.
            if self._remove_socket_dir is not None and not self._starting:
                self._remove_socket_dir()

    def exited(self) -> bool:
        """Whether the plugin's process is gone, or `kill()` has been called. Never blocks."""
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
        # As subprocess: whoever starts a process is to end it. The core kills it right after.
        core = getattr(self, "_core", None)
        if core is None or self._killed or self._endpoint is None or self._config.detach:
            return
        if _forked() or core.exited():
            return
        _warn(f"{self!r} was never killed", ResourceWarning, stacklevel=2, source=self)

    # Use.

    def dispense(self, name: str) -> Any:
        """What the plugin `name` offers: by default `(channel, stub)`. Starts when needed.

        Each call gives a channel of its own, a view on the one connection: closing it cancels its
        own calls and no others.

        Raises: ConfigError (a ValueError) for an unknown name; what `start()` raises.
        """
        self._check_plugin(name)
        self.start()
        return self._plugin(name).client(self._user_client())

    def ping(self, timeout: float = PING_TIMEOUT) -> str:
        """Ask the plugin's health service. Starts when needed.

        Returns: "" when it is healthy, otherwise what is wrong: also when it does not answer
        within `timeout` seconds, cannot be started, or has been killed.
        Raises: ConfigError and ForkedError, which say nothing about the plugin.
        """
        try:
            self.start()
            _core.call_blocking(self._open().ping, timeout)
        except (ConfigError, ForkedError):
            raise
        except PluginError as error:
            return str(error) or type(error).__name__
        return ""

    def new_channel(self) -> _core.Channel:
        """A `grpc.Channel` on the plugin's connection, for the caller to close. Starts when needed.

        Raises: what `start()` raises.
        """
        self.start()
        return self._open().channel()

    # What is known once it has started.

    @property
    def channel(self) -> _core.Channel:
        """The client's own `grpc.Channel`, the same each time.

        Raises: ClosedError before the start and after `kill()`, ForkedError in a forked child.
        """
        self._refuse_fork()
        with self._lock:
            if self._endpoint is None or self._core is None or self._killed:
                state = "has been killed" if self._killed else "has not been started"
                raise ClosedError(f"{self.name}: {state}, so that there is no channel")
            if self._channel is None:
                self._channel = self._core.channel()
            return self._channel

    @property
    def broker(self) -> Broker:
        """What makes further connections to the plugin, in either direction; see docs/broker.md.

        Raises: ClosedError before the start and after `kill()`, ForkedError in a forked child.
        """
        broker: Broker = self._make_broker()
        return broker

    @property
    def name(self) -> str:
        """The base name of the plugin's executable; of a reattached plugin its address."""
        cmd, reattach = self._config.cmd(), self._config.reattach_config()
        if self._config.runner is not None:
            return str(self._config.runner.name)
        if cmd is not None and cmd.valid:
            return os.path.basename(cmd.path)
        return reattach.address if reattach is not None else "plugin"

    @property
    def id(self) -> str:
        """What identifies the running plugin: its process id in digits; "" before the start."""
        if self._config.runner is not None:
            return str(self._config.runner.id)
        return str(self.pid) if self.pid >= 0 else ""

    @property
    def pid(self) -> int:
        """The process id; -1 before the start, or when unknown (see ReattachConfig)."""
        return -1 if self._core is None else self._core.pid

    @property
    def exit_status(self) -> int | None:
        """None while running or never started. Then as `subprocess`: -N for signal N.

        Also None for a process that was not the host's child, whose status nobody could tell.
        """
        return None if self._core is None else self._core.exit_status

    @property
    def protocol(self) -> str:
        """What it speaks: "grpc"; "" before the start."""
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
        return ReattachConfig(protocol, network, address, self.pid, test, version, started)

    def __repr__(self) -> str:
        if self._endpoint is None:
            state = "killed" if self._killed else "not started"
        elif self.exit_status is not None:
            state = f"pid={self.pid} exit_status={self.exit_status}"
        else:
            state = f"pid={self.pid} {'exited' if self.exited() else 'running'}"
        return f"<pygo_plugin.Client {self.name!r} {state}>"

    # The seam for aio.Client. It holds a subclass of this class, which overrides the first three
    # methods: what belongs to the kind of client that the user holds.

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

    def _check_plugin(self, name: str) -> None:
        """Refuse a name that is in no plugin set, before anything is started for it.

        Raises: ConfigError.
        """
        sets = plugin_sets(self._config, self.name)
        if not any(name in plugins for plugins in sets.values()):
            raise self._unknown(name, sets)

    # Inside.

    def _make_broker(self) -> Any:
        """The client's one broker, made at first use."""
        make = self._broker_class()
        self._refuse_fork()
        with self._lock:
            if self._endpoint is None or self._core is None or self._killed:
                state = "has been killed" if self._killed else "has not been started"
                raise ClosedError(f"{self.name}: {state}, so that there is no broker")
            if self._broker is None:
                ports = (self._config.min_port, self._config.max_port)
                core = self._core.broker()
                group, directory = self._config.unix_socket_group, self._config.unix_socket_dir
                sockets: dict[str, Any] = {
                    "directory": os.path.abspath(directory) if directory else None,
                    "group": group,
                }
                if self._adapter is not None:
                    sockets = {"directory": self._adapter.socket_dir, "group": self._adapter.group}
                options = checks.grpc_options(
                    self._config, self._quota, self._config.server_options
                )
                self._broker = make(
                    core,
                    self.name,
                    self._endpoint[0],
                    ports,
                    options={"options": options},
                    **sockets,
                )
            return self._broker

    def _prepare_runner(self, runner: Runner) -> str:
        """Make the runner's socket directory. Returns: the variable that names it."""
        from pygo_plugin._host.runner import Adapter, make_socket_dir, remove_socket_dir

        path = make_socket_dir(self.name, getattr(runner, "group", None))
        self._remove_socket_dir = weakref.finalize(self, remove_socket_dir, path)
        self._adapter = Adapter(runner, path)
        return f"PLUGIN_UNIX_SOCKET_DIR={path}"

    def _refuse_start(self) -> None:
        """What `kill()` does before it ends the process."""
        with self._lock:
            self._killed = True
            broker = self._broker
        if broker is not None:
            broker.close()

    def _refuse_fork(self) -> None:
        if _core.forked():  # before any lock: in a child it may be held for ever
            try:
                _core.refuse_forked()
            except ForkedError as error:
                raise ForkedError(f"{self.name}: {error}") from None

    def _plugin(self, name: str) -> Plugin:
        """The plugin of that name in the set that counts, after the start."""
        sets = plugin_sets(self._config, self.name)
        # A reattached plugin may serve a version that was never negotiated.
        plugins = sets.get(self.negotiated_version, self._config.plugins)
        if name not in plugins:
            raise self._unknown(name, {self.negotiated_version: plugins})
        return plugins[name]

    def _unknown(self, name: str, sets: Mapping[int, Mapping[str, object]]) -> ConfigError:
        known = sorted({known for plugins in sets.values() for known in plugins})
        names = ", ".join(map(repr, known)) or "none"
        return ConfigError(f"{self.name}: no plugin named {name!r}; known: {names}")

    def _open(self) -> _core.Client:
        """The core's client, made at first use: until then the config may still change."""
        with self._lock:
            if self._killed:
                raise ClosedError(f"{self.name}: has been killed, and cannot be started again")
            if self._core is None:
                self._core = self._make_core()
                return self._open()  # it may have been killed meanwhile
            return self._core

    def _make_core(self) -> _core.Client:
        config, name = self._config, self.name
        check_all(config, name)
        versions = sorted(plugin_sets(config, name))
        handshake = config.handshake_config
        cmd, reattach = config.cmd(), config.reattach_config()
        secure, sockets = config.secure_config, config.unix_socket_dir
        path = "" if cmd is None else cmd.path
        owner = weakref.ref(self)  # the core keeps the mirror: no cycle that goes through C

        def pid() -> int:
            client = owner()
            return -1 if client is None else client.pid

        def exited(status: int | None) -> None:
            client = owner()
            if client is not None:
                client._call_on_exit(status)

        mirror = LogMirror(plugin_logger(config.logger, name), path or name, pid, config.stderr)
        output = None
        if config.sync_stdout is not None or config.sync_stderr is not None:
            output = OutputMirror(config.sync_stdout, config.sync_stderr)
        where = None
        if reattach is not None:
            version = reattach.protocol_version or handshake.protocol_version
            where = (
                *(reattach.network, reattach.address, reattach.protocol),
                *(version, reattach.pid, reattach.test, reattach.start_time),
            )
        argv = None if cmd is None else list(cmd.args)
        # A Python plugin's sys.stderr then leads to sync_stderr, otherwise to the log: see
        # _serve/stdio.py.
        env = [] if config.sync_stderr is None else ["PYGO_PLUGIN_SYNC_STDERR=1"]
        if cmd is not None:
            env = _environment(cmd, config.skip_host_env, name, env)
        if config.runner is not None:
            argv, env = [name], [*env, self._prepare_runner(config.runner)]
        at_exit.register()
        self._quota = checks.memory_quota(config)
        core = _core.Client(
            name=name,
            argv=argv,
            env=env,
            directory=cmd.dir or None if cmd is not None else None,
            cookie_key=handshake.magic_cookie_key,
            cookie_value=handshake.magic_cookie_value,
            versions=versions,
            start_timeout=config.start_timeout() / 1000,
            reattach=where,
            log=mirror,
            log_level=mirror.lowest_level(),
            log_buffer_size=min(config.plugin_log_buffer_size, 1 << 31),
            want_raw=config.stderr is not None,
            output=output,
            runner=self._adapter,
            kill_group=_group_name(config),
            channel_options=checks.grpc_options(config, self._quota, config.channel_options),
            on_exit=None if config.on_exit is None else exited,
            unix_socket_dir=os.path.abspath(sockets) if sockets else None,
            secure=None if secure is None else secure._for_core(),
            tls=None if config.tls_config is None else config.tls_config._tls,
            **for_core(config),
        )
        if config.managed:
            with _managed_lock:
                _managed.add(self)
        return core


def _group_name(config: ClientConfig) -> str | None:
    """What the mark of the plugin's group begins with; None without `kill_group`."""
    if not config.kill_group:
        return None
    if config.detach:
        return ""  # nobody watches over what is to outlive the host
    from pygo_plugin._host import guard

    return guard.start()


def _environment(cmd: Cmd, skip_host_env: bool, name: str, own: Iterable[str] = ()) -> list[str]:
    """The child's environment: the host's unless skipped, `own`, and the entries of `cmd.env`.

    Later ones replace earlier ones.
    """
    environment = {} if skip_host_env else dict(os.environ)
    for key in NOT_INHERITED:
        environment.pop(key, None)
    entries: list[Any] = [*own, *cmd.env]  # whatever the user has put in there
    for entry in entries:
        if not isinstance(entry, str) or entry.find("=") < 1 or "\0" in entry:
            raise ConfigError(f'{name}: Cmd.env must hold "KEY=VALUE" entries only')
        key, value = entry.split("=", 1)
        environment[key] = value
    return env_to_list(environment)


def cleanup_clients() -> None:
    """Kill all clients that were made with `managed=True`, in parallel.

    Needed only to do so early: every plugin that still runs is killed when the interpreter exits.
    """
    if _core.forked():
        return
    with _managed_lock:
        clients = list(_managed)
        _managed.clear()
    for client in clients:
        client._refuse_start()
    _core.call_blocking(_core.kill_all, True)
