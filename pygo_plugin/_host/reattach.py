"""Where a running plugin is. For users it is part of `pygo_plugin.config`."""

from __future__ import annotations

import os

from pygo_plugin._base import checks as check
from pygo_plugin.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar

__all__ = ["ReattachConfig"]


def _pid(what: str, value: Any) -> int:
    if not -(1 << 31) <= check.integer(what, value) < 1 << 31:
        raise ConfigError(f"{what} must be a process id, or -1, but is {value}")
    return int(value)


class ReattachConfig(check.Config):
    """Where a running plugin is: `Client.reattach_config()` returns it, and a new client takes it.

    network, address    "unix" and a socket's path, or "tcp" and "host:port".
    pid                 The process id; -1 if it is unknown.
    test                Whether `kill()` leaves the process alone.
    protocol_version    The application protocol version that the plugin serves; 0 for the version
                        of the handshake config.
    start_time          When the process started, in units of the system; 0 if it is unknown. It
                        tells the process from a later one with the same id.
    name                What the client that joins calls the plugin; "" for its address.
    """

    __module__ = "pygo_plugin.config"  # where users import it from, and pickles look for it

    __slots__ = (
        "address",
        "name",
        "network",
        "pid",
        "protocol",
        "protocol_version",
        "start_time",
        "test",
    )
    _checks: ClassVar[check.Checks] = {
        "protocol": check.text,
        "network": check.text,
        "address": check.text,
        "pid": _pid,
        "test": check.flag,
        "protocol_version": check.version,
        "start_time": check.natural,
        "name": check.text,
    }

    protocol: str
    network: str
    address: str
    pid: int
    test: bool
    protocol_version: int
    start_time: int
    name: str

    def __init__(
        self,
        protocol: str = "",
        network: str = "",
        address: str = "",
        pid: int = -1,
        test: bool = False,
        protocol_version: int = 0,
        start_time: int = 0,
        name: str = "",
    ) -> None:
        self.protocol = protocol
        self.network = network
        self.address = address
        self.pid = pid
        self.test = test
        self.protocol_version = protocol_version
        self.start_time = start_time
        self.name = name

    @property
    def valid(self) -> bool:
        """Whether protocol, network and address are set."""
        return bool(self.protocol and self.network and self.address)

    def as_dict(self) -> dict[str, Any]:
        """The fields as Terraform's TF_REATTACH_PROVIDERS, and other hosts in Go, have them.

        `from_env` reads `json.dumps({name: config.as_dict()})`.
        """
        fields = {
            "Protocol": self.protocol,
            "ProtocolVersion": self.protocol_version,
            "Pid": self.pid,
            "Test": self.test,
            "Addr": {"Network": self.network, "String": self.address},
            # Of this package; other programs ignore what follows.
            "PidStartTime": self.start_time,
        }
        return {**fields, "Name": self.name} if self.name else fields

    def to_json(self) -> str:
        """`as_dict()` as a JSON object."""
        import json

        return json.dumps(self.as_dict())

    @classmethod
    def from_json(cls, text: str | bytes) -> ReattachConfig:
        """The config of a JSON object, as `to_json()` and plugins in Go write it.

        Fields that are left out have their defaults, which is net/rpc for the protocol, as in
        go-plugin. Unknown fields are ignored.

        Raises: ConfigError if the text is something else.
        """
        return _reattach(_parse("ReattachConfig.from_json()", text), "the JSON")

    @classmethod
    def from_env(cls, variable: str, name: str) -> ReattachConfig | None:
        """The config of the plugin `name` in an environment variable; None if there is none.

        The variable holds a JSON object of names and configs. If a host gets None, it launches the
        plugin.

        Raises: ConfigError if the variable holds something else.
        """
        text = os.environ.get(variable)
        if not text:
            return None
        found = _parse(f"the environment variable {variable}", text)
        if not isinstance(found, dict):
            raise ConfigError(
                f"the environment variable {variable} must hold a JSON object of names and configs"
            )
        if name not in found:
            return None
        config = _reattach(found[name], f"{name!r} in the environment variable {variable}")
        config.name = config.name or name
        return config


def _parse(what: str, text: str | bytes) -> Any:
    import json

    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{what} is not valid JSON: {error}") from None


def _reattach(found: Any, what: str) -> ReattachConfig:
    """A ReattachConfig from parsed JSON. Messages call the JSON `what`."""
    address = found.get("Addr", {}) if isinstance(found, dict) else None
    if not isinstance(address, dict):
        raise ConfigError(
            f"{what} must be an object such as "
            '{"Protocol": "grpc", "Pid": 1, "Addr": {"Network": "unix", "String": "/path"}}'
        )
    fields = (
        *(found.get("Protocol") or "netrpc", address.get("Network", ""), address.get("String", "")),
        *(found.get("Pid", -1), found.get("Test", False)),
        *(found.get("ProtocolVersion", 0), found.get("PidStartTime", 0), found.get("Name", "")),
    )
    try:
        config = ReattachConfig(*fields)
    except ConfigError as error:
        raise type(error)(f"{what}: {error}") from None
    if config.pid == 0:
        config.pid = -1  # programs in Go write 0 if they do not know the process id
    return config
