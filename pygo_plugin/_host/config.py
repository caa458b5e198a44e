"""What a host is configured with. For users it is part of `pygo_plugin.config`."""

from __future__ import annotations

import os

from pygo_plugin._base import checks as check
from pygo_plugin._host.reattach import ReattachConfig
from pygo_plugin.config import (
    DEFAULT_KILL_TIMEOUT,
    DEFAULT_LOG_BUFFER_SIZE,
    DEFAULT_MAX_PORT,
    DEFAULT_MIN_PORT,
    DEFAULT_SKIPPED_LINES,
    DEFAULT_START_TIMEOUT,
    HandshakeConfig,
    check_handshake,
)
from pygo_plugin.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, ClassVar

    from pygo_plugin.config import PluginSet, StrPath, Writer
    from pygo_plugin.plugin import Plugin
    from pygo_plugin.runners import Runner
    from pygo_plugin.security import SecureConfig, TLSConfig

__all__ = ["ClientConfig", "Cmd"]


def _port(what: str, value: Any) -> int:
    if not 0 <= check.integer(what, value) <= 65535:
        raise ConfigError(f"{what} must be a port between 0 and 65535, but is {value}")
    return int(value)


def _path(what: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise check.refuse(what, "a str or a path", value)
    return os.fsdecode(value)


def _argv(what: str, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, (str, bytes, os.PathLike)):
        return [os.fsdecode(value)]
    if not isinstance(value, (list, tuple)):
        hint = 'a str is one program, never split; give arguments as ["program", "argument"]'
        raise check.refuse(what, "a str or a list of str", value, hint)
    return [_path(f"{what}[{i}]", arg) for i, arg in enumerate(value)]


def _environment(what: str, value: Any) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, (list, tuple)):
        hint = "utils.env_to_list() makes one of a mapping"
        raise check.refuse(what, 'a list of "KEY=VALUE"', value, hint)
    return value if isinstance(value, list) else list(value)


def _protocols(what: str, value: Any) -> list[str]:
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise check.refuse(what, "a list of str", value, 'as in ["grpc"]')
    return [check.text(f"{what}[{i}]", protocol) for i, protocol in enumerate(value)]


def _writer(what: str, value: Any) -> Any:
    descriptor = isinstance(value, int) and not isinstance(value, bool)
    if value is not None and not descriptor and not callable(getattr(value, "write", None)):
        raise check.refuse(what, "an object with write() or a file descriptor", value)
    return check.natural(what, value) if descriptor else value


def _runner(what: str, value: Any) -> Any:
    members = ("start", "wait", "kill", "diagnose", "plugin_to_host", "host_to_plugin")
    absent = [name for name in members if not callable(getattr(value, name, None))]
    if value is not None and (absent or isinstance(value, type)):
        hint = f"it has no {absent[0]}()" if absent else "make an object of the class"
        raise check.refuse(what, "a Runner", value, hint)
    return value


def _group(what: str, value: Any) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    if isinstance(value, str):
        raise ConfigError(f"{what} must be the name or the number of a group, but is empty")
    if not isinstance(value, int) or isinstance(value, bool):
        raise check.refuse(what, "the name or the number of a group", value)
    return str(check.natural(what, value))


def _lines(what: str, value: Any) -> int:
    if isinstance(value, bool):
        return DEFAULT_SKIPPED_LINES if value else 0
    if not isinstance(value, int):
        raise check.refuse(what, "True, False or a number of lines", value)
    return min(check.natural(what, value), 1 << 31)


def _of_security(kind: str) -> Callable[[str, Any], Any]:
    """As check.optional, of a class that is loaded only when there is something to check."""

    def checked(what: str, value: Any) -> Any:
        if value is not None:
            from pygo_plugin import security

            return check.optional(getattr(security, kind))(what, value)
        return value

    return checked


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise check.refuse("ClientConfig.start_timeout", "a number of seconds", value)
    return value


class Cmd(check.Config):
    """How to launch a plugin: `Cmd(args, env=..., dir=...)`. All three are attributes as well.

    `args`: the program and its arguments; a str is a program alone and never split as a shell
    would. `path` is `args[0]`. A relative path is looked up as `subprocess` does: without a slash
    along PATH, otherwise from `dir` if that is set. `env`: "KEY=VALUE" entries that win over the
    host's environment. `dir`: the working directory, "" for the host's.
    """

    __slots__ = ("args", "dir", "env")
    _checks: ClassVar[check.Checks] = {"args": _argv, "env": _environment, "dir": _path}

    args: list[str]
    env: list[str]
    dir: str

    def __init__(
        self,
        args: StrPath | Sequence[StrPath] | None = None,
        *,
        env: Sequence[str] | None = None,
        dir: StrPath | None = None,  # noqa: A002
    ) -> None:
        self.args = args  # type: ignore[assignment]  # converted on the way
        self.env = env  # type: ignore[assignment]
        self.dir = dir  # type: ignore[assignment]

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


class ClientConfig(check.Config):
    """Everything a host says about one plugin. Keywords left out (or None) mean the default.

    plugins             name -> Plugin, for the version of the handshake config
    versioned_plugins   version -> {name: Plugin}; the highest that both sides know is used
    handshake_config    HandshakeConfig
    cmd                 what to launch: Cmd, or its `args`; exclusive with
    reattach_config     ReattachConfig of a running plugin, and with
    runner              a Runner that launches it elsewhere; see runners.py
    min_port, max_port  TCP ports that the plugin may listen on (10000, 25000)
    start_timeout       seconds from the launch to the handshake (60); note that the methods
                        start_timeout() and set_start_timeout() count milliseconds
    kill_timeout        seconds that the plugin has for exiting by itself when kill() has asked it
                        to, before it gets SIGKILL (2); 0: it gets that at once
    allowed_protocols   ["grpc"]
    managed             whether cleanup_clients() kills this plugin (False)
    on_exit             called once as on_exit(client, exit_status) when the process of a started
                        plugin has ended, by itself or by a kill, on a thread of the package's
    detach              whether it outlives the host, for another host to reattach to (False)
    logger              parent of the logger for the plugin's log (see _log/host.py)
    stderr              file or file descriptor that gets a raw copy of the plugin's stderr
    sync_stdout         file or file descriptor that gets what the plugin prints to its stdout
                        once it serves; None discards it
    sync_stderr         the same for its stderr: descriptor 2, and sys.stderr of a Python plugin,
                        which is its log otherwise
    plugin_log_buffer_size  longest line of the plugin's log in bytes (65536)
    skip_host_env       do not pass the host's environment on (False)
    broker_multiplex    everything, brokered connections too, over one socket (False)
    auto_mtls           encrypt, with certificates made for this launch alone (False)
    tls_config          TLSConfig, for plugins that serve with TLS of their own
    secure_config       SecureConfig, the checksum of the executable, which is not run otherwise
    unix_socket_dir     where a private directory for the plugin's sockets is made, which goes with
                        the plugin; "" (default): sockets are in the plugin's temporary directory
    unix_socket_group   name or number of a group that may use the sockets, besides this user
    kill_group          end whatever the plugin's process has started together with it, for scripts
                        that start the plugin without exec (False)
    max_receive_message_length, max_send_message_length
                        bytes of one message, by default 2**31 - 1, the most that gRPC can carry
    max_metadata_size   bytes of metadata, error details included, that a call may bring (262144)
    memory_quota        bytes that the connections of this plugin may take together for what they
                        receive before gRPC refuses more; None: no limit
    channel_options     gRPC's channel arguments, (name, value) pairs as grpcio takes them, of the
                        channels to the plugin, brokered ones too. They win over the limits above
    server_options      the same of servers that the broker serves to the plugin
    skip_output         how many lines the plugin may print to its stdout before its handshake; they
                        are skipped, and quoted in a warning. True stands for 100 (0)
    """

    __slots__ = (
        "_cmd",
        "_reattach_config",
        "_start_timeout",
        "allowed_protocols",
        "auto_mtls",
        "broker_multiplex",
        "channel_options",
        "detach",
        "handshake_config",
        "kill_group",
        "kill_timeout",
        "logger",
        "managed",
        "max_metadata_size",
        "max_port",
        "max_receive_message_length",
        "max_send_message_length",
        "memory_quota",
        "min_port",
        "on_exit",
        "plugin_log_buffer_size",
        "plugins",
        "runner",
        "secure_config",
        "server_options",
        "skip_host_env",
        "skip_output",
        "stderr",
        "sync_stderr",
        "sync_stdout",
        "tls_config",
        "unix_socket_dir",
        "unix_socket_group",
        "versioned_plugins",
    )
    _checks: ClassVar[check.Checks] = {
        "plugins": check.mapping,
        "versioned_plugins": check.mapping,
        "handshake_config": check_handshake,
        "_cmd": check.optional(Cmd),
        "_reattach_config": check.optional(ReattachConfig),
        "_start_timeout": check.positive,
        "kill_timeout": check.seconds,
        "min_port": _port,
        "max_port": _port,
        "allowed_protocols": _protocols,
        "managed": check.flag,
        "detach": check.flag,
        "on_exit": check.callback,
        "runner": _runner,
        "logger": check.logger,
        "stderr": _writer,
        "sync_stdout": _writer,
        "sync_stderr": _writer,
        "plugin_log_buffer_size": check.positive,
        "skip_host_env": check.flag,
        "auto_mtls": check.flag,
        "tls_config": _of_security("TLSConfig"),
        "secure_config": _of_security("SecureConfig"),
        "unix_socket_dir": _path,
        "unix_socket_group": _group,
        "broker_multiplex": check.flag,
        "kill_group": check.flag,
        "max_receive_message_length": check.message_length,
        "max_send_message_length": check.message_length,
        "max_metadata_size": check.metadata_size,
        "memory_quota": check.quota,
        "channel_options": check.channel_options,
        "server_options": check.channel_options,
        "skip_output": _lines,
    }

    plugins: PluginSet
    versioned_plugins: dict[int, PluginSet]
    handshake_config: HandshakeConfig
    _cmd: Cmd | None
    _reattach_config: ReattachConfig | None
    _start_timeout: int  # milliseconds
    kill_timeout: float
    min_port: int
    max_port: int
    allowed_protocols: list[str]
    managed: bool
    runner: Runner | None
    detach: bool
    on_exit: Callable[[Any, int | None], Any] | None
    logger: logging.Logger | None
    stderr: Writer | int | None
    sync_stdout: Writer | int | None
    sync_stderr: Writer | int | None
    plugin_log_buffer_size: int
    skip_host_env: bool
    auto_mtls: bool
    tls_config: TLSConfig | None
    secure_config: SecureConfig | None
    unix_socket_dir: str
    unix_socket_group: str | None
    broker_multiplex: bool
    kill_group: bool
    max_receive_message_length: int | None
    max_send_message_length: int | None
    max_metadata_size: int | None
    memory_quota: int | None
    channel_options: tuple[tuple[str | bytes, Any], ...]
    server_options: tuple[tuple[str | bytes, Any], ...]
    skip_output: int

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
        kill_timeout: float | None = None,
        allowed_protocols: Sequence[str] | None = None,
        managed: bool | None = None,
        runner: Runner | None = None,
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
        self.kill_timeout = default(kill_timeout, DEFAULT_KILL_TIMEOUT)
        self.allowed_protocols = default(allowed_protocols, ["grpc"])
        self.managed = default(managed, False)
        self.runner = runner
        self.detach = default(detach, False)
        self.on_exit = on_exit
        self.logger = logger
        self.stderr = stderr
        self.sync_stdout = sync_stdout
        self.sync_stderr = sync_stderr
        self.plugin_log_buffer_size = default(plugin_log_buffer_size, DEFAULT_LOG_BUFFER_SIZE)
        self.skip_host_env = default(skip_host_env, False)
        self.auto_mtls = default(auto_mtls, False)
        self.tls_config = tls_config
        self.secure_config = secure_config
        self.unix_socket_dir = unix_socket_dir  # type: ignore[assignment]  # converted on the way
        self.unix_socket_group = unix_socket_group  # type: ignore[assignment]
        self.broker_multiplex = default(broker_multiplex, False)
        self.kill_group = default(kill_group, False)
        self.max_receive_message_length = max_receive_message_length
        self.max_send_message_length = max_send_message_length
        self.max_metadata_size = max_metadata_size
        self.memory_quota = memory_quota
        self.channel_options = channel_options  # type: ignore[assignment]  # converted on the way
        self.server_options = server_options  # type: ignore[assignment]
        self.skip_output = default(skip_output, 0)

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
            raise check.refuse("ClientConfig.start_timeout", "a number", msec)
        if not 0 < msec < 2**53:  # also refuses nan and infinity
            raise ConfigError(f"ClientConfig.start_timeout must be greater than 0, but is {msec}")
        self._start_timeout = max(1, round(msec))
