"""What a host is configured with. For users it is part of `pygo_plugin.config`."""

from __future__ import annotations

from pygo_plugin._base import checks as check
from pygo_plugin._host.options import OPTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, ClassVar, Generic

    from pygo_plugin._host.cmd import Cmd
    from pygo_plugin._host.reattach import ReattachConfig
    from pygo_plugin.config import HandshakeConfig, PluginSet, StrPath, Writer
    from pygo_plugin.plugin import A, PluginBase, T
    from pygo_plugin.runners import Runner
    from pygo_plugin.security import SecureConfig, TLSConfig

    class _Parametrized(check.Config, Generic[T, A]):
        pass
else:
    from pygo_plugin.plugin import Subscriptable

    class _Parametrized(check.Config, Subscriptable):
        __slots__ = ()


__all__ = ["ClientConfig"]


class ClientConfig(_Parametrized["T", "A"]):
    """All options of a host for one plugin. Keywords left out (or None) mean the default.

    Options, written by scripts/options.py from OPTIONS:
    plugins             The plugins by name, for the protocol version of the handshake config.
    versioned_plugins   Dicts as plugins, by protocol version. The highest version that both sides
                        know is used. See docs/versioning.md.
    handshake_config    A HandshakeConfig(protocol_version, magic_cookie_key, magic_cookie_value).
                        The plugin must have the same one. The version is that of plugins.
    cmd                 What to launch: a Cmd, a program, or a list of a program and its arguments.
    env                 Environment variables for the plugin: a mapping, or a list of "KEY=VALUE".
                        They are added to the host's environment and take precedence over it. With
                        skip_host_env they are the plugin's whole environment, except for the
                        variables of the protocol. See docs/launching.md.
    cwd                 The plugin's working directory. Empty: that of the host.
    name                What messages, the log and repr call the plugin. None: the script, the
                        module or the executable that cmd names. See docs/launching.md.
    reattach_config     The running plugin to connect to. See docs/reattach.md.
    runner              A Runner, which launches the plugin elsewhere. See docs/runners.md.
    min_port            The lowest port that the plugin may listen on if it uses TCP. Default:
                        10000.
    max_port            The highest port that the plugin may listen on. Default: 25000.
    start_timeout       Seconds from the launch to the handshake, the check of a secure_config
                        included. The methods start_timeout() and set_start_timeout() of
                        ClientConfig count milliseconds. Default: 60.
    kill_timeout        Seconds that the plugin has to exit by itself after kill() has asked it to,
                        before it gets SIGKILL. 0: SIGKILL at once, without asking. Default: 2. See
                        docs/lifecycle.md.
    allowed_protocols   The protocols that the plugin may speak: "grpc", "netrpc", or both. Default:
                        ["grpc"]. See docs/netrpc.md.
    managed             Have cleanup_clients() kill this plugin.
    detach              Have the plugin outlive its host, for another host to reattach to. See
                        docs/reattach.md.
    template            Launch a plugin written in Python from a template, a process that has
                        imported its program and waits before it serves, in the time of a fork. See
                        docs/templates.md.
    on_exit             A function that is called once, with the client and the exit status, when
                        the process of a started plugin has ended. See docs/lifecycle.md.
    logger              The parent of the logger that gets the plugin's log. None:
                        pygo_plugin.plugin. See docs/logging.md.
    stderr              A file or a file descriptor that gets a raw copy of the plugin's log. See
                        docs/logging.md.
    sync_stdout         A file or a file descriptor that gets what the plugin prints to its stdout
                        once it serves. None discards it. See docs/logging.md.
    sync_stderr         A file or a file descriptor that gets what the plugin writes to its stderr
                        once it serves: to descriptor 2, and to sys.stderr of a Python plugin, which
                        otherwise leads to its log. None discards it. See docs/logging.md.
    plugin_log_buffer_size
                        The most bytes that a line of the plugin's log may have. Longer lines come
                        in pieces. Default: 65536. See docs/logging.md.
    skip_host_env       Do not pass the host's environment on to the plugin.
    auto_mtls           Encrypt all connections, with certificates that are made for this launch
                        alone. See docs/security.md.
    tls_config          A TLSConfig, for plugins that serve with TLS of their own. See
                        docs/security.md.
    secure_config       A SecureConfig: the checksum that the executable must have. Otherwise it is
                        not run. See docs/security.md.
    unix_socket_dir     The directory in which a private directory for the plugin's sockets is made,
                        which is removed when the plugin ends. Empty: the sockets are in the
                        plugin's temporary directory. See docs/security.md.
    unix_socket_group   The name or the number of a group that may use the plugin's sockets, besides
                        this user. See docs/security.md.
    broker_multiplex    Use one socket for everything, brokered connections included. See
                        docs/broker.md.
    kill_group          Kill also the processes that the plugin's process has started, for scripts
                        that start the plugin without exec. See docs/lifecycle.md.
    max_receive_message_length
                        The most bytes that a message from the plugin may have. None: 2**31 - 1, the
                        most that gRPC can carry. See docs/security.md.
    max_send_message_length
                        The most bytes that a message to the plugin may have. None: 2**31 - 1. See
                        docs/security.md.
    max_metadata_size   The most bytes of metadata, error details included, that a call may bring.
                        None: 262,144. See docs/security.md.
    memory_quota        The most bytes that all connections of this plugin may take together for
                        what they receive, before gRPC refuses more. None: no limit. See
                        docs/security.md.
    channel_options     gRPC's channel arguments, a list of (name, value) as grpcio takes them, for
                        the channels to the plugin, brokered ones included. They take precedence
                        over the options and limits that the package sets. See docs/launching.md.
    server_options      gRPC's channel arguments for the servers that the broker serves to the
                        plugin. See docs/broker.md.
    skip_output         How many lines the plugin may print to its stdout before its handshake; True
                        stands for 100. They are skipped, and a warning in the plugin's log quotes
                        the first ten. A line without an end counts as one line and costs no memory.
                        The start_timeout keeps running.
    """

    _checks: ClassVar[check.Checks] = {option.slot: option.kind.check for option in OPTIONS}
    __module__ = "pygo_plugin.config"  # where users import it from, and pickles look for it

    __slots__ = tuple(_checks)
    _secrets = ("env",)

    # Attributes, written by scripts/options.py from OPTIONS:
    plugins: PluginSet
    versioned_plugins: dict[int, PluginSet]
    handshake_config: HandshakeConfig
    _cmd: Cmd | None
    env: dict[str, str]
    cwd: str
    name: str | None
    _reattach_config: ReattachConfig | None
    runner: Runner | None
    min_port: int
    max_port: int
    _start_timeout: float
    kill_timeout: float
    allowed_protocols: list[str]
    managed: bool
    detach: bool
    template: bool
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
        # Keywords, written by scripts/options.py from OPTIONS, with PluginBase[T, A]:
        plugins: Mapping[str, PluginBase[T, A]] | None = None,
        versioned_plugins: Mapping[int, Mapping[str, PluginBase[T, A]]] | None = None,
        handshake_config: HandshakeConfig | None = None,
        cmd: Cmd | StrPath | Sequence[StrPath] | None = None,
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
        check.fill(self, OPTIONS, locals())

    def cmd(self) -> Cmd | None:
        """What to launch; None if it has not been set."""
        return self._cmd

    def set_cmd(self, cmd: Cmd | StrPath | Sequence[StrPath] | None) -> None:
        """Launch this: a Cmd, a program, or a list of a program and its arguments."""
        self._cmd = cmd  # type: ignore[assignment]  # converted on the way

    def reattach_config(self) -> ReattachConfig | None:
        """The running plugin to connect to; None if it has not been set."""
        return self._reattach_config

    def set_reattach_config(self, cfg: ReattachConfig | None) -> None:
        """Connect to this running plugin instead of launching one."""
        self._reattach_config = cfg

    def start_timeout(self) -> int:
        """Milliseconds that the plugin may take from its launch to its handshake.

        This method and the next one are the only ones that count milliseconds. The keyword
        `start_timeout`, and what `repr` shows, are in seconds, as all other times.
        """
        return round(self._start_timeout * 1000)

    def set_start_timeout(self, msec: float) -> None:
        """Set how many milliseconds the plugin may take from its launch to its handshake."""
        if isinstance(msec, bool) or not isinstance(msec, (int, float)):
            what = "ClientConfig.start_timeout"
            raise check.refuse(what, "a number, here of milliseconds", msec)
        self._start_timeout = msec / 1000
