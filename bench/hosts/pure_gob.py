"""A straightforward decoder of gob in pure Python, for ours to be compared with.

It decodes a stream by its own definitions, structs to dicts, but no interface values: what is
measured has none.
"""

from __future__ import annotations

import struct
from typing import Any

BOOL, INT, UINT, FLOAT, BYTES, STRING, COMPLEX = range(1, 8)
WIRE_TYPE = 16


class Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def uint(self) -> int:
        first = self.data[self.at]
        self.at += 1
        if first < 128:
            return first
        size = 256 - first
        value = int.from_bytes(self.data[self.at : self.at + size], "big")
        self.at += size
        return value

    def int(self) -> int:
        value = self.uint()
        return ~(value >> 1) if value & 1 else value >> 1

    def float(self) -> float:
        return struct.unpack(">d", self.uint().to_bytes(8, "little"))[0]

    def bytes(self) -> bytes:
        size = self.uint()
        value = self.data[self.at : self.at + size]
        self.at += size
        return value


class Decoder:
    def __init__(self) -> None:
        # What definitions are made of: wireType and the types within it.
        common = ("struct", [("Name", STRING), ("Id", INT)])
        self.types: dict[int, Any] = {
            WIRE_TYPE: (
                "struct",
                [
                    ("ArrayT", 17),
                    ("SliceT", 19),
                    ("StructT", 20),
                    ("MapT", 23),
                    ("GobEncoderT", 24),
                    ("BinaryMarshalerT", 24),
                    ("TextMarshalerT", 24),
                ],
            ),
            17: ("struct", [("Common", 18), ("Elem", INT), ("Len", INT)]),
            18: common,
            19: ("struct", [("Common", 18), ("Elem", INT)]),
            20: ("struct", [("Common", 18), ("Field", 22)]),
            21: common,
            22: ("slice", 21),
            23: ("struct", [("Common", 18), ("Key", INT), ("Elem", INT)]),
            24: ("struct", [("Common", 18)]),
        }

    def decode_all(self, data: bytes) -> list[Any]:
        reader = Reader(data)
        values = []
        while reader.at < len(data):
            reader.uint()  # the message's size
            number = reader.int()
            if number < 0:
                self.define(-number, self.value(reader, WIRE_TYPE))
                continue
            if self.kind(number) != "struct":
                reader.uint()
            values.append(self.value(reader, number))
        return values

    def kind(self, number: int) -> str:
        return self.types[number][0] if number in self.types else "basic"

    def define(self, number: int, wire: dict[str, Any]) -> None:
        if "StructT" in wire:
            fields = wire["StructT"].get("Field", [])
            self.types[number] = ("struct", [(f["Name"], f["Id"]) for f in fields])
        elif "SliceT" in wire:
            self.types[number] = ("slice", wire["SliceT"]["Elem"])
        elif "ArrayT" in wire:
            self.types[number] = ("slice", wire["ArrayT"]["Elem"])
        elif "MapT" in wire:
            self.types[number] = ("map", (wire["MapT"]["Key"], wire["MapT"]["Elem"]))
        else:
            self.types[number] = ("opaque", None)

    def value(self, reader: Reader, number: int) -> Any:
        if number == BOOL:
            return bool(reader.uint())
        if number == INT:
            return reader.int()
        if number == UINT:
            return reader.uint()
        if number == FLOAT:
            return reader.float()
        if number == BYTES:
            return reader.bytes()
        if number == STRING:
            return reader.bytes().decode()
        if number == COMPLEX:
            return complex(reader.float(), reader.float())
        kind, parts = self.types[number]
        if kind == "struct":
            found, field = {}, -1
            while delta := reader.uint():
                field += delta
                name, of = parts[field]
                found[name] = self.value(reader, of)
            return found
        if kind == "slice":
            return [self.value(reader, parts) for _ in range(reader.uint())]
        if kind == "map":
            key, element = parts
            return {
                self.value(reader, key): self.value(reader, element) for _ in range(reader.uint())
            }
        return reader.bytes()
