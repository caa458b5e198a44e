"""What the public names say about themselves."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

import pygo_plugin

MODULES = [
    "aio",
    "broker",
    "client",
    "config",
    "dask",
    "errors",
    "gob",
    "netrpc",
    "plugin",
    "pool",
    "rpc",
    "run",
    "runners",
    "security",
    "server",
    "stubs",
    "supervise",
    "testing",
    "utils",
]

# A private module, a file of the C library, or a private name.
PRIVATE = re.compile(r"(?<![\w.])_\w+\.\w|pygo_plugin\._|\bcsrc\b|`_[a-z]\w*`|\b_core\b")


def public_objects(module: Any) -> Iterator[tuple[str, Any]]:
    """The module, and the public classes and functions of this package that it has."""
    name = module.__name__
    yield name, module
    for key in getattr(module, "__all__", None) or [k for k in vars(module) if k[0] != "_"]:
        found = getattr(module, key)
        if inspect.ismodule(found) or not (inspect.isclass(found) or inspect.isroutine(found)):
            continue
        if not (found.__module__ or "").startswith("pygo_plugin"):
            continue
        yield f"{name}.{key}", found
        if inspect.isclass(found):
            yield from public_members(f"{name}.{key}", found)


def public_members(name: str, cls: type[Any]) -> Iterator[tuple[str, Any]]:
    ours = [base for base in cls.__mro__ if base.__module__.startswith("pygo_plugin")]
    members = {key: member for base in reversed(ours) for key, member in vars(base).items()}
    for key, member in members.items():
        if key.startswith("_"):
            continue
        if isinstance(member, (staticmethod, classmethod)):
            member = member.__func__
        if inspect.isroutine(member) or isinstance(member, property):
            yield f"{name}.{key}", getattr(cls, key)


def documentation() -> dict[str, str]:
    """The documentation of all public names; "" if there is none."""
    modules = [pygo_plugin, *(importlib.import_module(f"pygo_plugin.{m}") for m in MODULES)]
    objects = [pair for module in modules for pair in public_objects(module)]
    return {name: inspect.getdoc(found) or "" for name, found in objects}


def test_all_public_modules_are_looked_at() -> None:
    assert {name for name in pygo_plugin._MODULES if name != "aio"} <= set(MODULES)


@pytest.mark.filterwarnings("default")
def test_everything_public_is_documented() -> None:
    assert [name for name, text in documentation().items() if not text] == []


@pytest.mark.filterwarnings("default")
def test_no_documentation_cites_what_is_private() -> None:
    found = {name: PRIVATE.search(text) for name, text in documentation().items()}
    assert {name: match.group() for name, match in found.items() if match} == {}
