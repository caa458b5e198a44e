"""A directory of wheels from which pip installs this checkout, and what it needs, offline.

The packages are those that are installed here; the checkout's wheel has the extension that has been
built in place. Nothing is compiled, compressed or downloaded.
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]

# What an installer writes beside the wheel's own files.
INSTALLED = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")


def fill(directory: Path, *names: str) -> None:
    """Adds wheels of the named distributions and of all that they require."""
    waiting = list(names)
    done: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in done:
            continue
        done.add(name)
        distribution = metadata.distribution(name)
        for text in distribution.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
        add = _add_checkout if name == "pygo-plugin" else _add_installed
        add(directory, distribution)


def _add_installed(directory: Path, distribution: metadata.Distribution) -> None:
    files = {}
    for entry in distribution.files or ():
        path = Path(str(distribution.locate_file(entry)))
        if entry.suffix != ".pyc" and ".." not in entry.parts and path.name not in INSTALLED:
            files[str(entry)] = path.read_bytes()
    _write(directory, distribution, files, distribution.read_text("WHEEL") or "")


def _add_checkout(directory: Path, distribution: metadata.Distribution) -> None:
    tag = next(
        line.removeprefix("Tag: ")
        for line in (distribution.read_text("WHEEL") or "").splitlines()
        if line.startswith("Tag: ")
    )
    paths = [path for path in (ROOT / "pygo_plugin").rglob("*") if path.suffix != ".pyc"]
    files = {str(path.relative_to(ROOT)): path.read_bytes() for path in paths if path.is_file()}
    info = _info(distribution)
    for name in ("METADATA", "entry_points.txt"):
        files[f"{info}/{name}"] = (distribution.read_text(name) or "").encode()
    wheel = f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: false\nTag: {tag}\n"
    files[f"{info}/WHEEL"] = wheel.encode()
    _write(directory, distribution, files, wheel)


def _info(distribution: metadata.Distribution) -> str:
    name = distribution.metadata["Name"].replace("-", "_").replace(".", "_")
    return f"{name}-{distribution.version}.dist-info"


def _write(
    directory: Path, distribution: metadata.Distribution, files: dict[str, bytes], wheel: str
) -> None:
    tags = [line.removeprefix("Tag: ") for line in wheel.splitlines() if line.startswith("Tag: ")]
    # Compressed tag sets: cp39-abi3-manylinux1_x86_64 and ...-manylinux2014_x86_64 are one name.
    parts = [".".join(dict.fromkeys(part)) for part in zip(*(tag.split("-") for tag in tags))]
    info = next((name.partition("/")[0] for name in files if ".dist-info/" in name), "")
    stem = info.removesuffix(".dist-info")
    record = [f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in files.items()]
    record.append(f"{info}/RECORD,,\n")
    with zipfile.ZipFile(directory / f"{stem}-{'-'.join(parts)}.whl", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr(f"{info}/RECORD", "".join(record))


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
