"""The options of supervisors: checked when they are made, and never changed afterwards."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass

from pygo_plugin._base import checks as check
from pygo_plugin._host.cmd import Cmd
from pygo_plugin._host.options import AIO_OPTIONS, OPTIONS, ClientOption, check_all
from pygo_plugin.config import ClientConfig
from pygo_plugin.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Literal

    from pygo_plugin.runners import Runner

__all__ = ["AIO_KEYWORDS", "KEYWORDS", "Health", "Idempotent", "Restart", "Settings", "idempotent"]


@dataclass(frozen=True)
class Restart:
    """When a supervised plugin is started again after it has ended, and how often.

    when          "always"; "on_failure": unless it has exited with status 0; or "never"
    max_restarts  the most restarts within any `within` seconds; one more, and the plugin is given
                  up. None: no limit
    within        seconds; after that long without an end, `delay` is the first one again, too
    delay         seconds before the first restart
    factor        each further restart in a row waits that many times as long
    max_delay     seconds, beyond which the delay does not grow
    jitter        the part of a delay that is left to chance: with 0.2, it is 0.8 to 1.2 times as
                  long, so that plugins that ended together do not all start together
    """

    when: Literal["always", "on_failure", "never"] = "always"
    max_restarts: int | None = 5
    within: float = 60.0
    delay: float = 0.1
    factor: float = 2.0
    max_delay: float = 30.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        """Raises: ConfigError."""
        if self.when not in ("always", "on_failure", "never"):
            raise ConfigError(
                f'Restart.when must be "always", "on_failure" or "never", but is {self.when!r}'
            )
        if self.max_restarts is not None:
            check.natural("Restart.max_restarts", self.max_restarts)
        for name in ("within", "delay", "max_delay"):
            check.seconds(f"Restart.{name}", getattr(self, name))
        if not _number("Restart.factor", self.factor) >= 1:
            raise ConfigError(f"Restart.factor must be at least 1, but is {self.factor}")
        if not 0 <= _number("Restart.jitter", self.jitter) <= 1:
            raise ConfigError(f"Restart.jitter must be from 0 to 1, but is {self.jitter}")
        if self.delay > self.max_delay:
            raise ConfigError(
                f"Restart: delay is {self.delay}, more than max_delay {self.max_delay}"
            )

    def delay_of(self, attempt: int, chance: float) -> float:
        """Seconds before the `attempt`-th restart in a row. `chance` is from 0 to 1."""
        try:
            delay = min(self.delay * self.factor ** (attempt - 1), self.max_delay)
        except OverflowError:
            delay = self.max_delay
        return delay * (1 + self.jitter * (2 * chance - 1))


@dataclass(frozen=True)
class Health:
    """How the plugin's health is watched: gRPC's health service, or net/rpc's Control.Ping.

    interval  seconds between two questions
    timeout   seconds that an answer may take
    failures  after that many in a row the plugin is killed, and counts as crashed
    startup   seconds from the handshake within which a new process has to be healthy
    """

    interval: float = 10.0
    timeout: float = 2.0
    failures: int = 3
    startup: float = 30.0

    def __post_init__(self) -> None:
        """Raises: ConfigError."""
        for name in ("interval", "timeout", "startup"):
            if not check.seconds(f"Health.{name}", getattr(self, name)) > 0:
                raise ConfigError(f"Health.{name} must be greater than 0")
        check.positive("Health.failures", self.failures)


class Idempotent:
    """Stands for all methods that the service's own description calls idempotent."""

    def __repr__(self) -> str:
        return "pygo_plugin.supervise.idempotent"


idempotent = Idempotent()


# ---- The table -----------------------------------------------------------------------------------


def _number(what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise check.refuse(what, "a number", value)
    return float(value)


def _age(what: str, value: Any) -> float | None:
    if value is not None and not check.seconds(what, value) > 0:
        raise ConfigError(f"{what} must be greater than 0")
    return value  # type: ignore[no-any-return]


def _count(what: str, value: Any) -> int | None:
    return None if value is None else check.positive(what, value)


def _health(what: str, value: Any) -> Health | None:
    if value is False:
        return None
    if not isinstance(value, Health):
        raise check.refuse(what, "a Health, or False for none", value)
    return value


def _restart(what: str, value: Any) -> Restart:
    if isinstance(value, str):
        return Restart(value)  # type: ignore[arg-type]  # which it checks
    if not isinstance(value, Restart):
        raise check.refuse(what, "a Restart", value, "as in Restart(max_restarts=5, within=60.0)")
    return value


def _retry(what: str, value: Any) -> Any:
    if value is None or value is idempotent:
        return value
    if not hasattr(value, "keys"):
        raise check.refuse(what, "a dict, or idempotent", value, 'as in {"Get": 3}')
    return {
        check.text(f"{what}'s key", name): check.natural(f"{what}[{name!r}]", value[name])
        for name in value.keys()  # noqa: SIM118
    }


def _watch(what: str, value: Any) -> bool | tuple[str, ...]:
    if isinstance(value, bool):
        return value
    paths = (value,) if isinstance(value, (str, bytes, os.PathLike)) else value
    if not hasattr(paths, "__iter__"):
        raise check.refuse(what, "True, False, or a list of paths", value)
    return tuple(check.path(f"{what}[{i}]", path) for i, path in enumerate(paths))


def _factory(what: str, value: Any) -> Any:
    if value is None or isinstance(value, type):
        return value
    if not callable(value) or callable(getattr(value, "start", None)):
        raise check.refuse(
            what,
            "a function without arguments that makes a Runner",
            value,
            "each process of the plugin needs a runner of its own: runner=lambda: MyRunner()",
        )
    return value


OWN_OPTIONS = (
    check.Option(
        "restart",
        check.Kind(_restart, 'Restart | Literal["always", "on_failure", "never"]', "Restart"),
        Restart,
        "When the plugin is started again after its end, and how often.",
    ),
    check.Option(
        "health",
        check.Kind(_health, "Health | Literal[False]", "Health | None"),
        Health,
        "How its health is watched; False: not at all.",
    ),
    check.Option(
        "retry",
        check.Kind(_retry, "Mapping[str, int] | Idempotent", "dict[str, int] | Idempotent | None"),
        None,
        "Which calls are repeated that the plugin's end has cut off, and how many times at most: "
        '`{"Get": 3}` by the name of the method, or `idempotent` for those that their descriptor '
        "calls so. None: no calls.",
    ),
    check.Option(
        "wait",
        check.FLAG,
        True,
        "Whether calls wait, within their deadlines, while the plugin is being started. False: "
        "they fail at once.",
        takes_none=True,
    ),
    check.Option(
        "max_calls",
        check.Kind(_count, "int", "int | None"),
        None,
        "Replace the process after so many calls.",
    ),
    check.Option(
        "max_age",
        check.Kind(_age, "float", "float | None"),
        None,
        "Replace the process after so many seconds.",
    ),
    check.Option(
        "max_rss",
        check.Kind(_count, "int", "int | None"),
        None,
        "Replace the process when it has more bytes in memory.",
    ),
    check.Option(
        "drain_timeout",
        check.SECONDS,
        30.0,
        "Seconds that the calls of a process that has been replaced may still take.",
    ),
    check.Option(
        "watch",
        check.Kind(_watch, "bool | StrPath | Iterable[StrPath]", "bool | tuple[str, ...]"),
        False,
        "Reload the plugin when its executable changes (True), or one of these files or "
        "directories. Needs the extra `watch`.",
    ),
    check.Option(
        "on_event",
        check.Kind(check.callback, "Callable[[Event], Any]", "Callable[[Event], Any] | None"),
        None,
        "A function that is called with each event.",
    ),
)

_RUNNER = ClientOption(
    "runner",
    check.Kind(_factory, "Callable[[], Runner]"),
    None,
    "Makes the `Runner` of one incarnation.",
)
_CLIENT = tuple(
    _RUNNER if option.name == "runner" else option for option in OPTIONS if option.name != "cmd"
)
# What the constructors take besides `cmd`.
KEYWORDS = (*_CLIENT, *OWN_OPTIONS)
AIO_KEYWORDS = (*_CLIENT, *AIO_OPTIONS, *OWN_OPTIONS)

_REFUSED = {
    "reattach_config": "a supervisor does not go with a reattach_config: it starts the plugin, and "
    "starts it again, and of a plugin that another host has started it could do neither",
    "managed": "a supervisor does not go with managed: it would start the plugin again that "
    "cleanup_clients() has killed; close() the supervisor instead",
    "detach": "a supervisor does not go with detach: a plugin that outlives its host has nobody to "
    "start it again; let the supervisor's end kill it",
}


class Settings:
    """The options of one supervisor. The attributes are those of OWN_OPTIONS, and:

    config   the ClientConfig of its clients, a copy that nothing changes
    interceptors  those of an aio.Client
    factory  makes the runner of each client; None: `config` has the command to launch
    """

    restart: Restart
    health: Health | None
    retry: Any
    wait: bool
    max_calls: int | None
    max_age: float | None
    max_rss: int | None
    drain_timeout: float
    watch: bool | tuple[str, ...]
    on_event: Callable[[Any], Any] | None

    def __init__(self, owner: str, cmd: Any, keywords: Mapping[str, Any]) -> None:
        """Raises: ConfigError."""
        check.fill(self, OWN_OPTIONS, keywords)
        self.interceptors = keywords.get("interceptors")
        given = {
            option.name: keywords[option.name]
            for option in _CLIENT
            if keywords[option.name] is not None
        }
        self.factory: Callable[[], Runner] | None = _factory(
            f"{owner}.runner", given.pop("runner", None)
        )
        if isinstance(cmd, ClientConfig):
            extra = sorted(given)
            if extra:
                raise ConfigError(
                    f"{owner}(config, {extra[0]}=...): options next to a ClientConfig; set "
                    f"{', '.join(extra)} on the config instead"
                )
            if cmd.runner is not None:
                raise ConfigError(
                    f"{owner}: the ClientConfig has a runner, which can start one process only; "
                    f"give runner=, a function without arguments that makes one, next to the config"
                )
            self.config = _frozen(cmd)
        else:
            self.config = _frozen(ClientConfig(cmd=cmd, **given))
        for name, message in _REFUSED.items():
            value = self.config.reattach_config() if name == "reattach_config" else None
            if value is not None or getattr(self.config, name, None) is True:
                raise ConfigError(f"{owner}: {message}")
        if self.watch is True and self.factory is not None:
            raise ConfigError(
                f"{owner}: watch=True watches the executable that cmd names, and a runner has none "
                "that this host knows: name the files, as in watch=[path]"
            )
        checked = copy.copy(self.config)
        if self.factory is not None:
            checked.runner = Placeholder(self.factory)  # type: ignore[assignment]
        from pygo_plugin._host.launch import name_of
        from pygo_plugin._host.naming import printable

        self.name = printable(name_of(checked))
        check_all(checked, self.name)

    def client_config(
        self, cmd: Cmd | None, on_exit: Callable[[Any, int | None], Any]
    ) -> ClientConfig[Any, Any]:
        """The configuration of the next client, which launches `cmd` if that is not None."""
        config = copy.copy(self.config)
        if self.factory is not None:
            config.runner = self.factory()
        if cmd is not None:
            config.set_cmd(cmd)
        config.on_exit = on_exit
        return config

    def command(self, cmd: Any) -> Cmd | None:
        """What `reload(cmd)` is given, for `client_config`. Raises: ConfigError."""
        if cmd is None:
            return None
        if self.factory is not None:
            raise ConfigError(
                f"{self.name}: reload(cmd=...) does not go with a runner, which decides what it "
                f"launches: call reload() without cmd, and have the function that is the option "
                f"runner make another one"
            )
        made = cmd if isinstance(cmd, Cmd) else Cmd(cmd)
        if not made.valid:
            raise ConfigError(f"{self.name}: reload(cmd=...) names no program: its args are empty")
        return Cmd(list(made.args), env=list(made.env), dir=made.dir)


class Placeholder:
    """Stands for the runner of a factory, which is not called before the plugin is started."""

    def __init__(self, factory: Any) -> None:
        self.name = getattr(factory, "__name__", "plugin").strip("<>")

    def start(self) -> None:
        raise NotImplementedError

    wait = kill = diagnose = plugin_to_host = host_to_plugin = start


def _frozen(config: ClientConfig[Any, Any]) -> ClientConfig[Any, Any]:
    """A copy that later changes of the user's objects do not reach."""
    made = copy.copy(config)
    made.plugins = dict(config.plugins)
    made.versioned_plugins = {
        version: check.mapping(f"versioned_plugins[{version}]", plugins).copy()
        for version, plugins in config.versioned_plugins.items()
    }
    made.env = dict(config.env)
    made.allowed_protocols = list(config.allowed_protocols)
    cmd = config.cmd()
    if cmd is not None:
        made.set_cmd(Cmd(list(cmd.args), env=list(cmd.env), dir=cmd.dir))
    return made
