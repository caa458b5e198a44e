"""scripts/core, which builds gRPC's core, and what setup.py says if there is no core at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path, **variables: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a script of the checkout, without the variables that the caller may have set for it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYGO_")}
    environment.update({k: str(v) for k, v in variables.items()})
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def core(*options: str, **variables: str | Path) -> subprocess.CompletedProcess[str]:
    return run(Path("scripts", "core"), *options, **variables)


def listed() -> dict[str, list[str]]:
    """The archives of each release."""
    releases: dict[str, list[str]] = {}
    version = ""
    for line in core("--list").stdout.splitlines():
        if line.startswith(" "):
            releases[version].append(line.split()[1])
        else:
            version = line.split()[0]
            releases[version] = []
    return releases


def test_every_release_needs_three_archives() -> None:
    for version, archives in listed().items():
        grpc, jansson, protobuf_c = archives
        assert grpc == f"grpcio-{version}.tar.gz"
        assert jansson.startswith("jansson_")
        assert protobuf_c.startswith("protobuf-c_")


def test_the_core_is_chosen_by_the_environment(tmp_path: Path) -> None:
    version = next(iter(listed()))
    chosen = core("--chosen", PYGO_CORE="static", PYGO_CORE_DIR=tmp_path).stdout.strip()
    assert Path(chosen).parent == tmp_path
    assert Path(chosen).name.startswith(f"{version}-")
    assert core("--chosen", PYGO_CORE_DIR=tmp_path).stdout == "system\n"
    Path(chosen).mkdir()
    assert core("--chosen", PYGO_CORE_DIR=tmp_path).stdout.strip() == chosen
    assert core("--chosen", PYGO_CORE="system", PYGO_CORE_DIR=tmp_path).stdout == "system\n"


def test_a_core_that_is_out_of_date_is_told(tmp_path: Path) -> None:
    before = tmp_path / "1.0-before"
    before.mkdir()
    (before / "core.json").touch()
    done = core("--chosen", PYGO_CORE_DIR=tmp_path)
    assert done.stdout == "system\n"
    assert "has not been built; run scripts/core" in done.stderr


def test_each_release_and_each_compiler_has_a_folder_of_its_own(tmp_path: Path) -> None:
    folders = {
        core("--chosen", PYGO_CORE="static", PYGO_CORE_DIR=tmp_path, **variables).stdout
        for variables in (
            {},
            {"PYGO_CORE_CC": "false"},
            *({"PYGO_CORE_VERSION": version} for version in list(listed())[1:]),
        )
    }
    assert len(folders) == len(listed()) + 1


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"PYGO_CORE": "shared"}, "PYGO_CORE is 'shared': neither static nor system"),
        ({"PYGO_CORE_VERSION": "0.1"}, "there is no '0.1', only "),
        ({"PYGO_CORE_CC": "no-compiler"}, "needs gcc (as Debian calls the packages)"),
    ],
)
def test_mistakes_are_named(variables: dict[str, str], expected: str, tmp_path: Path) -> None:
    done = core(PYGO_CORE_DIR=tmp_path, **variables)
    assert done.returncode == 1
    assert expected in done.stderr


def test_an_archive_that_is_missing_or_another_is_refused(tmp_path: Path) -> None:
    cores, sources = tmp_path / "cores", tmp_path / "sources"
    sources.mkdir()
    archive = next(iter(listed().values()))[0]
    missing = core(PYGO_CORE_DIR=cores, PYGO_CORE_SOURCES=sources)
    assert missing.returncode == 1
    assert f"{sources} has no {archive}\n" in missing.stderr
    assert f"  {archive}\n" in missing.stderr.partition("PYGO_CORE_SOURCES may name")[2]
    (sources / archive).write_bytes(b"another")
    another = core(PYGO_CORE_DIR=cores, PYGO_CORE_SOURCES=sources)
    assert another.returncode == 1
    assert f"{archive} has SHA-256 " in another.stderr
    # Nothing of it is left, and nothing looks like a core.
    assert [file.suffix for file in cores.iterdir()] == [".lock"]


# ---- setup.py ------------------------------------------------------------------------------------


def build(**variables: str | Path) -> list[str]:
    """What a build that cannot succeed says, for which it changes nothing in the checkout."""
    done = run("setup.py", "-q", "build_ext", **variables)
    assert done.returncode == 1
    return done.stderr.splitlines()


def test_setup_names_both_cores_if_there_is_none(tmp_path: Path) -> None:
    pkg_config = tmp_path / "pkg-config"
    pkg_config.write_text('#!/bin/sh\ncase "$*" in *grpc*|*jansson*) exit 1; esac\n')
    pkg_config.chmod(0o755)
    first, second = build(PYGO_CORE_DIR=tmp_path, PKG_CONFIG=pkg_config)
    assert first.startswith(
        "error: pygo-plugin cannot be built without grpc >= 29, jansson >= 2.10; "
    )
    assert "Debian/Ubuntu: libgrpc-dev libjansson-dev; Fedora: " in first
    assert second.startswith("or set PYGO_CORE=static ")


def test_setup_names_tools_and_headers_with_them(tmp_path: Path) -> None:
    first, second = build(PYGO_CORE_DIR=tmp_path, PKG_CONFIG="no-pkg-config", CC="no-compiler")
    assert "without cc, pkg-config, openssl >= 3.0, grpc >= 29, " in first
    assert "for that, install Debian/Ubuntu: gcc pkg-config libssl-dev; " in second


def test_setup_with_the_static_core_needs_no_grpc(tmp_path: Path) -> None:
    (line,) = build(PYGO_CORE="static", PYGO_CORE_DIR=tmp_path, PKG_CONFIG="no-pkg-config")
    assert "cannot be built without pkg-config, openssl >= 3.0; install Debian/Ubuntu: " in line
    assert "grpc" not in line
