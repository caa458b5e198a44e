"""Go's types that Python has no annotation for, and the names that Go gives to fields.

Each number type is a subclass of a Python number, so that a value of it also says, inside an
interface value, which type Go is to see. For type checkers it is the Python number itself.
"""

from __future__ import annotations

from pygo_plugin.errors import ConfigError, ConfigTypeError

TYPE_CHECKING = False  # typing is not imported at run time: a plugin's start would pay for it
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Generic, TypeVar

    from typing_extensions import TypeAlias

    T = TypeVar("T")
    N = TypeVar("N")

__all__ = [
    "Array",
    "ArrayOf",
    "BigInt",
    "Codec",
    "Complex",
    "Complex64",
    "Float32",
    "Int8",
    "Int16",
    "Int32",
    "Int64",
    "Typed",
    "Uint",
    "Uint8",
    "Uint16",
    "Uint32",
    "Uint64",
    "Uintptr",
    "as_type",
    "go_name",
    "is_number",
    "number_named",
    "number_of",
]

if TYPE_CHECKING:
    Int8: TypeAlias = int
    Int16: TypeAlias = int
    Int32: TypeAlias = int
    Int64: TypeAlias = int
    Uint: TypeAlias = int
    Uint8: TypeAlias = int
    Uint16: TypeAlias = int
    Uint32: TypeAlias = int
    Uint64: TypeAlias = int
    Uintptr: TypeAlias = int
    BigInt: TypeAlias = int
    Float32: TypeAlias = float
    Complex: TypeAlias = complex
    Complex64: TypeAlias = complex

    class Array(tuple[T, ...], Generic[T, N]):
        pass

else:
    Complex = complex

    class BigInt(int):
        """Go's `*big.Int`: an int of any size."""

        __slots__ = ()

    class Array:
        """`Array[T, N]` is Go's `[N]T`: in Python, a tuple of N values.

        `tuple[T, T, T]` is the same as `Array[T, 3]`. Type checkers accept `Array[T, 3]` only as
        `Annotated[tuple[T, ...], Array[T, 3]]`.
        """

        def __class_getitem__(cls, parameters):
            if not isinstance(parameters, tuple) or len(parameters) != 2:
                raise ConfigTypeError("Array takes a type and a length, as in Array[int, 3]")
            return ArrayOf(*parameters)

        def __new__(cls, *args, **kwargs):
            raise ConfigTypeError("Array is for annotations, as in Array[int, 3]; use a tuple")


# Numbers by the name of their class: the base, the kind, its bits (of each part, if it is complex),
# and the name in Go.
_NUMBERS: dict[str, tuple[type[Any], str, int, str]] = {
    "Int8": (int, "int", 8, "int8"),
    "Int16": (int, "int", 16, "int16"),
    "Int32": (int, "int", 32, "int32"),
    "Int64": (int, "int", 64, "int64"),
    "Uint": (int, "uint", 64, "uint"),
    "Uint8": (int, "uint", 8, "uint8"),
    "Uint16": (int, "uint", 16, "uint16"),
    "Uint32": (int, "uint", 32, "uint32"),
    "Uint64": (int, "uint", 64, "uint64"),
    "Uintptr": (int, "uint", 64, "uintptr"),
    "Float32": (float, "float", 32, "float32"),
    "Complex64": (complex, "complex", 32, "complex64"),
}
_PLAIN: dict[type[Any], tuple[str, int, str]] = {
    bool: ("bool", 0, "bool"),
    int: ("int", 64, "int"),
    float: ("float", 64, "float64"),
    complex: ("complex", 64, "complex128"),
}


def number_of(cls: Any) -> tuple[str, int, str] | None:
    """The kind, the bits and Go's name of the number that objects of a class are; None: of none."""
    found: tuple[str, int, str] | None = getattr(cls, "__gob_number__", None)
    if found is None and isinstance(cls, type):
        for base in cls.__mro__:
            if base in _PLAIN:
                return _PLAIN[base]
    return found


def number_named(spelling: str) -> Any:
    """The class for numbers of this name in Go; None: it is none, or a number of Python's."""
    for name, (_, _, _, go) in _NUMBERS.items():
        if go == spelling:
            return globals().get(name) or _make_number(name)
    return None


def is_number(cls: Any) -> bool:
    """Whether it is one of the classes of this module, and no subclass of one."""
    return getattr(cls, "__module__", None) == __name__ and cls.__name__ in _NUMBERS


def _make_number(name: str) -> Any:
    base, kind, bits, go = _NUMBERS[name]
    made = type(
        name,
        (base,),
        {
            "__slots__": (),
            "__module__": __name__,
            "__doc__": f"Go's {go}.",
            "__gob_number__": (kind, bits, go),
        },
    )
    return globals().setdefault(name, made)  # another thread may have been faster


if not TYPE_CHECKING:  # each class is made at first use: few programs need more than one

    def __getattr__(name):
        if name in _NUMBERS:
            return _make_number(name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class ArrayOf:
    """What `Array[T, N]` is at run time."""

    __slots__ = ("element", "length")

    def __init__(self, element: Any, length: Any) -> None:
        arguments = getattr(length, "__args__", None)  # of Literal[3]
        if isinstance(arguments, tuple) and len(arguments) == 1:
            length = arguments[0]
        if not isinstance(length, int) or isinstance(length, bool):
            raise ConfigTypeError(f"the length of an Array must be an int, not {length!r}")
        if not 0 <= length < 1 << 31:
            raise ConfigError(f"the length of an Array must be from 0 to 2**31 - 1, not {length}")
        self.element = element
        self.length = length

    def __call__(self, values: Any) -> tuple[Any, ...]:
        """Make a tuple of the values. Also makes typing accept the object inside Optional."""
        made = tuple(values)
        if len(made) != self.length:
            raise ValueError(f"{self!r} takes {self.length} values, not {len(made)}")
        return made

    def __or__(self, other: Any) -> Any:
        from typing import Union

        return Union[self, other]

    def __ror__(self, other: Any) -> Any:
        from typing import Union

        return Union[other, self]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ArrayOf):
            return self.length == other.length and self.element == other.element
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self.element, self.length))

    def __repr__(self) -> str:
        element = getattr(self.element, "__qualname__", None) or repr(self.element)
        return f"Array[{element}, {self.length}]"


FLAVOURS = ("gob", "binary", "text")


class Codec:
    """How values of a class that has no methods for it become bytes, as in

        Id = Annotated[UUID, gob.Codec(lambda u: u.bytes, lambda b: UUID(bytes=b), "binary")]

    encode     makes bytes of a value, or for flavour "text" bytes or a str
    decode     makes a value of bytes
    flavour    the interface that Go's type has: "gob" for GobEncoder, "binary" for
               encoding.BinaryMarshaler, "text" for encoding.TextMarshaler
    name       Go's name of the type, without its package; the class's name if not given
    zero       makes the value that a field gets when Go has left it out; by default, the class
    """

    __slots__ = ("decode", "encode", "flavour", "name", "zero")

    def __init__(
        self,
        encode: Callable[[Any], Any],
        decode: Callable[[bytes], Any],
        flavour: str = "gob",
        *,
        name: str | None = None,
        zero: Callable[[], Any] | None = None,
    ) -> None:
        for what, value in (("encode", encode), ("decode", decode), ("zero", zero)):
            if not callable(value) and (what != "zero" or value is not None):
                raise ConfigTypeError(f"Codec: {what} must be callable, not {value!r}")
        if flavour not in FLAVOURS:
            raise ConfigError(f"Codec: flavour must be one of {FLAVOURS}, not {flavour!r}")
        if name is not None and not isinstance(name, str):
            raise ConfigTypeError(f"Codec: name must be a str, not {name!r}")
        self.encode = encode
        self.decode = decode
        self.flavour = flavour
        self.name = name
        self.zero = zero

    def __repr__(self) -> str:
        name = "" if self.name is None else f", name={self.name!r}"
        return f"Codec({self.encode!r}, {self.decode!r}, {self.flavour!r}{name})"


class Typed:
    """A value for an interface, with the type that Go is to see. Made by as_type()."""

    __slots__ = ("type", "value")

    def __init__(self, type: Any, value: Any) -> None:  # noqa: A002
        self.type = type
        self.value = value

    def __repr__(self) -> str:
        return f"as_type({self.type!r}, {self.value!r})"


def as_type(type: Any, value: Any) -> Any:  # noqa: A002
    """The value, to be sent in an interface (`Any`) as the type of an annotation.

    Without it a list is `[]interface {}` there and a dict `map[string]interface {}`.
    `as_type(list[str], names)` is `[]string`.
    """
    return Typed(type, value)


def go_name(name: str) -> str:
    """How Go spells the name of an attribute, method or field: `first_name` is `FirstName`."""
    return "".join([part[:1].upper() + part[1:] for part in name.split("_")])
