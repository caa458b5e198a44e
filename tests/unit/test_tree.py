"""What no file may hold: traces of one machine, or of one place to download from."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Spelled in pieces, or this file would be the first to offend.
HOSTS = [
    ".".join(parts)
    for parts in [
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("proxy", "golang", "org"),
        ("sum", "golang", "org"),
        ("crates", "io"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("maven", "org"),
        ("apache", "org/maven2"),
        ("deb", "debian", "org"),
        ("security", "debian", "org"),
        ("archive", "ubuntu", "com"),
        ("ghcr", "io"),
        ("docker", "io"),
    ]
]
FORBIDDEN = {
    "a registry host": re.compile("|".join(map(re.escape, HOSTS))),
    # A user's own directory at the start of an absolute path.
    "a home directory": re.compile(r"(?<![\w.~$}/*-])/(?:root|(?:home|Users)/\w[\w.-]*)(?=/|\b)"),
}

BUILT = re.compile(r"^(build|dist|__pycache__|\..*(venv|cache|git|hypothesis))$|\.egg-info$")


def candidates() -> list[Path]:
    """Files that git tracks or would add. Without git, as in an unpacked sdist, those not built."""
    if shutil.which("git"):
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        git = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
        if git.returncode == 0:
            return [ROOT / name for name in git.stdout.decode().split("\0") if name]
    paths = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [f for f in folders if not BUILT.search(f)]
        paths += [Path(folder, name) for name in files]
    return paths


def text_files() -> list[Path]:
    return [p for p in candidates() if p.is_file() and b"\0" not in p.read_bytes()[:8192]]


def test_no_trace_of_one_machine() -> None:
    found = []
    for path in text_files():
        text = path.read_text(encoding="utf-8", errors="replace")
        for number, line in enumerate(text.splitlines(), 1):
            found += [
                f"{path.relative_to(ROOT)}:{number}: {what}: {match[0]}"
                for what, pattern in FORBIDDEN.items()
                if (match := pattern.search(line))
            ]
    assert not found, "\n".join(found)


def test_patterns_find_what_they_are_for() -> None:
    home, host = FORBIDDEN["a home directory"], FORBIDDEN["a registry host"]
    slash = "/"
    assert home.search(f"cd {slash}root/x")
    assert home.search(f'"{slash}home/someone/project"')
    assert not home.search("the tree's root/branch, and ${HOME}/root")
    assert host.search("https:" + slash * 2 + HOSTS[0] + "/simple")
    assert not host.search("google.golang.org/grpc")
