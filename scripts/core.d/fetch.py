"""Brings the source archives here, from a folder, from PyPI by pip or from Debian by apt."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from releases import DEBIAN_SUITE, Archive

# pip wants to know an archive's metadata even if it only downloads, and asks the archive's own
# build for them, which for a release of some age fails with today's setuptools. It asks this one
# instead.
STAND_IN_FOR_SETUPTOOLS = """
import os

def get_requires_for_build_wheel(config_settings=None):
    return []

def prepare_metadata_for_build_wheel(directory, config_settings=None):
    folder = "{package}-{version}.dist-info"
    os.mkdir(os.path.join(directory, folder))
    with open(os.path.join(directory, folder, "METADATA"), "w") as file:
        file.write("Metadata-Version: 2.1\\nName: {package}\\nVersion: {version}\\n")
    return folder

class __legacy__:
    get_requires_for_build_wheel = staticmethod(get_requires_for_build_wheel)
    prepare_metadata_for_build_wheel = staticmethod(prepare_metadata_for_build_wheel)
"""


class FetchError(Exception):
    pass


def run(command: list[str], **options: Any) -> str:
    """What the command prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        output = (done.stderr.strip() or done.stdout.strip()).splitlines()[-8:]
        raise FetchError("\n".join([f"{' '.join(command[:4])} ... failed:", *output]))
    return done.stdout


def from_folder(archive: Archive, source: Path, into: Path) -> None:
    file = source / archive.file
    if not file.is_file():
        raise FetchError(f"{source} has no {archive.file}")
    shutil.copy(file, into)


def from_pypi(archive: Archive, into: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        backend = Path(scratch, "setuptools")
        backend.mkdir()
        (backend / "__init__.py").touch()
        text = STAND_IN_FOR_SETUPTOOLS.format(package=archive.package, version=archive.version)
        (backend / "build_meta.py").write_text(text)
        wanted = Path(scratch, "requirements.txt")
        wanted.write_text(f"{archive.package}=={archive.version} --hash=sha256:{archive.sha256}\n")
        environment = {**os.environ, "PYTHONPATH": scratch, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        environment.pop("PIP_ONLY_BINARY", None)
        run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
                *("--no-build-isolation", "--use-pep517", "--no-binary", archive.package),
                *("--require-hashes", "--requirement", str(wanted), "--dest", str(into)),
            ],
            env=environment,
        )


def source_packages(options: list[str]) -> list[str]:
    """Lines for apt with the source packages of this machine's archives, Debian's or Ubuntu's."""
    form = "$(REPO_URI) $(RELEASE)"
    command = ["apt-get", *options, "indextargets", "--format", form, "Created-By: Packages"]
    lines = set()
    for target in run(command).splitlines():
        address, _, suite = target.partition(" ")
        if re.search(r"/debian/?$", address):
            lines.add(f"deb-src {address} {DEBIAN_SUITE} main\n")
        elif re.search(r"/ubuntu(-ports)?/?$", address):
            lines.add(f"deb-src {address} {suite} main universe\n")
    return sorted(lines)


def from_debian(archive: Archive, into: Path) -> None:
    if shutil.which("apt-get") is None:
        raise FetchError(f"{archive.file} comes from Debian, and there is no apt here")
    with tempfile.TemporaryDirectory() as scratch:
        # Configured apart: with source packages, and without a change to the machine's lists.
        for folder in ("lists/partial", "cache/archives/partial"):
            Path(scratch, folder).mkdir(parents=True)
        options = [
            *("-o", f"Dir::State::Lists={scratch}/lists", "-o", f"Dir::Cache={scratch}/cache"),
            *("-o", "APT::Sandbox::User=", "-o", "Acquire::Retries=3", "-qq"),
        ]
        lines = source_packages([])
        if not lines:  # a machine that has never updated its lists
            run(["apt-get", *options, "update"])
            lines = source_packages(options)
        if not lines:
            raise FetchError("apt has no archive of Debian or Ubuntu configured")
        sources = Path(scratch, "sources.list")
        sources.write_text("".join(lines))
        options += [
            "-o",
            f"Dir::Etc::SourceList={sources}",
            "-o",
            "Dir::Etc::SourceParts=/dev/null",
        ]
        run(["apt-get", *options, "update"])
        command = ["apt-get", *options, "--download-only", "--tar-only", "source", archive.package]
        run(command, cwd=into)


def digest(file: Path) -> str:
    with file.open("rb") as stream:
        sha256 = hashlib.sha256()
        while block := stream.read(1 << 20):
            sha256.update(block)
    return sha256.hexdigest()


def fetch(archive: Archive, into: Path, source: Path | None) -> Path:
    """Put an archive into a folder, from the folder |source| or else from where it is published."""
    if source is not None:
        from_folder(archive, source, into)
    elif archive.place == "pypi":
        from_pypi(archive, into)
    else:
        from_debian(archive, into)
    file = into / archive.file
    if not file.is_file():
        raise FetchError(f"{archive.file} is not what {archive.place} has now")
    if (found := digest(file)) != archive.sha256:
        raise FetchError(f"{archive.file} has SHA-256 {found} instead of {archive.sha256}")
    return file


def unpack(file: Path, into: Path) -> None:
    """Unpack an archive into a folder, with the checks of Pythons that have them."""
    with tarfile.open(file) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(into, filter="data")
        else:
            archive.extractall(into)
