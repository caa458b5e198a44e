"""Systems of Debian, unpacked but not installed, to run wheels in and to take headers from."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import empty_root
from targets import Target, WheelError, say

from fetch import FetchError, source_packages


@dataclass(frozen=True)
class System:
    suite: str
    python: str
    headers: bool = False

    def packages(self) -> list[str]:
        packages = [f"python{self.python}"]
        # pip needs it until 3.11.
        if self.python in ("3.9", "3.11"):
            packages.append("python3-distutils")
        if self.headers:
            packages.append(f"libpython{self.python}-dev")
        return packages


# The oldest C library first: bullseye's is 2.31. Debian's archive has none that is older.
SYSTEMS = [
    System("bullseye", "3.9"),
    System("bookworm", "3.11"),
    System("trixie", "3.13"),
    System("forky", "3.14", headers=True),
    System("sid", "3.15", headers=True),
]


def mirror() -> str:
    """The address of this machine's archive of Debian."""
    try:
        lines = source_packages([])
    except FetchError:
        lines = []
    for line in lines:
        _, address, *_ = line.split()
        if "/debian" in address:
            return address
    raise WheelError("apt has no archive of Debian configured")


def root(system: System, target: Target, cache: Path) -> Path:
    """The folder of an unpacked system without the libraries that are linked into wheels."""
    final = cache / f"{system.suite}-{target.debian}"
    if final.is_dir():
        return final
    say(f"unpacking Debian {system.suite} for {target.debian}")
    cache.mkdir(parents=True, exist_ok=True)
    new = cache / f".new-{final.name}"
    shutil.rmtree(new, ignore_errors=True)
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=extract"]
    command += [f"--architectures={target.debian}", f"--include={','.join(system.packages())}"]
    # Mirrors may lag behind.
    command += ["--aptopt=Acquire::Check-Valid-Until false", "--aptopt=Acquire::Retries 3"]
    done = subprocess.run(
        [*command, system.suite, str(new), f"deb {mirror()} {system.suite} main"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise WheelError(f"Debian {system.suite} cannot be unpacked:\n{done.stderr[-2000:]}")
    for file in empty_root.forbidden(new):
        file.unlink()
    # Links of a package that nothing here depends on.
    for name in ("bin", "lib", "lib64"):
        if (new / "usr" / name).is_dir() and not (new / name).exists():
            (new / name).symlink_to(f"usr/{name}")
    for folder in ("proc", "dev", "tmp"):
        (new / folder).mkdir(exist_ok=True)
    new.rename(final)
    return final
