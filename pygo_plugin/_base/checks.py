"""What configuration classes are made of: fields that check what is assigned to them.

Messages never quote a value that may be a secret.
"""

from __future__ import annotations

from pygo_plugin.errors import ConfigError, ConfigTypeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar

    Checks = dict[str, Callable[[str, Any], Any]]


class Config:
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
        if isinstance(other, Config) and type(self) is type(other):
            return self._fields() == other._fields()
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        shown = (
            f"{name}={'...' if value and name in self._secrets else repr(value)}"
            for name, value in self._fields().items()
        )
        return f"{type(self).__name__}({', '.join(shown)})"


def refuse(what: str, expected: str, value: object, hint: str = "") -> ConfigTypeError:
    found = "a class" if isinstance(value, type) else type(value).__name__
    message = f"{what} must be {expected}, not {found}"
    return ConfigTypeError(f"{message}: {hint}" if hint else message)


def text(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise refuse(what, "a str", value)
    return value


def integer(what: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise refuse(what, "an int", value)
    return value


def natural(what: str, value: Any) -> int:
    if integer(what, value) < 0:
        raise ConfigError(f"{what} must not be negative, but is {value}")
    return int(value)


def version(what: str, value: Any) -> int:
    """An application protocol version, as it stands in handshake lines."""
    if natural(what, value) >= 1 << 31:
        raise ConfigError(f"{what} must be less than 2**31, but is {value}")
    return int(value)


def positive(what: str, value: Any) -> int:
    if integer(what, value) <= 0:
        raise ConfigError(f"{what} must be greater than 0, but is {value}")
    return int(value)


def seconds(what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise refuse(what, "a number of seconds", value)
    if not 0 <= value <= LONGEST_TIME:  # also refuses nan and infinity
        raise ConfigError(f"{what} must be from 0 to {LONGEST_TIME} seconds, but is {value}")
    return float(value)


def flag(what: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise refuse(what, "True or False", value)
    return value


def mapping(what: str, value: Any) -> dict[Any, Any]:
    if value is None:
        return {}
    if isinstance(value, dict):
        return value  # the very same one, so that later additions count
    if not hasattr(value, "keys"):
        raise refuse(what, "a dict", value, 'as in {"kv": KVPlugin()}')
    return dict(value)


def logger(what: str, value: Any) -> Any:
    # Not isinstance: a plugin must not pay for the import of logging.
    if value is not None and not (hasattr(value, "getChild") and hasattr(value, "handle")):
        raise refuse(what, "a logging.Logger", value, 'as logging.getLogger("myapp") gives')
    return value


def callback(what: str, value: Any) -> Any:
    if value is not None and not callable(value):
        raise refuse(what, "a callable", value)
    return value


LONGEST_TIME = 10**6  # seconds
LONGEST_MESSAGE = 2**31 - 1  # bytes, of what gRPC can send
MOST_METADATA = 1 << 24  # bytes, of what gRPC can announce


def _at_most(limit: int, least: int) -> Callable[[str, Any], int | None]:
    def checked(what: str, value: Any) -> int | None:
        if value is None:
            return None
        if not least <= integer(what, value) <= limit:
            raise ConfigError(f"{what} must be from {least} to {limit} bytes, but is {value}")
        return int(value)

    return checked


message_length = _at_most(LONGEST_MESSAGE, 0)
metadata_size = _at_most(MOST_METADATA, 1)
quota = _at_most(2**63 - 1, 1)


def channel_options(what: str, value: Any) -> tuple[tuple[Any, Any], ...]:
    """gRPC's channel arguments, as grpcio takes them."""
    if value is None:
        return ()
    expected = "a list of (name, value) pairs"
    if isinstance(value, (str, bytes, dict)) or not hasattr(value, "__iter__"):
        raise refuse(what, expected, value)
    pairs = []
    for i, given in enumerate(value):
        pair: tuple[Any, ...] = tuple(given) if isinstance(given, (tuple, list)) else ()
        if len(pair) != 2 or not isinstance(pair[0], (str, bytes)):
            raise ConfigTypeError(f"{what} must be {expected}, but [{i}] is {given!r}")
        name, option = pair
        if isinstance(option, int) and not -(2**31) <= option < 2**31:
            raise ConfigError(f"{what}: {name!r} must fit into 32 bits, but is {option}")
        known = isinstance(option, (str, bytes, int, *_core_objects()))
        if not known and not hasattr(option, "__int__"):
            raise refuse(f"{what}: {name!r}", "an int, a str or bytes", option)
        pairs.append(pair)
    return tuple(pairs)


def _core_objects() -> tuple[type, ...]:
    from pygo_plugin import _core

    return _core.MemoryQuota, _core.SSLSessionCacheLRU


def grpc_options(config: Any, quota: Any, given: Any) -> tuple[tuple[Any, Any], ...]:
    """The channel arguments for the limits of a configuration, and `given`, which win over them."""
    limits = (
        ("grpc.max_receive_message_length", config.max_receive_message_length),
        ("grpc.max_send_message_length", config.max_send_message_length),
        ("grpc.max_metadata_size", config.max_metadata_size),
        ("grpc.resource_quota", quota),
    )
    return (*(limit for limit in limits if limit[1] is not None), *given)


def memory_quota(config: Any) -> Any:
    """What all connections of a configuration share, None if it sets no limit."""
    if config.memory_quota is None:
        return None
    from pygo_plugin import _core

    return _core.MemoryQuota(config.memory_quota)


def optional(kind: type) -> Callable[[str, Any], Any]:
    def checked(what: str, value: Any) -> Any:
        if value is not None and not isinstance(value, kind):
            raise refuse(what, f"a {kind.__name__}", value)
        return value

    return checked
