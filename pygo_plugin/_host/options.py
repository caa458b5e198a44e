"""The table of the options of clients, and what is checked when a client starts.

The attributes, checks, defaults and keywords of `ClientConfig` and of both `Client` classes come
from the table, and so does their documentation. To add an option, add an entry, and run
scripts/options.py, which writes the generated parts. If the core needs the value, its table in
csrc/py/client_options.c needs a line, too.
"""

from __future__ import annotations

from os.path import abspath

from pygo_plugin._base import checks as check
from pygo_plugin._host.cmd import Cmd, variables
from pygo_plugin._host.reattach import ReattachConfig
from pygo_plugin.config import (
    HANDSHAKE,
    PROTOCOLS,
    HandshakeConfig,
    plugin_sets,
    set_protocol,
)
from pygo_plugin.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from pygo_plugin._host.config import ClientConfig

__all__ = [
    "AIO_OPTIONS",
    "OPTIONS",
    "TARGETS",
    "ClientOption",
    "check_all",
    "check_target",
    "for_core",
    "given",
]

SKIPPED_LINES = 100  # what skip_output=True stands for

TARGETS = ("cmd", "reattach_config", "runner")  # a client has exactly one of these options
LAUNCHED = ("cmd", "runner")
SUBPROCESS = ("cmd",)


class ClientOption(check.Option):
    """An option of a client.

    targets    the targets that it has a meaning for
    conflicts  the options that cannot be set together with it, and the error's message
    core       the keyword of `_core.Client` that takes its value; empty if there is none, or if
               `Client` passes the value because it depends on other options, too
    convert    makes the keyword's value from the attribute's, if they differ
    """

    __slots__ = ("conflicts", "convert", "core", "targets")

    def __init__(
        self,
        name: str,
        kind: check.Kind,
        default: Any,
        doc: str,
        *,
        page: str = "",
        slot: str = "",
        protocol: str = "",
        targets: tuple[str, ...] = TARGETS,
        conflicts: Mapping[str, str] | None = None,
        core: str = "",
        convert: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(name, kind, default, doc, page=page, slot=slot, protocol=protocol)
        self.targets = targets
        self.conflicts = conflicts or {}
        self.core = core
        self.convert = convert


def _port(what: str, value: Any) -> int:
    if not 0 <= check.integer(what, value) <= 65535:
        raise ConfigError(f"{what} must be a port between 0 and 65535, but is {value}")
    return int(value)


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
    if value is None:
        return None
    if isinstance(value, str):
        if not value:
            raise ConfigError(f"{what} must be the name or the number of a group, but is empty")
        return check.for_system(what, value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise check.refuse(what, "the name or the number of a group", value)
    return str(check.natural(what, value))


def _lines(what: str, value: Any) -> int:
    if isinstance(value, bool):
        return SKIPPED_LINES if value else 0
    if not isinstance(value, int):
        raise check.refuse(what, "True, False or a number of lines", value)
    return min(check.natural(what, value), 1 << 31)


def _of_security(kind: str) -> Callable[[str, Any], Any]:
    """As check.optional, for a class that is imported only when there is a value to check."""

    def checked(what: str, value: Any) -> Any:
        if value is not None:
            from pygo_plugin import security

            return check.optional(getattr(security, kind))(what, value)
        return value

    return checked


def _cmd(what: str, value: Any) -> Cmd | None:
    return value if value is None or isinstance(value, Cmd) else Cmd(value)


def _start_timeout(what: str, value: Any) -> float:
    """Seconds, in whole milliseconds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise check.refuse(what, "a number of seconds", value)
    if not 0 < value < 2**43:  # also refuses nan and infinity
        raise ConfigError(
            f"{what} must be greater than 0 and less than 2**43 seconds, but is {value}"
        )
    return max(0.001, round(float(value), 3))


def _name(what: str, value: Any) -> str | None:
    if value is None:
        return None
    if not check.text(what, value) or not value.isprintable():
        raise ConfigError(f"{what} must be a text of printable characters, but is {value!r}")
    return str(value)


def _interceptors(what: str, value: Any) -> tuple[Any, ...]:
    return tuple(value or ())


PORT = check.Kind(_port, "int")
PATH = check.Kind(check.path, "StrPath", "str")
WRITER = check.Kind(_writer, "Writer | int", "Writer | int | None")

SOCKET_CONFLICTS = {
    "runner": "unix_socket_dir and unix_socket_group do not go with a runner, which decides where "
    "its plugin's sockets are",
    "reattach_config": "unix_socket_dir and unix_socket_group do not go with a reattach_config: "
    "the plugin that runs already has its socket",
}

OPTIONS = (
    ClientOption(
        "plugins",
        check.PLUGIN_SET,
        None,
        "The plugins by name, for the protocol version of the handshake config.",
    ),
    ClientOption(
        "versioned_plugins",
        check.PLUGIN_SETS,
        None,
        "Dicts as `plugins`, by protocol version. The highest version that both sides know is "
        "used.",
        page="versioning.md",
    ),
    ClientOption(
        "handshake_config",
        HANDSHAKE,
        HandshakeConfig,
        "A `HandshakeConfig(protocol_version, magic_cookie_key, magic_cookie_value)`. The plugin "
        "must have the same one. The version is that of `plugins`.",
    ),
    ClientOption(
        "cmd",
        check.Kind(_cmd, "Cmd | StrPath | Sequence[StrPath]", "Cmd | None"),
        None,
        "What to launch: a `Cmd`, a program, or a list of a program and its arguments.",
        slot="_cmd",
        targets=SUBPROCESS,
    ),
    ClientOption(
        "env",
        check.Kind(variables, "Mapping[str, StrPath] | Sequence[str]", "dict[str, str]"),
        None,
        'Environment variables for the plugin: a mapping, or a list of `"KEY=VALUE"`. They are '
        "added to the host's environment and take precedence over it. With `skip_host_env` they "
        "are the plugin's whole environment, except for the variables of the protocol.",
        page="launching.md#environment",
        targets=SUBPROCESS,
        conflicts={
            "runner": "env does not go with a runner, which gives its plugin an environment of its "
            "own: give the variables to the runner",
            "reattach_config": "env does not go with a reattach_config: the plugin that runs "
            "already has its environment",
        },
    ),
    ClientOption(
        "cwd",
        PATH,
        "",
        "The plugin's working directory. Empty: that of the host.",
        targets=SUBPROCESS,
        conflicts={
            "runner": "cwd does not go with a runner, which decides where its plugin runs",
            "reattach_config": "cwd does not go with a reattach_config: the plugin that runs "
            "already has its working directory",
        },
    ),
    ClientOption(
        "name",
        check.Kind(_name, "str", "str | None"),
        None,
        "What messages, the log and `repr` call the plugin. None: the script, the module or the "
        "executable that `cmd` names.",
        page="launching.md#names",
    ),
    ClientOption(
        "reattach_config",
        check.Kind(check.optional(ReattachConfig), "ReattachConfig", "ReattachConfig | None"),
        None,
        "The running plugin to connect to.",
        page="reattach.md",
        slot="_reattach_config",
        targets=("reattach_config",),
    ),
    ClientOption(
        "runner",
        check.Kind(_runner, "Runner", "Runner | None"),
        None,
        "A `Runner`, which launches the plugin elsewhere.",
        page="runners.md",
        targets=("runner",),
    ),
    ClientOption(
        "min_port",
        PORT,
        10000,
        "The lowest port that the plugin may listen on if it uses TCP.",
        core="min_port",
    ),
    ClientOption(
        "max_port",
        PORT,
        25000,
        "The highest port that the plugin may listen on.",
        core="max_port",
    ),
    ClientOption(
        "start_timeout",
        check.Kind(_start_timeout, "float"),
        60,
        "Seconds from the launch to the handshake, the check of a `secure_config` included. The "
        "methods `start_timeout()` and `set_start_timeout()` of `ClientConfig` count milliseconds.",
        slot="_start_timeout",
        targets=LAUNCHED,
        core="start_timeout",
    ),
    ClientOption(
        "kill_timeout",
        check.SECONDS,
        2,  # as go-plugin has it
        "Seconds that the plugin has to exit by itself after `kill()` has asked it to, before it "
        "gets SIGKILL. 0: SIGKILL at once, without asking.",
        page="lifecycle.md",
        core="kill_timeout",
    ),
    ClientOption(
        "allowed_protocols",
        check.Kind(_protocols, "Sequence[str]", "list[str]"),
        ["grpc"],
        'The protocols that the plugin may speak: `"grpc"`, `"netrpc"`, or both.',
        page="netrpc.md",
        core="protocols",
    ),
    ClientOption(
        "managed",
        check.FLAG,
        False,
        "Have `cleanup_clients()` kill this plugin.",
        core="managed",
    ),
    ClientOption(
        "detach",
        check.FLAG,
        False,
        "Have the plugin outlive its host, for another host to reattach to.",
        page="reattach.md",
        targets=SUBPROCESS,
        conflicts={
            "runner": "detach is for plugins that are subprocesses, without a runner",
            "managed": "detach is for plugins that outlive their host, and managed for plugins "
            "that do not",
            "auto_mtls": "detach does not go with auto_mtls: no other host could reattach, since "
            "the plugin trusts only the host that launched it",
            "reattach_config": "detach is for the host that launches a plugin; a host that "
            "reattaches to it ends it only by kill() anyway",
        },
        core="detach",
    ),
    ClientOption(
        "template",
        check.FLAG,
        False,
        "Launch a plugin written in Python from a template, a process that has imported its "
        "program and waits before it serves, in the time of a fork.",
        page="templates.md",
        targets=SUBPROCESS,
        conflicts={
            "runner": "template is for plugins that are subprocesses, without a runner",
            "reattach_config": "template is for the host that launches a plugin; a host that "
            "reattaches to it starts nothing",
            "secure_config": "template does not go with secure_config: the program of a template "
            "is read once, so no later launch would check its file",
            "kill_group": "template does not go with kill_group: the processes that a copy has "
            "forked, and that outlive it, cannot be told from those of other copies",
        },
    ),
    ClientOption(
        "on_exit",
        check.Kind(
            check.callback,
            "Callable[[Any, int | None], Any]",
            "Callable[[Any, int | None], Any] | None",
        ),
        None,
        "A function that is called once, with the client and the exit status, when the process of "
        "a started plugin has ended.",
        page="lifecycle.md",
    ),
    ClientOption(
        "logger",
        check.LOGGER,
        None,
        "The parent of the logger that gets the plugin's log. None: `pygo_plugin.plugin`.",
        page="logging.md",
        targets=LAUNCHED,
    ),
    ClientOption(
        "stderr",
        WRITER,
        None,
        "A file or a file descriptor that gets a raw copy of the plugin's log.",
        page="logging.md",
        targets=LAUNCHED,
    ),
    ClientOption(
        "sync_stdout",
        WRITER,
        None,
        "A file or a file descriptor that gets what the plugin prints to its stdout once it "
        "serves. None discards it.",
        page="logging.md",
    ),
    ClientOption(
        "sync_stderr",
        WRITER,
        None,
        "A file or a file descriptor that gets what the plugin writes to its stderr once it "
        "serves: to descriptor 2, and to `sys.stderr` of a Python plugin, which otherwise leads "
        "to its log. None discards it.",
        page="logging.md",
    ),
    ClientOption(
        "plugin_log_buffer_size",
        check.Kind(check.positive, "int"),
        65536,
        "The most bytes that a line of the plugin's log may have. Longer lines come in pieces.",
        page="logging.md",
        targets=LAUNCHED,
        core="log_buffer_size",
        convert=lambda size: min(size, 1 << 31),
    ),
    ClientOption(
        "skip_host_env",
        check.FLAG,
        False,
        "Do not pass the host's environment on to the plugin.",
        targets=SUBPROCESS,
    ),
    ClientOption(
        "auto_mtls",
        check.FLAG,
        False,
        "Encrypt all connections, with certificates that are made for this launch alone.",
        page="security.md",
        targets=LAUNCHED,
        conflicts={
            "reattach_config": "auto_mtls does not go with a reattach_config: a running plugin "
            "trusts only the host that launched it",
            "tls_config": "auto_mtls and tls_config exclude each other: certificates are made for "
            "this launch, or they are given",
        },
        core="auto_mtls",
    ),
    ClientOption(
        "tls_config",
        check.Kind(_of_security("TLSConfig"), "TLSConfig", "TLSConfig | None"),
        None,
        "A `TLSConfig`, for plugins that serve with TLS of their own.",
        page="security.md",
        core="tls",
        convert=lambda config: None if config is None else config._tls,
    ),
    ClientOption(
        "secure_config",
        check.Kind(_of_security("SecureConfig"), "SecureConfig", "SecureConfig | None"),
        None,
        "A `SecureConfig`: the checksum that the executable must have. Otherwise it is not run.",
        page="security.md",
        targets=SUBPROCESS,
        conflicts={
            "reattach_config": "secure_config does not go with a reattach_config: the executable "
            "of a plugin that runs already cannot be checked",
            "runner": "secure_config does not go with a runner, whose program cannot be checked",
        },
        core="secure",
        convert=lambda config: None if config is None else config._for_core(),
    ),
    ClientOption(
        "unix_socket_dir",
        PATH,
        "",
        "The directory in which a private directory for the plugin's sockets is made, which is "
        "removed when the plugin ends. Empty: the sockets are in the plugin's temporary directory.",
        page="security.md",
        targets=SUBPROCESS,
        conflicts=SOCKET_CONFLICTS,
        core="unix_socket_dir",
        convert=lambda path: abspath(path) if path else None,
    ),
    ClientOption(
        "unix_socket_group",
        check.Kind(_group, "str | int", "str | None"),
        None,
        "The name or the number of a group that may use the plugin's sockets, besides this user.",
        page="security.md",
        targets=SUBPROCESS,
        conflicts=SOCKET_CONFLICTS,
        core="unix_socket_group",
    ),
    ClientOption(
        "broker_multiplex",
        check.FLAG,
        False,
        "Use one socket for everything, brokered connections included.",
        page="broker.md",
        protocol="grpc",
        targets=LAUNCHED,
        conflicts=dict.fromkeys(
            ("detach", "reattach_config"),
            "broker_multiplex does not go with detach or a reattach_config: the plugin has one "
            "connection, and it is that of the host that launched it",
        ),
        core="multiplex",
    ),
    ClientOption(
        "kill_group",
        check.FLAG,
        False,
        "Kill also the processes that the plugin's process has started, for scripts that start the "
        "plugin without exec.",
        page="lifecycle.md",
        targets=SUBPROCESS,
        conflicts={
            "reattach_config": "kill_group does not go with a reattach_config: processes that a "
            "running plugin has started cannot be told from others",
            "runner": "kill_group does not go with a runner, which kills what it has started",
        },
    ),
    ClientOption(
        "max_receive_message_length",
        check.MESSAGE_LENGTH,
        None,
        "The most bytes that a message from the plugin may have. None: `2**31 - 1`, the most that "
        "gRPC can carry.",
        page="security.md#limits",
        protocol="grpc",
    ),
    ClientOption(
        "max_send_message_length",
        check.MESSAGE_LENGTH,
        None,
        "The most bytes that a message to the plugin may have. None: `2**31 - 1`.",
        page="security.md#limits",
        protocol="grpc",
    ),
    ClientOption(
        "max_metadata_size",
        check.METADATA_SIZE,
        None,
        "The most bytes of metadata, error details included, that a call may bring. None: 262,144.",
        page="security.md#limits",
        protocol="grpc",
    ),
    ClientOption(
        "memory_quota",
        check.QUOTA,
        None,
        "The most bytes that all connections of this plugin may take together for what they "
        "receive, before gRPC refuses more. None: no limit.",
        page="security.md#limits",
        protocol="grpc",
    ),
    ClientOption(
        "channel_options",
        check.CHANNEL_OPTIONS,
        None,
        "gRPC's channel arguments, a list of (name, value) as grpcio takes them, for the channels "
        "to the plugin, brokered ones included. They take precedence over the options and limits "
        "that the package sets.",
        page="launching.md#grpcs-own-options",
        protocol="grpc",
    ),
    ClientOption(
        "server_options",
        check.CHANNEL_OPTIONS,
        None,
        "gRPC's channel arguments for the servers that the broker serves to the plugin.",
        page="broker.md",
        protocol="grpc",
    ),
    ClientOption(
        "skip_output",
        check.Kind(_lines, "bool | int", "int"),
        0,
        "How many lines the plugin may print to its stdout before its handshake; True stands for "
        "100. They are skipped, and a warning in the plugin's log quotes the first ten. A line "
        "without an end counts as one line and costs no memory. The `start_timeout` keeps running.",
        targets=LAUNCHED,
        core="skip_output",
    ),
)

# The options that only the client for asyncio takes.
AIO_OPTIONS = (
    ClientOption(
        "interceptors",
        check.Kind(_interceptors, "Iterable[Any]", "tuple[Any, ...]"),
        None,
        "Interceptors of `grpc.aio`'s kinds for the calls of the client's channels, the first one "
        "outermost.",
        page="asyncio.md",
        protocol="grpc",
        slot="_interceptors",
    ),
)

_SLOTS = {option.name: option.slot for option in OPTIONS}
_PASSED_ON = [option for option in OPTIONS if option.core]
_CONFLICTING = [option for option in OPTIONS if option.conflicts]


def given(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The options among a function's keywords, except `cmd`."""
    return {name: keywords[name] for name in _SLOTS if name != "cmd"}


def for_core(config: ClientConfig) -> dict[str, Any]:
    """The keywords of `_core.Client` that have one option each."""
    keywords = {}
    for option in _PASSED_ON:
        value = getattr(config, option.slot)
        keywords[option.core] = value if option.convert is None else option.convert(value)
    return keywords


def check_target(config: ClientConfig, name: str) -> None:
    """Raises: ConfigError unless the config has exactly one target, which has to be complete."""
    found = [target for target in TARGETS if _is_set(config, target)]
    if len(found) != 1:
        state = f"{' and '.join(found)} are set" if found else "none is set"
        raise ConfigError(f"{name}: give one of cmd, reattach_config and runner; {state}")
    cmd, reattach = config.cmd(), config.reattach_config()
    if cmd is not None and not cmd.valid:
        raise ConfigError(f"{name}: the Cmd names no program: its args are empty")
    if reattach is not None and not reattach.valid:
        raise ConfigError(
            f"{name}: the ReattachConfig needs protocol, network and address, but is {reattach!r}"
        )


def check_all(config: ClientConfig, name: str) -> None:
    """Check what depends on several options, or on what this version supports.

    Raises: ConfigError, whose message starts with `name`.
    """
    check_target(config, name)
    _check_conflicts(config, name)
    _check_cmd(config, name)
    _check_protocols(config, name)
    if config.min_port > config.max_port:
        raise ConfigError(
            f"{name}: min_port is {config.min_port}, more than max_port {config.max_port}"
        )
    cookie = config.handshake_config
    if "=" in cookie.magic_cookie_key or "\0" in (
        cookie.magic_cookie_key + cookie.magic_cookie_value
    ):
        raise ConfigError(f'{name}: the magic cookie has a "=" in its key or a NUL byte')


def _check_conflicts(config: ClientConfig, name: str) -> None:
    for option in _CONFLICTING:
        if _is_set(config, option.name):
            for other, message in option.conflicts.items():
                if _is_set(config, other):
                    raise ConfigError(f"{name}: {message}")


def _check_cmd(config: ClientConfig, name: str) -> None:
    """Refuse what both a `Cmd` and an option say."""
    cmd = config.cmd()
    if cmd is not None and cmd.env and config.env:
        raise ConfigError(
            f"{name}: the environment is given twice, as Cmd.env and as the option env; give all "
            f"variables in one of the two"
        )
    if cmd is not None and cmd.dir and config.cwd:
        raise ConfigError(
            f"{name}: the working directory is given twice, as Cmd.dir and as the option cwd"
        )


def _check_protocols(config: ClientConfig, name: str) -> None:
    allowed, reattach = config.allowed_protocols, config.reattach_config()
    unknown = [protocol for protocol in allowed if protocol not in PROTOCOLS]
    if unknown:
        raise ConfigError(
            f'{name}: allowed_protocols has {unknown[0]!r}; there are "grpc" and "netrpc"'
        )
    if not allowed:
        raise ConfigError(f'{name}: allowed_protocols is empty; it is ["grpc"] by default')
    if reattach is not None and reattach.protocol not in allowed:
        raise ConfigError(
            f"{name}: the ReattachConfig's protocol is {reattach.protocol!r}, and allowed are "
            f"{allowed}"
        )
    spoken = allowed if reattach is None else [reattach.protocol]
    check.refuse_other_protocols(config, name, OPTIONS, spoken)
    for version, plugins in plugin_sets(config, name).items():
        protocol = set_protocol(plugins)
        if plugins and protocol not in allowed:
            raise ConfigError(
                f"{name}: the plugins of version {version} speak {protocol}, and allowed_protocols "
                f'is {allowed}: add "{protocol}" to it'
            )


def _is_set(config: ClientConfig, name: str) -> bool:
    value = getattr(config, _SLOTS[name])
    return bool(value) if isinstance(value, (bool, str, dict)) else value is not None
