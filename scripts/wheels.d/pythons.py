"""The CPythons that wheels are made for: their headers, and where they can be run.

What is compiled depends on a CPython's headers alone, so that one interpreter builds for all. The
headers are those of this machine's interpreters, for newer versions Debian's. pyconfig.h of x86-64
serves for aarch64 too: the two differ in what only the interpreter's own sources look at.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from targets import Target, say

# CPythons that may not be installed here, and the suites of Debian that have their headers. (Newer
# ones than the machine's own suite: the packages are unpacked, not installed.)
FROM_DEBIAN = {"3.14": "forky", "3.15": "sid"}

DESCRIBE = """
import json, os, sys, sysconfig
include = sysconfig.get_path("include")
if sys.implementation.name == "cpython" and os.path.exists(os.path.join(include, "Python.h")):
    print(json.dumps({
        "version": "%d.%d" % sys.version_info[:2],
        "abi": sysconfig.get_config_var("SOABI").split("-")[1],
        "include": include,
        "program": sys.executable,
        "prefix": sys.base_prefix,
    }))
"""


@dataclass(frozen=True)
class Python:
    version: str
    abi: str  # "313", "313t"
    includes: tuple[Path, ...]
    program: Path | None = None  # None: not on this machine
    prefix: Path | None = None

    @property
    def tags(self) -> str:
        """Of the wheel: interpreter and ABI."""
        return f"cp{self.abi.rstrip('t')}-cp{self.abi}"

    def soabi(self, target: Target) -> str:
        return f"cpython-{self.abi}-{target.triple}"

    @property
    def order(self) -> tuple[int, ...]:
        return tuple(map(int, self.version.split(".")))


def on_this_machine(programs: list[str]) -> dict[str, Python]:
    found: dict[str, Python] = {}
    for program in programs:
        command = [program, "-I", "-c", DESCRIBE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not done.stdout:
            continue
        facts = json.loads(done.stdout)
        python = Python(
            facts["version"],
            facts["abi"],
            (Path(facts["include"]),),
            Path(facts["program"]),
            Path(facts["prefix"]),
        )
        if python.order >= (3, 9):
            found.setdefault(python.abi, python)
    return found


def from_debian(version: str, root: Path, cache: Path) -> Python:
    """Take the headers out of an unpacked system, apart from those of its C library."""
    include = cache / f"include-{version}"
    if not include.is_dir():
        shutil.rmtree(cache / "new", ignore_errors=True)
        for name in (f"python{version}", f"x86_64-linux-gnu/python{version}"):
            shutil.copytree(root / "usr/include" / name, cache / "new" / name)
        # Its pyconfig.h includes the one of the machine that is compiled for.
        (cache / "new/aarch64-linux-gnu").symlink_to("x86_64-linux-gnu")
        (cache / "new").rename(include)
    return Python(version, version.replace(".", ""), (include / f"python{version}", include))


def write_sysconfig(python: Python, target: Target, cc: str, folder: Path) -> dict[str, str]:
    """
    Have any interpreter build as |python| would on the target, by a module in place of its own
    sysconfig data, as cross builds of CPython itself do. Returns the environment that makes it so.
    """
    module = f"_sysconfigdata_for_{python.abi}_{target.arch}"
    variables = {
        "AR": "zig-ar",
        "ARFLAGS": "rcs",
        "CC": cc,
        "CXX": cc.replace("zig-cc", "zig-c++"),
        "CCSHARED": "-fPIC",
        "CFLAGS": "",
        "OPT": "",
        "LDFLAGS": "",
        "LDSHARED": f"{cc.replace('ccache ', '')} -shared",
        "LDCXXSHARED": f"{cc.replace('ccache ', '').replace('zig-cc', 'zig-c++')} -shared",
        "RANLIB": "zig-ranlib",
        "SHLIB_SUFFIX": ".so",
        "EXT_SUFFIX": f".{python.soabi(target)}.so",
        "SOABI": python.soabi(target),
        "INCLUDEPY": str(python.includes[0]),
        "CONFINCLUDEPY": str(python.includes[-1]),
        "MULTIARCH": target.triple,
        "Py_DEBUG": 0,
        "Py_ENABLE_SHARED": 0,
        "Py_GIL_DISABLED": int(python.abi.endswith("t")),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{module}.py").write_text(f"build_time_vars = {variables!r}\n")
    say(f"CPython {python.version}, {target.arch}")
    return {
        "_PYTHON_SYSCONFIGDATA_NAME": module,
        "_PYTHON_HOST_PLATFORM": f"linux-{target.arch}",
        "PYTHONPATH": str(folder),
    }
