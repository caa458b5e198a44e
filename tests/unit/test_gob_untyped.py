"""gob decoded without classes: by the definitions of the stream."""

from __future__ import annotations

import copy
import pickle
from datetime import datetime, timezone
from typing import Any

import pytest

from pygo_plugin import gob


@gob.struct
class Item:
    name: str = ""
    price: float = 0.0
    tags: list[str] = gob.field(default_factory=list)


@gob.struct
class Order:
    id: gob.Uint = gob.field(name="ID", default=0)
    items: list[Item] = gob.field(default_factory=list)
    table: dict[str, int] = gob.field(default_factory=dict)
    next: Order | None = None
    any: Any = None
    data: bytes = b""
    when: datetime = gob.ZERO_TIME
    pair: tuple[int, int] = (0, 0)


def untyped(value: Any, of: Any = None) -> Any:
    return gob.loads(gob.dumps(value, of))


@pytest.fixture
def order() -> Any:
    value = Order(7, [Item("tea", 2.5, ["hot"]), Item()], {"a": 1}, Order(8), [1, Item], b"x")
    value.any = [1, None, "text"]
    return untyped(value)


def test_fields_are_attributes_and_items(order: Any) -> None:
    assert isinstance(order, gob.Struct)
    assert order.ID == order["ID"] == 7
    assert order.Items[0].Name == order["Items"][0]["Name"] == "tea"
    assert order.Table == {"a": 1}
    assert order.Next.ID == 8
    assert order.Any == [1, None, "text"]
    assert order.Data == b"x"
    assert order.Pair == (0, 0)
    assert order.go_type == "Order"


def test_fields_that_are_left_out_are_zero(order: Any) -> None:
    empty = order.Next
    assert (empty.Next, empty.Any, empty.Data, empty.When) == (None, None, b"", None)
    empty.Items.append(5)  # an object of its own, which stays
    assert empty.Items == [5]
    assert empty.Table == {}
    item = order.Items[1]
    assert (item.Name, item.Price, item.Tags) == ("", 0.0, [])


def test_it_is_a_collection_of_names(order: Any) -> None:
    item = order.Items[0]
    assert list(item) == ["Name", "Price", "Tags"] == list(item.keys())
    assert item.values() == ["tea", 2.5, ["hot"]]
    assert item.items() == [("Name", "tea"), ("Price", 2.5), ("Tags", ["hot"])]
    assert len(item) == 3
    assert "Name" in item
    assert "name" not in item
    assert {"Name", "Price", "to_dict"} <= set(dir(item))
    assert dict(**item) == item.to_dict()


def test_to_dict_goes_all_the_way(order: Any) -> None:
    found = order.to_dict()
    assert found["Items"] == [
        {"Name": "tea", "Price": 2.5, "Tags": ["hot"]},
        {"Name": "", "Price": 0.0, "Tags": []},
    ]
    assert found["Next"]["ID"] == 8
    assert found["Table"] == {"a": 1}


def test_names_that_do_not_exist(order: Any) -> None:
    with pytest.raises(AttributeError, match="the struct Order has no field 'id'"):
        order.id  # noqa: B018
    with pytest.raises(KeyError):
        order["id"]


def test_repr_and_equality(order: Any) -> None:
    assert repr(order.Items[0]) == "Item(Name='tea', Price=2.5, Tags=['hot'])"
    assert order == copy.deepcopy(order) == pickle.loads(pickle.dumps(order))
    assert order != order.Next
    assert order != 5
    assert order.Items[1] == untyped(Item())
    assert order.Items[1] != untyped(Item("x"))


def test_plain_values() -> None:
    assert untyped(5) == 5
    assert untyped([1, 2], list[int]) == [1, 2]
    assert untyped({"a": [1.5]}, dict[str, list[float]]) == {"a": [1.5]}
    assert untyped((1, 2), gob.Array[int, 2]) == (1, 2)
    assert untyped(gob.Uint8(5), gob.Uint8) == 5
    assert untyped(b"x", bytes) == b"x"
    assert untyped([gob.Uint8(5), 1.5, None, b"x"]) == [5, 1.5, None, b"x"]


def test_times_are_recognised() -> None:
    when = gob.Time(2026, 1, 1, tzinfo=timezone.utc, nanosecond=7)
    assert untyped(when) == when
    assert untyped([Order(when=when)], list[Order])[0].When == when


def test_other_types_that_encode_themselves() -> None:
    class Secret:
        def __marshal_binary__(self) -> bytes:
            return b"bytes"

        @classmethod
        def __unmarshal_binary__(cls, data: bytes) -> Secret:
            return cls()

    found = untyped(Secret())
    assert found == gob.Opaque("Secret", "binary", b"bytes")
    assert hash(found) == hash(gob.Opaque("Secret", "binary", b"bytes"))
    assert found != gob.Opaque("Secret", "gob", b"bytes")
    assert found != 5
    assert repr(found) == "Opaque('Secret', 'binary', b'bytes')"
    assert untyped(2**70, gob.BigInt).flavour == "gob"

    class Time:
        def __gob_encode__(self) -> bytes:
            return b"no time"

        @classmethod
        def __gob_decode__(cls, data: bytes) -> Time:
            return cls()

    assert untyped(Time()) == gob.Opaque("Time", "gob", b"no time")


def test_structs_as_keys() -> None:
    @gob.struct
    class Key:
        x: int = 0
        pair: tuple[int, int] = (0, 0)

        def __hash__(self) -> int:
            return self.x

    found = untyped({Key(1, (2, 3)): "a", Key(): "b"}, dict[Key, str])
    first, second = found
    assert (first.X, first.Pair, second.X) == (1, (2, 3), 0)
    assert found[copy.copy(first)] == "a"
    holder = untyped([{Key(1): "a"}], list[dict[Key, str]])
    assert holder[0][untyped(Key(1))] == "a"

    @gob.struct
    class Holder:
        table: dict[Key, str] = gob.field(default_factory=dict)

    assert untyped(Holder({Key(1, (2, 3)): "a"})).to_dict() == {"Table": {(1, (2, 3)): "a"}}


def test_names_of_hostile_streams_hide_no_methods() -> None:
    @gob.struct
    class Names:
        Abcdefg: int = 1
        Items: int = 2

    data = gob.dumps(Names(3, 4)).replace(b"Abcdefg", b"to_dict").replace(b"Items", b"items")
    found = gob.loads(data)
    assert found.to_dict() == {"to_dict": 3, "items": 4}
    assert found["items"] == 4
    assert found.items() == [("to_dict", 3), ("items", 4)]


def test_untyped_objects_are_not_encoded() -> None:
    with pytest.raises(TypeError, match=r"encode a gob\.Struct, which was decoded without"):
        gob.dumps(untyped(Item()))
    with pytest.raises(gob.GobError, match="an untyped Struct cannot be encoded"):
        gob.dumps([untyped(Item())])
