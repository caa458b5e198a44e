"""What hosts and plugins are configured with.

The classes are plain and mutable. Each assignment checks the value, misspelt attributes are
refused, equality compares the fields, and `repr` hides values that may be secret. What depends on
several fields is checked when a client or a server starts.

This module holds the classes that plugins need, since a host waits for its plugins' imports. The
other classes are in modules of their own, which are loaded when their names are first used.
"""

from __future__ import annotations

from pygo_plugin._base import checks as check
from pygo_plugin.errors import ConfigError
from pygo_plugin.plugin import PluginBase

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    import os
    import threading
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, ClassVar, Protocol, Union

    from pygo_plugin._host.cmd import Cmd
    from pygo_plugin._host.config import ClientConfig
    from pygo_plugin._host.reattach import ReattachConfig
    from pygo_plugin.security import TLSConfig

    class Writer(Protocol):
        """Anything that takes what a plugin writes: a text or a binary file."""

        def write(self, data: Any, /) -> object: ...

    StrPath = Union[str, "os.PathLike[str]"]
    PluginSet = dict[str, PluginBase]

__all__ = [
    "ClientConfig",
    "Cmd",
    "HandshakeConfig",
    "ReattachConfig",
    "ServeConfig",
    "ServeTestConfig",
]

PROTOCOLS = ("grpc", "netrpc")
NETWORKS = ("unix", "tcp")

_HOMES = {
    "ClientConfig": "_host.config",
    "Cmd": "_host.cmd",
    "ReattachConfig": "_host.reattach",
}

if not TYPE_CHECKING:  # if mypy saw __getattr__, it would accept misspelt names

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

    The cookie is not a secret and protects nothing. It tells a plugin that a host has started it,
    so that a plugin that a user starts by hand can say so instead of waiting for a host.
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


HANDSHAKE = check.Kind(check_handshake, "HandshakeConfig")


def _network(what: str, value: Any) -> str:
    if check.text(what, value) not in NETWORKS:
        raise ConfigError(f'{what} must be "unix" or "tcp", but is {value!r}')
    return str(value)


def _workers(what: str, value: Any) -> int | None:
    return None if value is None else check.positive(what, value)


def _event(what: str, value: Any) -> Any:
    # Not by isinstance, since a plugin must not pay for the import of threading.
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
    """Test mode: serve in this process, without a host. The value of ServeConfig.test.

    The cookie is not checked, and no handshake line is printed. stdin, stdout, stderr, logging and
    signals are left alone. The highest version is served. Several servers may run at the same time.

    ready       A function that is called once the plugin serves, with the ReattachConfig for a
                client. Its `test` is set.
    stop        A threading.Event. The server stops when it is set.
    sync_stdio  Until the server stops, send what this process writes to descriptors 1 and 2 to the
                host that reattaches. Only one server at a time can do so. Default: False.
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
        """Call `ready`, and have `stop()` called when the event is set. For servers."""
        if self.stop is not None:
            import threading

            event = self.stop

            def wait() -> None:
                event.wait()
                stop()

            threading.Thread(target=wait, name="pygo-test", daemon=True).start()
        if self.ready is not None:
            self.ready(config)


SERVE_OPTIONS = (
    check.Option(
        "handshake_config",
        HANDSHAKE,
        HandshakeConfig,
        "A `HandshakeConfig(protocol_version, magic_cookie_key, magic_cookie_value)`. The cookie's "
        "key and value are both required; the version is that of `plugins`.",
    ),
    check.Option(
        "plugins",
        check.PLUGIN_SET,
        None,
        "The plugins by name, for the protocol version of the handshake config.",
    ),
    check.Option(
        "versioned_plugins",
        check.PLUGIN_SETS,
        None,
        "Dicts as `plugins`, by protocol version. The highest version that the host offers is "
        "served, or the lowest one here if it offers none of them.",
        page="versioning.md",
    ),
    check.Option(
        "network",
        check.Kind(_network, "str"),
        "unix",
        'What to listen on: `"unix"`, or `"tcp"`, where any process on this machine may connect '
        "unless there is mutual TLS. If no unix socket can be made, TCP is used instead only if "
        "hosts have to show a certificate; otherwise serving fails.",
    ),
    check.Option(
        "max_workers",
        check.Kind(_workers, "int", "int | None"),
        None,
        "How many handlers may run at the same time, each on a thread. None: as many as are "
        "needed, up to 1,000. Threads start when they are needed and end when they are idle. "
        "Further calls wait. Reaching the default limit is logged as a warning.",
    ),
    check.Option(
        "interceptors",
        check.Kind(_interceptors, "Sequence[Any]", "tuple[Any, ...]"),
        (),
        "A list of `grpc.ServerInterceptor`, the first one outermost.",
        protocol="grpc",
        takes_none=False,
    ),
    check.Option(
        "outlive_host",
        check.FLAG,
        False,
        "Go on serving when the host has died, so that another host can reattach. Not needed if "
        "the host launches the plugin with `detach=True`.",
        page="reattach.md",
        takes_none=False,
    ),
    check.Option(
        "shutdown_grace",
        check.SECONDS,
        1,  # less than a host's kill_timeout
        "Seconds that calls in progress have when the host shuts the plugin down or dies, before "
        "they are cancelled. Hosts then send SIGKILL after two seconds, which is fixed in "
        "go-plugin and the default here.",
    ),
    check.Option(
        "test",
        check.Kind(check.optional(ServeTestConfig), "ServeTestConfig", "ServeTestConfig | None"),
        None,
        "A `ServeTestConfig`: serve in the process of a test.",
        page="testing.md",
    ),
    check.Option(
        "tls_provider",
        check.Kind(_provider, "Callable[[], TLSConfig]", "Callable[[], TLSConfig] | None"),
        None,
        "A function that returns the `TLSConfig` to serve with. It is called once, when serving "
        "begins.",
        page="security.md",
    ),
    check.Option(
        "logger",
        check.LOGGER,
        None,
        "The `logging.Logger` that gets the handler that writes to the host's log. None: the root "
        "logger. Left alone in test mode.",
        page="logging.md",
    ),
    check.Option(
        "max_receive_message_length",
        check.MESSAGE_LENGTH,
        None,
        "The most bytes that a message to this plugin may have. None: `2**31 - 1`, the most that "
        "gRPC can carry.",
        page="security.md#limits",
        protocol="grpc",
    ),
    check.Option(
        "max_send_message_length",
        check.MESSAGE_LENGTH,
        None,
        "The most bytes that a message from this plugin may have. None: `2**31 - 1`.",
        page="security.md#limits",
        protocol="grpc",
    ),
    check.Option(
        "max_metadata_size",
        check.METADATA_SIZE,
        None,
        "The most bytes of metadata, error details included, that a call may bring. None: 262,144.",
        page="security.md#limits",
        protocol="grpc",
    ),
    check.Option(
        "memory_quota",
        check.QUOTA,
        None,
        "The most bytes that all connections of this process may take together for what they "
        "receive, before gRPC refuses more. None: no limit.",
        page="security.md#limits",
        protocol="grpc",
    ),
    check.Option(
        "channel_options",
        check.CHANNEL_OPTIONS,
        None,
        "gRPC's channel arguments, a list of (name, value) as grpcio takes them, for the channels "
        "that the broker dials. They take precedence over the limits above.",
        page="broker.md",
        protocol="grpc",
    ),
    check.Option(
        "server_options",
        check.CHANNEL_OPTIONS,
        None,
        "gRPC's channel arguments, as `grpc.server` takes them, for the server and for the servers "
        "that the broker makes. They take precedence over the options and limits that the package "
        "sets.",
        page="broker.md",
        protocol="grpc",
    ),
)


class ServeConfig(check.Config):
    """All options of a plugin that serves. Keywords left out mean the default.

    Options, written by scripts/options.py from SERVE_OPTIONS:
    handshake_config    A HandshakeConfig(protocol_version, magic_cookie_key, magic_cookie_value).
                        The cookie's key and value are both required; the version is that of
                        plugins.
    plugins             The plugins by name, for the protocol version of the handshake config.
    versioned_plugins   Dicts as plugins, by protocol version. The highest version that the host
                        offers is served, or the lowest one here if it offers none of them. See
                        docs/versioning.md.
    network             What to listen on: "unix", or "tcp", where any process on this machine may
                        connect unless there is mutual TLS. If no unix socket can be made, TCP is
                        used instead only if hosts have to show a certificate; otherwise serving
                        fails. Default: "unix".
    max_workers         How many handlers may run at the same time, each on a thread. None: as many
                        as are needed, up to 1,000. Threads start when they are needed and end when
                        they are idle. Further calls wait. Reaching the default limit is logged as a
                        warning.
    interceptors        A list of grpc.ServerInterceptor, the first one outermost.
    outlive_host        Go on serving when the host has died, so that another host can reattach. Not
                        needed if the host launches the plugin with detach=True. See
                        docs/reattach.md.
    shutdown_grace      Seconds that calls in progress have when the host shuts the plugin down or
                        dies, before they are cancelled. Hosts then send SIGKILL after two seconds,
                        which is fixed in go-plugin and the default here. Default: 1.
    test                A ServeTestConfig: serve in the process of a test. See docs/testing.md.
    tls_provider        A function that returns the TLSConfig to serve with. It is called once, when
                        serving begins. See docs/security.md.
    logger              The logging.Logger that gets the handler that writes to the host's log.
                        None: the root logger. Left alone in test mode. See docs/logging.md.
    max_receive_message_length
                        The most bytes that a message to this plugin may have. None: 2**31 - 1, the
                        most that gRPC can carry. See docs/security.md.
    max_send_message_length
                        The most bytes that a message from this plugin may have. None: 2**31 - 1.
                        See docs/security.md.
    max_metadata_size   The most bytes of metadata, error details included, that a call may bring.
                        None: 262,144. See docs/security.md.
    memory_quota        The most bytes that all connections of this process may take together for
                        what they receive, before gRPC refuses more. None: no limit. See
                        docs/security.md.
    channel_options     gRPC's channel arguments, a list of (name, value) as grpcio takes them, for
                        the channels that the broker dials. They take precedence over the limits
                        above. See docs/broker.md.
    server_options      gRPC's channel arguments, as grpc.server takes them, for the server and for
                        the servers that the broker makes. They take precedence over the options and
                        limits that the package sets. See docs/broker.md.
    """

    _checks: ClassVar[check.Checks] = {option.slot: option.kind.check for option in SERVE_OPTIONS}
    __slots__ = tuple(_checks)

    # Attributes, written by scripts/options.py from SERVE_OPTIONS:
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
        # Keywords, written by scripts/options.py from SERVE_OPTIONS:
        handshake_config: HandshakeConfig | None = None,
        plugins: Mapping[str, PluginBase] | None = None,
        versioned_plugins: Mapping[int, Mapping[str, PluginBase]] | None = None,
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
        check.fill(self, SERVE_OPTIONS, locals())


def plugin_sets(config: ClientConfig | ServeConfig, owner: str) -> dict[int, PluginSet]:
    """The plugin sets by application protocol version, after a check.

    `plugins` is the set of the handshake config's version, as in go-plugin.

    Raises: ConfigError, whose message starts with `owner`.
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
            if not isinstance(plugin, PluginBase):
                raise check.refuse(
                    what, "an instance of a subclass of Plugin or of netrpc.Plugin", plugin
                )
            first = next(iter(plugins))
            if plugin._protocol != plugins[first]._protocol:
                raise ConfigError(
                    f"{owner}: the plugins of version {version} speak different protocols, "
                    f"{first!r} {plugins[first]._protocol} and {name!r} {plugin._protocol}: give "
                    f"those of one protocol a version of their own in versioned_plugins"
                )
    return sets


def set_protocol(plugins: PluginSet) -> str:
    """The protocol that the plugins of one set speak. That of a set without plugins is gRPC."""
    return next((plugin._protocol for plugin in plugins.values()), "grpc")
