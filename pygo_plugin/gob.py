"""gob, the encoding of Go's `encoding/gob`, for Python's classes and values.

    @gob.struct("example.com/shop.Item")
    class Item:
        name: str = ""
        price: float = 0.0

    data = gob.dumps(Item("tea", 2.5))
    gob.loads(data, Item)  # Item(name='tea', price=2.5)
    gob.loads(data)        # without a class: an object with the fields that the data define

See docs/gob.md.
"""

from __future__ import annotations

from pygo_plugin._gob.kinds import Array, BigInt, Codec, Complex, as_type
from pygo_plugin._gob.registry import register
from pygo_plugin._gob.structs import field, struct
from pygo_plugin.errors import GobError, _importing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pygo_plugin._gob.kinds import (
        Complex64,
        Float32,
        Int8,
        Int16,
        Int32,
        Int64,
        Uint,
        Uint8,
        Uint16,
        Uint32,
        Uint64,
        Uintptr,
    )
    from pygo_plugin._gob.streams import Decoder, Encoder, Limits, dump, dumps, load, loads
    from pygo_plugin._gob.times import ZERO_TIME, Time
    from pygo_plugin._gob.untyped import Opaque, Struct

__all__ = [
    # types
    "Array",
    "BigInt",
    "Codec",
    "Complex",
    "Complex64",
    "Float32",
    "Int8",
    "Int16",
    "Int32",
    "Int64",
    "Time",
    "Uint",
    "Uint8",
    "Uint16",
    "Uint32",
    "Uint64",
    "Uintptr",
    "ZERO_TIME",
    "as_type",
    "field",
    "register",
    "struct",
    # encoding and decoding
    "Decoder",
    "Encoder",
    "GobError",
    "Limits",
    "Opaque",
    "Struct",
    "dump",
    "dumps",
    "load",
    "loads",
]

# Imported at first use: times take the module datetime, streams the core, and numbers are made
# one by one.
_HOMES = {
    "kinds": (
        "Complex64",
        "Float32",
        "Int8",
        "Int16",
        "Int32",
        "Int64",
        "Uint",
        "Uint8",
        "Uint16",
        "Uint32",
        "Uint64",
        "Uintptr",
    ),
    "streams": ("Decoder", "Encoder", "Limits", "dump", "dumps", "load", "loads"),
    "times": ("Time", "ZERO_TIME"),
    "untyped": ("Opaque", "Struct"),
}


if not TYPE_CHECKING:  # with a visible __getattr__, mypy would let misspelt names pass

    def __getattr__(name):
        from sys import modules

        for home, names in _HOMES.items():
            if name in names:
                module = f"pygo_plugin._gob.{home}"
                with _importing(module):
                    __import__(module)
                value = getattr(modules[module], name)
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__})
