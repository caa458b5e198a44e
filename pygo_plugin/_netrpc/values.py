"""Which type of gob a value has if none is given."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pygo_plugin._base.core import _core

__all__ = ["infer_type"]


def infer_type(value: Any) -> tuple[_core.GobType, Any]:
    """The type that a value is sent as, and the value. Called by the core.

    None is an interface without a value: what Go's clients send as `new(interface{})`.
    """
    from pygo_plugin._gob.resolve import type_of

    if value is None:
        return type_of(object), None
    from pygo_plugin._gob.kinds import Typed

    if isinstance(value, Typed):
        return type_of(value.type), value.value
    cls = type(value)
    return type_of(list if cls is tuple else cls), value
