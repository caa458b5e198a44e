"""What configuration classes are made of: checked fields, and tables of options.

A class with many fields has a table, a tuple of `Option`. The slots, the checks and the constructor
of the class come from the table; scripts/options.py writes its signature and its documentation.
Error messages never quote a value that may be secret.
"""

from __future__ import annotations

from os import PathLike, fsdecode, fsencode

from pygo_plugin.errors import ConfigError, ConfigTypeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, ClassVar, NoReturn

    # Takes the name of a field, for messages, and a value. Returns the value that is stored.
    Check = Callable[[str, Any], Any]
    Checks = dict[str, Check]


class Kind:
    """The values that an option takes.

    check    accepts or converts a value, or raises a ConfigError
    takes    the keyword's type in signatures, without None
    holds    the attribute's type, if it differs
    """

    __slots__ = ("check", "holds", "takes")

    def __init__(self, check: Check, takes: str, holds: str = "") -> None:
        self.check = check
        self.takes = takes
        self.holds = holds or takes


class Option:
    """One option of a configuration class.

    name        the name of the keyword and of the attribute
    kind        the values that it takes
    default     its value if the keyword is left out; a class is called, which makes a new value
    doc         what it means, in sentences for the documentation
    page        the page of docs/ that says more
    slot        the name of the attribute, if it is private because methods read and set it
    protocol    the one protocol that it has a meaning for; empty: for both
    takes_none  whether None means the default, too
    """

    __slots__ = ("default", "doc", "kind", "name", "page", "protocol", "slot", "takes_none")

    def __init__(
        self,
        name: str,
        kind: Kind,
        default: Any,
        doc: str,
        *,
        page: str = "",
        slot: str = "",
        protocol: str = "",
        takes_none: bool = True,
    ) -> None:
        self.name = name
        self.kind = kind
        self.default = default
        self.doc = doc
        self.page = page
        self.slot = slot or name
        self.protocol = protocol
        self.takes_none = takes_none


def fill(target: object, options: Iterable[Option], given: Mapping[str, Any]) -> None:
    """Set the attribute of every option to its value in `given`, or to its default.

    Raises: ConfigError for the first value that its check refuses.
    """
    owner = type(target).__name__
    for option in options:
        value = given[option.name]
        if value is None and option.takes_none:
            value = option.default
            if isinstance(value, type):
                value = value()
        value = option.kind.check(f"{owner}.{option.name}", value)
        object.__setattr__(target, option.slot, value)


def refuse_other_protocols(
    config: object, owner: str, options: Iterable[Option], protocols: Iterable[str]
) -> None:
    """Refuse options that are set although they have a meaning for none of the `protocols`.

    Raises: ConfigError, whose message starts with `owner`.
    """
    for option in options:
        if not option.protocol or option.protocol in protocols:
            continue
        if getattr(config, option.slot) != option.kind.check(option.name, option.default):
            raise ConfigError(
                f"{owner}: {option.name} is an option for gRPC, which is not spoken here: all "
                f"plugins are of net/rpc"
            )


class Config:
    """A class whose fields are its slots; `_checks` has the check of each."""

    __slots__ = ()
    _checks: ClassVar[Checks] = {}
    _secrets: ClassVar[tuple[str, ...]] = ()

    if not TYPE_CHECKING:  # if mypy saw __setattr__, it would accept misspelt attributes

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

    def __copy__(self) -> Config:
        return self._like(self._state())

    def _state(self) -> dict[str, Any]:
        """The values of the fields, and what a subclass of a user's has added."""
        own = {name: getattr(self, name) for name in self._checks}
        return {**own, **getattr(self, "__dict__", {})}

    def _like(self, state: Mapping[str, Any]) -> Config:
        made = object.__new__(type(self))
        for name, value in state.items():
            object.__setattr__(made, name, value)
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> Config:
        from copy import deepcopy

        state = self._state()
        for name, value in state.items():
            try:
                state[name] = deepcopy(value, memo)
            except Exception as error:
                raise TypeError(
                    f"{type(self).__name__}.{name.lstrip('_')} cannot be copied: {error}; "
                    "copy.copy() shares the values of the fields"
                ) from error
        return self._like(state)

    def __reduce__(self) -> tuple[Any, ...]:
        from pickle import dumps

        state = self._state()
        for name, value in state.items():
            try:
                dumps(value)  # only to name the field in the error
            except Exception as error:
                raise TypeError(
                    f"{type(self).__name__}.{name.lstrip('_')} cannot be pickled: {error}"
                ) from error
        return restore, (type(self), state)

    def __repr__(self) -> str:
        shown = (
            f"{name}={_hidden(value) if value and name in self._secrets else repr(value)}"
            for name, value in self._fields().items()
        )
        return f"{type(self).__name__}({', '.join(shown)})"


def _hidden(value: object) -> str:
    """What `repr` shows of a secret: of a dict the keys."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: ..." for key in value) + "}"
    return "..."


def restore(cls: type[Config], state: Mapping[str, Any]) -> Config:
    """A pickled configuration. Fields that it lacks have their defaults. Raises: ConfigError."""
    made = cls()
    for name, value in state.items():
        setattr(made, name, value)
    return made


def refuse_copy(self: object, protocol: object) -> NoReturn:
    """`__reduce_ex__` of objects that belong to one process, which copy and pickle call.

    Raises: TypeError.
    """
    raise TypeError(
        f"{self!r} cannot be copied or pickled, since it belongs to this process; configurations "
        "can be, and what a client's reattach_config() returns"
    )


def refuse(what: str, expected: str, value: object, hint: str = "") -> ConfigTypeError:
    """The error about a value of the wrong type."""
    found = "a class" if isinstance(value, type) else type(value).__name__
    message = f"{what} must be {expected}, not {found}"
    return ConfigTypeError(f"{message}: {hint}" if hint else message)


def text(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise refuse(what, "a str", value)
    return value


def path(what: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, (str, bytes, PathLike)):
        raise refuse(what, "a str or a path", value)
    return for_system(what, fsdecode(value))


def for_system(what: str, value: str) -> str:
    """A str that goes to system calls, which end it at a null character."""
    try:
        end = fsencode(value).find(0)
    except UnicodeEncodeError as error:
        found = f"{value!r} with {value[error.start]!r}"
        raise ConfigError(
            f"{what} must be text that can be encoded as {error.encoding}, but is {found}"
        ) from None
    if end >= 0:
        raise ConfigError(f"{what} must not contain a null character, but is {value!r}")
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
    """An application protocol version, which has to fit into a handshake line."""
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
        return value  # not a copy, so that the user may add to it later
    if not hasattr(value, "keys"):
        raise refuse(what, "a dict", value, 'as in {"kv": KVPlugin()}')
    return dict(value)


def logger(what: str, value: Any) -> Any:
    # Not by isinstance, since a plugin must not pay for the import of logging.
    if value is not None and not (hasattr(value, "getChild") and hasattr(value, "handle")):
        raise refuse(what, "a logging.Logger", value, 'as logging.getLogger("myapp") gives')
    return value


def callback(what: str, value: Any) -> Any:
    if value is not None and not callable(value):
        raise refuse(what, "a callable", value)
    return value


LONGEST_TIME = 10**6  # seconds
LONGEST_MESSAGE = 2**31 - 1  # bytes; gRPC can send no more
MOST_METADATA = 1 << 24  # bytes; gRPC can announce no more


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
    from pygo_plugin._base.core import _core

    return _core.MemoryQuota, _core.SSLSessionCacheLRU


def grpc_options(config: Any, quota: Any, given: Any) -> tuple[tuple[Any, Any], ...]:
    """The channel arguments for a configuration's limits, then `given`, which take precedence."""
    limits = (
        ("grpc.max_receive_message_length", config.max_receive_message_length),
        ("grpc.max_send_message_length", config.max_send_message_length),
        ("grpc.max_metadata_size", config.max_metadata_size),
        ("grpc.resource_quota", quota),
    )
    return (*(limit for limit in limits if limit[1] is not None), *given)


def memory_quota(config: Any) -> Any:
    """The memory quota that all connections of a configuration share; None: no limit."""
    if config.memory_quota is None:
        return None
    from pygo_plugin._base.core import _core

    return _core.MemoryQuota(config.memory_quota)


def optional(kind: type) -> Callable[[str, Any], Any]:
    def checked(what: str, value: Any) -> Any:
        if value is not None and not isinstance(value, kind):
            raise refuse(what, f"a {kind.__name__}", value)
        return value

    return checked


FLAG = Kind(flag, "bool")
SECONDS = Kind(seconds, "float")
PLUGIN_SET = Kind(mapping, "Mapping[str, PluginBase]", "PluginSet")
PLUGIN_SETS = Kind(mapping, "Mapping[int, Mapping[str, PluginBase]]", "dict[int, PluginSet]")
LOGGER = Kind(logger, "logging.Logger", "logging.Logger | None")
MESSAGE_LENGTH = Kind(message_length, "int", "int | None")
METADATA_SIZE = Kind(metadata_size, "int", "int | None")
QUOTA = Kind(quota, "int", "int | None")
CHANNEL_OPTIONS = Kind(
    channel_options,
    "Iterable[tuple[str | bytes, Any]]",
    "tuple[tuple[str | bytes, Any], ...]",
)
