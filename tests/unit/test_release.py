"""scripts/wheels: what is made of a build, which takes minutes and is made up here."""

from __future__ import annotations

import csv
import hashlib
import json
import platform
import subprocess
import sys
import zipfile
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAME = "pygo_plugin-1.0"
METADATA = """\
Metadata-Version: 2.4
Name: pygo-plugin
Version: 1.0
License-Expression: Apache-2.0
License-File: LICENSE
Requires-Dist: one>=1
Requires-Dist: two; extra == "test"

Licence: not a header.
"""
ARCH = platform.machine()
CORE = {
    "version": "1.51.3",
    "archives": [
        {"file": "grpcio-1.51.3.tar.gz", "sha256": "aa"},
        {"file": "jansson_2.14.orig.tar.gz", "sha256": "bb"},
    ],
    "patches": ["mended.patch"],
    "components": [
        {"name": "grpc", "version": "1.51.3"},
        {"name": "jansson", "version": "2.14"},
        {"name": "upb", "version": ""},
    ],
}


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Any:
    for folder in ("core.d", "wheels.d"):
        monkeypatch.syspath_prepend(str(ROOT / "scripts" / folder))
    names = ("fetch", "targets", "pythons", "openssl", "compile", "contents", "pack")
    import contents
    import pack
    from compile import Built
    from pythons import Python
    from targets import TARGETS

    yield contents, pack, Built, Python, TARGETS
    for name in names:
        sys.modules.pop(name, None)


def make_build(folder: Path, scripts: Any) -> Any:
    _, _, Built, Python, TARGETS = scripts
    library = folder / "lib"
    (library / "pygo_plugin").mkdir(parents=True)
    (library / "pygo_plugin/__init__.py").write_text("")
    source = folder / "core.c"
    source.write_text("int PyInit__core(void) { return 1; }\n")
    command = [
        "cc",
        "-g",
        "-shared",
        "-fPIC",
        "-Wl,--build-id=sha1",
    ]
    output = library / f"pygo_plugin/_core.cpython-311-{ARCH}-linux-gnu.so"
    subprocess.run([*command, "-o", str(output), str(source)], check=True)
    dist_info = folder / f"{NAME}.dist-info"
    (dist_info / "licenses").mkdir(parents=True)
    (dist_info / "licenses/LICENSE").write_text("ours\n")
    (dist_info / "METADATA").write_text(METADATA)
    core, openssl = folder / "core", folder / "openssl"
    (core / "licences").mkdir(parents=True)
    for part in CORE["components"]:
        (core / "licences" / f"{part['name']}.txt").write_text(f"licence of {part['name']}\n")
    (core / "core.json").write_text(json.dumps(CORE))
    openssl.mkdir()
    (openssl / "LICENSE.txt").write_text("licence of openssl\n")
    python = Python("3.11", "311", (Path("/usr/include"),))
    return Built(TARGETS[ARCH], python, library, dist_info, core, openssl)


class Compiler:
    """What a wheel says of zig."""

    version = "1.2.3"

    def __init__(self, folder: Path) -> None:
        self.library = folder
        (folder / "lib/libcxx").mkdir(parents=True)
        (folder / "LICENSE").write_text("licence of zig\n")
        (folder / "lib/libcxx/LICENSE.TXT").write_text("licence of libc++\n")


def make_wheel(folder: Path, scripts: Any) -> Path:
    built = make_build(folder, scripts)
    made: Path = scripts[1].pack(built, Compiler(folder / "zig"), 1_700_000_000, folder / "dist")
    return made


def test_wheel(tmp_path: Path, scripts: Any) -> None:
    wheel = make_wheel(tmp_path, scripts)
    assert wheel.name == f"{NAME}-cp311-cp311-manylinux_2_28_{ARCH}.whl"
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    info = f"{NAME}.dist-info"
    assert list(files)[-1] == f"{info}/RECORD"
    for name, digest, size in csv.reader(files[f"{info}/RECORD"].decode().splitlines()):
        if name != f"{info}/RECORD":
            found = urlsafe_b64encode(hashlib.sha256(files[name]).digest()).rstrip(b"=").decode()
            assert (digest, int(size)) == (f"sha256={found}", len(files[name])), name
    assert len(files[f"{info}/RECORD"].splitlines()) == len(files)

    head, _, body = files[f"{info}/METADATA"].decode().partition("\n\n")
    assert "License-Expression: Apache-2.0 AND Apache-2.0 WITH LLVM-exception AND BSD-3" in head
    assert body == "Licence: not a header.\n"
    for name in ("LICENSE", *(f"third-party/{part}.txt" for part in ("grpc", "openssl", "libc++"))):
        assert f"License-File: {name}\n" in head + "\n"
        assert f"{info}/licenses/{name}" in files

    sbom = json.loads(files[f"{info}/sboms/pygo-plugin.cdx.json"])
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.6")
    parts = {part["name"]: part for part in sbom["components"]}
    assert set(parts) == {"compiler-rt", "grpc", "jansson", "libc++", "openssl", "upb"}
    assert parts["grpc"]["pedigree"]["patches"][0]["diff"]["url"] == "mended.patch"
    assert parts["jansson"]["externalReferences"][1]["hashes"][0]["content"] == "bb"
    assert parts["upb"]["version"] == "as in gRPC 1.51.3"

    binary = next(data for name, data in files.items() if name.endswith(".so"))
    assert b".debug_info" not in binary
    assert str(tmp_path).encode() not in binary
    with zipfile.ZipFile(wheel.with_suffix(".debug.zip")) as archive:
        (symbols,) = archive.namelist()
        assert b"PyInit__core" in archive.read(symbols)
    assert symbols.startswith(".build-id/")
    assert symbols.endswith(".debug")


def test_same_bytes_in_any_folder(tmp_path: Path, scripts: Any) -> None:
    first, second = (make_wheel(tmp_path / name, scripts) for name in ("a", "longer-name"))
    assert first.read_bytes() == second.read_bytes()


def test_requirements(tmp_path: Path, scripts: Any) -> None:
    (tmp_path / "METADATA").write_text(METADATA)
    assert scripts[0].requirements(tmp_path) == ["one>=1"]
