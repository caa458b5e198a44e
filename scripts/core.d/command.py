"""The command line of scripts/core."""

from __future__ import annotations

import argparse
import fcntl
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import releases
from releases import Release, Tools


def tools() -> Tools:
    def words(variable: str, default: str) -> tuple[str, ...]:
        return tuple(shlex.split(os.environ.get(variable) or default))

    return Tools(
        words("PYGO_CORE_CC", "cc"), words("PYGO_CORE_CXX", "c++"), words("PYGO_CORE_AR", "ar")
    )


def missing(used: Tools) -> list[str]:
    """What a build needs and is not here, as Debian calls the packages."""
    pkg_config = shlex.split(os.environ.get("PKG_CONFIG", "pkg-config"))
    commands = {
        "gcc": used.cc[0],
        "g++": used.cxx[0],
        "binutils": used.ar[0],
        "patch": "patch",
        "pkg-config": pkg_config[0],
    }
    absent = [package for package, command in commands.items() if not shutil.which(command)]
    if "pkg-config" not in absent:
        exists = [*pkg_config, "--exists", "openssl >= 3.0"]
        if subprocess.run(exists, check=False).returncode != 0:
            absent.append("libssl-dev")
    return absent


def all_cores() -> Path:
    """The folder that has all cores."""
    if chosen := os.environ.get("PYGO_CORE_DIR"):
        return Path(chosen).absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache, "pygo-plugin", "core").absolute()


@contextmanager
def locked(file: Path) -> Iterator[None]:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("core: waiting for another build", file=sys.stderr, flush=True)
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def build(release: Release, used: Tools, core: Path, keep: Path | None) -> None:
    """Build in a folder beside |core| or in |keep|, and give the outcome its name in the end."""
    from build import BuildError, build, say
    from fetch import FetchError

    sources = os.environ.get("PYGO_CORE_SOURCES")
    since = time.monotonic()
    if keep:
        keep.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=core.parent) as scratch:
        made = Path(scratch, "made")
        try:
            build(release, used, Path(sources) if sources else None, keep or Path(scratch), made)
        except FetchError as e:
            needed = "".join(f"\n  {a.sha256}  {a.file}" for a in releases.archives(release))
            sys.exit(
                f"core: {e}\nPYGO_CORE_SOURCES may name a folder that has the archives:{needed}"
            )
        except BuildError as e:
            sys.exit(f"core: {e}")
        if core.exists():
            core.rename(Path(scratch, "before"))
        made.rename(core)
    say(f"gRPC {release.version} was built in {time.monotonic() - since:.0f} s: {core}")


def choose(choice: str, core: Path) -> Path | str:
    if choice:
        return core if choice == "static" else choice
    if core.is_dir():
        return core
    if any(core.parent.glob("*/core.json")):
        print(
            f"core: using the system's gRPC: {core} has not been built; run scripts/core",
            file=sys.stderr,
        )
    return "system"


def print_list() -> None:
    for release in releases.RELEASES.values():
        print(release.version, "(default)" if release.version == releases.DEFAULT else "")
        for archive in releases.archives(release):
            print(f"  {archive.sha256}  {archive.file}")


def main(description: str) -> None:
    version = os.environ.get("PYGO_CORE_VERSION") or releases.DEFAULT
    parser = argparse.ArgumentParser(
        usage="scripts/core [OPTIONS]",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", default=version, help=argparse.SUPPRESS)
    for option in ("--chosen", "--list", "--rebuild"):
        parser.add_argument(option, action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--keep", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()

    choice = os.environ.get("PYGO_CORE", "")
    if choice not in ("", "static", "system"):
        sys.exit(f"core: PYGO_CORE is {choice!r}: neither static nor system")
    if options.version not in releases.RELEASES:
        sys.exit(f"core: there is no {options.version!r}, only {', '.join(releases.RELEASES)}")
    release = releases.RELEASES[options.version]
    used = tools()
    core = all_cores() / releases.name(release, used)
    if options.list:
        print_list()
    elif options.chosen:
        print(choose(choice, core))
    else:
        if absent := missing(used):
            sys.exit(f"core: needs {' '.join(absent)} (as Debian calls the packages)")
        again = options.rebuild or options.keep
        if again or not core.is_dir():
            with locked(core.with_name(f"{core.name}.lock")):
                if again or not core.is_dir():  # another process may have built it meanwhile
                    build(release, used, core, options.keep)
        print(core)
