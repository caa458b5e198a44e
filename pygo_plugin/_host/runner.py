"""What stands between a runner (runners.py) and the core, which calls `Adapter` from C threads."""

from __future__ import annotations

import os
import shutil

from pygo_plugin._base.core import _core
from pygo_plugin.errors import StartError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pygo_plugin.runners import Runner

__all__ = ["Adapter", "Launch", "make_socket_dir", "remove_socket_dir"]


class Launch:
    """What a runner is to start.

    env         the environment that go-plugin's protocol asks for, PLUGIN_UNIX_SOCKET_DIR included;
                nothing of the host's own
    socket_dir  a new directory of this machine, for this plugin alone, to make its socket in. It is
                the one that `env` names; where the plugin sees it under another path, change `env`
    """

    __slots__ = ("env", "socket_dir")

    def __init__(self, env: dict[str, str], socket_dir: str) -> None:
        self.env = env
        self.socket_dir = socket_dir


class Adapter:
    """A runner with plain values in and out, as C wants them."""

    def __init__(self, runner: Runner, socket_dir: str) -> None:
        self.error: BaseException | None = None
        """What went wrong at the start, for the traceback."""
        self._runner = runner
        self._started = False
        self.socket_dir = socket_dir

    def start(self, env: list[str]) -> tuple[int, int]:
        try:
            variables = dict(entry.split("=", 1) for entry in env)
            self._runner.start(Launch(variables, self.socket_dir))
            out = _descriptor(self._runner.stdout)
            try:
                return out, _descriptor(self._runner.stderr)
            except BaseException:
                os.close(out)
                raise
        except BaseException as error:
            self.error = error
            raise

    def wait(self) -> int | None:
        status = self._runner.wait()
        return None if status is None else int(status)

    def kill(self) -> None:
        self._runner.kill()

    def diagnose(self) -> str:
        return str(self._runner.diagnose() or "")

    def plugin_to_host(self, network: str, address: str) -> tuple[str, str]:
        try:
            network, address = self._runner.plugin_to_host(network, address)
        except BaseException as error:
            if not self._started:
                self.error = error
            raise
        self._started = True  # the first one is the handshake's, the others are the broker's
        return str(network), str(address)

    def host_to_plugin(self, network: str, address: str) -> tuple[str, str]:
        network, address = self._runner.host_to_plugin(network, address)
        return str(network), str(address)

    @property
    def group(self) -> str | None:
        """Who may use the directory, and connect to the host's sockets in it."""
        group = getattr(self._runner, "group", None)
        return None if group is None else str(group)


def _descriptor(stream: Any) -> int:
    """A descriptor of the core's own."""
    return os.dup(stream if isinstance(stream, int) else stream.fileno())


def make_socket_dir(name: str, group: int | None) -> str:
    """A directory for one plugin: 0700, or 0770 for the group (protocol.md 1)."""
    try:
        return _core.socket_directory(None if group is None else str(group))
    except OSError as error:
        raise StartError(f"{name}: {error}") from None


def remove_socket_dir(path: str) -> None:
    shutil.rmtree(path, ignore_errors=True)
