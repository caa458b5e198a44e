"""What a wheel says about its contents: licences, and a software bill of materials (CycloneDX)."""

from __future__ import annotations

import datetime
import json
import re
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openssl
from compile import Built
from targets import Toolchain


@dataclass(frozen=True)
class Component:
    """A library inside, by the name that scripts/core gives it."""

    licence: str  # SPDX expression
    url: str


COMPONENTS = {
    "abseil-cpp": Component("Apache-2.0", "https://abseil.io"),
    "address_sorting": Component("BSD-3-Clause", "https://grpc.io"),
    "c-ares": Component("MIT", "https://c-ares.org"),
    "compiler-rt": Component("MIT", "https://ziglang.org"),
    "grpc": Component("Apache-2.0", "https://grpc.io"),
    "jansson": Component("MIT", "https://github.com/akheron/jansson"),
    "libc++": Component("Apache-2.0 WITH LLVM-exception", "https://libcxx.llvm.org"),
    "openssl": Component("Apache-2.0", "https://openssl.org"),
    "protobuf-c": Component("BSD-2-Clause", "https://github.com/protobuf-c/protobuf-c"),
    "re2": Component("BSD-3-Clause", "https://github.com/google/re2"),
    "upb": Component("BSD-3-Clause", "https://github.com/protocolbuffers/protobuf"),
    "utf8_range": Component("MIT", "https://github.com/protocolbuffers/utf8_range"),
    "xxhash": Component("BSD-2-Clause", "https://xxhash.com"),
    "zlib": Component("Zlib", "https://zlib.net"),
}


@dataclass(frozen=True)
class Part:
    name: str
    version: str
    licence_file: Path
    hashes: tuple[tuple[str, str], ...] = ()  # of the archives: (file, SHA-256)


def parts(built: Built, toolchain: Toolchain) -> list[Part]:
    """All that is linked into the wheel, from what the builds of the core and OpenSSL say."""
    description = json.loads((built.core / "core.json").read_text())
    digests = {
        re.match(r"([a-z-]+)[-_]\d", archive["file"])[1]: (archive["file"], archive["sha256"])  # type: ignore[index]
        for archive in description["archives"]
    }
    found = [
        Part(
            component["name"],
            component["version"] or f"as in gRPC {description['version']}",
            built.core / "licences" / f"{component['name']}.txt",
            tuple(
                digests[archive]
                for archive in ({"grpc": "grpcio"}.get(component["name"], component["name"]),)
                if archive in digests
            ),
        )
        for component in description["components"]
    ]
    crate = (f"{openssl.CRATE}-{openssl.CRATE_VERSION}.crate", openssl.SHA256)
    found.append(
        Part("openssl", openssl.VERSION, built.openssl / "LICENSE.txt", (crate,)),
    )
    zig = f"as in zig {toolchain.version}"
    found.append(Part("libc++", zig, toolchain.library / "lib/libcxx/LICENSE.TXT"))
    found.append(Part("compiler-rt", zig, toolchain.library / "LICENSE"))
    return sorted(found, key=lambda part: part.name)


def field(dist_info: Path, name: str) -> str:
    """A field of the metadata that is there once."""
    text = (dist_info / "METADATA").read_text()
    return re.search(rf"^{name}: (.*)$", text, re.M)[1]  # type: ignore[index]


def sbom(built: Built, found: list[Part], epoch: int) -> dict[str, Any]:
    """https://cyclonedx.org/docs/1.6/json: the wheel, what is inside, and where that is from."""
    name, version = (field(built.dist_info, each) for each in ("Name", "Version"))
    reference = f"pkg:pypi/{name}@{version}"
    description = json.loads((built.core / "core.json").read_text())
    known = [f"{part.name}={part.version}" for part in found]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        # A function of the contents, as everything else in a reproducible wheel.
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, ' '.join([reference, *known]))}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc).strftime(
                "%Y-%m-%dT%H:%M:%SZ"
            ),
            "component": {
                "type": "library",
                "bom-ref": reference,
                "name": name,
                "version": version,
                "purl": reference,
                "licenses": [{"expression": field(built.dist_info, "License-Expression")}],
            },
        },
        "components": [
            component(part, description["patches"] if part.name == "grpc" else []) for part in found
        ],
        "dependencies": [{"ref": reference, "dependsOn": [part.name for part in found]}],
    }


def component(part: Part, patches: list[str]) -> dict[str, Any]:
    known = COMPONENTS[part.name]
    result: dict[str, Any] = {
        "type": "library",
        "bom-ref": part.name,
        "name": part.name,
        "version": part.version,
        "licenses": [{"expression": known.licence}],
        "purl": f"pkg:generic/{part.name}@{part.version.replace(' ', '%20')}",
        "externalReferences": [
            {"type": "website", "url": known.url},
            *(
                {
                    "type": "source-distribution",
                    "url": file,
                    "hashes": [{"alg": "SHA-256", "content": digest}],
                }
                for file, digest in part.hashes
            ),
        ],
    }
    if patches:
        result["pedigree"] = {
            "patches": [{"type": "backport", "diff": {"url": patch}} for patch in patches],
        }
    return result


def describe(built: Built, toolchain: Toolchain, dist_info: Path, epoch: int) -> None:
    """
    Write licences/, sboms/ and METADATA of a wheel. The metadata of the sources know the package's
    own licence only; what is linked in adds to it.
    """
    found = parts(built, toolchain)
    third_party = dist_info / "licenses" / "third-party"
    third_party.mkdir(parents=True)
    for part in found:
        shutil.copy(part.licence_file, third_party / f"{part.name}.txt")
    own = field(dist_info, "License-Expression")
    others = {COMPONENTS[part.name].licence for part in found} - {own}
    file = dist_info / "METADATA"
    head, blank, body = file.read_text().partition("\n\n")
    head = head.replace(
        f"License-Expression: {own}", f"License-Expression: {' AND '.join([own, *sorted(others)])}"
    )
    head += "".join(f"\nLicense-File: third-party/{part.name}.txt" for part in found)
    file.write_text(head + blank + body)
    (dist_info / "sboms").mkdir()
    text = json.dumps(sbom(built, found, epoch), indent=1, sort_keys=True)
    (dist_info / "sboms" / f"{field(dist_info, 'Name')}.cdx.json").write_text(text + "\n")


def requirements(dist_info: Path) -> list[str]:
    """What the package depends on without extras."""
    text = (dist_info / "METADATA").read_text().partition("\n\n")[0]
    return [r for r in re.findall(r"^Requires-Dist: (.*)$", text, re.M) if "extra ==" not in r]
