"""How this package's classes relate to grpcio's, which may be imported at any time, or never.

Importing grpcio takes 70 to 100 ms, and must stall neither the start of a plugin nor an event loop.
So nothing here imports it. A program that has not imported grpcio cannot name its classes.

- Objects: `Abstract` makes isinstance() with grpcio's abstract classes work whenever it is asked.
- Exceptions: an `except` clause looks at nothing but the bases of an exception's class. So the
  class is chosen when the exception is made: `derived`.
- Enumerations and constants are grpcio's own once it has been imported: `imported`.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # typing is not imported at run time: a plugin's start would pay for it
if TYPE_CHECKING:
    from typing import Any, ClassVar

__all__ = ["Abstract", "class_of", "derived", "imported"]


def imported() -> Any:
    """The module `grpc` if it has been imported; None if not, or while another thread imports it.

    `grpc.aio` is the last thing that it imports.
    """
    grpc = sys.modules.get("grpc")
    return grpc if hasattr(grpc, "aio") else None


def derived(cls: type[Any], *names: str) -> type[Any]:
    """A subclass of `cls` and of grpcio's classes of these names; `cls` itself without grpcio."""
    grpc = imported()
    if grpc is None:
        return cls
    found = _derived.get(cls)
    if found is None:
        bases = (cls, *(_find(grpc, name) for name in names))
        body = {"__module__": cls.__module__, "__doc__": cls.__doc__}
        found = _derived.setdefault(cls, type(cls.__name__, bases, body))
    return found


_derived: dict[type, type] = {}  # what derived() has made, by `cls`


class Abstract:
    """Base of classes that implement the abstract classes of grpcio that `_implements` names.

    Registering a class with an abstract class of grpcio needs grpcio. isinstance(object,
    grpc.Channel) reads the object's __class__. At that time grpcio has been imported, and the class
    is registered.
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
        abstract = _find(grpc, name)
        if abstract is None:
            missing = True
        else:
            abstract.register(cls)
    if not missing:
        _registered.add(cls)


def _find(grpc: Any, name: str) -> Any:
    """The class of grpcio with this name; None while another thread imports grpcio."""
    for part in name.split("."):
        grpc = getattr(grpc, part, None)
    return grpc
