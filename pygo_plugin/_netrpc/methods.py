"""Which methods of a Python object net/rpc can call, by which names, and with which types.

An object's public methods are those of its class that take one argument or none: `call_back` is
`CallBack` on the wire. Both a server of the object and a typed proxy for one use the same table.
"""

from __future__ import annotations

from pygo_plugin.errors import ConfigError, ConfigTypeError

TYPE_CHECKING = False  # typing is not imported at run time: a plugin's start would pay for it
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FunctionType
    from typing import Any, TypeVar, overload

    from pygo_plugin._base.core import _core

    F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["Method", "method", "methods_of", "refusals_of"]

_NAME = "__netrpc_name__"  # the attribute of functions that method() has named
_TABLE = "__netrpc_methods__"  # the attribute of classes that keeps their table
_COROUTINE = 0x80  # inspect.CO_COROUTINE
_ASYNC_GENERATOR = 0x200  # inspect.CO_ASYNC_GENERATOR
_GENERATOR = 0x20  # inspect.CO_GENERATOR
_VAR_POSITIONAL = 0x04  # inspect.CO_VARARGS


class Method:
    """One method that can be called by name."""

    __slots__ = ("argument", "is_async", "name", "reply", "takes_argument", "wire_name")

    name: str
    """The attribute of the object."""
    wire_name: str
    """What comes after the service's name and a dot: `CallBack`."""
    takes_argument: bool
    """Otherwise the caller's argument is dropped."""
    argument: _core.GobType | None
    """None: there is no annotation, and the value decides."""
    reply: _core.GobType | None
    """None: there is no annotation, and the value decides."""
    is_async: bool
    """Calling it makes a coroutine."""

    def __init__(
        self,
        name: str,
        wire_name: str,
        takes_argument: bool,
        argument: _core.GobType | None,
        reply: _core.GobType | None,
        is_async: bool,
    ) -> None:
        self.name = name
        self.wire_name = wire_name
        self.takes_argument = takes_argument
        self.argument = argument
        self.reply = reply
        self.is_async = is_async

    def __repr__(self) -> str:
        return f"<net/rpc method {self.wire_name}>"


if TYPE_CHECKING:

    @overload
    def method(name: str) -> Callable[[F], F]: ...
    @overload
    def method(name: F) -> F: ...


def method(name: Any) -> Any:
    """Name a method on the wire: `@netrpc.method("URLOf")`.

    Without a name, as `@netrpc.method`, it makes a method callable that would not be one, since its
    name begins with an underscore.
    """
    if isinstance(name, str):
        if not name or "." in name:
            raise ConfigError(f"a net/rpc method needs a name without dots, not {name!r}")
        return lambda function: _named(function, name)
    return _named(name, "")


def _named(function: Any, name: str) -> Any:
    if not hasattr(function, "__code__") and not hasattr(function, "__wrapped__"):
        raise ConfigTypeError(f"netrpc.method is for methods of classes, not for {function!r}")
    setattr(function, _NAME, name)
    return function


def methods_of(cls: type[Any]) -> tuple[Method, ...]:
    """The methods that objects of this class serve.

    Raises: ConfigTypeError if there are none, or an annotation is no type of gob; ConfigError if
    two have the same name on the wire.
    """
    table: tuple[Method, ...] | None = cls.__dict__.get(_TABLE)
    if table is None:
        table = _make_table(cls)
        try:
            setattr(cls, _TABLE, table)
        except (AttributeError, TypeError):
            pass  # a class that takes no attributes has its table made each time
    return table


def refusals_of(cls: type[Any]) -> dict[str, str]:
    """The public methods of the class that net/rpc cannot call, and the reasons."""
    found: dict[str, str] = {}
    for name in dir(cls):
        function = _function(cls, name)
        if function is not None and _wire_name(name, function) is not None:
            reason = _refusal(function)
            if reason:
                found[name] = reason
    return found


def _make_table(cls: type[Any]) -> tuple[Method, ...]:
    found: dict[str, Method] = {}
    refused: list[str] = []
    for name in dir(cls):
        function = _function(cls, name)
        if function is None:
            continue
        wire_name = _wire_name(name, function)
        if wire_name is None:
            continue
        reason = _refusal(function)
        if reason:
            if hasattr(function, _NAME):
                raise ConfigTypeError(f"{cls.__name__}.{name} cannot be called by name: {reason}")
            refused.append(f"{name} {reason}")
            continue
        if wire_name in found:
            raise ConfigError(
                f"{cls.__name__}: both {found[wire_name].name} and {name} are {wire_name} on the "
                f"wire; name one of them by @netrpc.method(...)"
            )
        found[wire_name] = _make_method(cls, name, wire_name, function)
    if not found:
        raise ConfigTypeError(
            f"{cls.__name__} has no public method that takes one argument or none, and so nothing "
            f"that net/rpc could call{': ' if refused else ''}{', '.join(refused)}"
        )
    return tuple(found.values())


def _function(cls: type[Any], name: str) -> FunctionType | None:
    """The function of that name in the class; None if the attribute is something else."""
    for base in cls.__mro__:
        if name in base.__dict__:
            attribute = base.__dict__[name]
            return attribute if type(attribute).__name__ == "function" else None
    return None


def _wire_name(name: str, function: Any) -> str | None:
    given: str | None = getattr(function, _NAME, None)
    if given:
        return given
    if given is None and name.startswith("_"):
        return None
    from pygo_plugin._gob.kinds import go_name

    return go_name(name)


def _unwrapped(function: Any) -> Any:
    """The function that decorators which use functools.wraps() have been applied to."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function


def _arguments(function: Any) -> tuple[int, int]:
    """How many arguments besides self are needed, and how many are possible."""
    code = function.__code__
    given = code.co_argcount - 1
    needed = given - len(function.__defaults__ or ())
    return max(needed, 0), 2 if code.co_flags & _VAR_POSITIONAL else given


def _refusal(function: Any) -> str:
    """Why a function cannot be called with one argument or none; "": it can be."""
    inner = _unwrapped(function)
    if not hasattr(inner, "__code__"):
        return "is not a function of Python's"
    needed, possible = _arguments(inner)
    keywords = set(
        inner.__code__.co_varnames[inner.__code__.co_argcount :][: inner.__code__.co_kwonlyargcount]
    )
    if possible < 0:
        return "has no self"
    if needed > 1:
        return f"takes {needed} arguments"
    if keywords - set(inner.__kwdefaults__ or ()):
        return "needs keyword arguments"
    if inner.__code__.co_flags & (_GENERATOR | _ASYNC_GENERATOR):
        return "is a generator"
    return ""


def _make_method(cls: type[Any], name: str, wire_name: str, function: Any) -> Method:
    inner = _unwrapped(function)
    takes_argument = _arguments(inner)[1] > 0
    argument = None
    if takes_argument and inner.__code__.co_argcount > 1:
        argument = _type(cls, inner, inner.__code__.co_varnames[1])
    is_async = bool((function.__code__.co_flags | inner.__code__.co_flags) & _COROUTINE)
    return Method(name, wire_name, takes_argument, argument, _type(cls, inner, "return"), is_async)


def _type(cls: type[Any], function: Any, parameter: str) -> _core.GobType | None:
    """The type of a parameter, or of "return"; None if it is not annotated."""
    from pygo_plugin._gob.resolve import NONE, type_of

    what = f"{cls.__name__}.{function.__name__}"
    where = "its result" if parameter == "return" else parameter
    try:
        annotation = function.__annotations__.get(parameter, function)
        if annotation is function:
            return None
        if isinstance(annotation, str):
            annotation = eval(annotation, function.__globals__, {cls.__name__: cls})
    except Exception as error:
        raise ConfigTypeError(
            f"{what}: the annotation of {where} cannot be evaluated: {type(error).__name__}: "
            f"{error}"
        ) from error
    if annotation is None:
        return NONE
    try:
        return type_of(annotation)
    except ConfigError as error:
        raise ConfigTypeError(
            f"{what}: the annotation of {where}: {error}. If it is not to be called over net/rpc, "
            "begin its name with an underscore"
        ) from None
