"""What gob allocates in Python is freed, also when encoding and decoding fail half-way."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from enum import IntEnum
from typing import Any

import pytest

from pygo_plugin import gob

WHEN = datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1)))


class Color(IntEnum):
    RED = 1


class Sealed:
    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    def __gob_encode__(self) -> bytes:
        if self.data == b"fail":
            raise KeyError("fail")
        return b"d" + self.data

    @classmethod
    def __gob_decode__(cls, data: bytes) -> Sealed:
        if data == b"dundecodable":
            raise KeyError("fail")
        return cls(data[1:])


@gob.struct("example.com/leaks.Item")
class Item:
    name: str = ""
    price: float = 0.0
    tags: list[str] = gob.field(default_factory=list)


@gob.struct
class All:
    color: Color = Color.RED
    number: gob.Uint = 0
    big: gob.BigInt = 0
    z: complex = 0j
    text: str = ""
    data: bytes = b""
    buffer: bytearray = gob.field(default_factory=bytearray)
    items: list[Item] = gob.field(default_factory=list)
    grid: gob.Array[Item, 2] = (Item(), Item())
    table: dict[str, list[Item]] = gob.field(default_factory=dict)
    when: datetime = gob.ZERO_TIME
    any: Any = None
    sealed: Sealed | None = None
    next: All | None = None
    _hidden: list[int] = gob.field(default_factory=list)

    def __post_init__(self) -> None:
        self.ready = True


@gob.struct
class Strict:
    number: int = 0

    def __post_init__(self) -> None:
        if self.number == 7:
            raise KeyError("seven")


@gob.struct
class Lax:
    number: int = 0


@gob.struct
class Numbers:
    items: list[int] = gob.field(default_factory=list)


@gob.struct
class Key:
    x: int = 0


@gob.struct
class HashedKey(Key):
    def __hash__(self) -> int:
        return self.x


def everything(last: Any = None) -> All:
    return All(
        *(Color.RED, 2**40, 2**100, 1j, "\udcff text \U0001f40d", b"bytes", bytearray(b"buffer")),
        items=[Item("a", 1.5, ["x", "y"]), Item()],
        table={"a": [Item("b")], "b": []},
        when=WHEN,
        any=[1, 2**40, "s", b"b", Item("c"), {"k": [None, True, WHEN]}, gob.Uint8(5)],
        sealed=Sealed(b"s"),
        next=All(any=last),
    )


ROUNDS = 50
DATA = gob.dumps(everything())
ITEMS = gob.dumps([Lax(5), Lax(7)], list[Lax])
KEYS = gob.dumps({HashedKey(1): Item("a"), HashedKey(2): Item("b")}, dict[HashedKey, Item])
COLORS = gob.dumps([Item("a"), Item("b")]).replace(b"leaks.Item", b"leaks.None")


def encode_and_decode() -> None:
    assert gob.loads(gob.dumps(everything()), All).ready


def decode_untyped() -> None:
    assert gob.loads(DATA).to_dict()
    assert repr(gob.loads(DATA))
    assert gob.loads(DATA) == gob.loads(DATA)


def refuse_values() -> None:
    for last in (object(), 2**70, [Item(), object()], {"a": 1, "b": object()}, Item(name=5)):
        with suppress(gob.GobError):
            gob.dumps(everything(last))
    for value in (All(text=5), All(data="x"), All(table={5: []}), All(grid=()), All(when=5)):
        with suppress(gob.GobError):
            gob.dumps(value)


def fail_in_user_code() -> None:
    with suppress(KeyError):
        gob.dumps([everything(), All(sealed=Sealed(b"fail"))], list[All])
    with suppress(KeyError):
        gob.loads(gob.dumps(All(sealed=Sealed(b"undecodable"))), All)
    with suppress(KeyError):
        gob.loads(ITEMS, list[Strict])


def fail_in_decoding() -> None:
    with suppress(gob.GobError):
        gob.loads(DATA, Numbers)
    with suppress(gob.GobError):
        gob.loads(DATA, list[All])
    with suppress(gob.GobError):
        gob.loads(KEYS, dict[Key, Item])
    assert gob.loads(COLORS)[0].Name == "a"


def cut_and_garbled() -> None:
    for i in range(0, len(DATA), 29):
        with suppress(gob.GobError):
            gob.loads(DATA[:i], All)
        for of in (All, None):
            with suppress(gob.GobError, KeyError):
                gob.loads(DATA[:i] + bytes([DATA[i] ^ 0x15]) + DATA[i + 1 :], of)


def streams() -> None:
    encoder = gob.Encoder()
    decoder = gob.Decoder()
    decoder.feed(encoder.encode(everything()) + encoder.encode(Item()) + b"\x7f")
    assert isinstance(decoder.decode(All), All)
    assert decoder.decode().Name == ""


@pytest.mark.parametrize(
    "one",
    [
        encode_and_decode,
        decode_untyped,
        refuse_values,
        fail_in_user_code,
        fail_in_decoding,
        cut_and_garbled,
        streams,
    ],
)
def test_nothing_leaks(one: Callable[[], None]) -> None:
    def blocks() -> int:
        for _ in range(ROUNDS):
            one()
        gc.collect()
        return sys.getallocatedblocks()

    # Caches fill first: of this package, of the interpreter, and definitions that wait to be freed.
    # A leak of one block in each round is ROUNDS.
    counts = [blocks() for _ in range(6)]
    grown = [after - before for before, after in zip(counts, counts[1:])]
    assert min(grown) < ROUNDS, grown
