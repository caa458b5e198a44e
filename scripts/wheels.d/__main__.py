"""The command behind scripts/wheels."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

# The folder of scripts/core, which fetches and unpacks for both commands.
sys.path.append(str(Path(__file__).parents[1] / "core.d"))

import check
import contents
import empty_root
import pack
import pythons
import systems
from compile import Builder, Built, make_sdist
from pythons import Python
from targets import ROOT, TARGETS, Target, WheelError, say

WORK = ROOT / "build" / "wheels"


def commit_time() -> str:
    """SOURCE_DATE_EPOCH: when the commit was made."""
    if epoch := os.environ.get("SOURCE_DATE_EPOCH"):
        return epoch
    command = ["git", "log", "-1", "--format=%ct"]
    return subprocess.check_output(command, cwd=ROOT, text=True).strip()


def all_pythons(programs: list[str], wanted: list[str]) -> list[Python]:
    """CPythons by version: those of this machine, and newer ones as Debian has them."""
    found = pythons.on_this_machine(programs)
    for system in systems.SYSTEMS:
        abi = system.python.replace(".", "")
        if system.headers and abi not in found and (not wanted or system.python in wanted):
            root = systems.root(system, TARGETS["x86_64"], WORK / "systems")
            found[abi] = pythons.from_debian(system.python, root, WORK)
    chosen = [p for p in found.values() if not wanted or p.version in wanted]
    if missing := set(wanted) - {p.version for p in chosen}:
        raise WheelError(f"there are no headers of CPython {', '.join(sorted(missing))}")
    return sorted(chosen, key=lambda python: (python.order, python.abi))


def dependencies(target: Target, version: str, requirements: list[str]) -> list[Path]:
    """pip, and what the package depends on, as wheels."""
    folder = WORK / "dependencies" / f"{version}-{target.arch}"
    if not list(folder.glob("pip-*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:"]
        command += ["--python-version", version, "--dest", str(folder)]
        for tag in ("manylinux_2_28", "manylinux_2_17", "manylinux2014"):
            command += ["--platform", f"{tag}_{target.arch}"]
        subprocess.run([*command, "pip", *requirements], check=True)
    return sorted(folder.glob("*.whl"))


def run_wheel(wheel: Path, built: Built) -> list[str]:
    """Use a wheel wherever it can be used, and say where that was."""
    target, python = built.target, built.python
    places: list[tuple[str, str, Path | None]] = []
    if python.program and target.arch == platform.machine():
        where = f"this machine's interpreter, glibc {platform.libc_ver()[1]}"
        places.append((where, str(python.program), None))
    for system in systems.SYSTEMS:
        if system.python == python.version and not python.abi.endswith("t"):
            root = systems.root(system, target, WORK / "systems")
            emulated = "" if target.arch == platform.machine() else ", qemu-user"
            where = f"Debian {system.suite}{emulated}"
            places.append((where, f"/usr/bin/python{system.python}", root))
    wheels = [wheel, *dependencies(target, python.version, contents.requirements(built.dist_info))]
    for where, program, root in places:
        took = empty_root.run(program, wheels, root, timeout=600)
        say(f"{wheel.name}: passed in {took:.1f} s ({where})")
    return [where for where, _, _ in places]


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


class Release:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.out: Path = options.out
        self.epoch = commit_time()
        self.report: dict[str, dict[str, object]] = {}
        self.targets = [TARGETS[arch] for arch in options.arch]
        self.pythons = all_pythons(options.pythons, options.python)
        self.out.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "SOURCE_DATE_EPOCH": self.epoch}
        self.sdist = make_sdist(self.out, environment)

    def make(self) -> None:
        for target in self.targets:
            builder = self.builder(target, WORK, afresh=False)
            again = None
            if self.options.twice:
                again = self.builder(target, WORK / "again", afresh=True)
            for python in self.pythons:
                self.make_one(builder, again, python)

    def builder(self, target: Target, work: Path, afresh: bool) -> Builder:
        return Builder(target, self.pythons, work, self.sdist, self.epoch, afresh)

    def make_one(self, builder: Builder, again: Builder | None, python: Python) -> None:
        epoch = int(self.epoch)
        target = builder.target
        built = builder.build(python)
        wheel = pack.pack(built, builder.toolchain, epoch, self.out)
        places = [ROOT, WORK, Path.home(), builder.core, builder.openssl]
        tag = check.check(wheel, target, python, places)
        entry: dict[str, object] = {"sha256": digest(wheel), "auditwheel": tag}
        self.report[wheel.name] = entry
        say(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, {tag}")
        if again is not None:
            twin = pack.pack(again.build(python), again.toolchain, epoch, WORK / "again" / "dist")
            if digest(twin) != digest(wheel):
                raise WheelError(f"{wheel} and {twin} differ")
            entry["reproduced"] = True
        if self.options.run:
            entry["run"] = run_wheel(wheel, built) or "built, not run"

    def write_report(self) -> None:
        text = json.dumps(self.report, indent=2)
        (self.out / "wheels.json").write_text(text + "\n")
        for name, entry in self.report.items():
            print(name, json.dumps(entry))


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/wheels")
    parser.add_argument("--pythons", nargs="+", required=True, help=argparse.SUPPRESS)
    known, rest = parser.parse_known_args()
    parser = argparse.ArgumentParser(prog="scripts/wheels")
    parser.add_argument("--arch", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--python", nargs="+", default=[], metavar="VERSION")
    parser.add_argument("--twice", action="store_true")
    parser.add_argument("--no-run", dest="run", action="store_false")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    options = parser.parse_args(rest[rest[:1] == ["--"] :], known)
    try:
        release = Release(options)
        release.make()
    except WheelError as e:
        sys.exit(f"wheels: {e}")
    release.write_report()


if __name__ == "__main__":
    main()
