"""From annotations to the core's descriptions of types, made when a class is first used."""

from __future__ import annotations

import sys

from pygo_plugin._base.core import _core
from pygo_plugin._gob.kinds import (
    ArrayOf,
    BigInt,
    Codec,
    is_number,
    number_named,
    number_of,
)
from pygo_plugin._gob.structs import MISSING, fields_of
from pygo_plugin.errors import ConfigTypeError, GobError

TYPE_CHECKING = False  # typing is not imported at run time: a plugin's start would pay for it
if TYPE_CHECKING:
    from typing import Any

    from pygo_plugin._gob.structs import StructField

    GobType = _core.GobType

__all__ = ["NONE", "basic_type", "type_of"]

_known: dict[Any, GobType] = {}  # by annotation; classes that can keep theirs do so themselves


def _number(cls: Any) -> tuple[str, int, str]:
    found = number_of(cls)
    assert found is not None
    return found


def _make_basic() -> None:
    for cls in (bool, int, float, complex):
        kind, bits, spelling = _number(cls)
        _known[cls] = _core.GobType(kind, spelling, bits=bits)
    _known[str] = _core.GobType("string", "string")
    _known[bytes] = _core.GobType("bytes", "[]uint8")
    _known[object] = _core.GobType("interface", "interface {}")
    for other in (bytearray, memoryview):
        _known[other] = _core.GobType("bytes", "[]uint8", python=other)
    _known[BigInt] = _core.GobType(
        "gob", "*big.Int", name="Int", encode=encode_big_int, decode=decode_big_int, zero=int
    )
    _known[list] = _core.GobType("slice", "[]interface {}", element=_known[object])
    _known[dict] = _core.GobType(
        "map", "map[string]interface {}", key=_known[str], element=_known[object]
    )


BIG_INT_VERSION = 1


def encode_big_int(value: Any) -> bytes:
    """The version and the sign, and the magnitude, as big.Int's GobEncode has it."""
    if not isinstance(value, int):
        raise GobError(f"expected an int, found {type(value).__name__}")
    head = BIG_INT_VERSION << 1 | (value < 0)
    magnitude = abs(int(value))
    return bytes([head]) + magnitude.to_bytes((magnitude.bit_length() + 7) // 8, "big")


def decode_big_int(data: bytes) -> int:
    if not data:  # a nil *big.Int
        return 0
    if data[0] >> 1 != BIG_INT_VERSION:
        raise GobError(f"version {data[0] >> 1} of big.Int is unknown")
    magnitude = int.from_bytes(data[1:], "big")
    return -magnitude if data[0] & 1 else magnitude


_make_basic()

NONE = _core.GobType("none", "struct {}")
"""What a function without a result returns: an empty struct for Go, None here."""


def basic_type(name: str) -> GobType | None:
    """The type that Go's gob registers by itself under this name, as interfaces hold it."""
    element = name[2:] if name.startswith("[]") else name
    if element in ("bool", "int", "float64", "complex128", "string"):
        cls: Any = {"bool": bool, "int": int, "float64": float, "string": str}.get(element, complex)
    elif name == "[]uint8":
        return _known[bytes]
    else:
        cls = number_named(element)
        if cls is None:
            return None
    if element is not name:
        return _core.GobType("slice", name, element=type_of(cls))
    if not is_number(cls):
        return _known[cls]
    kind, bits, _ = _number(cls)
    return _core.GobType(kind, name, bits=bits, python=cls)  # the value remembers its type


def type_of(annotation: Any) -> GobType:
    """The core's description of the type that an annotation means.

    Raises: ConfigTypeError, a TypeError, with the place and the reason if it means none.
    """
    found = _cached(annotation)
    if found is None:
        resolver = _Resolver()
        found = resolver.resolve(annotation)
        resolver.keep()
    return found


def _cached(annotation: Any) -> GobType | None:
    if isinstance(annotation, type):
        found = annotation.__dict__.get("__gob_type__")
        if found is not None:
            return found  # type: ignore[no-any-return]
    try:
        return _known.get(annotation)
    except TypeError:  # it has no hash
        return None


class _Resolver:
    """Resolves an annotation and all that it leads to. It is kept only if all of it succeeds."""

    def __init__(self) -> None:
        self._made: dict[Any, GobType] = {}
        self._fields: dict[Any, list[tuple[str, GobType]]] = {}  # of the structs, by class
        self._group = _core.GobGroup()
        self._owner: type[Any] | None = None  # the class whose annotations are being resolved
        self._place = ""  # the field, for messages

    def _new(self, kind: str, spelling: str, **options: Any) -> GobType:
        return _core.GobType(kind, spelling, group=self._group, **options)

    def _unnamed(self, kind: str, spelling: str, **options: Any) -> GobType:
        """A type without a name: there is one of it, however it is annotated."""
        key = (kind, *options.items())
        found = _known.get(key) or self._made.get(key)
        if found is None:
            found = self._made[key] = self._new(kind, spelling, **options)
        return found

    def keep(self) -> None:
        """Cache what has been resolved."""
        for cls in self._fields:
            self._check_containment(cls, cls, cls.__name__, set())
        for annotation, made in self._made.items():
            if isinstance(annotation, type) and annotation not in _known:
                try:
                    annotation.__gob_type__ = made  # type: ignore[attr-defined]
                except (AttributeError, TypeError):  # a class of C, or with __slots__ in its type
                    _known[annotation] = made
                if "__gob_frame__" in annotation.__dict__:
                    del annotation.__gob_frame__  # type: ignore[attr-defined]
            else:
                _known[annotation] = made

    def _check_containment(self, cls: Any, outer: Any, path: str, seen: set[Any]) -> None:
        """Refuse a struct that contains itself other than by a pointer, a slice or a map."""
        seen.add(cls)
        for name, field in self._fields[cls]:
            while field.kind == "array" and field.element is not None:
                field = field.element
            inner = field.python
            if field.kind != "struct" or inner not in self._fields:
                continue
            if inner is outer:
                raise ConfigTypeError(
                    f"{path}.{name}: a {outer.__name__} cannot contain itself; make the field "
                    f"Optional"
                )
            if inner not in seen:
                self._check_containment(inner, outer, f"{path}.{name}", seen)

    def resolve(self, annotation: Any) -> GobType:
        if isinstance(annotation, str):
            return self.resolve(self._evaluate(annotation))
        if isinstance(annotation, _core.GobType):
            return annotation
        found = _cached(annotation)
        if found is not None:
            return found
        try:
            found = self._made.get(annotation)
            hashable = True
        except TypeError:
            hashable = False
        if found is None:
            found = self._make(annotation)
            # A type with a forward reference means something else in another class.
            if hashable and not _has_names(annotation):
                self._made[annotation] = found
        return found

    def refuse(self, reason: str) -> ConfigTypeError:
        return ConfigTypeError(f"{self._place}: {reason}" if self._place else reason)

    def _evaluate(self, text: str) -> Any:
        """The object that an annotation in quotes means."""
        owner = self._owner
        if owner is None:
            raise ConfigTypeError(f"a type is needed, not the str {text!r}")
        frame = owner.__dict__.get("__gob_frame__")
        names = {
            **(frame.f_locals if frame is not None else {}),
            owner.__name__: owner,
            # The classes in it, but no defaults: a field may be called int.
            **{name: value for name, value in vars(owner).items() if isinstance(value, type)},
        }
        module = sys.modules.get(owner.__module__)
        try:
            return eval(text, getattr(module, "__dict__", {}), names)
        except Exception as error:
            raise self.refuse(
                f"the annotation {text!r} cannot be evaluated: {type(error).__name__}: {error}"
            ) from error

    def _make(self, annotation: Any) -> GobType:
        if annotation is None or annotation is type(None):
            return NONE
        typing = sys.modules.get("typing")
        if typing is not None and annotation is typing.Any:
            return _known[object]
        forward = getattr(annotation, "__forward_arg__", None)
        if isinstance(forward, str):
            return self.resolve(forward)
        if isinstance(annotation, ArrayOf):
            return self._array(annotation, None)
        metadata = getattr(annotation, "__metadata__", None)
        if isinstance(metadata, tuple):
            return self._annotated(annotation.__origin__, metadata)
        origin = getattr(annotation, "__origin__", None)
        if origin is not None or type(annotation).__name__ == "UnionType":
            return self._generic(annotation, origin)
        if isinstance(annotation, type):
            return self._class(annotation)
        for alias in ("__supertype__", "__value__"):  # of NewType, and of `type X = ...`
            if hasattr(annotation, alias):
                return self.resolve(getattr(annotation, alias))
        raise self.refuse(f"{annotation!r} is no type that gob can encode")

    def _annotated(self, annotation: Any, metadata: tuple[Any, ...]) -> GobType:
        for each in metadata:
            if isinstance(each, Codec):
                return self._opaque(each.name or _name_of(annotation), each, annotation)
            if isinstance(each, ArrayOf):
                origin = getattr(annotation, "__origin__", annotation)
                return self._array(each, list if origin is list else None)
            if is_number(each) or each is BigInt:
                return self.resolve(each)
        return self.resolve(annotation)

    def _generic(self, annotation: Any, origin: Any) -> GobType:
        arguments = annotation.__args__
        name = getattr(origin, "__name__", None)
        if origin is None or origin is getattr(sys.modules.get("typing"), "Union", None):
            rest = [each for each in arguments if each is not type(None)]
            if len(rest) == len(arguments) or len(rest) > 1:
                raise self.refuse(
                    f"{annotation!r} is several types; gob has Any for interfaces, and "
                    f"Optional[T] for pointers"
                )
            element = self.resolve(rest[0])
            if element.optional or element.kind == "interface":
                return element
            return self._unnamed("optional", f"*{element.spelling}", element=element)
        if origin is tuple:
            return self._tuple(annotation, arguments)
        if name in ("list", "Sequence", "MutableSequence", "Collection", "Iterable"):
            return self._slice(self.resolve(arguments[0]), None)
        if name in ("dict", "Mapping", "MutableMapping"):
            key, element = self.resolve(arguments[0]), self.resolve(arguments[1])
            if key.kind in ("bytes", "slice", "map", "none", "optional"):
                raise self.refuse(f"{annotation!r}: Go has no maps with keys of {key.spelling}")
            spelling = f"map[{key.spelling}]{element.spelling}"
            return self._unnamed("map", spelling, key=key, element=element)
        if name == "Final":
            return self.resolve(arguments[0])
        if isinstance(origin, type) and fields_of(origin) is not None:
            raise self.refuse(f"{annotation!r}: gob cannot encode generic classes")
        raise self.refuse(f"{annotation!r} is no type that gob can encode")

    def _tuple(self, annotation: Any, arguments: tuple[Any, ...]) -> GobType:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return self._slice(self.resolve(arguments[0]), tuple)
        types = [self.resolve(each) for each in arguments if each != ()]
        if not types or any(each is not types[0] for each in types):
            raise self.refuse(
                f"{annotation!r} is no array, whose values are of one type; use a struct"
            )
        return self._array(ArrayOf(arguments[0], len(types)), None)

    def _slice(self, element: GobType, cls: Any) -> GobType:
        if element.kind == "uint" and element.bits == 8:  # gob sends []uint8 as bytes
            return self._unnamed("bytes", "[]uint8", python=cls or list)
        return self._unnamed("slice", f"[]{element.spelling}", element=element, python=cls)

    def _array(self, array: ArrayOf, cls: Any) -> GobType:
        element = self.resolve(array.element)
        spelling = f"[{array.length}]{element.spelling}"
        return self._unnamed("array", spelling, element=element, length=array.length, python=cls)

    def _class(self, cls: type[Any]) -> GobType:
        for flavour, encode, decode in _METHODS:
            if hasattr(cls, encode) or hasattr(cls, decode):
                if not hasattr(cls, encode) or not hasattr(cls, decode):
                    raise self.refuse(f"{cls.__name__} must have both {encode} and {decode}")
                codec = Codec(getattr(cls, encode), getattr(cls, decode), flavour)
                return self._opaque(_spelling_of(cls).rpartition(".")[2], codec, cls)
        fields = fields_of(cls)
        if fields is not None:
            return self._struct(cls, fields)
        datetime = sys.modules.get("datetime")
        if datetime is not None and issubclass(cls, datetime.datetime):
            return self._new("time", "time.Time", name="Time", python=_time_class())
        number = number_of(cls)
        if number is not None:
            kind, bits, spelling = number
            if is_number(cls):
                return self._new(kind, spelling, bits=bits)
            return self._new(kind, _spelling_of(cls), bits=bits, python=cls)
        if issubclass(cls, (str, bytes)):
            kind = "string" if issubclass(cls, str) else "bytes"
            return self._new(kind, _spelling_of(cls), python=cls)
        if cls is tuple:
            raise self.refuse("a tuple needs the types of its values, as in tuple[int, ...]")
        from pygo_plugin._gob.untyped import Opaque, Struct

        if issubclass(cls, (Struct, Opaque)):
            raise self.refuse(
                f"gob cannot encode a gob.{cls.__name__}, which was decoded without a type: decode "
                f"into a class"
            )
        raise self.refuse(
            f"gob cannot encode the class {cls.__name__}: make it a @gob.struct or a dataclass, "
            f"give it __gob_encode__ and __gob_decode__, or annotate it with a gob.Codec"
        )

    def _struct(self, cls: type[Any], fields: list[StructField]) -> GobType:
        spelling = _spelling_of(cls)
        made = self._new("struct", spelling, name=spelling.rpartition(".")[2], python=cls)
        self._made[cls] = made  # first, since its fields may refer to it
        outer = self._owner, self._place
        encoded: list[tuple[str, str, GobType]] = []
        hidden: list[tuple[str, Any, Any]] = []
        for each in fields:
            if each.name.startswith("_"):
                hidden.append((each.name, each.default, each.default_factory))
                continue
            self._owner, self._place = each.owner, f"{cls.__name__}.{each.name}"
            encoded.append((each.name, each.go_name or "", self.resolve(each.annotation)))
        self._owner, self._place = outer
        made.define(tuple(encoded), tuple(hidden), MISSING)
        self._fields[cls] = [(name, found) for name, _, found in encoded]
        return made

    def _opaque(self, name: str, codec: Codec, cls: Any) -> GobType:
        return self._new(
            codec.flavour,
            name,
            name=name,
            python=cls if isinstance(cls, type) else None,
            encode=codec.encode,
            decode=codec.decode,
            zero=codec.zero or cls,
        )


_METHODS = (
    ("gob", "__gob_encode__", "__gob_decode__"),
    ("binary", "__marshal_binary__", "__unmarshal_binary__"),
    ("text", "__marshal_text__", "__unmarshal_text__"),
)


def _time_class() -> Any:
    from pygo_plugin._gob.times import Time

    return Time


def _name_of(annotation: Any) -> str:
    return getattr(annotation, "__name__", None) or "Opaque"


def _spelling_of(cls: type[Any]) -> str:
    """How Go's reflect spells the type: with the last part of its package, if it is registered."""
    from pygo_plugin._gob.registry import name_of

    return name_of(cls).lstrip("*").rpartition("/")[2]


def _has_names(annotation: Any) -> bool:
    """Whether there are forward references in it."""
    if isinstance(annotation, str) or hasattr(annotation, "__forward_arg__"):
        return True
    if isinstance(annotation, ArrayOf):
        return _has_names(annotation.element)
    if isinstance(annotation, type) and not hasattr(annotation, "__origin__"):
        return False
    arguments = getattr(annotation, "__args__", ())
    origin = getattr(annotation, "__origin__", None)
    return (origin is not None and not isinstance(origin, type) and _has_names(origin)) or any(
        _has_names(each) for each in arguments if each is not Ellipsis
    )
