"""What imports cost, counted in modules, and which folders may import which."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pygo_plugin._base import core

ROOT = Path(__file__).resolve().parents[2]

HEAVY = {
    "argparse",
    "asyncio",
    "collections",
    "concurrent",
    "dataclasses",
    "enum",
    "functools",
    "google",
    "grpc",
    "inspect",
    "json",
    "logging",
    "re",
    "shutil",
    "signal",
    "socket",
    "subprocess",
    "tempfile",
    "threading",
    "typing",
}


PACKAGE = ROOT / "pygo_plugin"

# The private folders, and the other ones that their modules may import.
MAY_IMPORT: dict[str, set[str]] = {
    "_base": set(),
    "_gob": {"_base"},
    "_grpc": {"_base"},
    "_service": {"_base", "_grpc"},
    "_host": {"_base", "_grpc", "_netrpc"},
    "_serve": {"_base", "_grpc", "_netrpc"},
    "_netrpc": {"_base", "_gob"},
    "_log": {"_base", "_host"},
    "_supervise": {"_base", "_grpc", "_host", "_netrpc"},
    "_dask": {"_base", "_supervise"},
}


def imported_by(statements: str) -> set[str]:
    """The top-level modules that the statements import into a bare interpreter."""
    script = f"""
import sys
before = set(sys.modules)
{statements}
new = sorted(set(sys.modules) - before)
import json
print(json.dumps(new))
"""
    output = subprocess.check_output([sys.executable, "-c", script], text=True)
    return set(json.loads(output))


@pytest.mark.parametrize(
    "statements",
    [
        "import pygo_plugin",
        "from pygo_plugin import HandshakeConfig, Plugin, ServeConfig",
        "from pygo_plugin import errors, utils",
        "from pygo_plugin import Server, serve",
        "from pygo_plugin import Cmd, ClientConfig, ReattachConfig",
        "from pygo_plugin import Service, ServicePlugin, StatusCode, service",
        "from pygo_plugin import gob; gob.Uint8; gob.struct(type('T', (), {}))",
    ],
)
def test_what_a_plugin_needs_is_light(statements: str) -> None:
    found = {name.partition(".")[0] for name in imported_by(statements)}
    assert not found & HEAVY


def test_a_plugin_does_not_load_the_hosts_side() -> None:
    found = imported_by("from pygo_plugin import HandshakeConfig, Plugin, ServeConfig, serve")
    assert "pygo_plugin.client" not in found
    assert "pygo_plugin._log.host" not in found
    assert not [name for name in found if name.startswith("pygo_plugin._host")]


def test_a_host_does_not_load_grpcio_or_the_plugins_side() -> None:
    found = imported_by("from pygo_plugin import Client, cleanup_clients")
    assert "grpc" not in found
    assert "asyncio" not in found
    assert "pygo_plugin.server" not in found


def test_pytests_entry_point_loads_nothing_of_the_package() -> None:
    found = imported_by("import pytest; import pygo_plugin._pytest")
    ours = {name for name in found if name.partition(".")[0] in ("pygo_plugin", "grpc", "google")}
    assert ours == {"pygo_plugin", "pygo_plugin._pytest"}


def test_the_package_alone_does_not_load_the_core() -> None:
    assert "pygo_plugin._core" not in imported_by("import pygo_plugin")


def test_the_core_loads_nothing_of_the_package() -> None:
    found = imported_by("import pygo_plugin._core")
    ours = {name for name in found if name.partition(".")[0] == "pygo_plugin"}
    assert ours == {"pygo_plugin", "pygo_plugin._core"}


def test_modules_take_the_core_from_where_it_is_connected() -> None:
    direct = re.compile(r"from pygo_plugin import .*\b_core\b|import pygo_plugin\._core")
    modules = (ROOT / "pygo_plugin").rglob("*.py")
    found = [p.name for p in modules if direct.search(p.read_text(encoding="utf-8"))]
    assert found == ["core.py"]


def test_the_core_is_provided_with_what_it_names() -> None:
    text = (ROOT / "csrc" / "py" / "state.c").read_text(encoding="utf-8")
    named = re.findall(r'^ +\[PYGO_\w+\] = "(\w+)",$', text, re.MULTILINE)
    assert sorted(named) == sorted(name for names in core._HOMES.values() for name in names)
    for name in named:
        assert core._provide(name).__name__ == name


def test_nothing_heavy_is_imported_before_the_handshake() -> None:
    script = """
import os, sys
before = set(sys.modules)
from pygo_plugin import HandshakeConfig, Plugin, ServeConfig, Server, server

class Brokered(Plugin):
    def grpc_server(self, broker, server):
        assert broker.next_id() == 1

os.environ["PYGO_KEY"] = "value"
os.environ.pop("PLUGIN_CLIENT_CERT", None)

def show(line, stdio, logger):
    os.write(1, " ".join(set(sys.modules) - before).encode())

server._print_handshake = show
handshake = HandshakeConfig(1, "PYGO_KEY", "value")
plugin = Server(ServeConfig(handshake_config=handshake, plugins={"x": Brokered()}))
assert plugin.serve(), plugin.error_msg
plugin.stop(None).wait()
"""
    output = subprocess.check_output([sys.executable, "-c", script], text=True)
    found = {name.partition(".")[0] for name in output.split()}
    assert "pygo_plugin" in found
    assert not found & HEAVY


# ---- The folders ---------------------------------------------------------------------------------


def test_all_private_folders_are_known() -> None:
    assert {path.parent.name for path in PACKAGE.glob("_*/__init__.py")} == set(MAY_IMPORT)


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.glob("_*/*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix()
)
def test_folders_import_what_is_below_them(path: Path) -> None:
    folder = path.parent.name
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            found.update([node.module, *(f"{node.module}.{name.name}" for name in node.names)])
        elif isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
    parts = [name.split(".") for name in found if name.startswith("pygo_plugin.")]
    folders = {part[1] for part in parts if part[1] in MAY_IMPORT}
    assert folders <= MAY_IMPORT[folder] | {folder}
