"""Files that may not be executed, a root without /proc, certificates of other distributions."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority

DEADLINE = 60.0

HOST = """
import sys
sys.path[:0] = {path!r}
import pygo_plugin_peer
from pygo_plugin import Client, SecureConfig, StartError

options = {{}}
if {checksum!r}:
    options["secure_config"] = SecureConfig({checksum!r})
client = Client(
    {command!r},
    handshake_config=pygo_plugin_peer.HANDSHAKE,
    plugins=pygo_plugin_peer.plugins(),
    **options,
)
try:
    print(repr(client.ping()))
except StartError as error:
    print(error)
client.kill()
"""


@pytest.fixture(scope="module")
def private_mounts() -> list[str]:
    """A command that runs another with mounts of its own; [] if that is not possible."""
    for command in (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"]):
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
            return command
    return []


def run(prefix: list[str], script: str, command: list[str], checksum: str = "") -> str:
    """What a host says of the command, after a shell script has been run."""
    program = HOST.format(path=sys.path, command=command, checksum=checksum)
    done = subprocess.run(
        [*prefix, "/bin/sh", "-ec", f'{script}; exec "$@"', "sh", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("checked", [False, True], ids=["plain", "checked"])
def test_a_file_system_mounted_with_noexec(
    checked: bool, private_mounts: list[str], tmp_path: Path
) -> None:
    text = "#!/bin/sh\n"
    checksum = hashlib.sha256(text.encode()).hexdigest() if checked else ""
    plugin = tmp_path / "plugin"
    script = (
        f"mount -t tmpfs -o noexec none {tmp_path}; printf '#!/bin/sh\\n' > {plugin}; "
        f"chmod +x {plugin}"
    )
    if not private_mounts:  # then what is there has to do, as the system has mounted it
        (mounted,) = noexec_mounts()[:1] or [None]
        assert mounted is not None, "neither can anything be mounted, nor is anything noexec"
        plugin, script = Path(mounted) / f"pygo-{os.getpid()}", ":"
        plugin.write_text(text)
        plugin.chmod(0o755)
    said = run(private_mounts, script, [str(plugin)], checksum)
    assert f"cannot start {plugin}: {plugin} is on a file system mounted with noexec" in said
    assert "chmod" not in said
    if not private_mounts:
        plugin.unlink()


def noexec_mounts() -> list[str]:
    """Directories where this user may write and no file may be executed."""
    entries = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    places = [where for _, where, _, options, *_ in entries if "noexec" in options.split(",")]
    return [place for place in places if os.path.isdir(place) and os.access(place, os.W_OK)]


@pytest.mark.go
def test_checked_plugins_without_proc(
    peers: Any, private_mounts: list[str], tmp_path: Path
) -> None:
    """A program runs from its descriptor. A script cannot: its interpreter has to open the path."""
    if not private_mounts:
        pytest.fail("nothing can be mounted here: run the tests as root or with user namespaces")
    hide = "mount -t tmpfs none /proc"
    command = peers.plugin("go")
    checksum = hashlib.sha256(Path(command[0]).read_bytes()).hexdigest()
    assert run(private_mounts, hide, command, checksum) == "''"

    script = tmp_path / "script"
    script.write_text("#!/bin/sh\nexit 3\n")
    script.chmod(0o755)
    checksum = hashlib.sha256(script.read_bytes()).hexdigest()
    said = run(private_mounts, hide, [str(script)], checksum)
    assert "its interpreter has to read the checked copy of it through /proc" in said
    assert "through /proc, which is not mounted here" in said
    assert "loader" not in said


# Calls a server whose certificate the system is to trust.
TRUST = """
import sys
from pygo_plugin import TLSConfig, TLSError, netrpc

class Greeter:
    def hello(self) -> str:
        return "hello"

chain, key = sys.argv[1:]
config = TLSConfig(certificate=chain, key=key)
with netrpc.listen("127.0.0.1:0", Greeter(), tls_config=config) as server:
    try:
        with netrpc.connect(server.address, tls_config=TLSConfig()) as client:
            print(client.call("Greeter.Hello"))
    except TLSError as error:
        print(error.reason)
"""


@pytest.mark.parametrize("bundle", ["/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"])
def test_the_system_trusts_what_its_distribution_has(
    bundle: str, private_mounts: list[str], tmp_path: Path
) -> None:
    """OpenSSL has been compiled for the files of one distribution, and may run on another."""
    if not private_mounts:
        pytest.fail("nothing can be mounted here: run the tests as root or with user namespaces")
    authority = Authority("an authority that a system trusts")
    pair = authority.issue("server", "localhost")
    for name, text in (("root", authority.root), ("chain", pair.chain), ("key", pair.key)):
        (tmp_path / name).write_bytes(text)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SSL_CERT_")}
    program = [sys.executable, "-c", TRUST, str(tmp_path / "chain"), str(tmp_path / "key")]

    def say(script: str) -> str:
        # Nothing is left of this system's own.
        hide = "for d in /etc /usr/lib/ssl; do [ ! -d $d ] || mount -t tmpfs none $d; done"
        done = subprocess.run(
            [*private_mounts, "/bin/sh", "-ec", f'{hide}; {script}; exec "$@"', "sh", *program],
            env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert say(":") == "unknown authority"
    assert say(f"mkdir -p {Path(bundle).parent}; cp {tmp_path}/root {bundle}") == "hello"


def test_a_file_that_is_still_being_written(tmp_path: Path, make_client: Any) -> None:
    """A child that another thread has just forked may still hold the file open for writing."""
    from pygo_plugin import ExitedEarlyError, StartError

    plugin = tmp_path / "plugin"
    writer = open(plugin, "w")  # noqa: SIM115
    writer.write("#!/bin/sh\nexit 3\n")
    writer.flush()
    plugin.chmod(0o755)
    with pytest.raises(StartError, match="is being written to by another process"):
        make_client(plugin).start()
    timer = threading.Timer(0.05, writer.close)
    timer.start()
    with pytest.raises(ExitedEarlyError, match="status 3"):
        make_client(plugin).start()
    timer.join()
