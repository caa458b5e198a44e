"""The package's lazy exports."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import pygo_plugin

SOURCE = Path(str(pygo_plugin.__file__)).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", pygo_plugin.__all__)
def test_everything_exported_exists(name: str) -> None:
    value = getattr(pygo_plugin, name)
    assert value is getattr(pygo_plugin, name)
    assert name in dir(pygo_plugin)


def test_type_checkers_see_the_same_names() -> None:
    """The block that type checkers read and the table that __getattr__ reads must agree."""
    (block,) = [n for n in ast.parse(SOURCE).body if isinstance(n, ast.If) and len(n.body) > 3]
    static = {
        alias.name
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert static == set(pygo_plugin.__all__)


def test_star_import() -> None:
    namespace: dict[str, object] = {}
    exec("from pygo_plugin import *", namespace)
    assert set(pygo_plugin.__all__) <= set(namespace)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Clientele'"):
        pygo_plugin.Clientele  # type: ignore[attr-defined]  # noqa: B018


def test_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\w*", pygo_plugin.__version__)
