#!/usr/bin/env python3
"""Installs a wheel in a root that has next to nothing, and runs the smoke test there.

    python scripts/wheels.d/empty_root.py --python PROGRAM WHEELS...
    python scripts/wheels.d/empty_root.py --root FOLDER --python /usr/bin/python3.9 WHEELS...

By bubblewrap, without the network. Without --root, the root has an interpreter of this machine and
the libraries that this is linked with, and nothing else. With --root, it is an unpacked system for
this machine or for one that qemu stands in for. Neither may have any of the libraries that are
linked into the wheel (FORBIDDEN). WHEELS are the wheel, all that it depends on, and pip, unless the
one that comes with Python will do.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SMOKE = ROOT / "tests/smoke.py"

FORBIDDEN = re.compile(
    r"lib(grpc|gpr|upb|absl_|address_sorting|re2|cares|protobuf-c|jansson|ssl|crypto|stdc\+\+)\b.*\.so"
)

C_LIBRARY = ("libdl.so.2", "libm.so.6", "libpthread.so.0", "libresolv.so.2", "librt.so.1")

DESCRIBE = """
import json, os, sys, sysconfig
print(json.dumps([sys.base_prefix, os.path.realpath(sys.executable), sysconfig.get_path("stdlib")]))
"""


def forbidden(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*.so*") if FORBIDDEN.match(file.name)]


def needed_libraries(files: list[Path]) -> set[Path]:
    """What the dynamic linker loads for them, but for what must not be there."""
    done = subprocess.run(["ldd", *map(str, files)], capture_output=True, text=True, check=False)
    found = {Path(path) for path in re.findall(r"(?:=> |^\s+)(/\S+) \(0x", done.stdout, re.M)}
    return {path for path in found if not FORBIDDEN.match(path.name)}


def bind(path: Path) -> list[str]:
    """Options that put a file into the root under this path, even if the path is a link here."""
    return ["--ro-bind", str(path.resolve()), str(path)]


def interpreter(program: Path) -> list[str]:
    """Options of bubblewrap for a root with this interpreter alone."""
    described = subprocess.check_output([program, "-I", "-c", DESCRIBE], text=True)
    prefix, executable, library = map(Path, json.loads(described))
    # The prefix of the system's own interpreter has everything else as well.
    parts = [executable, library] if prefix == Path("/usr") else [prefix]
    # All of the standard library can be imported but for tkinter, which would bring X11.
    extensions = [e for e in (library / "lib-dynload").glob("*.so") if "_tkinter" not in e.name]
    libraries = needed_libraries([executable, *extensions])
    options = [option for part in parts for option in bind(part)]
    # All of the C library, of which wheels may need parts that the interpreter does not.
    for path in [path for path in libraries if path.name.startswith("libc.so")]:
        libraries |= {path.parent / name for name in C_LIBRARY if (path.parent / name).exists()}
    for path in sorted(libraries):
        if not any(part in path.parents for part in parts):
            options += bind(path)
    return options


def bundled_pip() -> Path:
    """The wheel of pip that the interpreter which runs this makes virtual environments with."""
    import ensurepip

    folders = [Path(ensurepip.__file__).parent / "_bundled"]
    if folder := sysconfig.get_config_var("WHEEL_PKG_DIR"):
        folders.append(Path(folder))
    found = [wheel for folder in folders for wheel in folder.glob("pip-*.whl")]
    if not found:
        sys.exit("empty_root: there is no wheel of pip")
    return found[0]


# Runs commands one after the other in one sandbox, whose /tmp goes away with it.
RUN_ALL = """
import json, subprocess, sys
for command in json.loads(sys.argv[1]):
    status = subprocess.call(command)
    if status:
        sys.exit(status)
"""

# Of every root.
OPTIONS = [
    *("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--dir", "/tmp/home"),
    *("--unshare-all", "--die-with-parent", "--clearenv", "--chdir", "/tmp"),
    *("--setenv", "HOME", "/tmp/home", "--setenv", "PATH", "/usr/bin:/bin"),
    *("--setenv", "PYTHONPATH", "/tmp/site", "--setenv", "LD_LIBRARY_PATH", ""),
    *("--ro-bind", str(SMOKE), "/tmp/smoke.py"),
]


def run(python: str, wheels: list[Path], root: Path | None, timeout: float) -> float:
    """Returns the seconds from the start of pip to the end of the smoke test."""
    if root is None:
        options = interpreter(Path(python))
        python = str(Path(python).resolve())
        present = [option for option in options if FORBIDDEN.match(os.path.basename(option))]
    else:
        options = ["--ro-bind", str(root), "/"]
        present = list(map(str, forbidden(root)))
    if present:
        sys.exit(f"empty_root: {', '.join(present)} would be in the root")
    if not any(wheel.name.startswith("pip-") for wheel in wheels):
        wheels = [*wheels, bundled_pip()]
    with tempfile.TemporaryDirectory() as folder:
        for wheel in wheels:
            shutil.copy(wheel, folder)
        (pip,) = Path(folder).glob("pip-*.whl")
        install = [python, f"/tmp/wheels/{pip.name}/pip", "install", "-qq", "--no-index"]
        install += ["--find-links", "/tmp/wheels", "--target", "/tmp/site", "--no-compile"]
        install += ["--no-cache-dir", "--disable-pip-version-check", "--root-user-action=ignore"]
        commands = json.dumps([[*install, "pygo-plugin"], [python, "/tmp/smoke.py"]])
        since = time.monotonic()
        done = subprocess.run(
            [
                *("bwrap", *options, *OPTIONS, "--ro-bind", folder, "/tmp/wheels"),
                *(python, "-c", RUN_ALL, commands),
            ],
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )
    if done.returncode != 0:
        sys.exit(f"empty_root: failed with status {done.returncode}")
    return time.monotonic() - since


def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--python", required=True)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--timeout", type=float, default=120)
    parser.add_argument("wheels", type=Path, nargs="+")
    options = parser.parse_args()
    took = run(options.python, options.wheels, options.root, options.timeout)
    print(f"empty_root: installed and used in {took:.1f} s")


if __name__ == "__main__":
    main()
