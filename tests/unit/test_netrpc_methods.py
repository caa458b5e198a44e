"""Which methods of an object net/rpc can call, and by which names and types."""

from __future__ import annotations

import functools
from typing import Any, Callable, TypeVar

import pytest

from pygo_plugin import ConfigError, gob, netrpc
from pygo_plugin._netrpc.methods import Method, methods_of
from pygo_plugin._netrpc.plugin import proxy_class
from pygo_plugin._netrpc.server import core_services
from pygo_plugin.errors import ConfigTypeError

F = TypeVar("F", bound=Callable[..., Any])


@gob.struct
class Point:
    x: int = 0


def logged(function: F) -> F:
    @functools.wraps(function)
    def wrapped(*args: Any) -> Any:
        return function(*args)

    return wrapped  # type: ignore[return-value]


class Base:
    def inherited(self, value: int) -> int:
        return value


class Bench(Base):
    constant = 3

    def __init__(self, broker: object = None) -> None:
        self.broker = broker

    def call_back(self, value: int) -> str:
        return str(value)

    @netrpc.method("URLOf")
    def url_of(self, point: Point) -> list[int]:
        return [point.x]

    @netrpc.method
    def _hidden(self, value: str) -> None:
        pass

    def greet(self) -> str:
        return "hello"

    def anything(self, value):  # type: ignore[no-untyped-def]
        return value

    def with_default(self, value: int = 3, scale: int = 2) -> int:
        return value * scale

    def any_number(self, *values: int) -> int:
        return len(values)

    @logged
    def decorated(self, value: float) -> float:
        return value

    async def later(self, value: gob.Uint) -> None:
        pass

    # None of these can be called.

    def two(self, a: int, b: int) -> int:
        return a + b

    def keyword(self, *, scale: int) -> int:
        return scale

    def generator(self, value: int) -> Any:
        yield value

    def _private(self, value: int) -> int:
        return value

    @property
    def prop(self) -> int:
        raise AssertionError

    @staticmethod
    def static(value: int) -> int:
        return value

    @classmethod
    def of_class(cls, value: int) -> int:
        return value


def table(cls: type[Any]) -> dict[str, Method]:
    return {method.wire_name: method for method in methods_of(cls)}


def test_public_methods_with_one_argument_or_none() -> None:
    found = table(Bench)
    assert {name: method.name for name, method in found.items()} == {
        "AnyNumber": "any_number",
        "Anything": "anything",
        "CallBack": "call_back",
        "Decorated": "decorated",
        "Greet": "greet",
        "Hidden": "_hidden",
        "Inherited": "inherited",
        "Later": "later",
        "URLOf": "url_of",
        "WithDefault": "with_default",
    }
    assert not found["Greet"].takes_argument
    assert found["AnyNumber"].takes_argument
    assert found["AnyNumber"].argument is None
    assert [name for name, method in found.items() if method.is_async] == ["Later"]


def test_types_are_those_of_the_annotations() -> None:
    found = table(Bench)

    def spelt(name: str) -> tuple[str | None, str | None]:
        method = found[name]
        return (
            None if method.argument is None else method.argument.spelling,
            None if method.reply is None else method.reply.spelling,
        )

    assert spelt("CallBack") == ("int", "string")
    assert spelt("URLOf") == ("Point", "[]int")
    assert spelt("Hidden") == ("string", "struct {}")
    assert spelt("Decorated") == ("float64", "float64")
    assert spelt("Later") == ("uint", "struct {}")
    assert spelt("Greet") == (None, "string")
    assert spelt("Anything") == (None, None)


def test_the_table_belongs_to_one_class() -> None:
    class Derived(Bench):
        def more(self, value: int) -> int:
            return value

    assert methods_of(Bench) is methods_of(Bench)
    assert "More" in table(Derived)
    assert "More" not in table(Bench)


def test_a_hidden_method_of_a_base_class() -> None:
    class Derived(Base):
        inherited = None  # type: ignore[assignment]

        def other(self, value: int) -> int:
            return value

    assert list(table(Derived)) == ["Other"]


def test_two_methods_of_one_name() -> None:
    class Twice:
        def call_back(self, value: int) -> int:
            return value

        def callBack(self, value: int) -> int:
            return value

    with pytest.raises(ConfigError, match=r"Twice: both callBack and call_back are CallBack"):
        methods_of(Twice)


def test_no_methods() -> None:
    class Nothing:
        def two(self, a: int, b: int) -> int:
            return a + b

    with pytest.raises(ConfigTypeError, match=r"Nothing has no public method .* two takes 2 arg"):
        methods_of(Nothing)
    with pytest.raises(ConfigTypeError, match="NoneType has no public method"):
        netrpc.listen("127.0.0.1:0", {"Arith": None})


def test_a_proxy_tells_why_a_method_cannot_be_called() -> None:
    class Mixed:
        def one(self, a: int) -> int:
            return a

        def two(self, a: int, b: int) -> int:
            return a + b

    proxy: Any = proxy_class(Mixed, False)(None)
    with pytest.raises(AttributeError, match=r"Mixed.two\(\) .* it takes 2 arguments: "):
        proxy.two(1, 2)
    with pytest.raises(AttributeError, match="'Mixed' object has no attribute 'three'"):
        proxy.three()


def test_a_named_method_that_cannot_be_called() -> None:
    class Wrong:
        @netrpc.method("Two")
        def two(self, a: int, b: int) -> int:
            return a + b

    with pytest.raises(ConfigTypeError, match=r"Wrong.two cannot be called by name: takes 2"):
        methods_of(Wrong)


@pytest.mark.parametrize("name", ["", "a.b"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(ConfigError, match="needs a name without dots"):
        netrpc.method(name)


def test_only_methods_can_be_named() -> None:
    with pytest.raises(ConfigTypeError, match="is for methods of classes"):
        netrpc.method(3)  # type: ignore[call-overload]


def test_annotations_that_are_no_types() -> None:
    class Wrong:
        def call(self, value: set[int]) -> int:
            return 0

    class Unknown:
        def call(self, value: int) -> Missing:  # type: ignore[name-defined] # noqa: F821
            return 0

    with pytest.raises(ConfigTypeError, match=r"Wrong.call: the annotation of value: "):
        methods_of(Wrong)
    with pytest.raises(
        ConfigTypeError, match=r"Unknown.call: the annotation of its result cannot be evaluated: Na"
    ):
        methods_of(Unknown)


def test_objects_that_cannot_be_served() -> None:
    with pytest.raises(ConfigTypeError, match="an object is needed, not the class Base; call it"):
        core_services({"Base": Base})
    with pytest.raises(ConfigTypeError, match=r"Bench.later is a coroutine function, which only"):
        core_services({"Bench": Bench()})
    with pytest.raises(ConfigTypeError, match="name of a service must be a str"):
        core_services({3: Base()})  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match="there is no service to serve"):
        netrpc.listen("127.0.0.1:0", {})
