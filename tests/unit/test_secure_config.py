"""SecureConfig: what is not the expected executable does not run."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from pygo_plugin import (
    ChecksumError,
    Client,
    ClientConfig,
    ClosedError,
    ConfigError,
    ConfigTypeError,
    ExitedEarlyError,
    ReattachConfig,
    SecureConfig,
    StartError,
    StartTimeoutError,
)

DEADLINE = 60.0
SUM = hashlib.sha256(b"").hexdigest()


# ---- The configuration ---------------------------------------------------------------------------


def test_bytes_and_digits_are_the_same() -> None:
    config = SecureConfig(bytes.fromhex(SUM))
    assert config == SecureConfig(SUM) == SecureConfig(SUM.upper(), hash="sha256")
    assert (config.checksum.hex(), config.hash) == (SUM, "sha256")
    assert repr(config) == f"SecureConfig('{SUM}', 'sha256')"
    assert len({config, SecureConfig(SUM), SecureConfig(SUM, "sha3-256")}) == 2
    with pytest.raises(AttributeError, match="make another one"):
        config.hash = "md5"


@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512", "sha1", "blake2b512", "SHA3-256"])
def test_any_digest_of_openssl(name: str) -> None:
    assert SecureConfig(hashlib.new(name, b"").digest(), name).hash == name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((b"",), "there is no checksum"),
        (("",), "there is no checksum"),
        ((SUM, ""), "there is no hash"),
        ((SUM, "sha257"), 'unknown hash "sha257": expected "sha256"'),
        ((SUM[2:],), "sha256 has 32 bytes, this one has 31"),
        ((SUM, "sha512"), "sha512 has 64 bytes, this one has 32"),
        (("xyz",), "hexadecimal digits"),
    ],
)
def test_misuse(arguments: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=f"^SecureConfig.*{words}"):
        SecureConfig(*arguments)


def test_wrong_types() -> None:
    with pytest.raises(ConfigTypeError, match="checksum must be bytes or hexadecimal"):
        SecureConfig(None)  # type: ignore[arg-type]
    with pytest.raises(ConfigTypeError, match="hash must be the name of a hash"):
        SecureConfig(SUM, hashlib.sha256)  # type: ignore[arg-type]
    with pytest.raises(ConfigTypeError, match="secure_config must be a SecureConfig, not str"):
        ClientConfig(secure_config=SUM)  # type: ignore[arg-type]


def test_it_excludes_reattaching(handshake: Any, plugins: Any) -> None:
    client = Client(
        reattach_config=ReattachConfig("grpc", "unix", "/nowhere"),
        handshake_config=handshake,
        plugins=plugins,
        secure_config=SecureConfig(SUM),
    )
    with pytest.raises(ConfigError, match="secure_config does not go with a reattach_config"):
        client.start()


# ---- Files of checksums --------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--binary"], ["--tag"]])
@pytest.mark.parametrize("tool", ["sha256", "sha384", "sha512"])
def test_what_coreutils_write(tmp_path: Path, tool: str, options: list[str]) -> None:
    names = ["kv-plugin", "with space", "back\\slash", "new\nline", "sub (1) = 2"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    command = [f"{tool}sum", *options, "--", *names]
    sums = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True).stdout
    (tmp_path / "SUMS").write_bytes(sums)
    for name in names:
        config = SecureConfig.from_file(tmp_path / "SUMS", name)
        assert config.hash == tool
        assert config.checksum == hashlib.new(tool, name.encode()).digest()


def test_names_and_rubbish_in_a_file(tmp_path: Path) -> None:
    other = hashlib.sha256(b"other").hexdigest()
    path = tmp_path / "SUMS"
    path.write_text(
        f"# a comment\n\n{SUM}  ./kv\n{SUM.upper()} *kv\nSHA256 (kv) = \n{other}  kvv\n"
    )
    assert SecureConfig.from_file(path, "kv") == SecureConfig(SUM)
    assert SecureConfig.from_file(str(path), "./kvv") == SecureConfig(other)
    with pytest.raises(ConfigError, match="SUMS has no checksum for 'k'"):
        SecureConfig.from_file(path, "k")
    path.write_text(f"{SUM}  kv\n{other}  kv\n")
    with pytest.raises(ConfigError, match="SUMS has several checksums for 'kv'"):
        SecureConfig.from_file(path, "kv")
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        SecureConfig.from_file(tmp_path / "nothing", "kv")


def test_a_hash_by_name(tmp_path: Path) -> None:
    path = tmp_path / "SUMS"
    path.write_text(f"{hashlib.sha3_256(b'').hexdigest()}  kv\n{'ab' * 28}  odd\n")
    assert SecureConfig.from_file(path, "kv", "sha3-256").hash == "sha3-256"
    with pytest.raises(ConfigError, match="56 digits does not tell its hash"):
        SecureConfig.from_file(path, "odd")
    assert SecureConfig.from_file(path, "odd", "sha224").hash == "sha224"


# ---- Launching -----------------------------------------------------------------------------------


@pytest.fixture
def script(tmp_path: Path, peers: Any) -> Path:
    """The Python plugin as a script with a first line that says who interprets it."""
    command = peers.plugin("python")
    text = f"""\
    #!{sys.executable}
    import runpy, sys
    sys.argv = {command[1:]!r} + sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
    """
    path = tmp_path / "script-plugin"
    path.write_text(textwrap.dedent(text))
    path.chmod(0o755)
    return path


def checksum(path: Any, name: str = "sha256") -> SecureConfig:
    return SecureConfig(hashlib.new(name, Path(path).read_bytes()).digest(), name)


def put(client: Any) -> None:
    import kv_pb2

    _, kv = client.dispense("kv")
    kv.Put(kv_pb2.PutRequest(key="k", value=b"v"), timeout=DEADLINE)


@pytest.mark.go
@pytest.mark.parametrize("name", ["sha256", "sha512", "blake2s256"])
@pytest.mark.usefixtures("no_leftovers")
def test_the_expected_binary(peers: Any, make_client: Any, name: str) -> None:
    command = peers.plugin("go", "--network", "tcp")
    client = make_client(command, secure_config=checksum(command[0], name))
    put(client)
    assert client.name == "plugin"
    client.kill()
    assert client.exit_status == 0


@pytest.mark.usefixtures("no_leftovers")
def test_the_expected_script(script: Path, make_client: Any) -> None:
    client = make_client([script, "--network", "tcp"], secure_config=checksum(script))
    put(client)
    client.kill()
    assert client.exit_status == 0


def test_in_path_and_in_a_directory(
    script: Path, make_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pygo_plugin import Cmd

    put(make_client(_in(script.parent, f"./{script.name}"), secure_config=checksum(script)))
    monkeypatch.setenv("PATH", os.pathsep.join(["/nowhere", str(script.parent)]))
    put(make_client(Cmd(script.name), secure_config=checksum(script)))
    with pytest.raises(StartError, match="there is no such program in PATH"):
        make_client("no-such-plugin", secure_config=checksum(script)).start()


def _in(directory: Path, *args: str) -> Any:
    from pygo_plugin import Cmd

    cmd = Cmd(args)
    cmd.dir = str(directory)
    return cmd


def test_another_binary(tmp_path: Path, make_client: Any) -> None:
    trace = tmp_path / "trace"
    path = tmp_path / "plugin"
    path.write_text(f"#!/bin/sh\ntouch {trace}\n")
    path.chmod(0o755)
    client = make_client(path, secure_config=SecureConfig(SUM))
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    words = f"plugin: .*expected the sha256 checksum {SUM}, found {found}"
    with pytest.raises(ChecksumError, match=words) as caught:
        client.start()
    error = caught.value
    assert (error.hash, error.expected, error.found) == ("sha256", SUM, found)
    assert client.pid == -1
    assert not trace.exists()


def test_what_cannot_run_at_all(tmp_path: Path, make_client: Any) -> None:
    path = tmp_path / "plugin"
    for make in (lambda: None, path.touch):
        make()
        with pytest.raises(StartError):
            make_client(path, secure_config=SecureConfig(SUM)).start()
    path.unlink()
    os.mkfifo(path, 0o755)  # which would keep a reader waiting
    with pytest.raises(StartError):
        make_client(path, secure_config=SecureConfig(SUM)).start()


def test_asyncio_hosts_too(script: Path, handshake: Any, plugins: Any) -> None:
    import asyncio

    from pygo_plugin import aio

    async def main() -> None:
        options = {"handshake_config": handshake, "plugins": plugins}
        async with aio.Client(script, secure_config=checksum(script), **options) as client:
            assert await client.ping() == ""
        with pytest.raises(ChecksumError):
            await aio.Client(script, secure_config=SecureConfig(SUM), **options).start()

    asyncio.run(main())


def test_changes_come_too_late(script: Path, make_client: Any, tmp_path: Path) -> None:
    """The file is replaced over and over during the hash; what runs is what was hashed."""
    import threading

    good = script.read_bytes()
    trace = tmp_path / "trace"
    bad = f"#!/bin/sh\ntouch {trace}\n".encode()
    config = checksum(script)
    stop = threading.Event()

    def swap() -> None:
        # In place, and by another file of the same name.
        other = script.with_name("other")
        while not stop.is_set():
            for text in (bad, good):
                script.write_bytes(text)
                other.write_bytes(text)
                other.chmod(0o755)
                os.replace(other, script)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(20):
            client = make_client([script, "--network", "tcp"], secure_config=config)
            try:
                client.start()
            except (ChecksumError, StartError):
                continue
            client.kill()
    finally:
        stop.set()
        thread.join()
    assert not trace.exists()


# ---- Files of any size ---------------------------------------------------------------------------


@pytest.fixture
def vast(tmp_path: Path) -> Path:
    """A sparse file of a terabyte: no test has the time to read it."""
    path = tmp_path / "vast-plugin"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    os.truncate(path, 1 << 40)
    return path


UNBOUNDED = SecureConfig(SUM, max_size=1 << 60)


def test_what_is_too_large_is_not_read(vast: Path, make_client: Any) -> None:
    words = "vast-plugin: cannot start .*: it has more than 1073741824 bytes, .*raise the max_size"
    with pytest.raises(StartError, match=words):
        make_client(vast, secure_config=SecureConfig(SUM)).start()
    os.truncate(vast, 10)
    with pytest.raises(StartError, match="more than 9 bytes"):
        make_client(vast, secure_config=SecureConfig(SUM, max_size=9)).start()
    with pytest.raises(ConfigError, match=r"SecureConfig\.max_size must be greater than 0"):
        SecureConfig(SUM, max_size=0)
    with pytest.raises(ConfigTypeError, match=r"SecureConfig\.max_size must be an int"):
        SecureConfig(SUM, max_size=1.5)  # type: ignore[arg-type]
    assert repr(SecureConfig(SUM, max_size=9)) == f"SecureConfig('{SUM}', 'sha256', max_size=9)"


def test_the_start_timeout_counts_while_a_checksum_is_calculated(
    vast: Path, make_client: Any
) -> None:
    client = make_client(vast, secure_config=UNBOUNDED, start_timeout=0.1)
    words = "vast-plugin: timed out: the checksum of .* within 0.1 s; nothing was started"
    with pytest.raises(StartTimeoutError, match=words) as caught:
        client.start()
    assert caught.value.stderr == ""
    assert client.pid == -1


def test_a_kill_ends_the_calculation(vast: Path, make_client: Any) -> None:
    import threading

    client = make_client(vast, secure_config=UNBOUNDED)
    reading = _reader_of(vast)
    killer = threading.Thread(target=lambda: (reading(), client.kill()))
    killer.start()
    with pytest.raises(ClosedError, match="it was killed while it started"):
        client.start()
    killer.join()


def test_cancelling_ends_the_calculation_for_asyncio(
    vast: Path, handshake: Any, plugins: Any
) -> None:
    import asyncio

    from pygo_plugin import aio

    async def main() -> None:
        options = {"handshake_config": handshake, "plugins": plugins}
        starting = asyncio.ensure_future(
            aio.Client(vast, secure_config=UNBOUNDED, **options).start()
        )
        await asyncio.to_thread(_reader_of(vast))
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        with pytest.raises(StartTimeoutError, match="the checksum of"):
            await aio.Client(vast, secure_config=UNBOUNDED, start_timeout=0.1, **options).start()

    asyncio.run(main())


def test_an_interrupt_ends_the_calculation(vast: Path) -> None:
    """Runs in a process of its own, which also measures the memory that the hash took."""
    program = f"""
import resource
import pygo_plugin

handshake = pygo_plugin.HandshakeConfig(1, "KEY", "VALUE")
secure = pygo_plugin.SecureConfig({SUM!r}, max_size=1 << 60)
client = pygo_plugin.Client({str(vast)!r}, handshake_config=handshake, secure_config=secure)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    client.start()
except KeyboardInterrupt:
    print("interrupted", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    host = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    _reader_of(vast, host.pid)()
    host.send_signal(signal.SIGINT)
    out, _ = host.communicate(timeout=DEADLINE)
    word, grown = out.split()
    assert word == "interrupted"
    assert int(grown) < 64 * 1024  # KiB


def _reader_of(path: Path, pid: int | None = None) -> Any:
    """A function that waits until the process (this one) has read some of the file."""

    def position(descriptor: Path) -> int:
        info = descriptor.parent.parent / "fdinfo" / descriptor.name
        return int(info.read_text().split("pos:")[1].split()[0])

    def wait() -> None:
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            for descriptor in Path(f"/proc/{pid or os.getpid()}/fd").iterdir():
                with contextlib.suppress(OSError):
                    if os.readlink(descriptor) == str(path) and position(descriptor) > 1 << 20:
                        return
            time.sleep(0.01)
        raise AssertionError(f"{path} was not read")

    return wait


def test_a_large_one_is_hashed_before_it_is_copied(tmp_path: Path, make_client: Any) -> None:
    """The copy that runs is hashed again; a file with the wrong checksum is not copied."""
    path = tmp_path / "large"
    path.write_text("#!/bin/sh\nexit 3\n")
    path.chmod(0o755)
    os.truncate(path, 33 << 20)
    with pytest.raises(ChecksumError, match="nothing was started"):
        make_client(path, secure_config=SecureConfig(SUM)).start()
    with pytest.raises(ExitedEarlyError, match="status 3"):
        make_client(path, secure_config=checksum(path)).start()
