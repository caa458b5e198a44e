"""`@gob.struct`: dataclasses without the module dataclasses, whose import takes milliseconds.

The class gets the methods that `dataclasses.dataclass` would give it. The functions of dataclasses
accept it, too: what they look for is made when it is first asked for.
"""

from __future__ import annotations

import sys
from _thread import get_ident

from pygo_plugin._gob.kinds import go_name
from pygo_plugin.errors import ConfigError, ConfigTypeError

TYPE_CHECKING = False  # typing is not imported at run time: a plugin's start would pay for it
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar, overload

    from typing_extensions import dataclass_transform

    C = TypeVar("C", bound=type[Any])
    D = TypeVar("D")

    @overload
    def field(*, name: str | None = None, default: D) -> D: ...
    @overload
    def field(*, name: str | None = None, default_factory: Callable[[], D]) -> D: ...
    @overload
    def field(*, name: str | None = None) -> Any: ...
    def field(**options: Any) -> Any: ...

    @overload
    def struct(cls: C, /) -> C: ...
    @overload
    def struct(name: str, /) -> Callable[[C], C]: ...
    @dataclass_transform(field_specifiers=(field,))
    def struct(cls_or_name: Any, /) -> Any: ...


__all__ = ["StructField", "field", "fields_of", "struct"]

NAME = "pygo_plugin.gob.name"  # the key in the metadata of a dataclass's field


CO_OPTIMIZED = 1  # of the code of functions, as inspect has it


class Missing:
    """The class of MISSING: there is no such value."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Any = Missing()


class StructField:
    """One field of a class: its attribute, Go's name of it, and its default."""

    __slots__ = ("annotation", "default", "default_factory", "go_name", "name", "owner")

    def __init__(self, go_name: str | None, default: Any, default_factory: Any) -> None:
        self.name = ""
        self.go_name = go_name
        self.default = default
        self.default_factory = default_factory
        self.annotation: Any = None
        self.owner: type[Any] = object  # the class of the annotation, which is resolved there

    def __repr__(self) -> str:
        shown = (("name", self.go_name), ("default", self.default))
        given = [f"{name}={value!r}" for name, value in shown if value not in (None, MISSING)]
        if self.default_factory is not MISSING:
            given.append(f"default_factory={self.default_factory!r}")
        return f"field({', '.join(given)})"


if not TYPE_CHECKING:

    def field(*, name=None, default=MISSING, default_factory=MISSING):
        """Describe a field of a struct.

        name             how Go spells it; by default `first_name` is `FirstName`
        default          the default value
        default_factory  a function that makes the default value, for lists and dicts

        It also works in a `dataclasses.dataclass`.
        """
        if name is not None:
            check_go_name("field", name)
        if default is not MISSING and default_factory is not MISSING:
            raise ConfigError("field: give default or default_factory, not both")
        if default_factory is not MISSING and not callable(default_factory):
            raise ConfigTypeError(
                f"field: default_factory must be callable, not {default_factory!r}"
            )
        dataclasses = sys.modules.get("dataclasses")
        if dataclasses is None:
            return StructField(name, default, default_factory)
        # The decorator may be that of dataclasses.
        given = {"metadata": {NAME: name} if name is not None else None}
        if default is not MISSING:
            given["default"] = default
        if default_factory is not MISSING:
            given["default_factory"] = default_factory
        return dataclasses.field(**given)

    def struct(cls_or_name, /):
        """Make a class a struct that gob encodes: `@struct`, or `@struct("example.com/shop.Item")`.

        Its annotated attributes are the fields. It gets `__init__`, `__repr__` and `__eq__` as a
        dataclass does, unless it is one or has its own. Attributes that start with an underscore
        are not encoded.

        With a name the class is also registered under it, see `register()`.

        Raises: ConfigError, a ValueError; ConfigTypeError, a TypeError.
        """
        if isinstance(cls_or_name, str):
            name = cls_or_name

            def named(cls):
                from pygo_plugin._gob.registry import register

                make_struct(cls, sys._getframe(1))
                register(name, cls)
                return cls

            return named
        make_struct(cls_or_name, sys._getframe(1))
        return cls_or_name


def check_go_name(what: str, name: Any) -> None:
    if not isinstance(name, str):
        raise ConfigTypeError(f"{what}: name must be a str, not {name!r}")
    if not name.isidentifier() or not name[0].isupper():
        raise ConfigError(
            f"{what}: {name!r} is not a name that Go's gob encodes: it must be an identifier that "
            f"starts with a capital letter"
        )


def make_struct(cls: Any, caller: Any) -> None:
    if not hasattr(cls, "__mro__"):
        raise ConfigTypeError(f"struct decorates classes, not {cls!r}")
    if "__dataclass_fields__" not in cls.__dict__:
        add_methods(cls)
    if "<locals>" in cls.__qualname__:
        # Annotations may name other classes of the function that is running. Dropped when they
        # have been resolved. The body of a class around this one has the defaults of its fields
        # as names, which may be those of types.
        while not caller.f_code.co_flags & CO_OPTIMIZED and caller.f_locals is not caller.f_globals:
            caller = caller.f_back
        cls.__gob_frame__ = caller


def add_methods(cls: Any) -> None:
    fields: dict[str, StructField] = {}
    for base in cls.__mro__[-1:0:-1]:
        fields.update({each.name: each for each in own_fields(base) or ()})
    for name, annotation in annotations_of(cls).items():
        if is_class_variable(annotation):
            continue
        default = cls.__dict__.get(name, MISSING)
        if isinstance(default, StructField):
            made = default
        elif type(default).__name__ == "Field" and hasattr(default, "default_factory"):
            made = of_dataclass(default)
        else:
            made = StructField(None, default, MISSING)
        if type(made.default) in (list, dict, set, bytearray):
            raise ConfigError(
                f"{cls.__name__}.{name}: all objects would share the default {made.default!r}; use "
                f"gob.field(default_factory={type(made.default).__name__})"
            )
        made.name = name
        made.annotation = annotation
        made.owner = cls
        if made.default is not MISSING:
            setattr(cls, name, made.default)
        elif name in cls.__dict__:
            delattr(cls, name)
        fields[name] = made
    cls.__gob_fields__ = fields
    names = tuple(fields)
    cls.__gob_names__ = names
    own = cls.__dict__
    if "__init__" not in own:
        check_order(cls, fields)
        cls.__init__ = Init(cls)
    if "__repr__" not in own:
        cls.__repr__ = struct_repr
    if "__eq__" not in own:
        cls.__eq__ = struct_eq
        if own.get("__hash__") is None:
            cls.__hash__ = None
    if "__match_args__" not in own:
        setattr(cls, "__match_args__", names)  # noqa: B010  # mypy takes it for a constant
    cls.__dataclass_fields__ = DataclassFields()
    cls.__dataclass_params__ = DataclassParams()


def annotations_of(cls: type[Any]) -> Mapping[str, Any]:
    """The class's own annotations, perhaps as strings."""
    found = cls.__dict__.get("__annotations__")  # noqa: RUF063  # not those of a base
    if found is None and sys.version_info >= (3, 14):
        from annotationlib import Format, get_annotations

        found = get_annotations(cls, format=Format.FORWARDREF)
    return found if found is not None else {}


def is_class_variable(annotation: Any) -> bool:
    if isinstance(annotation, str):
        text = annotation.replace(" ", "")
        return text.partition("[")[0].rpartition(".")[2] == "ClassVar"
    typing = sys.modules.get("typing")
    if typing is None:
        return False
    return annotation is typing.ClassVar or getattr(annotation, "__origin__", 0) is typing.ClassVar


def check_order(cls: type[Any], fields: Mapping[str, StructField]) -> None:
    """Refuse a parameter without a default after one that has one."""
    optional = ""
    for name, each in fields.items():
        if each.default is not MISSING or each.default_factory is not MISSING:
            optional = name
        elif optional:
            raise ConfigTypeError(
                f"{cls.__name__}.{name} has no default, but {optional} before it has one"
            )


class Init:
    """`__init__` of a struct until it is first used, since compiling it takes a while."""

    __slots__ = ("_cls",)

    def __init__(self, cls: Any) -> None:
        self._cls = cls

    def __get__(self, instance: Any, cls: Any = None) -> Any:
        owner = self._cls
        init = owner.__dict__["__init__"]
        if init is self:  # otherwise another thread was faster
            init = owner.__init__ = make_init(owner, owner.__gob_fields__)
        return init.__get__(instance, cls)


def make_init(cls: type[Any], fields: Mapping[str, StructField]) -> Any:
    parameters = ["self"]
    body = []
    names: dict[str, Any] = {"MISSING": MISSING}
    for name, each in fields.items():
        value = name
        if each.default_factory is not MISSING:
            names[f"make_{name}"] = each.default_factory
            parameters.append(f"{name}=MISSING")
            value = f"make_{name}() if {name} is MISSING else {name}"
        elif each.default is not MISSING:
            names[f"default_{name}"] = each.default
            parameters.append(f"{name}=default_{name}")
        else:
            parameters.append(name)
        body.append(f"    self.{name} = {value}")
    if hasattr(cls, "__post_init__"):
        body.append("    self.__post_init__()")
    source = f"def __init__({', '.join(parameters)}):\n" + ("\n".join(body) or "    pass")
    exec(source, names)
    init = names["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    init.__module__ = cls.__module__
    return init


def struct_repr(self: Any) -> str:
    cls: Any = type(self)
    identity = (id(self), get_ident())
    if identity in showing:
        return "..."
    showing.add(identity)
    try:
        shown = ", ".join([f"{name}={getattr(self, name)!r}" for name in cls.__gob_names__])
    finally:
        showing.discard(identity)
    return f"{cls.__qualname__}({shown})"


# Objects, each with its thread, whose repr() is being made: they may contain themselves.
showing: set[tuple[int, int]] = set()


def struct_eq(self: Any, other: Any) -> Any:
    if type(other) is not type(self):
        return NotImplemented
    if other is self:
        return True
    names = self.__gob_names__
    return [getattr(self, name) for name in names] == [getattr(other, name) for name in names]


class DataclassFields:
    """`__dataclass_fields__`: what the functions of dataclasses look for, made when they do."""

    def __get__(self, instance: Any, cls: Any) -> Any:
        import dataclasses

        made = {}
        for name, each in cls.__gob_fields__.items():
            given: dict[str, Any] = {}
            if each.default is not MISSING:
                given["default"] = each.default
            if each.default_factory is not MISSING:
                given["default_factory"] = each.default_factory
            one = dataclasses.field(**given)
            one.name = name
            one.type = each.annotation
            if hasattr(one, "kw_only"):  # from 3.10 on
                one.kw_only = False
            one._field_type = dataclasses._FIELD  # type: ignore[attr-defined]
            made[name] = one
        cls.__dataclass_fields__ = made
        return made


class DataclassParams:
    """`__dataclass_params__`: the options of the decorator, which are its defaults."""

    def __get__(self, instance: Any, cls: Any) -> Any:
        import dataclasses

        plain: Any = dataclasses.dataclass(type("Plain", (), {}))
        return plain.__dataclass_params__


def of_dataclass(found: Any) -> StructField:
    """The field that a dataclasses.Field describes."""
    import dataclasses

    def given(value: Any) -> Any:
        return MISSING if value is dataclasses.MISSING else value

    return StructField(found.metadata.get(NAME), given(found.default), given(found.default_factory))


def fields_of(cls: type[Any]) -> list[StructField] | None:
    """The fields of a struct or a dataclass in their order, with Go's names; None: it is neither.

    Raises: ConfigError for two fields of the same name in Go.
    """
    for base in cls.__mro__:
        found = own_fields(base)
        if found is not None:
            break
    else:
        return None
    names: dict[str, str] = {}
    for each in found:
        if each.name.startswith("_"):
            continue
        if each.go_name is None:
            each.go_name = go_name(each.name)
            check_go_name(f"{cls.__name__}.{each.name}", each.go_name)
        other = names.setdefault(each.go_name, each.name)
        if other != each.name:
            raise ConfigError(
                f"{cls.__name__}: {other} and {each.name} are both called {each.go_name} in Go; "
                f"give one of them another name by gob.field(name=...)"
            )
    return found


def own_fields(cls: type[Any]) -> list[StructField] | None:
    """The fields of a class that is itself a struct or a dataclass, inherited ones included."""
    if "__gob_fields__" in cls.__dict__:
        return list(cls.__dict__["__gob_fields__"].values())
    if "__dataclass_fields__" in cls.__dict__:
        return dataclass_fields(cls)
    return None


def dataclass_fields(cls: type[Any]) -> list[StructField]:
    import dataclasses

    found = []
    for one in dataclasses.fields(cls):
        made = of_dataclass(one)
        made.name = one.name
        made.annotation = one.type
        made.owner = next((base for base in cls.__mro__ if one.name in annotations_of(base)), cls)
        found.append(made)
    return found
