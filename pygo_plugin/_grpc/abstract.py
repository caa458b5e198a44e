"""Makes isinstance() with grpcio's abstract classes work, whenever grpcio is imported."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # typing is not imported at run time: a plugin's start would pay for it
if TYPE_CHECKING:
    from typing import ClassVar


class Abstract:
    """Base of classes that implement the abstract classes of grpcio that `_implements` names.

    Registering a class with an abstract class of grpcio needs grpcio, which plugins import as late
    as they can. isinstance(object, grpc.Channel) reads the object's __class__. At that time grpcio
    has been imported, and the class is registered.
    """

    _implements: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        _register(cls, cls._implements)

    @property  # type: ignore[misc]  # object.__class__ can be assigned to, this one cannot
    def __class__(self) -> type:
        cls = type(self)
        if cls not in _registered:  # asyncio reads __class__ several times in each call
            _register(cls, cls._implements)
        return cls


_registered: set[type] = set()  # classes that are registered with all that they implement


def class_of(cls: type) -> type:
    """`__class__` of the core's multicallables, which have the names of grpcio's classes.

    Called by the core.
    """
    if cls not in _registered:
        _register(cls, (cls.__name__,))
    return cls


def _register(cls: type, names: tuple[str, ...]) -> None:
    grpc = sys.modules.get("grpc")
    missing = False
    for name in names:
        abstract = grpc
        for part in name.split("."):
            abstract = getattr(abstract, part, None)  # None while another thread imports it
        if abstract is None:
            missing = True
        else:
            abstract.register(cls)
    if not missing:
        _registered.add(cls)
