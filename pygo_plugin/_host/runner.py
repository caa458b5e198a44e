"""Connects a runner (runners.py) with the core, which calls an `Adapter` on C threads."""

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
    """What a runner needs to start a plugin.

    env         the environment variables of go-plugin's protocol, including PLUGIN_UNIX_SOCKET_DIR,
                without those of the host's own environment
    socket_dir  a new directory on this machine, in which only this plugin makes its socket. `env`
                names it too: if the plugin sees it under another path, change that in `env`
    """

    __slots__ = ("env", "socket_dir")

    def __init__(self, env: dict[str, str], socket_dir: str) -> None:
        self.env = env
        self.socket_dir = socket_dir

    def __repr__(self) -> str:
        # Values of the environment may be secret.
        env = ", ".join(f"{name!r}: ..." for name in self.env)
        return f"Launch(env={{{env}}}, socket_dir={self.socket_dir!r})"


class Adapter:
    """A runner whose arguments and results are plain values, as the core needs them."""

    def __init__(self, runner: Runner, socket_dir: str) -> None:
        self.error: BaseException | None = None
        """The exception that a method raised during the start, for the traceback."""
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
        self._started = True  # the first call is for the handshake, later ones are for the broker
        return str(network), str(address)

    def host_to_plugin(self, network: str, address: str) -> tuple[str, str]:
        network, address = self._runner.host_to_plugin(network, address)
        return str(network), str(address)

    @property
    def group(self) -> str | None:
        """The group that may use the directory and the host's sockets in it."""
        group = getattr(self._runner, "group", None)
        return None if group is None else str(group)


def _descriptor(stream: Any) -> int:
    """A duplicate of the stream's descriptor, for the core to own."""
    return os.dup(stream if isinstance(stream, int) else stream.fileno())


def make_socket_dir(name: str, group: int | None) -> str:
    """A directory for one plugin, with mode 0700, or 0770 for the group (protocol.md 1)."""
    try:
        return _core.socket_directory(None if group is None else str(group))
    except OSError as error:
        raise StartError(f"{name}: {error}") from None


def remove_socket_dir(path: str) -> None:
    shutil.rmtree(path, ignore_errors=True)
