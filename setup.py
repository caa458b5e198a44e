"""Builds the extension: libgp.a by csrc/Makefile first, then csrc/py/*.c linked with it.

Everything else about the package is in pyproject.toml. The environment chooses the flavour:

PYGO_DEBUG=1                    -O0 -g3 with assertions
PYGO_SANITIZE=address,undefined sanitizers; run Python with their runtime preloaded
PYGO_PORTABLE=1                 what POSIX alone has, in place of epoll, pidfd and the like
PYGO_WERROR=1                   warnings are errors
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

# What the build needs, and the packages that bring it:
# (name, pkg-config condition or None for a tool, Debian and Ubuntu, Fedora, Alpine, Homebrew).
# pkg-config knows gRPC by the version of its core: 29 is gRPC 1.51.
DEPENDENCIES = [
    ("cc", None, "gcc", "gcc", "gcc musl-dev", "gcc"),
    ("make", None, "make", "make", "make", "make"),
    ("pkg-config", None, "pkg-config", "pkgconf-pkg-config", "pkgconf", "pkgconf"),
    ("protoc-c", None, *["protobuf-c-compiler"] * 3, "protobuf-c"),
    ("grpc", "grpc >= 29", "libgrpc-dev", "grpc-devel", "grpc-dev", "grpc"),
    (
        "protobuf-c",
        "libprotobuf-c >= 1.3",
        "libprotobuf-c-dev",
        "protobuf-c-devel",
        "protobuf-c-dev",
        "protobuf-c",
    ),
    ("openssl", "openssl >= 3.0", "libssl-dev", "openssl-devel", "openssl-dev", "openssl"),
    ("jansson", "jansson >= 2.10", "libjansson-dev", "jansson-devel", "jansson-dev", "jansson"),
    ("zlib", "zlib >= 1.2", "zlib1g-dev", "zlib-devel", "zlib-dev", "zlib"),
]
SYSTEMS = ("Debian/Ubuntu", "Fedora", "Alpine", "Homebrew")

# The variables of csrc/Makefile that name the same tools.
TOOLS = {
    "cc": os.environ.get("CC", "cc"),
    "make": os.environ.get("MAKE", "make"),
    "pkg-config": os.environ.get("PKG_CONFIG", "pkg-config"),
    "protoc-c": os.environ.get("PROTOC_C", "protoc-c"),
}


def enabled(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")


DEBUG = enabled("PYGO_DEBUG")
PORTABLE = enabled("PYGO_PORTABLE")
WERROR = enabled("PYGO_WERROR")
SANITIZE = os.environ.get("PYGO_SANITIZE", "")

# Each set of flags builds in a directory of its own, so that going back and forth costs nothing.
FLAGS = [*filter(None, SANITIZE.split(",")), *["portable"] * PORTABLE, *["werror"] * WERROR]
FLAVOUR = "-".join(["debug" if DEBUG else "release", *FLAGS])
# What csrc/Makefile names it by itself, so that the library is shared with the other targets there.
LIBRARY_DIR = os.path.join("build", "-".join(["c", *["debug"] * DEBUG, *FLAGS]))

JOBS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_dependencies() -> None:
    """Stop with one line that names everything missing and what to install."""

    def missing(name: str, condition: str | None) -> bool:
        if condition is None:
            return shutil.which(shlex.split(TOOLS[name])[0]) is None
        command = [*shlex.split(TOOLS["pkg-config"]), "--exists", condition]
        return subprocess.run(command, check=False).returncode != 0

    absent = [d for d in DEPENDENCIES if d[1] is None and missing(d[0], None)]
    if not any(d[0] == "pkg-config" for d in absent):  # without it the question makes no sense
        absent += [d for d in DEPENDENCIES if d[1] is not None and missing(d[0], d[1])]
    if absent:
        names = ", ".join(condition or name for name, condition, *_ in absent)
        packages = "; ".join(
            f"{system}: {' '.join(dict.fromkeys(d[2 + i] for d in absent))}"
            for i, system in enumerate(SYSTEMS)
        )
        sys.exit(f"error: pygo-plugin cannot be built without {names}; install {packages}")


def pkg_config(option: str) -> list[str]:
    packages = ["libprotobuf-c", "jansson", "zlib"]
    command = [*shlex.split(TOOLS["pkg-config"]), option, *packages]
    return shlex.split(subprocess.check_output(command, text=True))


class Build(build):
    def initialize_options(self) -> None:
        super().initialize_options()
        # SOABI tells apart what must not mix: Python versions, free threading, platforms.
        soabi = sysconfig.get_config_var("SOABI") or sys.implementation.cache_tag
        self.build_base = os.path.join("build", FLAVOUR, soabi)


class BuildExt(build_ext):
    def run(self) -> None:
        check_dependencies()
        self.make_library()
        library = os.path.join(LIBRARY_DIR, "libgp.a")
        (extension,) = self.extensions
        extension.define_macros = [("PYGO_VERSION", f'"{self.distribution.get_version()}"')]
        extension.extra_objects = [library]
        extension.extra_link_args += pkg_config("--libs")
        # Whatever is newer than the extension has it built again.
        extension.depends = [
            library,
            *glob("csrc/include/gp/*.h"),
            *glob("csrc/py/*.h"),
            "pyproject.toml",
            "setup.py",
        ]
        super().run()

    def build_extensions(self) -> None:
        compile_at_once(self.compiler)
        super().build_extensions()

    def make_library(self) -> None:
        command = [
            *shlex.split(TOOLS["make"]),
            *("--no-print-directory", "-C", "csrc", f"-j{JOBS}"),
            f"BUILD={os.path.join('..', LIBRARY_DIR)}",
            f"DEBUG={int(DEBUG)}",
            f"SANITIZE={SANITIZE}",
            f"PORTABLE={int(PORTABLE)}",
            f"WERROR={int(WERROR)}",
            "libgp.a",
        ]
        if subprocess.run(command, check=False).returncode != 0:
            sys.exit("error: pygo-plugin: libgp.a failed to build; see the messages above")


def compile_at_once(compiler: Any) -> None:
    """Have the compiler work on several files at a time, where it compiles each on its own."""
    compile_all, compile_one = compiler.compile, compiler._compile

    def compile_in_threads(*args: Any, **options: Any) -> Any:
        with ThreadPoolExecutor(JOBS) as pool:
            compiling = []
            compiler._compile = lambda *file: compiling.append(pool.submit(compile_one, *file))
            objects = compile_all(*args, **options)
        for each in compiling:
            each.result()
        return objects

    compiler.compile = compile_in_threads


def compile_args() -> list[str]:
    args = ["-std=c11", "-fvisibility=hidden"]
    args += ["-Wall", "-Wextra", "-Wshadow", "-Wstrict-prototypes"]
    if WERROR:
        args.append("-Werror")
    if DEBUG:
        args += ["-O0", "-g3", "-UNDEBUG"]
    if SANITIZE:
        args += [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer", "-UNDEBUG"]
    return args


def link_args() -> list[str]:
    # Record only the libraries that are used.
    args = [] if sys.platform == "darwin" else ["-Wl,--as-needed"]
    return [*args, f"-fsanitize={SANITIZE}"] if SANITIZE else args


setup(
    cmdclass={"build": Build, "build_ext": BuildExt},
    ext_modules=[
        Extension(
            "pygo_plugin._core",
            sources=sorted(glob("csrc/py/*.c")),
            # For "gp/x.h" and for "py/x.h"; tests/unit/test_layers.py allows no other.
            include_dirs=["csrc/include", "csrc"],
            extra_compile_args=compile_args(),
            extra_link_args=link_args(),
        )
    ],
)
