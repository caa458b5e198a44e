"""Where a running plugin is. For users it is part of `pygo_plugin.config`."""

from __future__ import annotations

import os

from pygo_plugin._base import checks as check
from pygo_plugin.config import NETWORKS, PROTOCOLS
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
        """The config of a JSON object, as `to_json()` and programs in Go write it.

        The address is that of Terraform, `{"Network": ..., "String": ...}`, or what Go's
        `json.Marshal` makes of one: `{"Name": ..., "Net": "unix"}` or `{"IP": ..., "Port": ...}`.
        Other fields that are left out have their defaults, which is net/rpc for the protocol, as in
        go-plugin. Unknown fields are ignored.

        Raises: ConfigError if the text is something else, with the field that is wrong.
        """
        what = "ReattachConfig.from_json()"
        return _reattach(_parse(what, text), what)

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


EXAMPLE = '{"Protocol": "grpc", "Pid": 1, "Addr": {"Network": "unix", "String": "/path"}}'
TYPES = {
    "Protocol": str,
    "ProtocolVersion": int,
    "Pid": int,
    "Test": bool,
    "PidStartTime": int,
    "Name": str,
}
KINDS = {str: "a string", int: "an integer", bool: "true or false", dict: "an object"}


def _parse(what: str, text: str | bytes) -> Any:
    import json

    if not isinstance(text, (str, bytes, bytearray)):
        raise check.refuse(what, "JSON as a str or bytes", text)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{what} is not valid JSON: {error}") from None


def _reattach(found: Any, what: str) -> ReattachConfig:
    """A ReattachConfig from parsed JSON. Messages call the JSON `what`.

    Raises: ConfigError.
    """
    if not isinstance(found, dict):
        raise ConfigError(f"{what} must be a JSON object such as {EXAMPLE}, not {_shown(found)}")
    for name, kind in TYPES.items():
        _field(found, name, kind, what)
    if found.get("Addr") is None:
        raise ConfigError(
            f'{what} has no "Addr", the address; it must be an object such as {EXAMPLE}'
        )
    protocol = found.get("Protocol") or "netrpc"
    if protocol not in PROTOCOLS:
        raise ConfigError(
            f'{what}: "Protocol" must be "grpc" or "netrpc", but is {_shown(protocol)}'
        )
    network, address = _address(_field(found, "Addr", dict, what), what)
    try:
        return ReattachConfig(
            protocol,
            network,
            address,
            found.get("Pid") or -1,  # programs in Go write 0 if they do not know the process id
            found.get("Test") or False,
            found.get("ProtocolVersion") or 0,
            found.get("PidStartTime") or 0,
            found.get("Name") or "",
        )
    except ConfigError as error:
        raise type(error)(f"{what}: {error}") from None


def _field(found: dict[str, Any], name: str, kind: type, what: str) -> Any:
    """A field of the JSON; None if it is left out or null. Raises: ConfigError for another type."""
    value = found.get(name)
    if value is not None and type(value) is not kind:
        raise ConfigError(f'{what}: "{name}" must be {KINDS[kind]}, not {_shown(value)}')
    return value


def _address(given: dict[str, Any], what: str) -> tuple[str, str]:
    """Network and address of an "Addr". Raises: ConfigError."""
    what = f'{what}: "Addr"'
    if "IP" in given or "Port" in given:  # a net.TCPAddr
        network, host = "tcp", _field(given, "IP", str, what) or ""
        port = _field(given, "Port", int, what)
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    elif "Net" in given or "Name" in given:  # a net.UnixAddr
        network = _field(given, "Net", str, what) or ""
        address = _field(given, "Name", str, what) or ""
    else:
        network = _field(given, "Network", str, what) or ""
        address = _field(given, "String", str, what) or ""
    if network not in NETWORKS:
        raise ConfigError(f'{what}: the network must be "unix" or "tcp", but is {_shown(network)}')
    if network == "unix":
        if not address:
            raise ConfigError(f"{what} has no path of a socket")
        return network, check.for_system(f"{what}: the path", address)
    host, _, port = address.rpartition(":")
    digits = port.isascii() and port.isdecimal() and len(port) <= 5
    if not host or not digits or not 0 < int(port) < 65536:
        raise ConfigError(f'{what} must be "host:port" for tcp, but is {_shown(address)}')
    return network, address


def _shown(value: Any) -> str:
    """A JSON value in an error message, not at its full length."""
    import json

    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
