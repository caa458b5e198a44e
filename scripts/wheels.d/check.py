"""Checks of a finished wheel that need not run it."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection
from pythons import Python
from targets import GLIBC, ROOT, Target, WheelError

# The C library's parts, which are all that a wheel may need.
C_LIBRARY = re.compile(r"(libc|libm|libdl|librt|libpthread)\.so\.\d|ld-linux-.*\.so\.\d")
# gRPC and OpenSSL, which the extension loads: what they may export, and where the functions are
# listed that they must export.
LIBRARIES = {
    "pygo_plugin/libpygo_core.so": (
        re.compile(r"(grpc|gpr|gp_)_\w+"),
        "csrc/rpc/grpc_symbols.txt",
    ),
    "pygo_plugin/libpygo_tls.so": (
        re.compile(r"(?!grpc_|gpr_|gp__|_)\w+"),
        "csrc/tls/openssl_symbols.txt",
    ),
}
EXTENSION = re.compile(r"PyInit__core")
WANTED = ("sboms/pygo-plugin.cdx.json", "licenses/LICENSE", "licenses/third-party/grpc.txt")

# What a binary may have of CPython: no function that is private, but for those that CPython's own
# macros and inline functions of the public API come down to.
PRIVATE = re.compile(r"_Py")
FROM_MACROS = re.compile(
    r"_Py_(NoneStruct|TrueStruct|FalseStruct|NotImplementedStruct|EllipsisObject|Dealloc|"
    r"NegativeRefcount|IncRef|DecRef|MergeZeroLocalRefcount|DecRefShared)$"
    r"|_Py\w+_SizeT$|_PyObject_(New|NewVar|GC_New)$|_PyByteArray_empty_string$"
    r"|_Py_CheckFunctionResult$|_PyObject_MakeTpCall$"  # PyObject_Vectorcall() of CPython 3.9
)


class Binary:
    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        self.data = data
        self.elf = ELFFile(io.BytesIO(data))
        (self.dynamic,) = (s for s in self.elf.iter_sections() if isinstance(s, DynamicSection))

    def entries(self, tag: str) -> Iterator[str]:
        attribute = {"DT_NEEDED": "needed", "DT_RUNPATH": "runpath", "DT_RPATH": "rpath"}[tag]
        for entry in self.dynamic.iter_tags(tag):
            yield getattr(entry, attribute)

    def glibc(self) -> tuple[int, ...]:
        """The newest version of the C library that it asks for."""
        newest: tuple[int, ...] = (0,)
        for section in self.elf.iter_sections():
            if isinstance(section, GNUVerNeedSection):
                for _, versions in section.iter_versions():
                    for version in versions:
                        if match := re.fullmatch(r"GLIBC_([\d.]+)", version.name):
                            newest = max(newest, tuple(map(int, match[1].split("."))))
        return newest

    def symbols(self, *, defined: bool) -> Iterator[str]:
        for symbol in self.elf.get_section_by_name(".dynsym").iter_symbols():
            if symbol.name and (symbol["st_shndx"] != "SHN_UNDEF") == defined:
                yield symbol.name

    def faults(
        self, path: list[str], exports: re.Pattern[str], places: Iterable[Path]
    ) -> Iterator[str]:
        for library in self.entries("DT_NEEDED"):
            if not C_LIBRARY.fullmatch(library):
                yield f"needs {library}"
        if (newest := self.glibc()) > GLIBC:
            yield f"needs glibc {'.'.join(map(str, newest))}"
        paths = [*self.entries("DT_RUNPATH"), *self.entries("DT_RPATH")]
        if paths != path:
            yield f"looks for libraries in {paths}"
        extra = [s for s in self.symbols(defined=True) if not exports.fullmatch(s)]
        if extra:
            yield f"exports {', '.join(sorted(extra)[:8])}"
        for segment in self.elf.iter_segments("PT_GNU_STACK"):
            if segment["p_flags"] & 1:
                yield "has an executable stack"
        if not any(True for _ in self.elf.iter_segments("PT_GNU_RELRO")):
            yield "has no read-only relocations"
        if b"_ubsan_" in self.data:
            yield "checks for undefined behaviour at run time"
        if any(s.name.startswith((".debug", ".symtab")) for s in self.elf.iter_sections()):
            yield "is not stripped"
        for place in places:
            if f"{place}/".encode() in self.data:
                yield f"has the path {place} in it"

    def private_api(self) -> Iterator[str]:
        for name in self.symbols(defined=False):
            if PRIVATE.match(name) and not FROM_MACROS.match(name):
                yield name


def auditwheel(wheel: Path, target: Target) -> str:
    command = [sys.executable, "-m", "auditwheel", "show", str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    match = re.search(r'following\s+platform\s+tag:\s+"([^"]+)"', done.stdout)
    if done.returncode != 0 or match is None:
        raise WheelError(
            f"auditwheel does not know what {wheel.name} is:\n{done.stdout}{done.stderr}"
        )
    found = re.fullmatch(rf"manylinux_(\d+)_(\d+)_{target.arch}", match[1])
    if found is None or (int(found[1]), int(found[2])) > GLIBC:
        raise WheelError(f"auditwheel calls {wheel.name} {match[1]}")
    return match[1]


def check(wheel: Path, target: Target, python: Python, places: list[Path]) -> str:
    """Raise WheelError that says all that is wrong, or say what has been found."""
    faults = []
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        if archive.testzip() is not None:
            faults.append("the archive is damaged")
        extension = f"pygo_plugin/_core.{python.soabi(target)}.so"
        found = sorted(name for name in names if ".so" in name)
        if found != sorted([extension, *LIBRARIES]):
            raise WheelError(f"{wheel.name} has the binaries {', '.join(found)}")
        for name, (exports, needed) in {extension: (EXTENSION, ""), **LIBRARIES}.items():
            binary = Binary(name, archive.read(name))
            if needed:
                absent = set((ROOT / needed).read_text().split()) - set(
                    binary.symbols(defined=True)
                )
                faults += [f"{name} does not export {symbol}" for symbol in sorted(absent)[:8]]
            path = ["$ORIGIN"] if name == extension else []
            faults += [f"{name} {fault}" for fault in binary.faults(path, exports, places)]
            faults += [f"{name} uses {symbol}" for symbol in binary.private_api()]
        for wanted in WANTED:
            if not any(name.endswith(f".dist-info/{wanted}") for name in names):
                faults.append(f"has no {wanted}")
    if faults:
        raise WheelError("\n  ".join([f"{wheel.name}:", *faults]))
    return auditwheel(wheel, target)
