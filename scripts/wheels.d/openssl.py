"""OpenSSL for one target, static, from its source release."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

from targets import Toolchain, WheelError, run, say

from fetch import unpack

# The crate that carries OpenSSL's source release: what is published once stays.
CRATE = "openssl-src"
CRATE_VERSION = "300.6.1+3.6.3"
SHA256 = "46eb8fb9fb3b61ce1c0f8a026c4c1a0714d3a9e138e7fbde78753ce2babc3846"
VERSION = CRATE_VERSION.partition("+")[2]

# What TLS 1.2 and 1.3 with certificates in files can do without. OpenSSL reads no configuration
# file: a system's is written for the system's own OpenSSL.
WITHOUT = [
    *("apps", "argon2", "aria", "async", "atexit", "autoload-config", "bf"),
    *("camellia", "cast", "cmp", "cms", "comp", "ct", "demos", "docs", "dso"),
    *("dtls", "engine", "gost", "idea", "legacy", "lms", "makedepend", "md4"),
    *("mdc2", "module", "quic", "rc2", "rc4", "rfc3779", "rmd160", "seed"),
    *("shared", "siphash", "sm2", "sm3", "sm4", "srp", "srtp", "ssl-trace"),
    *("tests", "ts", "ui-console", "whirlpool", "zlib"),
]
FLAGS = ["-O2", "-g0", "-fPIC", "-ffunction-sections", "-fdata-sections"]

CARGO_TOML = f"""\
[package]
name = "fetch"
version = "0.0.0"
[lib]
path = "lib.rs"
[dependencies]
{CRATE} = "={CRATE_VERSION.partition("+")[0]}"
"""

PKG_CONFIG = """\
prefix=${{pcfiledir}}/../..
libdir=${{prefix}}/lib
Name: openssl
Description: OpenSSL, static
Version: {version}
Cflags: -I${{prefix}}/include
Libs: ${{prefix}}/lib/libssl.a ${{prefix}}/lib/libcrypto.a -ldl -pthread
"""


def name(toolchain: Toolchain) -> str:
    what = repr((VERSION, SHA256, WITHOUT, FLAGS, toolchain.version, toolchain.target))
    digest = hashlib.sha256(what.encode()).hexdigest()[:12]
    return f"openssl-{VERSION}-{toolchain.target.arch}-{digest}"


def fetch(into: Path, environment: dict[str, str]) -> Path:
    """Leave OpenSSL's sources below a folder, from PYGO_CORE_SOURCES or by cargo."""
    file = f"{CRATE}-{CRATE_VERSION}.crate"
    folder = environment.get("PYGO_CORE_SOURCES")
    if folder and (crate := Path(folder, file)).is_file():
        found = hashlib.sha256(crate.read_bytes()).hexdigest()
        if found != SHA256:
            raise WheelError(f"{crate} has SHA-256 {found} instead of {SHA256}")
        unpack(crate, into)
        return into / f"{CRATE}-{CRATE_VERSION}" / "openssl"
    if shutil.which("cargo") is None:
        raise WheelError(f"needs cargo, to fetch {file}, or PYGO_CORE_SOURCES with that file")
    (into / "Cargo.toml").write_text(CARGO_TOML)
    (into / "lib.rs").touch()
    run(["cargo", "vendor", "--quiet", "vendor"], into, environment)
    crate = into / "vendor" / CRATE
    found = json.loads((crate / ".cargo-checksum.json").read_text())["package"]
    if found != SHA256:
        raise WheelError(f"{file} has SHA-256 {found} instead of {SHA256}")
    return crate / "openssl"


def build(toolchain: Toolchain, environment: dict[str, str], cache: Path) -> Path:
    """The folder that has include/, lib/ and LICENSE.txt, made if it is not there."""
    final = cache / name(toolchain)
    if final.is_dir():
        return final
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=cache) as scratch:
        say(f"fetching OpenSSL {VERSION}")
        source = fetch(Path(scratch), environment)
        tree = Path(scratch, "build")
        tree.mkdir()
        say(f"compiling OpenSSL {VERSION} for {toolchain.target.arch}")
        # The names of the tools get into the library, their paths do not.
        tools = {
            "CC": toolchain.command("zig-cc"),
            "AR": "zig-ar",
            "RANLIB": "zig-ranlib",
        }
        source_from_tree = os.path.relpath(source, tree)
        run(
            ["perl", f"{source_from_tree}/Configure", toolchain.target.openssl]
            + ["--prefix=/usr", "--openssldir=/etc/ssl"]
            + [f"no-{feature}" for feature in WITHOUT]
            + FLAGS,
            tree,
            {**environment, **tools},
        )
        jobs = len(os.sched_getaffinity(0))
        run(["make", "-s", f"-j{jobs}", "build_libs"], tree, environment)
        made = Path(scratch, "made")
        (made / "lib/pkgconfig").mkdir(parents=True)
        for library in ("libssl.a", "libcrypto.a"):
            shutil.copy(tree / library, made / "lib")
        (made / "include/openssl").mkdir(parents=True)
        for folder in (source, tree):
            for header in (folder / "include/openssl").glob("*.h"):
                shutil.copy(header, made / "include/openssl")
        (made / "lib/pkgconfig/openssl.pc").write_text(PKG_CONFIG.format(version=VERSION))
        shutil.copy(source / "LICENSE.txt", made)
        made.rename(final)
    return final
