"""`@gob.struct` without encoding anything: the methods it adds, defaults, dataclasses, errors."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
import subprocess
import sys
from typing import Any, ClassVar

import pytest

from pygo_plugin import gob
from pygo_plugin.errors import ConfigError, ConfigTypeError


@gob.struct
class Item:
    name: str
    price: float = 0.0
    tags: list[str] = gob.field(default_factory=list)
    limit: ClassVar[int] = 5


@gob.struct
class Special(Item):
    note: str = gob.field(name="Remark", default="")


def test_init_takes_fields_by_position_and_by_name() -> None:
    item = Item("tea", tags=["hot"])
    assert (item.name, item.price, item.tags) == ("tea", 0.0, ["hot"])
    assert Item("a").tags is not Item("b").tags
    with pytest.raises(TypeError, match=r"Item\.__init__\(\) missing 1 required .* 'name'"):
        Item()
    with pytest.raises(TypeError, match="unexpected keyword argument 'prise'"):
        Item("tea", prise=1.0)
    assert list(inspect.signature(Item).parameters) == ["name", "price", "tags"]


def test_repr_and_equality() -> None:
    assert repr(Item("tea", 2.5)) == "Item(name='tea', price=2.5, tags=[])"
    assert Item("tea", 2.5) == Item("tea", 2.5)
    assert Item("tea", 2.5) != Item("tea", 3)
    assert Item("tea") != Special("tea")
    assert Item("tea") != ("tea", 0.0, [])
    with pytest.raises(TypeError, match="unhashable"):
        hash(Item("tea"))
    item = Item("loop")
    item.tags = [item]
    assert repr(item) == "Item(name='loop', price=0.0, tags=[...])"


def test_inherited_fields_come_first() -> None:
    assert repr(Special("tea", note="x")) == "Special(name='tea', price=0.0, tags=[], note='x')"


def test_own_methods_stay() -> None:
    @gob.struct
    class Own:
        value: int = 1

        def __init__(self) -> None:
            self.value = 7

        def __repr__(self) -> str:
            return "own"

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 3

    assert Own().value == 7
    assert repr(Own()) == "own"
    assert Own() == 5
    assert hash(Own()) == 3


def test_post_init_runs_after_init() -> None:
    @gob.struct
    class Sum:
        a: int = 1
        b: int = 2

        def __post_init__(self) -> None:
            self.total = self.a + self.b

    assert Sum(5).total == 7


def test_match_statements_know_the_order_of_fields() -> None:
    assert Item.__match_args__ == ("name", "price", "tags")


def test_pickles() -> None:
    assert pickle.loads(pickle.dumps(Item("tea", 1.5))) == Item("tea", 1.5)


def test_super_init_of_a_subclass() -> None:
    class Plain(Item):
        def __init__(self) -> None:
            super().__init__("plain", price=3.0)

    assert (Plain().name, Plain().price) == ("plain", 3.0)


# ---- With the module dataclasses ----


def test_functions_of_dataclasses_accept_structs() -> None:
    assert dataclasses.is_dataclass(Item)
    assert [each.name for each in dataclasses.fields(Item)] == ["name", "price", "tags"]
    assert dataclasses.asdict(Special("tea")) == {
        "name": "tea",
        "price": 0.0,
        "tags": [],
        "note": "",
    }
    assert dataclasses.replace(Item("tea"), price=4.0) == Item("tea", 4.0)


def test_a_dataclass_derives_from_a_struct() -> None:
    @dataclasses.dataclass
    class Derived(Item):
        more: int = 0

    assert Derived("tea", more=1) == Derived("tea", 0.0, [], 1)
    assert [each.name for each in dataclasses.fields(Derived)][-1] == "more"


def test_field_works_in_a_dataclass() -> None:
    @gob.struct
    @dataclasses.dataclass(frozen=True)
    class Point:
        x: int = gob.field(name="East", default=1)

    assert Point() == Point(1)
    assert hash(Point()) == hash(Point(1))
    with pytest.raises(dataclasses.FrozenInstanceError):
        Point().x = 2


def test_structs_do_without_dataclasses_and_typing() -> None:
    script = """
import sys
before = set(sys.modules)
from pygo_plugin import gob

@gob.struct("example.com/p.Item")
class Item:
    id: gob.Uint = gob.field(name="ID")
    name: str = ""
    tags: list[str] = gob.field(default_factory=list)

@gob.struct
class Order:
    items: list[Item] = gob.field(default_factory=list)

data = gob.dumps(Order([Item(1, "tea", ["hot"])]))
assert gob.loads(data, Order) == Order([Item(1, "tea", ["hot"])])
assert gob.loads(data).Items[0].Name == "tea"
print(*sorted(set(sys.modules) - before))
"""
    output = subprocess.check_output([sys.executable, "-c", script], text=True)
    found = {name.partition(".")[0] for name in output.split()}
    heavy = {"dataclasses", "datetime", "enum", "functools", "inspect", "re", "threading", "typing"}
    assert not found & heavy


# ---- Mistakes ----


def test_what_is_no_class_is_refused() -> None:
    with pytest.raises(ConfigTypeError, match="struct decorates classes, not 5"):
        gob.struct(5)


@pytest.mark.parametrize("default", [[], {}, set(), bytearray()])
def test_shared_defaults_are_refused(default: Any) -> None:
    with pytest.raises(ConfigError, match=r"Bad\.value: all objects would share the default"):
        gob.struct(type("Bad", (), {"__annotations__": {"value": Any}, "value": default}))


def test_a_required_field_after_an_optional_one_is_refused() -> None:
    with pytest.raises(ConfigTypeError, match=r"Bad\.b has no default, but a before it has one"):

        @gob.struct
        class Bad:
            a: int = 1
            b: int


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("url", "starts with a capital letter"),
        ("A B", "must be an identifier"),
        ("", "must be an identifier"),
        (5, "name must be a str, not 5"),
    ],
)
def test_names_that_go_does_not_encode_are_refused(name: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        gob.field(name=name)


def test_defaults_of_fields_are_checked() -> None:
    with pytest.raises(ConfigError, match="give default or default_factory, not both"):
        gob.field(default=1, default_factory=int)
    with pytest.raises(ConfigTypeError, match="default_factory must be callable, not 5"):
        gob.field(default_factory=5)


def test_two_fields_of_one_name_are_refused() -> None:
    @gob.struct
    class Twice:
        user_name: str = ""
        UserName: str = ""

    with pytest.raises(ConfigError, match="user_name and UserName are both called UserName in Go"):
        gob.dumps(Twice())


def test_a_name_is_registered_once() -> None:
    @gob.struct("example.com/once.T")
    class First:
        pass

    class Second:
        pass

    gob.register("example.com/once.T", First)
    gob.register("*once.T", First)
    with pytest.raises(ConfigError, match=r"'example.com/once.T' is already the name of"):
        gob.register("example.com/once.T", Second)
    with pytest.raises(ConfigTypeError, match="name must be a str, not 5"):
        gob.register(5, First)
    with pytest.raises(ConfigError, match="the name must not be empty"):
        gob.register("", First)
    with pytest.raises(ConfigTypeError, match="another type is needed, not the str 'First'"):
        gob.register("x", "First")


def test_a_class_that_is_defined_again_takes_its_name_over() -> None:
    def define() -> Any:
        @gob.struct("example.com/again.T")
        class T:
            value: int = 0

        return T

    old, new = define(), define()
    assert old is not new
    data = gob.dumps([new(5)], list[Any])
    assert type(gob.loads(data)[0]) is new
