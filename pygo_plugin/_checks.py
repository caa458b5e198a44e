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


def positive(what: str, value: Any) -> int:
    if integer(what, value) <= 0:
        raise ConfigError(f"{what} must be greater than 0, but is {value}")
    return int(value)


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


def optional(kind: type) -> Callable[[str, Any], Any]:
    def checked(what: str, value: Any) -> Any:
        if value is not None and not isinstance(value, kind):
            raise refuse(what, f"a {kind.__name__}", value)
        return value

    return checked
