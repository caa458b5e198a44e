"""What hosts and plugins are configured with.

Plain mutable classes. Each assignment checks the type, misspelt attributes are refused, equality
compares the fields, and `repr` hides what may be secret. `client.py` and `server.py` check what
depends on several fields when they start.
"""

from __future__ import annotations

import os

from pygo_plugin.errors import ConfigError, ConfigTypeError
from pygo_plugin.plugin import Plugin

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, ClassVar, Protocol, Union

    Checks = dict[str, Callable[[str, Any], Any]]

    class Writer(Protocol):
        """Anything that takes a copy of a plugin's stderr: a text or a binary file."""

        def write(self, data: Any, /) -> object: ...

    StrPath = Union[str, "os.PathLike[str]"]
    PluginSet = dict[str, Plugin]

__all__ = ["ClientConfig", "Cmd", "HandshakeConfig", "ReattachConfig", "ServeConfig"]

DEFAULT_START_TIMEOUT = 60.0  # seconds
DEFAULT_MIN_PORT = 10000
DEFAULT_MAX_PORT = 25000
DEFAULT_LOG_BUFFER_SIZE = 64 * 1024

PROTOCOLS = ("grpc", "netrpc")
NETWORKS = ("unix", "tcp")


class _Config:
    """Fields are the slots; `_checks` says which function accepts or converts a new value."""

    __slots__ = ()
    _checks: ClassVar[Checks] = {}
    _secrets: ClassVar[tuple[str, ...]] = ()

    if not TYPE_CHECKING:  # with a visible __setattr__, mypy would let misspelt attributes pass

        def __setattr__(self, name: str, value: Any) -> None:
            check = self._checks.get(name)
            if check is not None:
                value = check(f"{type(self).__name__}.{name.lstrip('_')}", value)
            object.__setattr__(self, name, value)

    def _fields(self) -> dict[str, Any]:
        return {name.lstrip("_"): getattr(self, name) for name in self._checks}

    def __eq__(self, other: object) -> bool:
        if isinstance(other, _Config) and type(self) is type(other):
            return self._fields() == other._fields()
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        shown = (
            f"{name}={'...' if value and name in self._secrets else repr(value)}"
            for name, value in self._fields().items()
        )
        return f"{type(self).__name__}({', '.join(shown)})"


# Checks. Messages never quote a value: it may be a secret.


def _refuse(what: str, expected: str, value: object, hint: str = "") -> ConfigTypeError:
    found = "a class" if isinstance(value, type) else type(value).__name__
    message = f"{what} must be {expected}, not {found}"
    return ConfigTypeError(f"{message}: {hint}" if hint else message)


def _text(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _refuse(what, "a str", value)
    return value


def _integer(what: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _refuse(what, "an int", value)
    return value


def _natural(what: str, value: Any) -> int:
    if _integer(what, value) < 0:
        raise ConfigError(f"{what} must not be negative, but is {value}")
    return int(value)


def _positive(what: str, value: Any) -> int:
    if _integer(what, value) <= 0:
        raise ConfigError(f"{what} must be greater than 0, but is {value}")
    return int(value)


def _port(what: str, value: Any) -> int:
    if not 0 <= _integer(what, value) <= 65535:
        raise ConfigError(f"{what} must be a port between 0 and 65535, but is {value}")
    return int(value)


def _flag(what: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _refuse(what, "True or False", value)
    return value


def _path(what: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise _refuse(what, "a str or a path", value)
    return os.fsdecode(value)


def _argv(what: str, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, (str, bytes, os.PathLike)):
        return [os.fsdecode(value)]
    if not isinstance(value, (list, tuple)):
        hint = 'a str is one program, never split; give arguments as ["program", "argument"]'
        raise _refuse(what, "a str or a list of str", value, hint)
    return [_path(f"{what}[{i}]", arg) for i, arg in enumerate(value)]


def _environment(what: str, value: Any) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, (list, tuple)):
        hint = "utils.env_to_list() makes one of a mapping"
        raise _refuse(what, 'a list of "KEY=VALUE"', value, hint)
    return value if isinstance(value, list) else list(value)


def _handshake(what: str, value: Any) -> HandshakeConfig:
    if not isinstance(value, HandshakeConfig):
        hint = "make it with HandshakeConfig(protocol_version, magic_cookie_key, ...)"
        raise _refuse(what, "a HandshakeConfig", value, hint)
    return value


def _mapping(what: str, value: Any) -> dict[Any, Any]:
    if value is None:
        return {}
    if isinstance(value, dict):
        return value  # the very same one, so that later additions count
    if not hasattr(value, "keys"):
        raise _refuse(what, "a dict", value, 'as in {"kv": KVPlugin()}')
    return dict(value)


def _protocols(what: str, value: Any) -> list[str]:
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise _refuse(what, "a list of str", value, 'as in ["grpc"]')
    return [_text(f"{what}[{i}]", protocol) for i, protocol in enumerate(value)]


def _logger(what: str, value: Any) -> Any:
    # Not isinstance: a plugin must not pay for the import of logging.
    if value is not None and not (hasattr(value, "getChild") and hasattr(value, "handle")):
        raise _refuse(what, "a logging.Logger", value, 'as logging.getLogger("myapp") gives')
    return value


def _writer(what: str, value: Any) -> Any:
    descriptor = isinstance(value, int) and not isinstance(value, bool)
    if value is not None and not descriptor and not callable(getattr(value, "write", None)):
        raise _refuse(what, "an object with write() or a file descriptor", value)
    return _natural(what, value) if descriptor else value


def _network(what: str, value: Any) -> str:
    if _text(what, value) not in NETWORKS:
        raise ConfigError(f'{what} must be "unix" or "tcp", but is {value!r}')
    return str(value)


def _workers(what: str, value: Any) -> int | None:
    return None if value is None else _positive(what, value)


def _interceptors(what: str, value: Any) -> tuple[Any, ...]:
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise _refuse(what, "a list of grpc.ServerInterceptor", value)
    found = tuple(value)
    for i, interceptor in enumerate(found):
        if not callable(getattr(interceptor, "intercept_service", None)):
            raise _refuse(f"{what}[{i}]", "a grpc.ServerInterceptor", interceptor)
    return found


def _optional(kind: type) -> Callable[[str, Any], Any]:
    def check(what: str, value: Any) -> Any:
        if value is not None and not isinstance(value, kind):
            raise _refuse(what, f"a {kind.__name__}", value)
        return value

    return check


class HandshakeConfig(_Config):
    """What a host and its plugins agree on beforehand.

    The cookie is no secret and no protection: it tells a plugin that a host started it, so that
    one started by hand can say so instead of waiting for a host.
    """

    __slots__ = ("magic_cookie_key", "magic_cookie_value", "protocol_version")
    _checks: ClassVar[Checks] = {
        "protocol_version": _natural,
        "magic_cookie_key": _text,
        "magic_cookie_value": _text,
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


class Cmd(_Config):
    """How to launch a plugin.

    `args`: the program and its arguments; a str is a program alone and never split as a shell
    would. `path` is `args[0]`. A relative path is looked up as `subprocess` does: without a slash
    along PATH, otherwise from `dir` if that is set. `env`: "KEY=VALUE" entries that win over the
    host's environment. `dir`: the working directory, "" for the host's.
    """

    __slots__ = ("args", "dir", "env")
    _checks: ClassVar[Checks] = {"args": _argv, "env": _environment, "dir": _path}

    args: list[str]
    env: list[str]
    dir: str

    def __init__(self, args: StrPath | Sequence[StrPath] | None = None) -> None:
        self.args = args  # type: ignore[assignment]  # converted on the way
        self.env = []
        self.dir = ""

    @property
    def path(self) -> str:
        """The program, "" if there is none yet."""
        return self.args[0] if self.args else ""

    @path.setter
    def path(self, value: StrPath) -> None:
        self.args = [_path("Cmd.path", value), *self.args[1:]]

    @property
    def valid(self) -> bool:
        """Whether there is a program to launch."""
        return bool(self.path)

    def __repr__(self) -> str:
        # Values of the environment are where passwords live.
        env = [str(entry).split("=", 1)[0] + "=..." for entry in self.env]
        return f"Cmd({self.args!r}, env={env!r}, dir={self.dir!r})"


class ReattachConfig(_Config):
    """Where a running plugin is: what `Client.reattach_config()` gives and a new client takes.

    `network` and `address`: "unix" and a socket's path, or "tcp" and "host:port". `pid`: -1 if
    unknown. `test`: kill leaves the process alone. `protocol_version`: the application protocol
    version it serves, 0 for the one of the handshake config.
    """

    __slots__ = ("address", "network", "pid", "protocol", "protocol_version", "test")
    _checks: ClassVar[Checks] = {
        "protocol": _text,
        "network": _text,
        "address": _text,
        "pid": _integer,
        "test": _flag,
        "protocol_version": _natural,
    }

    protocol: str
    network: str
    address: str
    pid: int
    test: bool
    protocol_version: int

    def __init__(
        self,
        protocol: str = "",
        network: str = "",
        address: str = "",
        pid: int = -1,
        test: bool = False,
        protocol_version: int = 0,
    ) -> None:
        self.protocol = protocol
        self.network = network
        self.address = address
        self.pid = pid
        self.test = test
        self.protocol_version = protocol_version

    @property
    def valid(self) -> bool:
        """Whether protocol, network and address are set."""
        return bool(self.protocol and self.network and self.address)


class ClientConfig(_Config):
    """Everything a host says about one plugin. Keywords left out (or None) mean the default.

    plugins             name -> Plugin, for the version of the handshake config
    versioned_plugins   version -> {name: Plugin}; the highest that both sides know is used
    handshake_config    HandshakeConfig
    cmd                 what to launch: Cmd, or its `args`; exclusive with
    reattach_config     ReattachConfig of a running plugin
    min_port, max_port  TCP ports that the plugin may listen on (10000, 25000)
    start_timeout       seconds from the launch to the handshake (60); note that the methods
                        start_timeout() and set_start_timeout() count milliseconds
    allowed_protocols   ["grpc"]
    managed             whether cleanup_clients() kills this plugin (False)
    logger              parent of the logger for the plugin's log (see _logging.py)
    stderr              file or file descriptor that gets a raw copy of the plugin's stderr
    plugin_log_buffer_size  longest line of the plugin's log in bytes (65536)
    skip_host_env       do not pass the host's environment on (False)
    auto_mtls           must be False: not available in this version
    """

    __slots__ = (
        "_cmd",
        "_reattach_config",
        "_start_timeout",
        "allowed_protocols",
        "auto_mtls",
        "handshake_config",
        "logger",
        "managed",
        "max_port",
        "min_port",
        "plugin_log_buffer_size",
        "plugins",
        "skip_host_env",
        "stderr",
        "versioned_plugins",
    )
    _checks: ClassVar[Checks] = {
        "plugins": _mapping,
        "versioned_plugins": _mapping,
        "handshake_config": _handshake,
        "_cmd": _optional(Cmd),
        "_reattach_config": _optional(ReattachConfig),
        "_start_timeout": _positive,
        "min_port": _port,
        "max_port": _port,
        "allowed_protocols": _protocols,
        "managed": _flag,
        "logger": _logger,
        "stderr": _writer,
        "plugin_log_buffer_size": _positive,
        "skip_host_env": _flag,
        "auto_mtls": _flag,
    }

    plugins: PluginSet
    versioned_plugins: dict[int, PluginSet]
    handshake_config: HandshakeConfig
    _cmd: Cmd | None
    _reattach_config: ReattachConfig | None
    _start_timeout: int  # milliseconds
    min_port: int
    max_port: int
    allowed_protocols: list[str]
    managed: bool
    logger: logging.Logger | None
    stderr: Writer | int | None
    plugin_log_buffer_size: int
    skip_host_env: bool
    auto_mtls: bool

    def __init__(
        self,
        *,
        plugins: Mapping[str, Plugin] | None = None,
        versioned_plugins: Mapping[int, Mapping[str, Plugin]] | None = None,
        handshake_config: HandshakeConfig | None = None,
        cmd: Cmd | StrPath | Sequence[StrPath] | None = None,
        reattach_config: ReattachConfig | None = None,
        min_port: int | None = None,
        max_port: int | None = None,
        start_timeout: float | None = None,
        allowed_protocols: Sequence[str] | None = None,
        managed: bool | None = None,
        logger: logging.Logger | None = None,
        stderr: Writer | int | None = None,
        plugin_log_buffer_size: int | None = None,
        skip_host_env: bool | None = None,
        auto_mtls: bool | None = None,
    ) -> None:
        def default(value: Any, otherwise: Any) -> Any:
            return otherwise if value is None else value

        self.plugins = default(plugins, {})
        self.versioned_plugins = default(versioned_plugins, {})
        self.handshake_config = default(handshake_config, HandshakeConfig())
        self.set_cmd(cmd)
        self.set_reattach_config(reattach_config)
        self.min_port = default(min_port, DEFAULT_MIN_PORT)
        self.max_port = default(max_port, DEFAULT_MAX_PORT)
        self.set_start_timeout(_seconds(default(start_timeout, DEFAULT_START_TIMEOUT)) * 1000)
        self.allowed_protocols = default(allowed_protocols, ["grpc"])
        self.managed = default(managed, False)
        self.logger = logger
        self.stderr = stderr
        self.plugin_log_buffer_size = default(plugin_log_buffer_size, DEFAULT_LOG_BUFFER_SIZE)
        self.skip_host_env = default(skip_host_env, False)
        self.auto_mtls = default(auto_mtls, False)

    def cmd(self) -> Cmd | None:
        """What to launch, None if nothing has been set."""
        return self._cmd

    def set_cmd(self, cmd: Cmd | StrPath | Sequence[StrPath] | None) -> None:
        """Launch this: a Cmd, a program, or a list of a program and its arguments."""
        self._cmd = cmd if cmd is None or isinstance(cmd, Cmd) else Cmd(cmd)

    def reattach_config(self) -> ReattachConfig | None:
        """The running plugin to connect to, None if one is to be launched."""
        return self._reattach_config

    def set_reattach_config(self, cfg: ReattachConfig | None) -> None:
        """Connect to this running plugin instead of launching one."""
        self._reattach_config = cfg

    def start_timeout(self) -> int:
        """Milliseconds that the plugin may take from its launch to its handshake."""
        return self._start_timeout

    def set_start_timeout(self, msec: float) -> None:
        """Set `start_timeout()`, in milliseconds."""
        if isinstance(msec, bool) or not isinstance(msec, (int, float)):
            raise _refuse("ClientConfig.start_timeout", "a number", msec)
        if not 0 < msec < 2**53:  # also refuses nan and infinity
            raise ConfigError(f"ClientConfig.start_timeout must be greater than 0, but is {msec}")
        self._start_timeout = max(1, round(msec))


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _refuse("ClientConfig.start_timeout", "a number of seconds", value)
    return value


class ServeConfig(_Config):
    """Everything a plugin says about how it serves. Keywords left out mean the default.

    handshake_config    HandshakeConfig; both the cookie's key and its value are required
    plugins             name -> Plugin, for the version of the handshake config
    versioned_plugins   version -> {name: Plugin}
    network             "unix" (default), which falls back to TCP where the temporary directory
                        cannot hold a socket, or "tcp"
    max_workers         how many handlers run at the same time; None: 32. Threads start when needed
    interceptors        grpc.ServerInterceptors, the first one outermost
    """

    __slots__ = (
        "handshake_config",
        "interceptors",
        "max_workers",
        "network",
        "plugins",
        "versioned_plugins",
    )
    _checks: ClassVar[Checks] = {
        "handshake_config": _handshake,
        "plugins": _mapping,
        "versioned_plugins": _mapping,
        "network": _network,
        "max_workers": _workers,
        "interceptors": _interceptors,
    }

    handshake_config: HandshakeConfig
    plugins: PluginSet
    versioned_plugins: dict[int, PluginSet]
    network: str
    max_workers: int | None
    interceptors: tuple[Any, ...]

    def __init__(
        self,
        *,
        handshake_config: HandshakeConfig | None = None,
        plugins: Mapping[str, Plugin] | None = None,
        versioned_plugins: Mapping[int, Mapping[str, Plugin]] | None = None,
        network: str | None = None,
        max_workers: int | None = None,
        interceptors: Sequence[Any] = (),
    ) -> None:
        self.handshake_config = HandshakeConfig() if handshake_config is None else handshake_config
        self.plugins = plugins  # type: ignore[assignment]  # converted on the way
        self.versioned_plugins = versioned_plugins  # type: ignore[assignment]
        self.network = "unix" if network is None else network
        self.max_workers = max_workers
        self.interceptors = interceptors  # type: ignore[assignment]


def plugin_sets(config: ClientConfig | ServeConfig, owner: str) -> dict[int, PluginSet]:
    """The checked plugin sets by application protocol version.

    `plugins` counts as the handshake's version, as go-plugin has it.

    Raises: ConfigError, its message starting with `owner`.
    """
    sets: dict[int, PluginSet] = {}
    for version, plugins in config.versioned_plugins.items():
        _natural(f"{owner}: a key of versioned_plugins", version)
        sets[version] = _mapping(f"{owner}: versioned_plugins[{version}]", plugins)
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
                raise _refuse(what, "an object", plugin, f"write {plugin.__name__}()")
            if not isinstance(plugin, Plugin):
                raise _refuse(what, "an instance of a subclass of Plugin", plugin)
    return sets
