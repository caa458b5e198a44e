"""Objects for values that are decoded by the definitions of their stream alone."""

from __future__ import annotations

TYPE_CHECKING = False  # typing is not imported at run time: a plugin's start would pay for it
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["Opaque", "Struct", "StructType"]

# The zero values of gp_gob_kind: nil for interfaces, arrays, structs and opaque types, since those
# that are no pointers are always sent.
_ZEROS: tuple[Any, ...] = (False, 0, 0, 0.0, 0j, b"", "", None, None, list, dict, None, None)


class StructType:
    """The definition of a struct in a stream."""

    __slots__ = ("kinds", "name", "names")

    def __init__(self, name: str, names: tuple[str, ...], kinds: tuple[int, ...]) -> None:
        self.name = name
        self.names = names
        self.kinds = dict(zip(names, kinds))

    def __repr__(self) -> str:
        return f"<gob struct {self.name}: {', '.join(self.names)}>"


class Struct:
    """A struct of Go whose fields are attributes and items, named as in Go: `order.ID`.

    Fields that the stream leaves out are zero. Iteration gives the names in Go's order. Equal to
    another one with the same names and values.
    """

    __slots__ = ("_type", "_values")

    def __init__(self, type: StructType, values: dict[str, Any]) -> None:  # noqa: A002
        self._type = type
        self._values = values

    @property
    def go_type(self) -> str:
        """The name of the type in Go, without its package."""
        return self._type.name

    def __getitem__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            zero = _ZEROS[self._type.kinds[name]]  # KeyError for other names
            if isinstance(zero, type):
                zero = self._values[name] = zero()
            return zero

    def __getattr__(self, name: str) -> Any:
        if name in Struct.__slots__:  # before __init__
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the struct {self.go_type} has no field {name!r}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._type.kinds

    def __iter__(self) -> Iterator[str]:
        return iter(self._type.names)

    def __len__(self) -> int:
        return len(self._type.names)

    def keys(self) -> tuple[str, ...]:
        """The names of the fields, in Go's order."""
        return self._type.names

    def values(self) -> list[Any]:
        """The values of the fields, in the same order."""
        return [self[name] for name in self]

    def items(self) -> list[tuple[str, Any]]:
        """The fields as pairs of name and value, in the same order."""
        return [(name, self[name]) for name in self]

    def to_dict(self) -> dict[str, Any]:
        """A dict of the fields, in which all structs are dicts, also those in lists and dicts."""
        return {name: _to_dict(self[name]) for name in self}

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self})

    def __repr__(self) -> str:
        shown = ", ".join([f"{name}={value!r}" for name, value in self.items()])
        return f"{self.go_type or 'Struct'}({shown})"

    def __eq__(self, other: object) -> Any:
        if not isinstance(other, Struct):
            return NotImplemented
        return (
            self.go_type == other.go_type
            and self.keys() == other.keys()
            and self.values() == other.values()
        )

    def __hash__(self) -> int:
        return hash((self.go_type, *self.values()))

    def __reduce__(self) -> Any:
        kinds = tuple(self._type.kinds.values())
        return _restored, (self._type.name, self._type.names, kinds, self._values)


def _to_dict(value: Any) -> Any:
    if isinstance(value, Struct):
        return value.to_dict()
    if isinstance(value, (list, tuple)):
        return type(value)([_to_dict(each) for each in value])
    if isinstance(value, dict):
        return {_key(key): _to_dict(each) for key, each in value.items()}
    return value


def _key(key: Any) -> Any:
    """A key as it stays hashable: a struct becomes a tuple of its values."""
    return tuple(key.values()) if isinstance(key, Struct) else key


def _restored(
    name: str, names: tuple[str, ...], kinds: tuple[int, ...], values: dict[str, Any]
) -> Struct:
    return Struct(StructType(name, names, kinds), values)


class Opaque:
    """A value that its type in Go has encoded by itself, and that was decoded untyped.

    name       the name of the type in Go, without its package
    flavour    "gob" for GobEncoder, "binary" for BinaryMarshaler, "text" for TextMarshaler
    data       the bytes
    """

    __slots__ = ("data", "flavour", "name")

    def __init__(self, name: str, flavour: str, data: bytes) -> None:
        self.name = name
        self.flavour = flavour
        self.data = data

    def __repr__(self) -> str:
        return f"Opaque({self.name!r}, {self.flavour!r}, {self.data!r})"

    def __eq__(self, other: object) -> Any:
        if not isinstance(other, Opaque):
            return NotImplemented
        return (self.name, self.flavour, self.data) == (other.name, other.flavour, other.data)

    def __hash__(self) -> int:
        return hash((self.name, self.flavour, self.data))
