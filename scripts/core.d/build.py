"""Compiles gRPC's core, and the two C libraries that go with it, into a folder."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import grpc_sources
from fetch import fetch, unpack
from licences import licence
from releases import JANSSON, PROTOBUF_C, Release, Tools, additions, archives, patches

COMMON = [
    *("-O2", "-fPIC", "-g0", "-w", "-pthread"),
    *("-ffunction-sections", "-fdata-sections", "-fvisibility=hidden"),
]
# Without it, each access to a thread-local variable is a call, which adds up to a tenth of the time
# of an RPC. glibc keeps 512 bytes or more for libraries that are loaded late and need them at fixed
# places; the core needs 224. musl has no such thing.
GLIBC_FLAGS = ["-ftls-model=initial-exec"]
C_FLAGS = ["-std=gnu11", "-D_GNU_SOURCE"]
CXX_FLAGS = ["-fvisibility-inlines-hidden", "-fno-exceptions", "-fno-wrapv"]

# What jansson's configure would write.
JANSSON_CONFIG = """\
#ifndef JANSSON_CONFIG_H
#define JANSSON_CONFIG_H
#define JSON_INLINE inline
#define JSON_INTEGER_IS_LONG_LONG 1
#define JSON_HAVE_LOCALECONV 1
#define JSON_HAVE_ATOMIC_BUILTINS 1
#define JSON_HAVE_SYNC_BUILTINS 1
#define JSON_PARSER_MAX_DEPTH 2048
#endif
"""
JANSSON_DEFINES = [
    *("HAVE_STDINT_H", "HAVE_ENDIAN_H", "HAVE_FCNTL_H", "HAVE_SCHED_H", "HAVE_UNISTD_H"),
    *("HAVE_SYS_PARAM_H", "HAVE_SYS_STAT_H", "HAVE_SYS_TIME_H", "HAVE_SYS_TYPES_H"),
    *("HAVE_ATOMIC_BUILTINS", "HAVE_OPEN", "HAVE_CLOSE", "HAVE_READ", "HAVE_GETPID"),
    *("HAVE_GETTIMEOFDAY", "HAVE_SCHED_YIELD", "USE_URANDOM"),
]

# Paths are relative to the file, so that the folder can be moved.
PKG_CONFIG = """\
prefix=${{pcfiledir}}/../..
Name: {name}
Description: {name}, static, as scripts/core builds it
Version: {version}
Requires: {requires}
Cflags: -I${{prefix}}/include
Libs: {libs}
"""

# The parts of a release of gRPC: the folder, and where the version is.
COMPONENTS = {
    "grpc": (".", None, ""),
    "abseil-cpp": (
        "third_party/abseil-cpp",
        "absl/base/config.h",
        r"define ABSL_LTS_RELEASE_VERSION (\d+)",
    ),
    "address_sorting": ("third_party/address_sorting", None, ""),
    "c-ares": (
        "third_party/cares",
        "cares/include/ares_version.h",
        r'define ARES_VERSION_STR "(.*)"',
    ),
    "re2": ("third_party/re2", None, ""),
    "upb": ("third_party/upb", None, ""),
    "utf8_range": ("third_party/utf8_range", None, ""),
    "xxhash": ("third_party/xxhash", None, ""),
    "zlib": ("third_party/zlib", "zlib.h", r'define ZLIB_VERSION "(.*)"'),
}


class BuildError(Exception):
    pass


def say(text: str) -> None:
    print(f"core: {text}", file=sys.stderr, flush=True)


def processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def by_ccache(command: tuple[str, ...]) -> tuple[str, ...]:
    """The command by way of ccache, where that is installed, has a place, and knows the command."""
    place = os.environ.get("CCACHE_DIR") or os.environ.get("HOME", "")
    if len(command) > 1 or not shutil.which("ccache") or not os.access(place, os.W_OK):
        return command
    return ("ccache", *command)


class Compiler:
    """
    Compiles in one folder. All paths are relative to it, in the objects and in the commands, so
    that it does not matter to the outcome, nor to ccache, where the folder is.
    """

    def __init__(
        self, what: str, root: Path, tools: Tools, flags: list[str], cxx: list[str]
    ) -> None:
        self.what = what
        self.root = root
        common = [*COMMON, *GLIBC_FLAGS * tools.for_glibc(), *flags]
        self.cc = [*by_ccache(tools.cc), *C_FLAGS, *common]
        self.cxx = [*by_ccache(tools.cxx), *CXX_FLAGS, *cxx, *common]
        self.ar = tools.ar

    def run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False)

    def compile_unit(self, unit: list[str], name: str) -> list[str]:
        """Compile sources as one, or, where they do not go together, as two. Returns objects."""
        source = unit[0]
        compiler = self.cc if source.endswith(".c") else self.cxx
        if len(unit) > 1:
            source = f"{name}.cc"
            (self.root / source).write_text("".join(f'#include "{each}"\n' for each in unit))
        command = [*compiler, "-c", source, "-o", f"{name}.o"]
        done = self.run(command)
        if done.returncode == 0:
            return [f"{name}.o"]
        if len(unit) == 1:
            raise BuildError(f"{' '.join(command)}\n{done.stderr[-4000:]}")
        half = len(unit) // 2
        return [
            *self.compile_unit(unit[:half], f"{name}a"),
            *self.compile_unit(unit[half:], f"{name}b"),
        ]

    def compile(self, units: list[list[str]]) -> list[list[str]]:
        """The objects of each unit."""
        (self.root / "objects").mkdir(exist_ok=True)
        with ThreadPoolExecutor(processors()) as pool:
            jobs = [
                pool.submit(self.compile_unit, unit, f"objects/{index:03d}")
                for index, unit in enumerate(units)
            ]
            try:
                return self.collect(jobs)
            except BaseException:
                for job in jobs:
                    job.cancel()
                raise

    def collect(self, jobs: list[Future[list[str]]]) -> list[list[str]]:
        results = []
        since = said = time.monotonic()
        for index, job in enumerate(jobs):
            results.append(job.result())
            now = time.monotonic()
            if now - said >= 15:
                said = now
                say(f"{self.what}: {index + 1} of {len(jobs)} compiled in {now - since:.0f} s")
        return results

    def archive(self, file: Path, objects: list[str]) -> None:
        command = [*self.ar, "rcs", str(file), *objects]
        done = self.run(command)
        if done.returncode != 0:
            raise BuildError(f"{' '.join(command[:4])} ...\n{done.stderr[-4000:]}")


def apply_patch(patch: Path, root: Path) -> None:
    command = ["patch", "-p1", "--forward", "--fuzz=0", "--no-backup-if-mismatch", "-i", str(patch)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"{patch.name} does not apply:\n{done.stdout}{done.stderr}")


def copy_headers(into: Path, *files: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copy(file, into)


def write_pkg_config(out: Path, name: str, version: str, libs: str, requires: str = "") -> None:
    folder = out / "lib" / "pkgconfig"
    folder.mkdir(parents=True, exist_ok=True)
    text = PKG_CONFIG.format(name=name, version=version, libs=libs, requires=requires)
    (folder / f"{name}.pc").write_text(text)


def found_version(file: Path, pattern: str) -> str:
    match = re.search(pattern, file.read_text())
    return match[1] if match else ""


def openssl_flags() -> list[str]:
    command = [*shlex.split(os.environ.get("PKG_CONFIG", "pkg-config")), "--cflags", "openssl"]
    return shlex.split(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def build_grpc(release: Release, root: Path, tools: Tools, out: Path) -> None:
    sources = [*grpc_sources.sources(root), *release.unlisted]
    for addition in additions(release):
        shutil.copy(addition, root)
        sources.append(addition.name)
    units = grpc_sources.units(root, sources)
    say(f"compiling gRPC {release.version}: {len(sources)} sources in {len(units)} units")
    flags = [
        *(f"-D{define}" for define in (*grpc_sources.DEFINES, *release.defines)),
        *(f"-I{folder}" for folder in grpc_sources.include_folders(root)),
        *openssl_flags(),
    ]
    compiler = Compiler(f"gRPC {release.version}", root, tools, flags, [f"-std={release.standard}"])
    # zlib's objects have an archive of their own, which the extension is linked with alone.
    objects: dict[bool, list[str]] = {False: [], True: []}
    for unit, made in zip(units, compiler.compile(units)):
        objects[unit[0].startswith("third_party/zlib/")] += made
    compiler.archive(out / "lib/libgrpc_core.a", objects[False])
    compiler.archive(out / "lib/libz.a", objects[True])
    shutil.copytree(root / "include/grpc", out / "include/grpc")
    zlib_headers = root / "third_party/zlib"
    copy_headers(out / "include", zlib_headers / "zlib.h", zlib_headers / "zconf.h")
    version = found_version(zlib_headers / "zlib.h", COMPONENTS["zlib"][2])
    write_pkg_config(out, "zlib", version, "${prefix}/lib/libz.a")
    write_pkg_config(
        out,
        "grpc",
        release.core,
        "${prefix}/lib/libgrpc_core.a ${prefix}/lib/libz.a -lstdc++ -lm -ldl -lrt -pthread",
        requires="openssl",
    )


def build_jansson(root: Path, tools: Tools, out: Path) -> None:
    (root / "src/jansson_config.h").write_text(JANSSON_CONFIG)
    files = sorted(str(file.relative_to(root)) for file in root.glob("src/*.c"))
    defines = "".join(f"#define {name} 1\n" for name in JANSSON_DEFINES)
    (root / "src/jansson_private_config.h").write_text(
        f"{defines}#define INITIAL_HASHTABLE_ORDER 3\n"
    )
    compiler = Compiler("jansson", root, tools, ["-DHAVE_CONFIG_H", "-Isrc"], [])
    objects = compiler.compile([[file] for file in files])
    compiler.archive(out / "lib/libjansson.a", [name for made in objects for name in made])
    copy_headers(out / "include", root / "src/jansson.h", root / "src/jansson_config.h")
    write_pkg_config(out, "jansson", JANSSON.version, "${prefix}/lib/libjansson.a")


def build_protobuf_c(root: Path, tools: Tools, out: Path) -> None:
    source = "protobuf-c/protobuf-c.c"
    compiler = Compiler("protobuf-c", root, tools, ["-I."], [])
    (objects,) = compiler.compile([[source]])
    compiler.archive(out / "lib/libprotobuf-c.a", objects)
    copy_headers(out / "include/protobuf-c", root / "protobuf-c/protobuf-c.h")
    write_pkg_config(out, "libprotobuf-c", PROTOBUF_C.version, "${prefix}/lib/libprotobuf-c.a")


def describe(release: Release, trees: dict[str, Path], out: Path) -> None:
    """Write core.json, which says what is inside, and the licences of that."""
    components = []
    folders = {
        **{n: trees["grpcio"] / folder for n, (folder, *_) in COMPONENTS.items()},
        "jansson": trees["jansson"],
        "protobuf-c": trees["protobuf-c"],
    }
    versions = {
        "grpc": release.version,
        "jansson": JANSSON.version,
        "protobuf-c": PROTOBUF_C.version,
        **{n: found_version(folders[n] / h, p) for n, (_, h, p) in COMPONENTS.items() if h},
    }
    (out / "licences").mkdir()
    for name, folder in folders.items():
        if folder.is_dir():
            (out / "licences" / f"{name}.txt").write_text(licence(name, folder))
            components.append({"name": name, "version": versions.get(name, "")})
    description = {
        "version": release.version,
        "archives": [{"file": a.file, "sha256": a.sha256} for a in archives(release)],
        "patches": [patch.name for patch in patches(release)],
        "components": components,
    }
    (out / "core.json").write_text(json.dumps(description, indent=2) + "\n")


def build(release: Release, tools: Tools, source: Path | None, work: Path, out: Path) -> None:
    """Fetch, unpack, patch and compile in the folder |work|; what is made goes into |out|."""
    trees = {}
    for archive in archives(release):
        say(f"fetching {archive.file}")
        unpack(fetch(archive, work, source), work)
        trees[archive.package] = work / archive.folder
    for patch in patches(release):
        say(f"applying {patch.name}")
        apply_patch(patch, trees["grpcio"])
    (out / "lib").mkdir(parents=True)
    build_jansson(trees["jansson"], tools, out)
    build_protobuf_c(trees["protobuf-c"], tools, out)
    build_grpc(release, trees["grpcio"], tools, out)
    describe(release, trees, out)
