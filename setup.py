"""Builds the extension: libgp.a by csrc/Makefile first, then csrc/py/*.c linked with it.

Everything else about the package is in pyproject.toml. The environment chooses the flavour:

PYGO_DEBUG=1                    -O0 -g3 with assertions
PYGO_SANITIZE=address,undefined sanitizers; run Python with their runtime preloaded
PYGO_PORTABLE=1                 what POSIX alone has, in place of epoll, pidfd and the like
PYGO_WERROR=1                   warnings are errors
PYGO_CORE=static                with the core that scripts/core builds, and does so if it is missing
PYGO_CORE=system                with gRPC, protobuf-c, jansson and zlib as they are installed
                                (by default the former if it is there)
"""

from __future__ import annotations

import functools
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
    ("Python.h", None, "python3-dev", "python3-devel", "python3-dev", "python"),
    ("pkg-config", None, "pkg-config", "pkgconf-pkg-config", "pkgconf", "pkgconf"),
    ("protoc-c", None, *["protobuf-c-compiler"] * 3, "protobuf-c"),
    ("openssl", "openssl >= 3.0", "libssl-dev", "openssl-devel", "openssl-dev", "openssl"),
]
SYSTEM_CORE = [
    ("grpc", "grpc >= 29", "libgrpc-dev", "grpc-devel", "grpc-dev", "grpc"),
    (
        "protobuf-c",
        "libprotobuf-c >= 1.3",
        "libprotobuf-c-dev",
        "protobuf-c-devel",
        "protobuf-c-dev",
        "protobuf-c",
    ),
    ("jansson", "jansson >= 2.10", "libjansson-dev", "jansson-devel", "jansson-dev", "jansson"),
    ("zlib", "zlib >= 1.2", "zlib1g-dev", "zlib-devel", "zlib-dev", "zlib"),
]
# What scripts/core needs.
STATIC_CORE = [
    ("c++", None, "g++", "gcc-c++", "g++", "gcc"),
    ("patch", None, *["patch"] * 3, "gpatch"),
]
# gRPC and OpenSSL, loaded when they are first used; the first alone where OpenSSL has no archives.
CORE_LIBRARIES = ("libpygo_core.so", "libpygo_tls.so")
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

# Each core and set of flags builds in a directory of its own, so that going back and forth costs
# nothing.
FLAGS = [*filter(None, SANITIZE.split(",")), *["portable"] * PORTABLE, *["werror"] * WERROR]

JOBS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def core() -> str:
    """The folder of the static core, built or not, or "system"."""
    command = [sys.executable, os.path.join("scripts", "core"), "--chosen"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit("error: pygo-plugin: there is no core to build with; see the message above")
    return done.stdout.strip()


def flavour() -> str:
    return "-".join([core_name(), "debug" if DEBUG else "release", *FLAGS])


def library_dir() -> str:
    """As csrc/Makefile names it by itself, so that its other targets share the library."""
    return os.path.join("build", "-".join(["c", core_name(), *["debug"] * DEBUG, *FLAGS]))


def core_name() -> str:
    return os.path.basename(core()).partition("-")[0]


def check_dependencies() -> None:
    """Stop with a line that names everything missing, and one with another way, if there is one."""
    tools = missing(DEPENDENCIES)
    if core() != "system":
        if not os.path.isdir(core()):
            tools += missing(STATIC_CORE)
        if tools:
            sys.exit(complaint(tools))
        if not os.path.isdir(core()):
            build_core()
        return
    libraries = missing(SYSTEM_CORE)
    if not tools and not libraries:
        return
    lines = [complaint(tools + libraries)]
    if libraries:
        static = tools + missing(STATIC_CORE)
        lines.append(
            "or set PYGO_CORE=static to have gRPC and the like compiled from source, in minutes"
            + (f"; for that, install {packages(static)}" if static else "")
        )
    sys.exit("\n".join(lines))


def missing(dependencies: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Those that are not there. Without pkg-config, that is not known of libraries: all count."""
    return [d for d in dependencies if is_missing(d[0], d[1])]


def is_missing(name: str, condition: str | None) -> bool:
    if name == "Python.h":
        return not os.path.exists(os.path.join(sysconfig.get_path("include"), name))
    if condition is None:
        return shutil.which(shlex.split(TOOLS.get(name, name))[0]) is None
    command = shlex.split(TOOLS["pkg-config"])
    if shutil.which(command[0]) is None:
        return True
    return subprocess.run([*command, "--exists", condition], check=False).returncode != 0


def complaint(absent: list[tuple[Any, ...]]) -> str:
    names = ", ".join(condition or name for name, condition, *_ in absent)
    return f"error: pygo-plugin cannot be built without {names}; install {packages(absent)}"


def packages(absent: list[tuple[Any, ...]]) -> str:
    return "; ".join(
        f"{system}: {' '.join(dict.fromkeys(d[2 + i] for d in absent))}"
        for i, system in enumerate(SYSTEMS)
    )


def build_core() -> None:
    command = [sys.executable, os.path.join("scripts", "core")]
    if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode != 0:
        sys.exit("error: pygo-plugin: gRPC's core failed to build; see the messages above")


def link_libraries() -> list[str]:
    names = ["libprotobuf-c", "jansson", "zlib"]
    command = [*shlex.split(TOOLS["pkg-config"]), "--libs", *names]
    if core() == "system":
        return shlex.split(subprocess.check_output(command, text=True))
    path = os.pathsep.join(
        filter(None, [f"{core()}/lib/pkgconfig", os.environ.get("PKG_CONFIG_PATH", "")])
    )
    environment = {**os.environ, "PKG_CONFIG_PATH": path}
    libraries = shlex.split(subprocess.check_output(command, text=True, env=environment))
    # gRPC and OpenSSL are in CORE_LIBRARIES. What is linked here was compiled with hidden symbols.
    return [*libraries, "-Wl,--gc-sections", "-Wl,-rpath,$ORIGIN"]


class Build(build):
    def initialize_options(self) -> None:
        super().initialize_options()
        # SOABI tells apart what must not mix: Python versions, free threading, platforms.
        soabi = sysconfig.get_config_var("SOABI") or sys.implementation.cache_tag
        self.build_base = os.path.join("build", flavour(), soabi)


class BuildExt(build_ext):
    def run(self) -> None:
        check_dependencies()
        self.make_library()
        library = os.path.join(library_dir(), "libgp.a")
        (extension,) = self.extensions
        extension.define_macros = [("PYGO_VERSION", f'"{self.distribution.get_version()}"')]
        extension.extra_objects = [library]
        extension.extra_link_args += link_libraries()
        # Whatever is newer than the extension has it built again.
        extension.depends = [
            library,
            *glob("csrc/include/gp/*.h"),
            *glob("csrc/py/*.h"),
            "pyproject.toml",
            "setup.py",
        ]
        super().run()
        self.place_core_libraries()

    def build_extensions(self) -> None:
        compile_at_once(self.compiler)
        super().build_extensions()

    def make_library(self) -> None:
        command = [
            *shlex.split(TOOLS["make"]),
            *("--no-print-directory", "-C", "csrc", f"-j{JOBS}"),
            f"CORE={core()}",
            f"BUILD={os.path.join('..', library_dir())}",
            f"DEBUG={int(DEBUG)}",
            f"SANITIZE={SANITIZE}",
            f"PORTABLE={int(PORTABLE)}",
            f"WERROR={int(WERROR)}",
            *("libgp.a", "core"),
        ]
        if subprocess.run(command, check=False).returncode != 0:
            sys.exit("error: pygo-plugin: libgp.a failed to build; see the messages above")

    def get_outputs(self) -> list[str]:
        folder = os.path.join("" if self.inplace else self.build_lib, "pygo_plugin")
        libraries = [os.path.join(folder, name) for name in CORE_LIBRARIES]
        return [*super().get_outputs(), *filter(os.path.exists, libraries)]

    def place_core_libraries(self) -> None:
        """Put the libraries beside the extension; those that an earlier build has left go away."""
        for folder in [self.build_lib, *[""] * bool(self.inplace)]:
            for name in CORE_LIBRARIES:
                made = os.path.join(library_dir(), name)
                target = os.path.join(folder, "pygo_plugin", name)
                if core() != "system" and os.path.exists(made):
                    # Processes may be using the one that is there.
                    shutil.copy2(made, f"{target}.new")
                    os.replace(f"{target}.new", target)
                elif os.path.exists(target):
                    os.unlink(target)


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
