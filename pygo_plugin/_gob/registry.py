"""The concrete types of interface values, by the names under which Go's programs register them.

Go registers the basic types and slices of them by itself; so do we. The core looks into two
dictionaries, and asks here for what they do not have.
"""

from __future__ import annotations

from pygo_plugin.errors import ConfigError, ConfigTypeError

TYPE_CHECKING = False  # typing is not imported at run time: a plugin's start would pay for it
if TYPE_CHECKING:
    from typing import Any

    from pygo_plugin._base.core import _core
    from pygo_plugin._gob.kinds import Typed

    GobType = _core.GobType

__all__ = ["interface_type", "name_of", "register", "registered_type"]

_annotations: dict[str, Any] = {}  # by registered name
_names: dict[type[Any], str] = {}  # of classes: the name that is sent


def register(name: str, cls: Any) -> None:
    """Have interface values (`Any`) of Go's type `name` be objects of a class, and the reverse.

    `name` is that of Go's `gob.Register`: the whole import path and the name of the type,
    `example.com/full/p.T`, or of a pointer to it only the package's short name, `*p.T`. Other types
    have the name that Go spells them by, such as `map[string]int`, and an annotation for `cls`.
    If a class is registered by several names, values are sent by the first of them.

    Raises: ConfigError if the name is taken by another class.
    """
    if not isinstance(name, str):
        raise ConfigTypeError(f"register: name must be a str, not {name!r}")
    if not name:
        raise ConfigError("register: the name must not be empty")
    if isinstance(cls, str):
        raise ConfigTypeError(f"register: a class or another type is needed, not the str {cls!r}")
    other = _annotations.get(name, cls)
    if other is not cls and other != cls and _identity(other) != _identity(cls):
        raise ConfigError(f"register: {name!r} is already the name of {other!r}")
    _annotations[name] = cls
    if isinstance(cls, type):
        _names.setdefault(cls, name)
    _forget(name)


def _identity(cls: Any) -> Any:
    """What stays the same if a module is loaded again."""
    if isinstance(cls, type):
        return cls.__module__, cls.__qualname__
    return cls


def _forget(name: str) -> None:
    """Have the core ask again about a name, and about all classes."""
    from sys import modules

    core = modules.get("pygo_plugin._base.core")
    if core is not None:
        by_class, by_name = core._core.gob_registry()
        by_class.clear()
        if name in by_name:
            _replaced.append(by_name.pop(name))


_replaced: list[Any] = []  # kept, since the core may be using them


def name_of(cls: type[Any]) -> str:
    """The name under which a class is registered, or the class's own."""
    return _names.get(cls) or cls.__name__


def registered_type(name: str) -> GobType | None:
    """The type of interface values with this name. Called by the core when it does not know it."""
    from pygo_plugin._base.core import _core
    from pygo_plugin._gob.resolve import basic_type, type_of

    annotation = _annotations.get(name)
    if annotation is not None:
        found = type_of(annotation)
    elif name in ("time.Time", "*time.Time"):
        from pygo_plugin._gob.times import Time

        found = type_of(Time)
    elif name in ("*big.Int", "math/big.Int"):
        from pygo_plugin._gob.kinds import BigInt

        found = type_of(BigInt)
    elif name in ("*plugin.BasicError", "github.com/hashicorp/go-plugin.BasicError"):
        from pygo_plugin._gob.basic_error import BasicError

        found = type_of(BasicError)
    else:
        basic = basic_type(name)
        if basic is None:
            return None  # not remembered: a hostile stream could send any number of names
        found = basic
    _core.gob_registry()[1][name] = found
    return found


# What has no name of its own in Python: Go's programs have to register these.
_UNNAMED: dict[type[Any], str] = {
    list: "[]interface {}",
    tuple: "[]interface {}",
    dict: "map[string]interface {}",
    bytearray: "[]uint8",
    memoryview: "[]uint8",
}


def interface_type(value: Any) -> tuple[str, GobType, Any] | str:
    """The name and the type of a value in an interface, and the value; or why it has none.

    Called by the core for values of classes that it does not know yet.
    """
    from pygo_plugin._base.core import _core
    from pygo_plugin._gob.kinds import Typed

    if isinstance(value, Typed):
        return _typed(value)
    cls = type(value)
    for base in cls.__mro__:
        name = _names.get(base) or _basic_name(base)
        if name is not None:
            break
    else:
        return _refused(cls)
    found = registered_type(name)
    if found is None:
        from pygo_plugin._gob.resolve import type_of

        found = type_of(base if base is not tuple else list)
    _core.gob_registry()[0][cls] = name, found
    return name, found, value


def _basic_name(cls: type[Any]) -> str | None:
    from pygo_plugin._gob.kinds import BigInt, is_number, number_of

    if cls in (bool, int, float, complex) or is_number(cls):
        number = number_of(cls)
        return number[2] if number is not None else None
    if cls is str:
        return "string"
    if cls is bytes:
        return "[]uint8"
    if cls is BigInt:
        return "*big.Int"
    if cls.__module__ == "datetime" and cls.__name__ == "datetime":
        return "time.Time"
    return _UNNAMED.get(cls)


def _typed(value: Typed) -> tuple[str, GobType, Any] | str:
    from pygo_plugin._gob.resolve import type_of

    found = type_of(value.type)
    for name, annotation in _annotations.items():
        if annotation is value.type or annotation == value.type:
            return name, found, value.value
    if isinstance(value.type, type) and found.kind in ("struct", "gob", "binary", "text"):
        return _refused(value.type)
    return found.spelling, found, value.value


def _refused(cls: type[Any]) -> str:
    name = cls.__name__
    if name == "Struct" and cls.__module__ == "pygo_plugin._gob.untyped":
        return "an untyped Struct cannot be encoded: decode it into a class"
    return (
        f"an interface can hold registered types only, and {name} is none: register it by "
        f'gob.register("import/path.{name}", {name})'
    )
