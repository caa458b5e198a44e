"""Compiles the package, out of an sdist, for one target and one CPython after the other."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import openssl
from pythons import Python, write_sysconfig
from targets import ROOT, Target, Toolchain, WheelError, run, say

import fetch


@dataclass(frozen=True)
class Built:
    """What setup.py has made for one CPython, and what that is linked with."""

    target: Target
    python: Python
    library: Path  # what goes into the wheel: pygo_plugin/
    dist_info: Path
    core: Path  # the static core's folder: core.json, licences/
    openssl: Path


def make_sdist(into: Path, environment: dict[str, str]) -> Path:
    """The sources as users get them."""
    into.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(into)]
    run([*command, "."], ROOT, environment)
    (sdist,) = into.glob("*.tar.gz")
    return sdist


def unpack_sdist(sdist: Path, into: Path) -> Path:
    """The sources anew, with whatever has been built of them in |into| kept beside them."""
    fetch.unpack(sdist, into)
    return into / sdist.name.removesuffix(".tar.gz")


class Builder:
    """Builds for one target in one folder."""

    def __init__(
        self,
        target: Target,
        pythons: list[Python],
        work: Path,
        sdist: Path,
        epoch: str,
        afresh: bool,
    ) -> None:
        self.target = target
        self.pythons = pythons
        self.work = work / target.arch
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        self.toolchain = Toolchain(target, self.work / "bin", ccache=not afresh)
        self.epoch = epoch
        self.environment = self.toolchain.environment(epoch)
        if afresh:
            self.environment["PYGO_CORE_DIR"] = str(self.work / "cores")
            for cache in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"):
                self.environment[cache] = str(self.work / "zig")
        self.source = unpack_sdist(sdist, self.work)
        self.environment["PYGO_CORE"] = "static"
        # OpenSSL is kept where cores are.
        cache = self.run_core("--chosen").parent
        self.openssl = openssl.build(self.toolchain, self.environment, cache)
        self.environment["PKG_CONFIG_PATH"] = str(self.openssl / "lib/pkgconfig")
        say(f"gRPC's core for {self.target.arch}")
        self.core = self.run_core()

    def run_core(self, *options: str) -> Path:
        """The folder that scripts/core names."""
        done = subprocess.run(
            [sys.executable, "scripts/core", *options],
            cwd=self.source,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise WheelError(f"scripts/core failed for {self.target.arch}; see above")
        return Path(done.stdout.strip())

    def flags(self) -> list[str]:
        """
        No folder of this machine gets into objects. The flags are the same for all CPythons, so
        that the C library, which depends on none, is compiled once.
        """
        places = {
            self.source: "pygo-plugin",
            self.core: "core",
            self.openssl: "openssl",
            self.toolchain.library: "zig",
        }
        for python in self.pythons:
            places.update(dict.fromkeys(python.includes, f"python{python.version}"))
        return [f"-ffile-prefix-map={place}={name}" for place, name in places.items()]

    def build(self, python: Python) -> Built:
        build = self.work / "out" / python.abi
        cc = self.toolchain.command("zig-cc")
        environment = {
            **self.environment,
            **write_sysconfig(python, self.target, cc, self.work / "sysconfig"),
            "CC": cc,
            "CXX": "zig-c++",
            "AR": "zig-ar",
            "NM": self.target.binutil("nm"),
            # setuptools takes them in place of those of sysconfig.
            "CFLAGS": " ".join(["-O2", "-g", "-DNDEBUG", *self.flags()]),
            "LDFLAGS": "-Wl,--build-id=sha1",
        }
        library, info = build / "lib", build / "info"
        for folder in (library, info):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        log = build / "build.log"
        setup = [sys.executable, "setup.py", "-q"]
        run([*setup, "build", "--build-lib", str(library)], self.source, environment, log)
        run([*setup, "dist_info", "--output-dir", str(info)], self.source, environment)
        (dist_info,) = info.glob("*.dist-info")
        return Built(self.target, python, library, dist_info, self.core, self.openssl)
