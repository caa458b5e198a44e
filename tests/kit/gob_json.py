"""Python's side of the types and values that Go's judge of gob describes in JSON.

tests/peers/go/internal/gobjson has the format, gobtypes the types that have names.

    annotation(T)    the annotation that stands for a type
    build(T, V)      the value
    check(T, V, x)   fails unless x, which has been decoded, is that value
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, Optional

from pygo_plugin import gob
from pygo_plugin._gob import registry

GOBTYPES = "pygo-plugin.example/peers/internal/gobtypes"
NAMES: dict[str, Any] = {}  # under which Go registers types, see registered()


class Sealed:
    """A GobEncoder: its bytes are its content, reversed."""

    def __init__(self, content: bytes = b"") -> None:
        self.content = content

    def __gob_encode__(self) -> bytes:
        return self.content[::-1]

    @classmethod
    def __gob_decode__(cls, data: bytes) -> Sealed:
        return cls(data[::-1])


class Addr:
    """A netip.Addr, a BinaryMarshaler."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    def __marshal_binary__(self) -> bytes:
        return self.data

    @classmethod
    def __unmarshal_binary__(cls, data: bytes) -> Addr:
        return cls(data)

    @classmethod
    def of(cls, text: str) -> Addr:
        from ipaddress import ip_address

        address, _, zone = text.partition("%")
        return cls((ip_address(address).packed if address else b"") + zone.encode())


class Celsius(float):
    pass


def same(data: bytes) -> bytes:
    return data


def encode_text(text: str) -> bytes:
    return text.encode()


def decode_text(data: bytes) -> str:
    return data.decode()


PLAIN: dict[str, Any] = {
    "bool": bool,
    "int": int,
    "int8": gob.Int8,
    "int16": gob.Int16,
    "int32": gob.Int32,
    "int64": gob.Int64,
    "uint": gob.Uint,
    "uint8": gob.Uint8,
    "uint16": gob.Uint16,
    "uint32": gob.Uint32,
    "uint64": gob.Uint64,
    "float32": gob.Float32,
    "float64": float,
    "complex64": gob.Complex64,
    "complex128": complex,
    "string": str,
    "bytes": bytes,
    "any": Any,
    "time": datetime,
    "duration": int,
    "bigint": gob.BigInt,
    "bigfloat": Annotated[bytes, gob.Codec(same, same, name="Float")],
    "url": Annotated[str, gob.Codec(encode_text, decode_text, "binary", name="URL")],
    "addr": Addr,
    "Celsius": Celsius,
    "Sealed": Sealed,
}

NAMED: dict[str, list[tuple[str, Any]]] = {
    "Point": [("X", "int"), ("Y", "int")],
    "Circle": [("Centre", "Point"), ("Radius", "float64")],
    "Scalars": [
        *[(name[0].upper() + name[1:], name) for name in list(PLAIN)[:17]],
    ],
    "Tree": [("Name", "string"), ("Children", {"slice": {"pointer": "Tree"}})],
    "Chain": [("Value", "int"), ("Next", {"pointer": "Chain"})],
    "Labelled": [("Point", "Point"), ("Label", "string")],
    "Everything": [
        ("Scalars", "Scalars"),
        ("Array", {"array": "int32", "len": 3}),
        ("Grid", {"array": {"array": "float32", "len": 2}, "len": 2}),
        ("Strings", {"slice": "string"}),
        ("Points", {"slice": "Point"}),
        ("Pointers", {"slice": {"pointer": "Point"}}),
        ("Slices", {"slice": {"slice": "int"}}),
        ("ByName", {"map": "string", "value": "int"}),
        ("ByNumber", {"map": "int32", "value": "string"}),
        ("ByPoint", {"map": "Point", "value": "string"}),
        ("Lists", {"map": "string", "value": {"slice": "Point"}}),
        ("Pointer", {"pointer": "Point"}),
        ("Number", {"pointer": "int"}),
        ("Deep", {"pointer": {"pointer": "string"}}),
        ("Tree", "Tree"),
        ("Chain", {"pointer": "Chain"}),
        ("Labelled", "Labelled"),
        ("Any", "any"),
        ("Anys", {"slice": "any"}),
        ("Mixed", {"map": "string", "value": "any"}),
        ("When", "time"),
        ("Big", {"pointer": "bigint"}),
        ("Ratio", {"pointer": "bigfloat"}),
        ("URL", {"pointer": "url"}),
        ("Address", "addr"),
        ("Sealed", "Sealed"),
        ("Celsius", "Celsius"),
        ("Duration", "duration"),
    ],
    "Item": [
        ("Name", "string"),
        ("Price", "float64"),
        ("Count", "int"),
        ("Tags", {"slice": "string"}),
    ],
    "Order": [
        ("ID", "uint64"),
        ("Number", "int"),
        ("Customer", "string"),
        ("Paid", "bool"),
        ("Total", "float64"),
        ("Created", "int64"),
        ("Key", "bytes"),
        ("Tags", {"slice": "string"}),
        ("Grid", {"array": "int32", "len": 3}),
        ("Labels", {"map": "string", "value": "string"}),
        ("Items", {"slice": "Item"}),
    ],
    "Nothing": [],
}

classes: dict[str, Any] = {}  # of structs: by name, or by the repr of their fields


def fields_of(of: Any) -> list[tuple[str, Any]] | None:
    """The fields of a struct and their types; None: it is none."""
    if isinstance(of, str):
        return NAMED.get(of)
    found: list[tuple[str, Any]] | None = of.get("struct")
    return found


def annotation(of: Any) -> Any:
    fields = fields_of(of)
    if fields is not None:
        return struct_class(of if isinstance(of, str) else "", fields)
    if isinstance(of, str):
        return PLAIN[of]
    if "slice" in of:
        return list[annotation(of["slice"])]
    if "array" in of:
        return gob.Array[annotation(of["array"]), of["len"]]
    if "map" in of:
        return dict[annotation(of["map"]), annotation(of["value"])]
    return Optional[annotation(of["pointer"])]


def struct_class(name: str, fields: list[tuple[str, Any]]) -> Any:
    key = name or repr(fields)
    if key not in classes:
        body: dict[str, Any] = {"__annotations__": {}, "__hash__": hash_fields}
        made = classes[key] = type(name or f"Struct{len(classes)}", (), body)
        for field, of in fields:
            body_annotation = annotation(of)
            made.__annotations__[field] = body_annotation
        for field, of in fields:
            setattr(made, field, gob.field(name=field, default_factory=lambda of=of: zero(of)))
        gob.struct(made)
        if name in ("Point", "Tree"):
            NAMES[f"{GOBTYPES}.{name}"] = made
        elif name == "Circle":
            NAMES["*gobtypes.Circle"] = made
    return classes[key]


def hash_fields(self: Any) -> int:
    return hash(tuple(vars(self).values()))


def zero(of: Any) -> Any:
    """The value of a field that is not given."""
    if isinstance(of, str):
        return build(of, {}) if of in NAMED else ZEROS[of]() if of in ZEROS else 0
    if "array" in of:
        return tuple(zero(of["array"]) for _ in range(of["len"]))
    if "slice" in of:
        return []
    if "map" in of:
        return {}
    if "struct" in of:
        return build(of, {})
    return None


ZEROS: dict[str, Any] = {
    "bool": bool,
    "string": str,
    "bytes": bytes,
    "any": lambda: None,
    "time": lambda: gob.ZERO_TIME,
    "bigfloat": bytes,
    "url": str,
    "addr": Addr,
    "Celsius": Celsius,
    "Sealed": Sealed,
    "float32": float,
    "float64": float,
    "complex64": complex,
    "complex128": complex,
}


def build(of: Any, value: Any) -> Any:
    fields = fields_of(of)
    if fields is not None:
        cls = annotation(of)
        return cls(**{name: build(t, value[name]) for name, t in fields if name in value})
    if isinstance(of, str):
        return build_plain(of, value)
    if "slice" in of:
        return [build(of["slice"], each) for each in value]
    if "array" in of:
        return tuple(build(of["array"], each) for each in value)
    if "map" in of:
        return {build(of["map"], key): build(of["value"], each) for key, each in value or ()}
    return None if value is None else build(of["pointer"], value)


def build_plain(of: str, value: Any) -> Any:
    if of.startswith("float") or of == "Celsius":
        return PLAIN[of](float.fromhex(value))
    if of.startswith("complex"):
        return complex(*map(float.fromhex, value))
    if of == "string" and isinstance(value, dict):
        return bytes.fromhex(value["hex"]).decode(errors="surrogateescape")
    if of in ("bytes", "bigfloat"):
        return bytes.fromhex(value)
    if of == "any":
        if value is None:
            return None
        held = value["type"]
        if isinstance(held, dict) and "pointer" in held:
            held = held["pointer"]
        return gob.as_type(annotation(held), build(held, value["value"]))
    if of == "time":
        return parse_time(value)
    if of == "bigint":
        return int(value)
    if of == "addr":
        return Addr.of(value)
    if of == "Sealed":
        return Sealed(bytes.fromhex(value)[::-1])
    return value


def parse_time(text: str) -> gob.Time:
    """RFC 3339 with up to nine digits, and perhaps seconds in the offset."""
    when = datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")
    rest = text[19:].rstrip("Z")
    digits = rest[1:].partition("+")[0].partition("-")[0] if rest[:1] == "." else ""
    zone = timezone.utc
    offset = rest[len(digits) + 1 if digits else 0 :]
    if offset:
        parts = [*map(int, offset[1:].split(":")), 0]
        delta = timedelta(hours=parts[0], minutes=parts[1], seconds=parts[2])
        zone = timezone(-delta if offset[0] == "-" else delta)
    nanoseconds = int(digits.ljust(9, "0")) if digits else 0
    return gob.Time(*when.timetuple()[:6], nanoseconds // 1000, zone, nanosecond=nanoseconds % 1000)


def check(of: Any, value: Any, found: Any, path: str = "value") -> None:
    fields = fields_of(of)
    if fields is not None:
        assert type(found) is annotation(of), path
        for name, t in fields:
            check(t, value[name], getattr(found, name), f"{path}.{name}")
    elif isinstance(of, str):
        check_plain(of, value, found, path)
    elif "slice" in of or "array" in of:
        assert type(found) is (list if "slice" in of else tuple), path
        assert len(found) == len(value), path
        element = of.get("slice", of.get("array"))
        for i, each in enumerate(value):
            check(element, each, found[i], f"{path}[{i}]")
    elif "map" in of:
        assert type(found) is dict, path
        assert len(found) == len(value or ()), path
        for key, each in value or ():
            check(of["value"], each, found[build(of["map"], key)], f"{path}[{key}]")
    elif value is None:
        assert found is None, path
    else:
        check(of["pointer"], value, found, path)


def check_plain(of: str, value: Any, found: Any, path: str) -> None:
    expected = build_plain(of, value)
    if of == "any":
        if value is None:
            assert found is None, path
            return
        held = value["type"]
        if isinstance(held, dict) and "pointer" in held:
            held = held["pointer"]
        check(held, value["value"], found, f"{path}({held})")
        if isinstance(held, str) and isinstance(PLAIN.get(held), type):
            kind = gob.Time if held == "time" else PLAIN[held]
            assert type(found) is kind, path
    elif of in ("Sealed", "addr"):
        assert vars(found) == vars(expected), path
    elif isinstance(expected, (float, complex)):
        assert bits(found) == bits(expected), f"{path}: {found} is not {expected}"
    elif of == "time":
        assert (found, found.utcoffset()) == (expected, expected.utcoffset()), path
    else:
        assert found == expected, path


def bits(number: Any) -> list[bytes]:
    """Tells zeros of either sign apart, and takes all NaNs for the same."""
    parts = complex(number).real, complex(number).imag
    return [b"nan" if part != part else struct.pack("d", part) for part in parts]


NAMES[f"{GOBTYPES}.Sealed"] = Sealed
NAMES["net/netip.Addr"] = Addr
NAMES["example.com/units.Celsius"] = Celsius
for each in NAMED:
    annotation(each)
NAMES["[]gobtypes.Point"] = annotation({"slice": "Point"})


@contextlib.contextmanager
def registered() -> Iterator[None]:
    """Has interface values be objects of these classes.

    Other modules of the tests have classes of their own for the same types.
    """
    tables: list[dict[Any, Any]] = [registry._annotations, registry._names]
    before = [dict(table) for table in tables]
    for name in NAMES:
        registry._annotations.pop(name, None)
    for name, made in NAMES.items():
        gob.register(name, made)
    yield
    for table, entries in zip(tables, before):
        table.clear()
        table.update(entries)
    for name in NAMES:
        registry._forget(name)
