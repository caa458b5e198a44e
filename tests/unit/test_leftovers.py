"""A host removes the sockets of a dead plugin, and none that the plugin merely names."""

from __future__ import annotations

import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pygo_plugin import VersionError

DEADLINE = 60.0
NOBODY = 65534

# Imports come first: that user may not be allowed to read them.

# Says that it listens at a path, as another user if it may become one, and waits to be killed.
NAMES = """
import os, signal, socket, sys
version, path = sys.argv[1:]
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
print(f"1|{version}|unix|{path}|grpc", flush=True)
signal.pause()
"""

# Serves, as such a user, and announces a connection at a path.
ANNOUNCES = """
import os, sys
from pygo_plugin import HandshakeConfig, Plugin, ServeConfig, serve
from pygo_plugin import broker
from pygo_plugin._grpc import reflection, server
from pygo_plugin._log import plugin
from pygo_plugin._serve import stdio

class Test(Plugin):
    def grpc_server(self, broker, server):
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
        broker._core.announce(7, "unix", sys.argv[2])

serve(ServeConfig(handshake_config=HandshakeConfig(1, "PYGO_TEST", "x"), plugins={"kv": Test()}))
"""


@pytest.fixture
def common(socket_dir: Path) -> Path:
    """The temporary directory, writable by all users, as /tmp is."""
    socket_dir.chmod(0o1777)
    return socket_dir


@pytest.fixture
def listener(common: Path) -> Iterator[Callable[[str], Path]]:
    """Makes sockets of this process's to which it listens."""
    sockets = []

    def make(name: str) -> Path:
        one = socket.socket(socket.AF_UNIX)
        one.bind(str(common / name))
        one.listen()
        sockets.append(one)
        return common / name

    yield make
    for one in sockets:
        one.close()


def launch(make_client: Any, script: str, *arguments: str, **options: Any) -> Any:
    return make_client([sys.executable, "-c", script, *arguments], **options)


def launch_and_end(make_client: Any, address: str, refused: bool) -> None:
    """Ends a plugin that names the address: by kill(), or because its version is refused."""
    client = launch(make_client, NAMES, "99" if refused else "1", address)
    if refused:
        with pytest.raises(VersionError):
            client.start()
    else:
        client.start()
    client.kill()


@pytest.mark.parametrize("refused", [False, True], ids=["killed", "refused"])
def test_a_named_socket_that_is_in_use(
    make_client: Any, listener: Callable[[str], Path], refused: bool
) -> None:
    path = listener("in-use")
    launch_and_end(make_client, str(path), refused)
    assert path.is_socket()


@pytest.mark.parametrize("refused", [False, True], ids=["killed", "refused"])
def test_a_named_socket_of_another_plugin(make_client: Any, common: Path, refused: bool) -> None:
    """Without a listener. This user's plugin could have left it; another user's could not."""
    path = common / "idle"
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))
    launch_and_end(make_client, str(path), refused)
    assert path.exists() == (os.geteuid() == 0)


def test_an_announced_socket(
    make_client: Any, listener: Callable[[str], Path], common: Path, handshake: Any
) -> None:
    used, idle = listener("used"), common / "idle"
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(idle))
    for path in (used, idle):
        script = ANNOUNCES.replace(
            'HandshakeConfig(1, "PYGO_TEST", "x")',
            f"HandshakeConfig({handshake.protocol_version}, {handshake.magic_cookie_key!r}, "
            f"{handshake.magic_cookie_value!r})",
        )
        client = launch(make_client, script, "", str(path))
        client.start()
        client.broker.dial(7, DEADLINE) if path is used else client.ping(DEADLINE)
        client.kill()
    assert used.is_socket()
    assert idle.exists() == (os.geteuid() == 0)


def test_a_private_directory_of_another_process(make_client: Any, common: Path) -> None:
    """The plugin names a socket in the host's own directory of multiplexed connections."""
    directory = common / "plugin-dirabcdef"
    directory.mkdir(mode=0o700)
    path = directory / "main"
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))
        one.listen()
        client = launch(make_client, NAMES, "1", str(path))
        client.start()
        client.kill()
        assert path.is_socket()


def test_a_socket_of_the_plugins_own_user(make_client: Any, common: Path) -> None:
    """A plugin of another user made the socket, and was killed before it could remove it."""
    script = NAMES.replace(
        "print(", "one = socket.socket(socket.AF_UNIX); one.bind(path); one.listen()\nprint("
    )
    path = common / "own"
    client = launch(make_client, script, "1", str(path))
    client.start()
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert path.stat().st_uid == (NOBODY if os.geteuid() == 0 else os.geteuid())
    client.kill()
    assert not path.exists()
