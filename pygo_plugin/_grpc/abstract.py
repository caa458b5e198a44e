"""isinstance() with grpcio's abstract classes, for whoever imports grpcio, whenever that is."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # typing is not imported at run time: a plugin's start would pay for it
if TYPE_CHECKING:
    from typing import ClassVar


class Abstract:
    """Base of classes that implement those of grpcio's that `_implements` names.

    isinstance(object, grpc.Channel) asks the object for its __class__. Whoever can ask that has
    imported grpcio, which need not be so when our class is made: plugins import their stubs, and
    grpcio with them, as late as they can.
    """

    _implements: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        _register(cls, cls._implements)

    @property  # type: ignore[misc]  # object's can be assigned to
    def __class__(self) -> type:
        cls = type(self)
        if cls not in _registered:  # asyncio asks its awaitables several times a call
            _register(cls, cls._implements)
        return cls


_registered: set[type] = set()  # with all that they implement


def class_of(cls: type) -> type:
    """The same for the core's multicallables, which are named as grpcio's. Called by the core."""
    if cls not in _registered:
        _register(cls, (cls.__name__,))
    return cls


def _register(cls: type, names: tuple[str, ...]) -> None:
    grpc = sys.modules.get("grpc")
    missing = False
    for name in names:
        abstract = grpc
        for part in name.split("."):
            abstract = getattr(abstract, part, None)  # another thread may be importing it right now
        if abstract is None:
            missing = True
        else:
            abstract.register(cls)
    if not missing:
        _registered.add(cls)
