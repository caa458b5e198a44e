"""A runner that a user might write."""

from __future__ import annotations

import os
import stat
import subprocess
from typing import Any


class Own:
    """Runs a command, sees its sockets under another name, and keeps a record."""

    name = "own"

    def __init__(self, command: list[str]) -> None:
        self.command = command
        self.calls: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def id(self) -> str:
        return f"own-{self.process.pid}" if self.process else ""

    @property
    def stdout(self) -> Any:
        assert self.process
        return self.process.stdout

    @property
    def stderr(self) -> Any:
        assert self.process
        return self.process.stderr

    def start(self, launch: Any) -> None:
        self.launch = launch
        self.mode = stat.S_IMODE(os.stat(launch.socket_dir).st_mode)
        self.inside = launch.socket_dir + "-inside"
        os.symlink(launch.socket_dir, self.inside)
        env = {**launch.env, "PLUGIN_UNIX_SOCKET_DIR": self.inside}
        env["PYTHONPATH"] = os.environ["PYTHONPATH"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(self.command, env=env, **pipes)  # type: ignore[call-overload]

    def wait(self) -> int | None:
        assert self.process
        status = self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        os.unlink(self.inside)
        return int(status)

    def kill(self) -> None:
        self.calls.append("kill")
        assert self.process
        self.process.kill()

    def diagnose(self) -> str:
        return "the moon is full"

    def plugin_to_host(self, network: str, address: str) -> tuple[str, str]:
        assert os.path.dirname(address) == self.inside
        self.calls.append("translate")
        return network, os.path.join(self.launch.socket_dir, os.path.basename(address))

    def host_to_plugin(self, network: str, address: str) -> tuple[str, str]:
        assert os.path.dirname(address) == self.launch.socket_dir
        self.calls.append("announce")
        self.announced = address
        return network, os.path.join(self.inside, os.path.basename(address))
