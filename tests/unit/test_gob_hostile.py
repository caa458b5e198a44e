"""Streams that were made to hurt: they end in a GobError, soon and without much memory."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest

from pygo_plugin import gob
from pygo_plugin.errors import ConfigError, ConfigTypeError, GobError

# Ids that every stream has, and the first that a stream may define.
INT, STRING, INTERFACE, FIRST = 2, 6, 8, 65


def uint(number: int) -> bytes:
    if number < 0x80:
        return bytes([number])
    digits = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return bytes([256 - len(digits)]) + digits


def sint(number: int) -> bytes:
    return uint(~number << 1 | 1 if number < 0 else number << 1)


def text(value: str) -> bytes:
    return uint(len(value)) + value.encode()


def message(body: bytes) -> bytes:
    return uint(len(body)) + body


def common(number: int, name: str = "") -> bytes:
    return b"\1" + (b"\1" + text(name) + b"\1" if name else b"\2") + sint(number) + b"\0"


def array(number: int, element: int, length: int) -> bytes:
    body = common(number) + b"\1" + sint(element) + b"\1" + sint(length) + b"\0\0"
    return message(sint(-number) + b"\1" + body)


def slice_(number: int, element: int) -> bytes:
    return message(sint(-number) + b"\2" + common(number) + b"\1" + sint(element) + b"\0\0")


def map_(number: int, key: int, element: int) -> bytes:
    body = common(number) + b"\1" + sint(key) + b"\1" + sint(element) + b"\0\0"
    return message(sint(-number) + b"\4" + body)


def struct(number: int, name: str, fields: list[tuple[str, int]]) -> bytes:
    each = b"".join(b"\1" + text(field) + b"\1" + sint(of) + b"\0" for field, of in fields)
    body = common(number, name) + b"\1" + uint(len(fields)) + each + b"\0\0"
    return message(sint(-number) + b"\3" + body)


def value(of: int, body: bytes) -> bytes:
    return message(sint(of) + body)


def interface(name: str, of: int, body: bytes) -> bytes:
    return text(name) + sint(of) + uint(len(body)) + body


@gob.struct
class Item:
    name: str = ""
    tags: list[str] = gob.field(default_factory=list)


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 32 << 20


def test_the_builders_build_gob() -> None:
    assert gob.loads(slice_(65, INT) + value(65, b"\0" + uint(2) + sint(1) + sint(-1))) == [1, -1]
    assert gob.loads(array(65, INT, 1) + value(65, b"\0" + uint(1) + sint(5))) == (5,)
    assert gob.loads(map_(65, STRING, INT) + value(65, b"\0\1" + text("a") + sint(5))) == {"a": 5}
    data = struct(65, "P", [("X", INT)]) + value(65, b"\1" + sint(5) + b"\0")
    assert gob.loads(data).to_dict() == {"X": 5}
    held = value(65, b"\0\1" + interface("int", INT, b"\0" + sint(5)))
    assert gob.loads(slice_(65, INTERFACE) + held) == [5]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (slice_(65, INT) + value(65, b"\0" + uint(1 << 60) + b"\2"), "cut short or garbled"),
        (map_(65, INT, INT) + value(65, b"\0" + uint(1 << 60) + b"\2\2"), "cut short or garbled"),
        (value(STRING, b"\0" + uint(1 << 50) + b"x"), "cut short or garbled"),
        (uint(1 << 40) + b"x", "bytes, and 1073741824 are allowed"),
        (uint((1 << 30) - 1) + b"x", "ends in the middle"),
        # Elements that take no bytes.
        (
            struct(65, "E", []) + array(66, 65, 1 << 60) + value(66, b"\0" + uint(1 << 60)),
            "cut short or garbled",
        ),
        (
            array(65, INT, 0) + array(66, 65, 1 << 60) + value(66, b"\0" + uint(1 << 60)),
            "cut short or garbled",
        ),
        # Types that contain nothing but themselves.
        (array(65, 65, 1 << 40) + value(65, b"\0" + uint(1 << 40)), "cut short or garbled"),
        (slice_(65, 65) + value(65, b"\0" + uint(1) * 50_000 + uint(0)), "nested"),
        (struct(65, "S", [("S", 65)]) + value(65, b"\1" * 20_000 + b"\0" * 20_001), "nested"),
        (slice_(65, INT) + slice_(65, STRING) + value(65, b"\0\0"), "type 65 is defined again"),
        (value(99, b"\0"), "type 99 is used and has not been defined"),
        (slice_(65, 99) + value(65, b"\0\0"), "99"),
        (b"".join(slice_(65 + i, INT) for i in range(5000)), "more than 4096 types"),
        (struct(65, "N" * 2000, []) + value(65, b"\0"), "name"),
        (struct(65, "N", [("F" * 2000, INT)]) + value(65, b"\0"), "name"),
    ],
)
@pytest.mark.parametrize("of", [None, Item, list[Item], dict[str, Item]])
def test_streams_that_are_no_gob(data: bytes, reason: str, of: Any) -> None:
    with pytest.raises(GobError) as caught:
        gob.loads(data, of)
    if of is None:
        assert reason in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_deep_values_can_be_dropped() -> None:
    found = gob.loads(slice_(65, 65) + value(65, b"\0" + uint(1) * 9_000 + uint(0)))
    assert len(found) == 1
    del found
    found = gob.loads(struct(65, "S", [("S", 65)]) + value(65, b"\1" * 9_000 + b"\0" * 9_001))
    assert len(found) == 1
    with pytest.raises(RecursionError):
        repr(found)


def test_interfaces_in_interfaces() -> None:
    def nested(depth: int) -> bytes:
        body = b"\0"
        for _ in range(depth):
            body = b"\1" + interface("p.I", 65, body) + b"\0"
        return struct(65, "I", [("X", INTERFACE)]) + value(65, body)

    found = gob.loads(nested(500))
    for _ in range(500):
        found = found.X
    assert found.X is None
    with pytest.raises(GobError, match="nested"):
        gob.loads(nested(20_000))


def test_a_message_of_many_empty_structs_of_many_fields() -> None:
    fields = [(f"F{i}", INT) for i in range(4000)]
    data = struct(65, "W", fields) + slice_(66, 65)
    few = gob.loads(data + value(66, b"\0" + uint(100) + b"\0" * 100))
    assert few[99].F3999 == 0
    many = data + value(66, b"\0" + uint(100_000) + b"\0" * 100_000)
    with pytest.raises(GobError, match="fields of structs in one message"):
        gob.loads(many)
    with pytest.raises(GobError, match="fields of structs in one message"):
        gob.loads(
            struct(65, "Item", [("Name", STRING)])
            + slice_(66, 65)
            + value(66, b"\0\5" + b"\0" * 5),
            list[Item],
            limits=gob.Limits(slots=9),
        )


def test_unknown_names_are_not_remembered() -> None:
    from pygo_plugin._base.core import _core

    held = [interface(f"example.com/p.T{i}", INT, b"\0" + sint(i)) for i in range(1000)]
    data = slice_(65, INTERFACE) + value(65, b"\0" + uint(1000) + b"".join(held))
    before = len(_core.gob_registry()[1])
    assert gob.loads(data, list[Any]) == list(range(1000))
    assert len(_core.gob_registry()[1]) == before


@pytest.mark.parametrize("name", ["", "int", "p.\udcff", "string", "[]string", "*big.Int"])
def test_names_that_lie(name: str) -> None:
    encoded = name.encode("utf-8", "surrogateescape")
    body = uint(len(encoded)) + encoded + sint(INT) + uint(2) + b"\0" + sint(5)
    data = slice_(65, INTERFACE) + value(65, b"\0\1" + body)
    if name in ("", "int", "p.\udcff"):  # an interface without a name holds nothing
        assert gob.loads(data, list[Any]) == [5 if name else None]
    else:
        with pytest.raises(GobError):
            gob.loads(data, list[Any])


def test_keys_that_have_no_hash() -> None:
    data = slice_(65, INT) + map_(66, 65, INT) + value(66, b"\0\1" + uint(0) + sint(1))
    with pytest.raises(GobError, match="a list cannot be the key of a dict"):
        gob.loads(data)


def test_limits() -> None:
    data = gob.dumps([[1, 2], [3]], list[list[int]])
    assert gob.loads(data, limits=gob.Limits(depth=10)) == [[1, 2], [3]]
    for limits in (
        gob.Limits(depth=1),
        gob.Limits(message=5),
        gob.Limits(types=1),
        gob.Limits(definitions=10),
    ):
        with pytest.raises(GobError):
            gob.loads(data, limits=limits)
    for limits in (gob.Limits(fields=1), gob.Limits(name=3)):
        with pytest.raises(GobError):
            gob.loads(gob.dumps(Item()), limits=limits)
    assert repr(gob.Limits(depth=5)) == "Limits(depth=5)"
    with pytest.raises(ConfigTypeError, match=r"Limits\.depth must be an int, not 1\.5"):
        gob.Limits(depth=1.5)
    with pytest.raises(ConfigError, match=r"Limits\.depth must be from 1 to"):
        gob.Limits(depth=0)
    with pytest.raises(ConfigTypeError, match=r"limits must be a gob\.Limits, not 5"):
        gob.loads(data, limits=5)
    with pytest.raises(AttributeError, match="Limits are immutable"):
        gob.Limits().depth = 5


@gob.struct("example.com/hostile.All")
class All:
    number: int = 0
    small: gob.Uint8 = 0
    ratio: gob.Float32 = 0.0
    z: complex = 0j
    text: str = ""
    data: bytes = b""
    big: gob.BigInt = 0
    when: datetime = gob.ZERO_TIME
    items: list[Item] = gob.field(default_factory=list)
    grid: gob.Array[int, 2] = (0, 0)
    table: dict[str, int] = gob.field(default_factory=dict)
    any: Any = None
    next: All | None = None


def test_garbled_streams() -> None:
    full = All(
        *(5, 7, 1.5, 1j, "text", b"bytes", 2**70, datetime(2026, 1, 1, tzinfo=timezone.utc)),
        items=[Item("a", ["b"])],
        table={"a": 1},
        any=[1, "b", {"c": All(3)}],
        next=All(5),
    )
    stream = gob.dumps(full)
    choose = random.Random(13)
    decoded = 0
    for _ in range(4000):
        data = bytearray(stream)
        for _ in range(choose.randrange(1, 4)):
            at = choose.randrange(len(data))
            if choose.random() < 0.2:
                del data[at : at + choose.randrange(5)]
            elif data:
                data[min(at, len(data) - 1)] = choose.randrange(256)
        for of in (All, None):
            try:
                gob.loads(bytes(data), of)
            except GobError:
                continue
            decoded += 1
    assert decoded > 100
    assert gob.loads(stream, All) == full
