"""gob: what annotations mean, which values they take, how errors name their place."""

from __future__ import annotations

import io
import math
import re
import sys
import uuid
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import datetime, timezone
from enum import IntEnum
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, NewType, Optional, Union
from uuid import UUID

import pytest

from pygo_plugin import gob
from pygo_plugin.errors import ConfigError, ConfigTypeError, GobError, PluginError


@gob.struct("example.com/shop.Item")
class Item:
    name: str = ""
    price: float = 0.0
    tags: list[str] = gob.field(default_factory=list)


@gob.struct
class Order:
    id: gob.Uint = gob.field(name="ID", default=0)
    when: datetime = gob.ZERO_TIME
    items: list[Item] = gob.field(default_factory=list)
    grid: gob.Array[gob.Int32, 3] = (0, 0, 0)
    any: Any = None
    next: Order | None = None


ORDER = Order(
    7,
    datetime(2026, 12, 1, 12, tzinfo=timezone.utc),
    [Item("tea", 2.5, ["hot"]), Item()],
    (1, 0, -1),
    [1, "two", Item("three")],
    Order(8),
)


def back(value: Any, of: Any = None) -> Any:
    """The value after a round trip as a type."""
    of = type(value) if of is None else of
    return gob.loads(gob.dumps(value, of), of)


# ---- Types ----


def test_structs() -> None:
    assert back(ORDER) == ORDER
    assert back(Order()) == Order()
    assert back([ORDER, Order()], list[Order]) == [ORDER, Order()]


@pytest.mark.parametrize(
    ("of", "values"),
    [
        (bool, [True, False]),
        (int, [0, 1, -1, 2**63 - 1, -(2**63)]),
        (gob.Int8, [127, -128]),
        (gob.Int16, [2**15 - 1, -(2**15)]),
        (gob.Int32, [2**31 - 1, -(2**31)]),
        (gob.Int64, [2**63 - 1, -(2**63)]),
        (gob.Uint, [0, 2**64 - 1]),
        (gob.Uint8, [0, 255]),
        (gob.Uint16, [2**16 - 1]),
        (gob.Uint32, [2**32 - 1]),
        (gob.Uint64, [2**64 - 1]),
        (gob.Uintptr, [2**64 - 1]),
        (gob.BigInt, [0, 1, -1, 2**200, -(2**64), 255, 256]),
        (float, [0.0, -1.5, math.inf, 5e-324, 1e308, 3]),
        (gob.Float32, [0.0, 1.5, -math.inf, 3.4028234663852886e38]),
        (complex, [0j, 1 - 2j, 3, complex(math.inf, -1)]),
        (gob.Complex64, [0j, 1.5 - 2j]),
        (str, ["", "text", "äöü", "\U0001f40d", "\0", "\udcff\udc80"]),
        (bytes, [b"", b"\0\xff"]),
        (bytearray, [bytearray(b"abc")]),
        (list[int], [[], [1, -2, 3]]),
        (list[list[str]], [[], [[], ["a"]]]),
        (tuple[int, ...], [(), (1, 2)]),
        (tuple[int, int, int], [(1, 2, 3)]),
        (gob.Array[str, 2], [("a", "")]),
        (gob.Array[gob.Array[int, 2], 2], [((1, 2), (3, 4))]),
        (gob.Array[int, Literal[1]], [(5,)]),
        (gob.Array[int, 0], [()]),
        (Annotated[list[int], gob.Array[int, 2]], [[1, 2]]),
        (list[gob.Uint8], [[], [0, 255]]),
        (dict[str, int], [{}, {"a": 1, "": 0}]),
        (dict[gob.Array[int, 2], str], [{(1, 2): "x"}]),
        (dict[int, dict[str, list[int]]], [{1: {"a": [1]}, 2: {}}]),
        (list, [[], [1, "a", None, [2.5]]]),
        (dict, [{"a": 1, "b": {"c": [None, True]}}]),
        (Annotated[int, gob.Uint16], [2**16 - 1]),
        (Annotated[int, "a remark"], [5]),
        (NewType("UserId", int), [5]),
        (Optional[int], [5]),
        (datetime, [datetime(2026, 1, 2, 3, 4, 5, 6, timezone.utc), gob.ZERO_TIME]),
    ],
)
def test_values(of: Any, values: list[Any]) -> None:
    for value in values:
        found = back(value, of)
        assert found == value
        assert type(found) is type(value) or isinstance(found, (float, complex, datetime))


def test_typing_is_spelled_either_way() -> None:
    import collections.abc
    import typing

    assert gob.dumps([1], typing.List[int]) == gob.dumps([1], list[int])  # noqa: UP006
    assert gob.dumps([1], collections.abc.Sequence[int]) == gob.dumps([1], list[int])
    assert gob.dumps({"a": 1}, typing.Dict[str, int]) == gob.dumps(  # noqa: UP006
        {"a": 1}, collections.abc.Mapping[str, int]
    )
    assert gob.dumps(5, Union[int, None]) == gob.dumps(5, int)
    if sys.version_info >= (3, 10):
        assert gob.dumps(5, int | None) == gob.dumps(5, int)


def test_values_of_other_classes_are_taken_where_they_fit() -> None:
    class Index:
        def __index__(self) -> int:
            return 5

    assert back(Index(), int) == 5
    assert back(True, int) == 1
    assert back(Fraction(1, 2), float) == 0.5
    assert back((1, 2), list[int]) == [1, 2]
    assert back({1: 0, 2: 0}.keys(), list[int]) == [1, 2]
    assert back(memoryview(b"ab"), bytes) == b"ab"
    assert back(bytearray(b"ab"), bytes) == b"ab"
    assert back(b"ab", memoryview) == memoryview(b"ab")
    assert back([1, 2, 3], gob.Array[int, 3]) == (1, 2, 3)
    from types import MappingProxyType

    assert back(MappingProxyType({"a": 1}), dict[str, int]) == {"a": 1}


def test_subclasses_of_basic_types() -> None:
    class Color(IntEnum):
        NONE = 0
        RED = 1

    class Flags(gob.Uint16):
        pass

    class Name(str):
        __slots__ = ()

    @gob.struct
    class Typed:
        color: Color = Color.RED
        flags: Flags = Flags(0)
        name: Name = Name()

    found = back(Typed(Color.NONE, Flags(5), Name("n")))
    assert [type(each) for each in vars(found).values()] == [Color, Flags, Name]
    assert list(vars(found).values()) == [0, 5, "n"]
    with pytest.raises(GobError, match=r"^Typed\.Flags: 65536 does not fit into uint16$"):
        gob.dumps(Typed(flags=Flags(65536)))

    @gob.struct
    class Plain:
        color: int = 0

    with pytest.raises(GobError, match=r"^Typed\.Color: 7 is no Color$") as caught:
        gob.loads(gob.dumps(Plain(7)), Typed)
    assert isinstance(caught.value.__cause__, ValueError)


def test_real_dataclasses() -> None:
    @dataclass(frozen=True)
    class Point:
        x: int
        y: int = dataclass_field(default=5)
        _cache: dict[str, int] = dataclass_field(default_factory=dict, compare=False)

    @gob.struct  # which keeps the names of this function for the annotations
    @dataclass
    class Line:
        start: Point
        ends: dict[Point, str]
        total: int = dataclass_field(default=0, init=False)

        def __post_init__(self) -> None:
            self.total = self.start.x + 1

    line = back(Line(Point(1), {Point(2, 0): "end"}))
    assert line == Line(Point(1), {Point(2, 0): "end"})
    assert line.total == 2
    assert line.start._cache == {}


def test_slots_and_own_new() -> None:
    @gob.struct
    class Slotted:
        __slots__ = ("a", "b")
        a: int
        b: str

        def __new__(cls, *args: Any) -> Any:
            made = super().__new__(cls)
            made.b = "new"
            return made

    found = back(Slotted(1, "x"))
    assert (found.a, found.b) == (1, "x")


def test_decoding_does_not_run_init() -> None:
    @gob.struct
    class Strict:
        value: int = 0
        _hidden: int = 3

        def __init__(self, value: int) -> None:
            raise AssertionError

    one = Strict.__new__(Strict)
    one.value = 5
    found = back(one)
    assert (found.value, found._hidden) == (5, 3)


def test_forward_references_and_local_classes() -> None:
    @gob.struct
    class Tree:
        children: list[Tree] = gob.field(default_factory=list)
        leaf: Leaf | None = None

    @gob.struct
    class Leaf:
        value: int = 0

    tree = Tree([Tree(leaf=Leaf(5)), Tree()])
    assert back(tree) == tree
    assert "__gob_frame__" not in vars(Tree)


def test_names_within_a_class() -> None:
    @gob.struct
    class Outer:
        @gob.struct
        class Inner:
            int: int = 0

        int: int = 5
        inner: Inner = gob.field(default_factory=Inner)

    value = Outer(7, Outer.Inner(8))
    assert back(value) == value


def test_optional_values_are_pointers() -> None:
    @gob.struct
    class Pointers:
        number: int | None = None
        item: Item | None = None
        items: list[int] | None = None
        table: dict[str, int] | None = None
        text: str | None = "default"

    assert back(Pointers()) == Pointers(text="default")
    full = Pointers(5, Item(), [1], {}, "x")
    assert back(full) == full
    # As in Go, whose pointers to zero are left out.
    assert back(Pointers(0, None, [], None, "")) == Pointers(text=None)


def test_absent_fields_are_zero_whatever_their_default() -> None:
    @gob.struct
    class Sender:
        common: int = 0

    @gob.struct
    class Receiver:
        common: int = 9
        number: int = 3
        text: str = "default"
        when: datetime = datetime(2000, 1, 1, tzinfo=timezone.utc)
        big: gob.BigInt = 4
        items: list[int] = gob.field(default_factory=lambda: [1])
        pair: tuple[int, ...] = (1,)
        table: dict[str, int] = gob.field(default_factory=lambda: {"a": 1})
        array: gob.Array[Item, 2] = ()
        item: Item = gob.field(default_factory=lambda: Item("x"))
        any: Any = 5
        data: bytes = b"x"
        flag: bool = True
        ratio: float = 1.5
        z: complex = 1j
        buffer: bytearray = gob.field(default_factory=lambda: bytearray(b"x"))

    found = gob.loads(gob.dumps(Sender(0)), Receiver)
    assert vars(found) == {
        "common": 0,
        "number": 0,
        "text": "",
        "when": gob.ZERO_TIME,
        "big": 0,
        "items": [],
        "pair": (),
        "table": {},
        "array": (Item(), Item()),
        "item": Item(),
        "any": None,
        "data": b"",
        "flag": False,
        "ratio": 0.0,
        "z": 0j,
        "buffer": bytearray(),
    }
    other = gob.loads(gob.dumps(Sender(0)), Receiver)
    for name in ("items", "table", "item", "buffer"):
        assert getattr(found, name) is not getattr(other, name)
    assert found.array[0] is not other.array[0]


def test_fields_are_matched_by_name() -> None:
    @gob.struct
    class Newer:
        extra: dict[str, list[Item]] = gob.field(default_factory=dict)
        name: str = ""

    assert gob.loads(gob.dumps(Newer({"a": [Item("b")]}, "tea")), Item) == Item("tea")
    assert gob.loads(gob.dumps(Item("tea", 1.0, ["x"])), Newer) == Newer({}, "tea")


def test_what_zero_values_take_is_not_sent() -> None:
    encoder = gob.Encoder()
    encoder.encode(Item())
    assert len(encoder.encode(Item())) == 4  # the length, the type in two bytes, the end
    assert len(encoder.encode(Item("tea", 2.5, ["hot"]))) == 4 + 5 + 4 + 6


# ---- Classes that encode themselves ----


class Reversed:
    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reversed) and self.data == other.data

    def __gob_encode__(self) -> bytes:
        return self.data[::-1]

    @classmethod
    def __gob_decode__(cls, data: bytes) -> Reversed:
        return cls(data[::-1])


class Label:
    def __init__(self, text: str) -> None:
        self.text = text

    def __marshal_text__(self) -> str:
        return self.text.upper()

    @classmethod
    def __unmarshal_text__(cls, text: str) -> Label:
        return cls(text.lower())


Id = Annotated[UUID, gob.Codec(lambda u: u.bytes, lambda b: UUID(bytes=b), "binary", zero=UUID)]


@gob.struct
class Opaques:
    one: Reversed = gob.field(default_factory=Reversed)
    label: Label | None = None
    id: Id | None = None


def test_classes_with_methods() -> None:
    value = Opaques(Reversed(b"abc"), Label("tea"), UUID(int=5))
    data = gob.dumps(value)
    assert b"cba" in data
    assert b"TEA" in data
    found = gob.loads(data, Opaques)
    assert found.one == Reversed(b"abc")
    assert found.label.text == "tea"
    assert found.id == UUID(int=5)
    assert back([Reversed(b"x")], list[Reversed]) == [Reversed(b"x")]


def test_absent_values_of_such_classes() -> None:
    @gob.struct
    class Other:
        x: int = 0

    @gob.struct
    class Needs:
        x: int = 0
        label: Label = Label("")
        id: Id = UUID(int=0)

    with pytest.raises(
        GobError, match=r"^Needs\.Label: the stream leaves it out, and .*Label"
    ) as e:
        gob.loads(gob.dumps(Other()), Needs)
    assert e.value.path == "Needs.Label"

    @gob.struct
    class Has:
        x: int = 0
        one: Reversed = gob.field(default_factory=Reversed)

    assert gob.loads(gob.dumps(Other()), Has).one == Reversed(b"")


def test_flavours_do_not_mix() -> None:
    @gob.struct
    class Texts:
        one: Label | None = None

    with pytest.raises(GobError, match=r"^Opaques\.One: the stream has "):
        gob.loads(gob.dumps(Texts(Label("x"))), Opaques)


def test_exceptions_of_such_classes_pass() -> None:
    class Failing:
        def __gob_encode__(self) -> bytes:
            raise KeyError("encode")

        @classmethod
        def __gob_decode__(cls, data: bytes) -> Failing:
            raise KeyError("decode")

    class Wrong(Failing):
        def __gob_encode__(self) -> Any:
            return 5

    class Fine(Failing):
        def __gob_encode__(self) -> bytes:
            return b""

    with pytest.raises(KeyError, match="encode") as caught:
        gob.dumps([Failing()], list[Failing])
    if sys.version_info >= (3, 11):
        assert caught.value.__notes__ == ["gob: at []Failing[0]"]
    with pytest.raises(GobError, match=r"the function that encodes it must return bytes, not int"):
        gob.dumps(Wrong())
    with pytest.raises(GobError, match=r"expected Failing, found int"):
        gob.dumps([5], list[Failing])
    with pytest.raises(KeyError, match="decode"):
        gob.loads(gob.dumps(Fine()), Fine)


def test_codecs_are_checked() -> None:
    with pytest.raises(ConfigTypeError, match="Codec: encode must be callable, not 5"):
        gob.Codec(5, bytes)
    with pytest.raises(ConfigTypeError, match="Codec: decode must be callable, not None"):
        gob.Codec(bytes, None)
    with pytest.raises(ConfigTypeError, match="Codec: zero must be callable, not 5"):
        gob.Codec(bytes, bytes, zero=5)
    with pytest.raises(ConfigError, match="Codec: flavour must be one of"):
        gob.Codec(bytes, bytes, "json")
    with pytest.raises(ConfigTypeError, match="Codec: name must be a str"):
        gob.Codec(bytes, bytes, name=5)


# ---- Interfaces ----


def test_interfaces_keep_the_types_of_basic_values() -> None:
    values = [
        *(True, 5, -5, 2.5, "text", b"bytes", 1j, None),
        *(gob.Int8(-1), gob.Int16(1), gob.Int32(1), gob.Int64(1), gob.Uint(1), gob.Uint8(1)),
        *(gob.Uint16(1), gob.Uint32(1), gob.Uint64(1), gob.Uintptr(1), gob.BigInt(2**70)),
        *(gob.Float32(1.5), gob.Complex64(1j)),
    ]
    found = back(values, list[Any])
    assert found == values
    for value, one in zip(values, found):
        assert type(one) is (int if isinstance(value, gob.BigInt) else type(value))


def test_names_of_interface_values() -> None:
    def check(name: str, *values: Any) -> None:
        for value in values:
            assert bytes([len(name)]) + name.encode() in gob.dumps([value])

    class Ordered(dict):
        pass

    class Color(IntEnum):
        RED = 1

    check("int", 5, Color.RED)
    check("string", "x")
    check("[]uint8", b"x", bytearray(b"x"), memoryview(b"x"))
    check("[]interface {}", [1], (1,))
    check("map[string]interface {}", {"a": 1}, Ordered())
    check("uint8", gob.Uint8(5))
    check("time.Time", gob.ZERO_TIME, datetime.now(timezone.utc))
    check("*big.Int", gob.BigInt(5))
    check("example.com/shop.Item", Item(), gob.as_type(Item, Item()))
    check("[]string", gob.as_type(list[str], ["a"]))
    check("map[string]int", gob.as_type(dict[str, int], {}))
    check("[2]uint8", gob.as_type(gob.Array[gob.Uint8, 2], (1, 2)))
    check("[]shop.Item", gob.as_type(list[Item], []))
    check("uint", gob.as_type(gob.Uint, 5))


def test_as_type_at_the_top() -> None:
    assert gob.dumps(gob.as_type(list[str], ["a"])) == gob.dumps(["a"], list[str])
    assert repr(gob.as_type(int, 5)) == "as_type(<class 'int'>, 5)"


def test_registered_annotations() -> None:
    gob.register("example.com/names.List", list[Item])
    data = gob.dumps([gob.as_type(list[Item], [Item("a")])], list[Any])
    assert b"example.com/names.List" in data
    assert gob.loads(data, list[Any]) == [[Item("a")]]


def test_classes_have_to_be_registered_for_interfaces() -> None:
    @gob.struct
    class Unknown:
        x: int = 1

    with pytest.raises(
        GobError, match=r"^\[\]interface \{\}\[1\]: .* Unknown is none: register it"
    ):
        gob.dumps([1, Unknown()])
    with pytest.raises(GobError, match="Unknown is none"):
        gob.dumps([gob.as_type(Unknown, Unknown())])
    gob.register("example.com/late.Unknown", Unknown)
    assert gob.loads(gob.dumps([Unknown(5)])) == [Unknown(5)]


def test_names_that_are_not_registered_are_decoded_untyped() -> None:
    @gob.struct("example.com/gone.Point")
    class Point:
        x: int = 0

    data = gob.dumps([Point(5)]).replace(b"/gone.", b"/lost.")
    (found,) = gob.loads(data, list[Any])
    assert isinstance(found, gob.Struct)
    assert found.X == 5


# ---- Errors ----

IN_A_MAP = "Order.Any(map[string]interface {})"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Order(id=-1), "Order.ID: -1 does not fit into uint"),
        (Order(id=2**64), f"Order.ID: {2**64} does not fit into uint"),
        (Order(id="5"), "Order.ID: expected an int, found str"),
        (Order(id=None), "Order.ID: expected an int, found None"),
        (Order(grid=(1, 2)), "Order.Grid: expected a [3]int32, found 2 elements"),
        (Order(grid=(1, 2, 2**31)), f"Order.Grid[2]: {2**31} does not fit into int32"),
        (Order(grid=5), "Order.Grid: expected a list, found int"),
        (Order(items=[Item(price="1")]), "Order.Items[0].Price: expected a float, found str"),
        (Order(items=[None]), "Order.Items[0]: expected Item, found None"),
        (Order(items=None), "Order.Items: expected a list, found None"),
        (Order(items="ab"), "Order.Items: expected a list, found str"),
        (Order(items={}), "Order.Items: expected a list, found dict"),
        (Order(next=Item()), "Order.Next: expected Order, found Item"),
        (Order(when=5), "Order.When: expected a datetime, found int"),
        (Order(any={"a": 2**63}), f'{IN_A_MAP}["a"](int): {2**63} does not fit into int'),
        (Item(name=b"x"), "Item.Name: expected a str, found bytes"),
        (Item(name="\ud800"), "Item.Name: the str has a lone surrogate"),
        (Item(price=10**400), f"Item.Price: {str(10**400)[:100]} does not fit into float64"),
    ],
)  # fmt: skip
def test_values_that_do_not_fit(value: Any, message: str) -> None:
    with pytest.raises(GobError) as caught:
        gob.dumps(value)
    assert str(caught.value) == message
    assert caught.value.path == message.partition(": ")[0]
    assert isinstance(caught.value, (PluginError, ValueError))


@pytest.mark.parametrize(
    ("of", "value", "message"),
    [
        (bool, 1, "expected a bool, found int"),
        (bytes, "x", "expected bytes, found str"),
        (bytes, 5, "expected bytes, found int"),
        (list[gob.Uint8], [256], "these are no bytes"),
        (dict[str, int], [1], "expected a dict, found list"),
        (dict[str, int], {5: 1}, r"\(key\): expected a str, found int"),
        (dict[str, int], {"k": ""}, r'\["k"\]: expected an int, found str'),
        (complex, "x", "expected a complex number, found str"),
        (gob.Float32, 1e39, "1e\\+39 does not fit into float32"),
        (gob.Complex64, 1e39, "1e\\+39 does not fit into complex64"),
        (float, object(), "expected a float, found object"),
        (datetime, datetime(2026, 1, 1), "is in no time zone: give it a tzinfo"),
        (gob.BigInt, "5", "expected an int, found str"),
    ],
)
def test_values_of_the_wrong_class(of: Any, value: Any, message: str) -> None:
    with pytest.raises(GobError, match=f"{message}$"):
        gob.dumps(value, of)


def test_streams_of_another_type() -> None:
    @gob.struct
    class Texts:
        price: str = ""

    @gob.struct
    class Orders:
        items: list[Texts] = gob.field(default_factory=list)

    @gob.struct
    class Nothing:
        other: int = 0

    data = gob.dumps(Order(items=[Item("a", 1.5)]))
    with pytest.raises(GobError) as caught:
        gob.loads(data, Orders)
    assert str(caught.value) == "Orders.Items[0].Price: the stream has a float, the class a string"
    assert caught.value.path == "Orders.Items[0].Price"
    with pytest.raises(GobError, match=r"have no field in common"):
        gob.loads(data, Nothing)
    with pytest.raises(GobError, match=r"the stream has the struct Order, the class an int"):
        gob.loads(data, int)
    with pytest.raises(GobError, match=r"the stream has an int, the class a uint"):
        gob.loads(gob.dumps(5), gob.Uint)
    with pytest.raises(GobError, match=r"^int8: the number does not fit into an int8$"):
        gob.loads(gob.dumps(300), gob.Int8)
    with pytest.raises(GobError, match="the number does not fit into a float32"):
        gob.loads(gob.dumps(1e300), gob.Float32)


def test_keys_without_a_hash() -> None:
    @gob.struct
    class Key:
        x: int = 0

    @gob.struct
    class Hashed:
        x: int = 0

        def __hash__(self) -> int:
            return self.x

    data = gob.dumps({Hashed(5): 1}, dict[Hashed, int])
    assert gob.loads(data, dict[Hashed, int]) == {Hashed(5): 1}
    with pytest.raises(GobError, match="a Key cannot be the key of a dict"):
        gob.loads(data, dict[Key, int])


def test_values_that_contain_themselves() -> None:
    order = Order()
    order.next = order
    with pytest.raises(GobError, match="nested more than 10000 deep, or contain themselves"):
        gob.dumps(order)
    order.next = None


def test_what_gob_cannot_have() -> None:
    for of in (
        set[int],
        Union[int, str],
        tuple[int, str],
        tuple,
        "int",
        5,
        Literal[5],
        type,
        range,
    ):
        with pytest.raises(ConfigTypeError):
            gob.dumps(None, of)
    for of in (dict[list[int], int], dict[bytes, int], dict[Optional[str], int]):
        with pytest.raises(ConfigTypeError, match="Go has no maps with keys of"):
            gob.dumps({}, of)
    with pytest.raises(ConfigTypeError, match="gob cannot encode the class set"):
        gob.dumps({1, 2})
    with pytest.raises(GobError, match="None cannot be encoded"):
        gob.dumps(None)
    with pytest.raises(GobError, match="nothing that gob can encode"):
        gob.dumps(object())


def test_arrays_are_checked() -> None:
    assert repr(gob.Array[int, 3]) == "Array[int, 3]"
    assert gob.Array[int, 3] == gob.Array[int, 3]
    assert gob.Array[int, 3] != gob.Array[int, 4]
    assert gob.Array[int, 2]([1, 2]) == (1, 2)
    with pytest.raises(ValueError, match="takes 2 values, not 1"):
        gob.Array[int, 2]([1])
    for wrong in ("x", 1.5, True):
        with pytest.raises(ConfigTypeError, match="the length of an Array must be an int"):
            gob.Array[int, wrong]
    with pytest.raises(ConfigError, match="must be from 0"):
        gob.Array[int, -1]
    with pytest.raises(ConfigTypeError, match="a type and a length"):
        gob.Array[int]
    with pytest.raises(ConfigTypeError, match="is for annotations"):
        gob.Array((1, 2))


def test_annotations_that_cannot_be_resolved_name_their_field() -> None:
    @gob.struct
    class Broken:
        value: NoSuchName = None  # noqa: F821

    with pytest.raises(ConfigTypeError, match=r"^Broken\.value: the annotation 'NoSuchName'"):
        gob.dumps(Broken())

    @gob.struct
    class Outer:
        broken: list[Broken] = gob.field(default_factory=list)

    for _ in range(2):  # nothing of a failure is kept
        with pytest.raises(ConfigTypeError, match=r"^Broken\.value: "):
            gob.dumps(Outer())

    @gob.struct
    class Unsupported:
        value: set[int] = gob.field(default_factory=set)

    with pytest.raises(ConfigTypeError, match=r"^Unsupported\.value: set\[int\] is no type"):
        gob.dumps(Unsupported())


def test_structs_that_contain_themselves_are_refused() -> None:
    @gob.struct
    class Inner:
        outer: gob.Array[Outer, 1]

    @gob.struct
    class Outer:
        inner: Inner

    with pytest.raises(ConfigTypeError, match=r"cannot contain itself; make the field Optional"):
        gob.dumps(5, Outer)


def test_half_a_pair_of_methods_is_refused() -> None:
    class Half:
        def __gob_encode__(self) -> bytes:
            return b""

    with pytest.raises(ConfigTypeError, match="must have both __gob_encode__ and __gob_decode__"):
        gob.dumps(Half())


# ---- User code in the middle ----


def test_properties_that_raise() -> None:
    @gob.struct
    class Lazy:
        value: int

        @property
        def value(self) -> int:
            raise RuntimeError("no value")

        @value.setter
        def value(self, value: int) -> None:
            if value == 7:
                raise RuntimeError("not 7")

        def __init__(self) -> None:
            pass

    @gob.struct
    class Plain:
        value: int = 0

    with pytest.raises(RuntimeError, match="no value"):
        gob.dumps([Lazy()], list[Lazy])
    with pytest.raises(RuntimeError, match="not 7"):
        gob.loads(gob.dumps([Plain(1), Plain(7)], list[Plain]), list[Lazy])


def test_lists_that_change_while_they_are_encoded() -> None:
    numbers: list[Any] = []

    class Clearing:
        def __index__(self) -> int:
            numbers.clear()
            return 1

    numbers.extend([Clearing(), *range(100)])
    assert back(numbers, list[int]) == [1, *range(100)]

    table: dict[str, Any] = {}

    class Growing:
        def __index__(self) -> int:
            table.update({str(i): 0 for i in range(1000)})
            return 2

    table.update(a=Growing(), b=3)
    assert back(table, dict[str, int]) == {"a": 2, "b": 3}


def test_encoding_within_encoding() -> None:
    encoder = gob.Encoder()

    class Nested:
        def __gob_encode__(self) -> bytes:
            return encoder.encode(Item("inner"))

        @classmethod
        def __gob_decode__(cls, data: bytes) -> Any:
            return gob.loads(data, Item)

    data = encoder.encode([Nested()], list[Nested])
    decoder = gob.Decoder(type=list[Nested])
    decoder.feed(data)
    assert decoder.decode() == [Item("inner")]


# ---- Streams ----


def test_dump_and_load_read_no_more_than_their_value() -> None:
    file = io.BytesIO()
    gob.dump(ORDER, file)
    gob.dump([1], file, list[int])
    file.write(b"rest")
    file.seek(0)
    assert gob.load(file, Order) == ORDER
    assert gob.load(file, list[int]) == [1]
    assert file.read() == b"rest"
    with pytest.raises(EOFError, match="the file has no more values"):
        gob.load(file)
    for cut in (1, 5, len(gob.dumps(ORDER)) - 1):
        with pytest.raises(GobError, match="ends in the middle of a value"):
            gob.load(io.BytesIO(gob.dumps(ORDER)[:cut]), Order)


def test_encoder_and_decoder_define_each_type_once() -> None:
    file = io.BytesIO()
    encoder = gob.Encoder(file)
    first = encoder.encode(Item("a"))
    second = encoder.encode(Item("b"))
    assert len(second) < len(first) / 4
    assert file.getvalue() == first + second
    file.seek(0)
    assert list(gob.Decoder(file, Item)) == [Item("a"), Item("b")]


def test_a_decoder_is_fed_in_any_pieces() -> None:
    encoder = gob.Encoder()
    data = b"".join(encoder.encode(Item(str(i))) for i in range(5))
    decoder = gob.Decoder(type=Item)
    found = []
    for i in range(0, len(data), 3):
        decoder.feed(data[i : i + 3])
        found.extend(decoder)
    assert found == [Item(str(i)) for i in range(5)]
    with pytest.raises(EOFError):
        decoder.decode()
    decoder.feed(encoder.encode(ORDER))
    assert decoder.decode(Order) == ORDER


def test_a_stream_goes_on_after_a_value_of_the_wrong_type() -> None:
    encoder = gob.Encoder()
    decoder = gob.Decoder()
    decoder.feed(encoder.encode(Item("a")) + encoder.encode(ORDER) + encoder.encode(Item("b")))
    assert decoder.decode(Item) == Item("a")
    with pytest.raises(GobError):
        decoder.decode(Item)
    assert decoder.decode(Item) == Item("b")


def test_a_decoder_reads_what_a_pipe_has() -> None:
    import os

    reader, writer = os.pipe()
    with open(reader, "rb") as source, open(writer, "wb") as target:
        encoder = gob.Encoder(target)
        decoder = gob.Decoder(source, Item)
        for name in ("a", "b"):
            encoder.encode(Item(name))
            target.flush()
            assert decoder.decode() == Item(name)
        target.write(b"\x05")
        target.close()
        with pytest.raises(GobError, match="ends in the middle"):
            decoder.decode()


def test_files_that_do_not_work() -> None:
    class Full:
        def write(self, data: Any) -> int:
            raise OSError("full")

    class Slow(io.BytesIO):
        def write(self, data: Any) -> int:
            return super().write(data[:3])

    class Busy:
        def write(self, data: Any) -> None:
            return None

        def read(self, size: int) -> None:
            return None

    encoder = gob.Encoder(Full())
    with pytest.raises(OSError, match="full"):
        encoder.encode(5)
    with pytest.raises(GobError, match="lacks a value, since writing failed"):
        encoder.encode(5)
    slow = Slow()
    gob.dump(ORDER, slow)
    assert gob.loads(slow.getvalue(), Order) == ORDER
    with pytest.raises(BlockingIOError):
        gob.dump(5, Busy())
    with pytest.raises(BlockingIOError):
        gob.Decoder(Busy()).decode()
    with pytest.raises(ConfigTypeError, match="a binary file is needed"):
        gob.Encoder("path")
    with pytest.raises(ConfigTypeError, match="a binary file is needed"):
        gob.Decoder("path")


def test_loads_takes_one_value() -> None:
    data = gob.dumps(5)
    assert gob.loads(bytearray(data)) == gob.loads(memoryview(data)) == 5
    with pytest.raises(GobError, match="more bytes follow the value"):
        gob.loads(data + data)
    with pytest.raises(GobError, match="there is no value in 0 bytes"):
        gob.loads(b"")
    with pytest.raises(GobError, match="ends in the middle"):
        gob.loads(data[:-1])
    with pytest.raises(TypeError):
        gob.loads("text")


# ---- The documentation ----


def test_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "gob.md").read_text(encoding="utf-8")
    first, _, register, codecs = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {"__name__": "shop", "Annotated": Annotated, "uuid": uuid}
    sys.modules["shop"] = ModuleType("shop")
    vars(sys.modules["shop"]).update(names)
    try:
        exec(compile(first, "gob.md", "exec", dont_inherit=True), vars(sys.modules["shop"]))
        exec(compile(register, "gob.md", "exec", dont_inherit=True), vars(sys.modules["shop"]))
        exec(compile(codecs, "gob.md", "exec", dont_inherit=True), vars(sys.modules["shop"]))
    finally:
        del sys.modules["shop"]
    for name in gob.__all__:
        assert re.search(rf"\b{name}\b", text), f"docs/gob.md does not mention {name}"
