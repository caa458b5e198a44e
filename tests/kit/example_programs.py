"""Runs the programs under examples/, as a user who tries them would."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"

# The bound on every program: a hang is a failure, whatever the machine.
PATIENCE = 60.0


def built(*parts: str) -> Path:
    """A Go program of an example, as the set-up has built it."""
    path = ROOT.joinpath("build", "examples", *parts)
    if not path.exists():
        pytest.fail(f"{path.relative_to(ROOT)} is missing: run scripts/test --quick")
    return path


def run(*command: Any, directory: Path, **environment: str) -> str:
    """What a program prints, its errors included. It must succeed."""
    done = subprocess.run(
        [*map(str, command)],
        cwd=directory,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def fail(*command: Any, directory: Path) -> str:
    """The errors of a program that ends with the status 1."""
    done = subprocess.run(
        [*map(str, command)],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    return done.stderr


def without_yamux(output: str) -> str:
    """A Go side's yamux may log, as it ends, that its connection has been closed under a write."""
    lines = output.splitlines(keepends=True)
    return "".join(line for line in lines if "yamux: Failed to write" not in line)
