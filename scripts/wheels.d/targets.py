"""The machines that wheels are made for, and zig as their compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# The C library that the wheels need at least: manylinux_2_28's.
GLIBC = (2, 28)


@dataclass(frozen=True)
class Target:
    arch: str  # as wheels and the kernel call it
    debian: str  # as Debian calls it
    openssl: str  # as OpenSSL's Configure calls it

    @property
    def triple(self) -> str:
        return f"{self.arch}-linux-gnu"

    @property
    def zig(self) -> str:
        return f"{self.triple}.{GLIBC[0]}.{GLIBC[1]}"

    @property
    def platform(self) -> str:
        """The platform tag of wheels."""
        return f"manylinux_{GLIBC[0]}_{GLIBC[1]}_{self.arch}"

    def binutil(self, name: str) -> str:
        """binutils' program of that name which knows the target's object files."""
        prefixed = f"{self.triple}-{name}"
        return prefixed if shutil.which(prefixed) else name


TARGETS = {
    target.arch: target
    for target in [
        Target("x86_64", "amd64", "linux-x86_64-clang"),
        Target("aarch64", "arm64", "linux-aarch64"),
    ]
}

# A command that compiles for the target. The version is in it because ccache, which cannot ask zig,
# tells compilers apart by the contents of their commands. zig does not know -dumpmachine.
WRAPPER = """\
#!/bin/sh
# zig {version}
[ "$*" != -dumpmachine ] || exec echo {machine}
exec {zig} {command} "$@"
"""


def zig_program() -> str:
    import ziglang

    return str(Path(ziglang.__file__).parent / "zig")


class Toolchain:
    """zig's compiler and binutils for one target, as commands in a folder."""

    def __init__(self, target: Target, folder: Path, ccache: bool) -> None:
        self.target = target
        self.folder = folder
        self.ccache = ccache and shutil.which("ccache") is not None
        zig = zig_program()
        self.library = Path(zig).parent
        self.version = subprocess.check_output([zig, "version"], text=True).strip()
        folder.mkdir(parents=True, exist_ok=True)
        # zig has clang check for undefined behaviour unless it is told not to.
        common = f"-target {target.zig} -fno-sanitize=undefined"
        for name, command in {
            "zig-cc": f"cc {common}",
            # An older gRPC has `x.template f(...)` without <>, which clang no longer takes.
            "zig-c++": f"c++ {common} -Wno-missing-template-arg-list-after-template-kw",
            "zig-ar": "ar",
            "zig-ranlib": "ranlib",
        }.items():
            wrapper = folder / name
            wrapper.write_text(
                WRAPPER.format(version=self.version, machine=target.zig, zig=zig, command=command)
            )
            wrapper.chmod(0o755)

    def command(self, name: str) -> str:
        return f"ccache {name}" if self.ccache else name

    def environment(self, epoch: str) -> dict[str, str]:
        """What every build inherits. No flags of the caller's and no paths of ours get in."""
        kept = ("HOME", "USER", "LANG", "CCACHE_DIR", "XDG_CACHE_HOME", "TMPDIR", "PYGO_CORE_DIR")
        kept += ("PYGO_CORE_SOURCES", "CARGO_HOME", "RUSTUP_HOME", "http_proxy", "https_proxy")
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        environment.update(
            {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        )
        return {
            **environment,
            # ccache's own compilers must not come first.
            "PATH": os.pathsep.join([str(self.folder), os.environ["PATH"]]),
            "CCACHE_COMPILERTYPE": "clang",
            "CCACHE_COMPILERCHECK": "content",
            **({} if self.ccache else {"CCACHE_DISABLE": "1"}),
            "SOURCE_DATE_EPOCH": epoch,
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
            "LC_ALL": "C.UTF-8",
            "PYGO_CORE_CC": "zig-cc",
            "PYGO_CORE_CXX": "zig-c++",
            "PYGO_CORE_AR": "zig-ar",
        }


def say(text: str) -> None:
    print(f"wheels: {text}", file=sys.stderr, flush=True)


class WheelError(Exception):
    """Says why there is no wheel."""


def run(
    command: list[str], cwd: Path, environment: dict[str, str], log: Path | None = None
) -> None:
    """Run a command quietly; if it fails, show the end of what it printed."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if log is not None:
        log.write_text(done.stdout)
    if done.returncode != 0:
        shown = " ".join(command[:6]) + (" ..." if len(command) > 6 else "")
        last = "\n".join(done.stdout.splitlines()[-40:])
        raise WheelError(f"{shown} failed with status {done.returncode}\n{last}")
