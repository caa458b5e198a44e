"""The methods that services have described, by path, for what is shown to people."""

from __future__ import annotations

from weakref import WeakValueDictionary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["described", "remember"]

_methods: WeakValueDictionary[str, Any] = WeakValueDictionary()


def remember(methods: Iterable[Any]) -> None:
    """Have `described` find the methods, which are those of a `pygo_plugin.Service`."""
    for method in methods:
        _methods[method.path] = method


def described(path: str) -> Any:
    """The method with this path; None if no service has it. Of several it is the latest one."""
    return _methods.get(path)
