"""Turns what was built into a wheel: stripped, described, the same bytes each time."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import contents
from compile import Built
from targets import Toolchain

WHEEL = """\
Wheel-Version: 1.0
Generator: pygo-plugin scripts/wheels
Root-Is-Purelib: false
Tag: {tag}
"""


def binaries(library: Path) -> Iterator[Path]:
    return (file for file in sorted(library.rglob("*")) if file.suffix == ".so")


# The section that has the build ID, which is all but its first 16 bytes.
NOTE = ".note.gnu.build-id"
NOTE_HEAD = 16


def set_build_id(objcopy: str, binary: Path, stripped: Path) -> str:
    """
    Make the build ID a digest of what is in the wheel. The linker's is one of the debugging
    information as well, where folders of the build may appear. Returns it in hexadecimal.
    """
    note = binary.with_suffix(".note")
    run = [objcopy, f"--dump-section={NOTE}={note}", str(binary), "/dev/null"]
    subprocess.run(run, check=True)
    head, length = note.read_bytes()[:NOTE_HEAD], note.stat().st_size - NOTE_HEAD
    build_id = bytes(length)
    for _ in range(2):  # the digest is that of the file with an ID of zeros
        note.write_bytes(head + build_id)
        for file in (stripped, binary):
            subprocess.run([objcopy, f"--update-section={NOTE}={note}", str(file)], check=True)
        if not any(build_id):
            build_id = hashlib.sha256(stripped.read_bytes()).digest()[:length]
    note.unlink()
    return build_id.hex()


def split_symbols(built: Built, tree: Path, symbols: Path) -> None:
    """
    Move symbols and debugging information into files of their own, named by build IDs: gdb finds
    them in a folder that it is given as debug-file-directory.
    """
    objcopy = built.target.binutil("objcopy")
    for binary in binaries(tree):
        stripped = binary.with_suffix(".stripped")
        strip = [objcopy, "--strip-all", "--remove-section=.comment", str(binary), str(stripped)]
        subprocess.run(strip, check=True)
        build_id = set_build_id(objcopy, binary, stripped)
        file = symbols / ".build-id" / build_id[:2] / f"{build_id[2:]}.debug"
        file.parent.mkdir(parents=True, exist_ok=True)
        keep = [objcopy, "--only-keep-debug", "--compress-debug-sections", str(binary), str(file)]
        subprocess.run(keep, check=True)
        stripped.rename(binary)


def pack(built: Built, toolchain: Toolchain, epoch: int, into: Path) -> Path:
    """Write a wheel, and beside it an archive of its symbols, into a folder."""
    tree = built.library.parent / "tree"
    symbols = built.library.parent / "symbols"
    for folder in (tree, symbols):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(built.library, tree)
    split_symbols(built, tree, symbols)
    dist_info = tree / built.dist_info.name
    shutil.copytree(built.dist_info, dist_info)
    contents.describe(built, toolchain, dist_info, epoch)
    tag = f"{built.python.tags}-{built.target.platform}"
    (dist_info / "WHEEL").write_text(WHEEL.format(tag=tag))
    name = f"{built.dist_info.name.removesuffix('.dist-info')}-{tag}"
    into.mkdir(parents=True, exist_ok=True)
    (dist_info / "RECORD").write_text(record(tree, dist_info))
    wheel = into / f"{name}.whl"
    write_zip(wheel, tree, epoch, last=dist_info)
    write_zip(into / f"{name}.debug.zip", symbols, epoch, last=symbols)
    return wheel


def members(tree: Path, last: Path) -> list[Path]:
    """Sorted, with the metadata at the end, as the format asks for."""
    files = [file for file in tree.rglob("*") if file.is_file()]
    return sorted(files, key=lambda file: (last in file.parents, file.name == "RECORD", str(file)))


def record(tree: Path, dist_info: Path) -> str:
    lines = []
    for file in members(tree, dist_info):
        data = file.read_bytes()
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{file.relative_to(tree).as_posix()},sha256={digest},{len(data)}\n")
    lines.append(f"{dist_info.name}/RECORD,,\n")
    return "".join(lines)


def write_zip(file: Path, tree: Path, epoch: int, last: Path) -> None:
    moment = time.gmtime(epoch)[:6]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for member in members(tree, last):
            entry = zipfile.ZipInfo(member.relative_to(tree).as_posix(), moment)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, whose permissions follow
            mode = 0o100755 if member.suffix == ".so" else 0o100644
            entry.external_attr = mode << 16
            archive.writestr(entry, member.read_bytes(), compresslevel=9)
