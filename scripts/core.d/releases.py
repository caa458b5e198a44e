"""The releases that scripts/core can build: what is fetched, and what differs between them."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Archive:
    """A source archive. Its digest decides; the places that it is fetched from do not matter."""

    package: str
    version: str
    file: str
    folder: str  # what it unpacks to
    sha256: str
    place: str  # "pypi" or "debian"


@dataclass(frozen=True)
class Release:
    """A release of gRPC's core."""

    archive: Archive
    core: str  # the core's own version, which pkg-config has
    standard: str  # of C++
    defines: tuple[str, ...] = ()
    additions: tuple[str, ...] = ()  # sources of ours that are compiled with it
    unlisted: tuple[str, ...] = ()  # sources of it that these need, and its list does not have

    @property
    def version(self) -> str:
        return self.archive.version


def grpcio(version: str, sha256: str) -> Archive:
    """The source release on PyPI: gRPC's core, and all the libraries that it is made of."""
    name = f"grpcio-{version}"
    return Archive("grpcio", version, f"{name}.tar.gz", name, sha256, "pypi")


def debian(package: str, version: str, sha256: str) -> Archive:
    """Upstream's archive, as a source package of Debian has it."""
    name = f"{package}-{version}"
    return Archive(package, version, f"{package}_{version}.orig.tar.gz", name, sha256, "debian")


RELEASES = {
    release.version: release
    for release in [
        Release(
            grpcio("1.51.3", "be7b2265b7527bb12109a7727581e274170766d5b3c9258d4e466f4872522d7a"),
            core="29.0.0",
            standard="c++14",
        ),
        Release(
            grpcio("1.62.3", "4439bbd759636e37b66841117a66444b454937e27f0125205d2d117d7827c643"),
            core="39.0.0",
            standard="c++14",
            # The event engine's own poller would be a thread that has nothing to poll.
            defines=("GRPC_DO_NOT_INSTANTIATE_POSIX_POLLER=1",),
        ),
        Release(
            grpcio("1.85.3", "8e18f15d1b09b8771edbf59d634b26cbe4903bc2577cb667264934a6655eb8b4"),
            core="58.0.0",
            standard="c++17",
            additions=("log_function.cc",),
            unlisted=("third_party/abseil-cpp/absl/log/initialize.cc",),
        ),
    ]
}
DEFAULT = "1.51.3"

# The release of Debian whose source packages these are.
DEBIAN_SUITE = "bookworm"
JANSSON = debian(
    "jansson", "2.14", "c739578bf6b764aa0752db9a2fdadcfe921c78f1228c7ec0bb47fa804c55d17b"
)
PROTOBUF_C = debian(
    "protobuf-c", "1.4.1", "4cc4facd508172f3e0a4d3a8736225d472418aee35b4ad053384b137b220339f"
)


def archives(release: Release) -> list[Archive]:
    return [release.archive, JANSSON, PROTOBUF_C]


def additions(release: Release) -> list[Path]:
    """Sources of ours that are compiled with a release."""
    return [HERE / name for name in release.additions]


def patches(release: Release) -> list[Path]:
    """The patch files of a release, in the order in which they are applied (patch -p1)."""
    return sorted((HERE / "patches" / release.version).glob("*.patch"))


@dataclass(frozen=True)
class Tools:
    """The commands that build, as words."""

    cc: tuple[str, ...]
    cxx: tuple[str, ...]
    ar: tuple[str, ...]

    def identity(self) -> str:
        """What they are and what they compile for."""
        return "".join(
            output([*command, option])
            for command in (self.cc, self.cxx)
            for option in ("-dumpmachine", "--version")
        )

    def for_glibc(self) -> bool:
        return "musl" not in output([*self.cc, "-dumpmachine"])


def output(command: list[str]) -> str:
    """Empty if there is no such command."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""


def name(release: Release, tools: Tools) -> str:
    """The folder of a build: it changes with whatever the outcome depends on."""
    digest = hashlib.sha256(tools.identity().encode())
    digest.update(repr((release, JANSSON, PROTOBUF_C)).encode())
    for file in [
        HERE / "grpc_sources.py",
        HERE / "build.py",
        *additions(release),
        *patches(release),
    ]:
        digest.update(b"%s\n" % file.name.encode())
        digest.update(file.read_bytes())
    return f"{release.version}-{digest.hexdigest()[:12]}"
