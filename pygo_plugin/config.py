"""What hosts and plugins are configured with.

Plain mutable classes. Each assignment checks the type, misspelt attributes are refused, equality
compares the fields, and `repr` hides what may be secret. `client.py` and `server.py` check what
depends on several fields when they start.

Here is what a plugin needs of it, since the host waits for its imports. The rest is in modules of
its own, which are loaded when one of their names is asked for here.
"""

from __future__ import annotations

from pygo_plugin._base import checks as check
from pygo_plugin.errors import ConfigError
from pygo_plugin.plugin import Plugin

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    import os
    import threading
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, ClassVar, Protocol, Union

    from pygo_plugin._host.config import ClientConfig, Cmd
    from pygo_plugin._host.reattach import ReattachConfig
    from pygo_plugin.security import TLSConfig

    class Writer(Protocol):
        """Anything that takes what a plugin writes: a text or a binary file."""

        def write(self, data: Any, /) -> object: ...

    StrPath = Union[str, "os.PathLike[str]"]
    PluginSet = dict[str, Plugin]

__all__ = [
    "ClientConfig",
    "Cmd",
    "HandshakeConfig",
    "ReattachConfig",
    "ServeConfig",
    "ServeTestConfig",
]

DEFAULT_SKIPPED_LINES = 100
DEFAULT_START_TIMEOUT = 60.0  # seconds
DEFAULT_KILL_TIMEOUT = 2.0  # seconds, as go-plugin has it
DEFAULT_SHUTDOWN_GRACE = 1.0  # seconds; the host's patience has to be longer
DEFAULT_MIN_PORT = 10000
DEFAULT_MAX_PORT = 25000
DEFAULT_LOG_BUFFER_SIZE = 64 * 1024

PROTOCOLS = ("grpc", "netrpc")
NETWORKS = ("unix", "tcp")

_HOMES = {
    "ClientConfig": "_host.config",
    "Cmd": "_host.config",
    "ReattachConfig": "_host.reattach",
}

if not TYPE_CHECKING:  # a visible __getattr__ would let misspelt names pass

    def __getattr__(name):
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from sys import modules

        __import__(f"pygo_plugin.{home}")
        value = globals()[name] = getattr(modules[f"pygo_plugin.{home}"], name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})


class HandshakeConfig(check.Config):
    """What a host and its plugins agree on beforehand.

    The cookie is no secret and no protection: it tells a plugin that a host started it, so that
    one started by hand can say so instead of waiting for a host.
    """

    __slots__ = ("magic_cookie_key", "magic_cookie_value", "protocol_version")
    _checks: ClassVar[check.Checks] = {
        "protocol_version": check.version,
        "magic_cookie_key": check.text,
        "magic_cookie_value": check.text,
    }
    _secrets = ("magic_cookie_value",)

    protocol_version: int
    magic_cookie_key: str
    magic_cookie_value: str

    def __init__(
        self,
        protocol_version: int = 0,
        magic_cookie_key: str = "",
        magic_cookie_value: str = "",
    ) -> None:
        self.protocol_version = protocol_version
        self.magic_cookie_key = magic_cookie_key
        self.magic_cookie_value = magic_cookie_value


def check_handshake(what: str, value: Any) -> HandshakeConfig:
    if not isinstance(value, HandshakeConfig):
        hint = "make it with HandshakeConfig(protocol_version, magic_cookie_key, ...)"
        raise check.refuse(what, "a HandshakeConfig", value, hint)
    return value


def _network(what: str, value: Any) -> str:
    if check.text(what, value) not in NETWORKS:
        raise ConfigError(f'{what} must be "unix" or "tcp", but is {value!r}')
    return str(value)


def _workers(what: str, value: Any) -> int | None:
    return None if value is None else check.positive(what, value)


def _event(what: str, value: Any) -> Any:
    # Not isinstance: a plugin must not pay for the import of threading.
    if value is not None and not (callable(getattr(value, "wait", None)) and hasattr(value, "set")):
        raise check.refuse(what, "a threading.Event", value)
    return value


def _interceptors(what: str, value: Any) -> tuple[Any, ...]:
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise check.refuse(what, "a list of grpc.ServerInterceptor", value)
    found = tuple(value)
    for i, interceptor in enumerate(found):
        if not callable(getattr(interceptor, "intercept_service", None)):
            raise check.refuse(f"{what}[{i}]", "a grpc.ServerInterceptor", interceptor)
    return found


def _provider(what: str, value: Any) -> Any:
    if value is not None and not callable(value):
        raise check.refuse(what, "a function that returns a TLSConfig", value)
    return value


class ServeTestConfig(check.Config):
    """Test mode: serve in this process, without a host. For ServeConfig.test.

    No cookie is checked, no handshake printed, stdin, stdout, stderr, logging and signals are left
    alone, and the highest version is served. Any number of servers may do so at the same time.

    ready       called with the ReattachConfig, whose `test` is set, once it serves
    stop        threading.Event: setting it stops the server
    sync_stdio  send what this process writes to descriptors 1 and 2 to the host that reattaches,
                until the server stops (False). One server at a time can
    """

    __slots__ = ("ready", "stop", "sync_stdio")
    _checks: ClassVar[check.Checks] = {
        "ready": check.callback,
        "stop": _event,
        "sync_stdio": check.flag,
    }

    ready: Callable[[ReattachConfig], Any] | None
    stop: threading.Event | None
    sync_stdio: bool

    def __init__(
        self,
        *,
        ready: Callable[[ReattachConfig], Any] | None = None,
        stop: threading.Event | None = None,
        sync_stdio: bool = False,
    ) -> None:
        self.ready = ready
        self.stop = stop
        self.sync_stdio = sync_stdio

    def serving(self, config: ReattachConfig, stop: Callable[[], object]) -> None:
        """For servers: tell who asked, and have `stop()` called after the event."""
        if self.stop is not None:
            import threading

            event = self.stop

            def wait() -> None:
                event.wait()
                stop()

            threading.Thread(target=wait, name="pygo-test", daemon=True).start()
        if self.ready is not None:
            self.ready(config)


class ServeConfig(check.Config):
    """Everything a plugin says about how it serves. Keywords left out mean the default.

    handshake_config    HandshakeConfig; both the cookie's key and its value are required
    plugins             name -> Plugin, for the version of the handshake config
    versioned_plugins   version -> {name: Plugin}
    network             "unix" (default), or "tcp", where without mutual TLS everybody on this
                        machine may connect. Where no unix socket can be made, TCP is used by itself
                        only if hosts have to show a certificate; otherwise serving fails
    max_workers         how many handlers may run at the same time, a thread each; None: up to 1,000
    interceptors        grpc.ServerInterceptors, the first one outermost
    test                ServeTestConfig: serve in this process, for tests
    outlive_host        go on when the host has died, for another one to reattach to. Not needed
                        under a host that launches with detach=True
    tls_provider        called once, when serving begins: returns the TLSConfig to serve with
    shutdown_grace      seconds that calls under way have for their ends when the host shuts the
                        plugin down or dies, before they are cancelled (1). The host should be more
                        patient: its kill() waits 2 seconds by default and then sends SIGKILL
    logger              logging.Logger whose records are the log that the host gets, instead of the
                        root logger's; see _log/plugin.py. Left alone in test mode
    max_receive_message_length, max_send_message_length
                        bytes of one message, by default 2**31 - 1, the most that gRPC can carry
    max_metadata_size   bytes of metadata, error details included, that a call may bring (262144)
    memory_quota        bytes that the connections of this process may take together for what they
                        receive before gRPC refuses more; None: no limit
    channel_options     gRPC's channel arguments, (name, value) pairs as grpcio takes them, of the
                        channels that the broker dials. They win over the limits above
    server_options      the same of servers, brokered ones too
    """

    __slots__ = (
        "channel_options",
        "handshake_config",
        "interceptors",
        "logger",
        "max_metadata_size",
        "max_receive_message_length",
        "max_send_message_length",
        "max_workers",
        "memory_quota",
        "network",
        "outlive_host",
        "plugins",
        "server_options",
        "shutdown_grace",
        "test",
        "tls_provider",
        "versioned_plugins",
    )
    _checks: ClassVar[check.Checks] = {
        "handshake_config": check_handshake,
        "plugins": check.mapping,
        "versioned_plugins": check.mapping,
        "network": _network,
        "max_workers": _workers,
        "interceptors": _interceptors,
        "outlive_host": check.flag,
        "shutdown_grace": check.seconds,
        "test": check.optional(ServeTestConfig),
        "tls_provider": _provider,
        "logger": check.logger,
        "max_receive_message_length": check.message_length,
        "max_send_message_length": check.message_length,
        "max_metadata_size": check.metadata_size,
        "memory_quota": check.quota,
        "channel_options": check.channel_options,
        "server_options": check.channel_options,
    }

    handshake_config: HandshakeConfig
    plugins: PluginSet
    versioned_plugins: dict[int, PluginSet]
    network: str
    max_workers: int | None
    interceptors: tuple[Any, ...]
    outlive_host: bool
    shutdown_grace: float
    test: ServeTestConfig | None
    tls_provider: Callable[[], TLSConfig] | None
    logger: logging.Logger | None
    max_receive_message_length: int | None
    max_send_message_length: int | None
    max_metadata_size: int | None
    memory_quota: int | None
    channel_options: tuple[tuple[str | bytes, Any], ...]
    server_options: tuple[tuple[str | bytes, Any], ...]

    def __init__(
        self,
        *,
        handshake_config: HandshakeConfig | None = None,
        plugins: Mapping[str, Plugin] | None = None,
        versioned_plugins: Mapping[int, Mapping[str, Plugin]] | None = None,
        network: str | None = None,
        max_workers: int | None = None,
        interceptors: Sequence[Any] = (),
        outlive_host: bool = False,
        shutdown_grace: float | None = None,
        test: ServeTestConfig | None = None,
        tls_provider: Callable[[], TLSConfig] | None = None,
        logger: logging.Logger | None = None,
        max_receive_message_length: int | None = None,
        max_send_message_length: int | None = None,
        max_metadata_size: int | None = None,
        memory_quota: int | None = None,
        channel_options: Iterable[tuple[str | bytes, Any]] | None = None,
        server_options: Iterable[tuple[str | bytes, Any]] | None = None,
    ) -> None:
        self.handshake_config = HandshakeConfig() if handshake_config is None else handshake_config
        self.plugins = plugins  # type: ignore[assignment]  # converted on the way
        self.versioned_plugins = versioned_plugins  # type: ignore[assignment]
        self.network = "unix" if network is None else network
        self.max_workers = max_workers
        self.interceptors = interceptors  # type: ignore[assignment]
        self.outlive_host = outlive_host
        self.shutdown_grace = DEFAULT_SHUTDOWN_GRACE if shutdown_grace is None else shutdown_grace
        self.test = test
        self.tls_provider = tls_provider
        self.logger = logger
        self.max_receive_message_length = max_receive_message_length
        self.max_send_message_length = max_send_message_length
        self.max_metadata_size = max_metadata_size
        self.memory_quota = memory_quota
        self.channel_options = channel_options  # type: ignore[assignment]  # converted on the way
        self.server_options = server_options  # type: ignore[assignment]


def plugin_sets(config: ClientConfig | ServeConfig, owner: str) -> dict[int, PluginSet]:
    """The checked plugin sets by application protocol version.

    `plugins` counts as the handshake's version, as go-plugin has it.

    Raises: ConfigError, its message starting with `owner`.
    """
    sets: dict[int, PluginSet] = {}
    for version, plugins in config.versioned_plugins.items():
        check.version(f"{owner}: a key of versioned_plugins", version)
        sets[version] = check.mapping(f"{owner}: versioned_plugins[{version}]", plugins)
    own = config.handshake_config.protocol_version
    if config.plugins:
        if sets.setdefault(own, config.plugins) is not config.plugins:
            raise ConfigError(
                f"{owner}: `plugins` stands for version {own} of the handshake config, and "
                f"versioned_plugins[{own}] is set as well: leave one of them out"
            )
    elif not sets:
        sets[own] = config.plugins
    for version, plugins in sets.items():
        for name, plugin in plugins.items():
            what = f"{owner}: plugin {name!r} of version {version}"
            if isinstance(plugin, type):
                raise check.refuse(what, "an object", plugin, f"write {plugin.__name__}()")
            if not isinstance(plugin, Plugin):
                raise check.refuse(what, "an instance of a subclass of Plugin", plugin)
    return sets
