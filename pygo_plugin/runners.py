"""Launching plugins elsewhere than in a plain subprocess: containers, sandboxes, your own.

See docs/runners.md.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
import uuid
from typing import TYPE_CHECKING, Any, Protocol

from pygo_plugin._base.core import _core
from pygo_plugin._host.runner import Launch
from pygo_plugin.errors import ConfigError
from pygo_plugin.utils import env_to_list

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pygo_plugin.config import StrPath

__all__ = ["BubblewrapRunner", "ContainerRunner", "Launch", "Runner"]


class Runner(Protocol):
    """A way to run one plugin once, for the option `runner` of Client.

    Any object with these members. `wait` and `kill` are called from threads of the package's, at
    the same time as others; all may block.
    """

    @property
    def name(self) -> str:
        """For messages and the plugin's logger."""

    @property
    def id(self) -> str:
        """What identifies the running plugin; "" before the start."""

    @property
    def stdout(self) -> Any:
        """Where the handshake is read from: a descriptor, or an object with `fileno()`.

        Asked for after the start. The package duplicates it; closing the original is the runner's.
        """

    @property
    def stderr(self) -> Any:
        """The same for the plugin's log."""

    def start(self, launch: Launch) -> None:
        """Start the plugin. What it raises becomes the cause of a StartError."""

    def wait(self) -> int | None:
        """Block until the plugin has ended. Returns: its exit status, None if unknown."""

    def kill(self) -> None:
        """End it by force, so that `wait` returns. Called at most once."""

    def diagnose(self) -> str:
        """What may explain that a start failed, for the error's message; "" for nothing."""

    def plugin_to_host(self, network: str, address: str) -> tuple[str, str]:
        """The host's (network, address) of a listener whose plugin calls it so.

        For the handshake, then for brokered connections. What it raises becomes the cause of a
        HandshakeError, or is named by a BrokerError.
        """

    def host_to_plugin(self, network: str, address: str) -> tuple[str, str]:
        """The plugin's (network, address) of a listener that the host calls so.

        For brokered connections that the host accepts, on the thread that does.
        """


class _CommandRunner:
    """A runner that is a command of this machine, which takes the plugin with it when it dies."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._process: _core.Process | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def id(self) -> str:
        return "" if self._process is None else str(self._process.pid)

    @property
    def stdout(self) -> int:
        return self._started().stdout

    @property
    def stderr(self) -> int:
        return self._started().stderr

    def start(self, launch: Launch) -> None:
        self._refuse_again()
        environment = {**self._environment(), **launch.env}
        self._process = _core.Process(
            tuple(map(os.fsencode, self._command(launch))),
            tuple(map(os.fsencode, env_to_list(environment))),
        )

    def wait(self) -> int | None:
        return self._started().wait(None)

    def kill(self) -> None:
        self._started().kill()

    def diagnose(self) -> str:
        return ""

    def plugin_to_host(self, network: str, address: str) -> tuple[str, str]:
        return network, address

    def host_to_plugin(self, network: str, address: str) -> tuple[str, str]:
        return network, address

    def _refuse_again(self) -> None:
        if self._process is not None:
            raise ConfigError(f"{self.name}: a runner runs once; make another one")

    def _started(self) -> _core.Process:
        if self._process is None:
            raise ConfigError(f"{self.name}: the runner has not been started")
        return self._process

    def _environment(self) -> dict[str, str]:
        """What the command itself needs."""
        return {}

    def _command(self, launch: Launch) -> list[str]:
        raise NotImplementedError


class BubblewrapRunner(_CommandRunner):
    """Runs a plugin in a sandbox of bubblewrap's (`bwrap`), without a daemon.

    It has namespaces of its own: no other processes, no network, an empty /tmp. Of the file system
    it sees what it is given, read-only unless said otherwise, and its socket directory.

    cmd       the program and its arguments, as seen inside
    read_only paths to show under the same name; those that are not there are left out
    writable  the same, to write to
    env       variables besides those of the protocol; nothing of the host's is passed on
    network   whether it has the host's network
    options   further options of bwrap
    bwrap     the program
    """

    SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc")

    def __init__(
        self,
        cmd: StrPath | Sequence[StrPath],
        *,
        read_only: Sequence[StrPath] = SYSTEM,
        writable: Sequence[StrPath] = (),
        env: Mapping[str, str] | None = None,
        network: bool = False,
        options: Sequence[str] = (),
        bwrap: StrPath = "bwrap",
    ) -> None:
        self._argv = _argv(cmd)
        super().__init__(os.path.basename(self._argv[0]))
        self._read_only = [os.fspath(path) for path in read_only]
        self._writable = [os.fspath(path) for path in writable]
        self._env = dict(env or {})
        self._network = network
        self._options = list(options)
        self._bwrap = os.fspath(bwrap)

    def diagnose(self) -> str:
        missing = [path for path in self._writable if not os.path.exists(path)]
        return f"not there to be written to: {', '.join(missing)}" if missing else ""

    def _environment(self) -> dict[str, str]:
        # Not on the command line, where anybody could read it.
        return {"PATH": os.defpath, **self._env}

    def _command(self, launch: Launch) -> list[str]:
        program = shutil.which(self._bwrap)
        if program is None:
            raise FileNotFoundError(f"there is no program {self._bwrap}; install bubblewrap")
        command = [program, "--die-with-parent", "--unshare-all", "--new-session"]
        if self._network:
            command += ["--share-net"]
        # What is mounted later lies above: shown parts of /tmp above the empty one.
        temporary = [path for path in self._read_only if path.startswith("/tmp/")]
        for path in self._read_only:
            if path not in temporary:
                command += ["--ro-bind-try", path, path]
        command += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
        for path in temporary:
            command += ["--ro-bind-try", path, path]
        for path in [*self._writable, launch.socket_dir]:
            command += ["--bind", path, path]
        return [*command, "--chdir", "/", *self._options, "--", *self._argv]


class ContainerRunner(_CommandRunner):
    """Runs a plugin in a container, with the command line of podman or docker.

    The image's entry point is the plugin. A private directory for its socket is mounted into it,
    and nothing else; it has no network unless one is named.

    image      what to run
    command    arguments for the entry point
    engine     "podman" or "docker", or a path; by default the first that is there
    group      id of the group that shares the socket, for images whose user is not that of the host
    memory     limit as the engine takes it: "256m"
    cpus       how many CPUs it may use
    network    the engine's name of a network; "none"
    env        variables besides those of the protocol
    options    further options of the engine's run command
    engine_options  options of the engine itself
    """

    SOCKET_DIR = "/run/pygo-plugin"  # inside
    PATIENCE = 20.0  # seconds for the engine to remove the container, which podman stops first

    def __init__(
        self,
        image: str,
        command: Sequence[str] = (),
        *,
        engine: StrPath | None = None,
        group: int | None = None,
        memory: str | None = None,
        cpus: float | None = None,
        network: str = "none",
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        engine_options: Sequence[str] = (),
    ) -> None:
        super().__init__(image.rpartition("/")[2])
        self._image = image
        self._arguments = list(command)
        self._engine = None if engine is None else os.fspath(engine)
        self._engine_options = list(engine_options)
        self.group = group
        self._limits: list[str] = [f"--network={network}"]
        if memory is not None:
            self._limits += [f"--memory={memory}"]
        if cpus is not None:
            self._limits += [f"--cpus={cpus}"]
        self._env = dict(env or {})
        self._options = list(options)
        self._container = f"pygo-plugin-{uuid.uuid4().hex}"
        self._socket_dir = ""
        self._guard: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    @property
    def id(self) -> str:
        """The container's name; "" before the start."""
        return "" if self._process is None else self._container

    def start(self, launch: Launch) -> None:
        self._refuse_again()  # before anything of the first one's is touched
        self._socket_dir = launch.socket_dir
        launch.env["PLUGIN_UNIX_SOCKET_DIR"] = self.SOCKET_DIR
        if self.group is not None:
            launch.env["PLUGIN_UNIX_SOCKET_GROUP"] = str(self.group)
        launch.env.update(self._env)
        # The container is not below this process but below the engine's: nothing ends it with us.
        remove = [*self._call(), "rm", "--force", self._container]
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", 'read -r done && exit; exec "$@" >/dev/null 2>&1', "sh", *remove],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            super().start(launch)
        except BaseException:
            self._dismiss_guard()
            raise

    def wait(self) -> int | None:
        status = super().wait()
        self._dismiss_guard()
        return status

    def kill(self) -> None:
        removed = self._remove()
        if removed is None:  # the engine hangs: the guard goes on trying, without us
            self._let_guard_remove()
        # A container that was only about to be made would be there after its removal.
        super().kill()
        if removed is False:
            self._remove()

    def plugin_to_host(self, network: str, address: str) -> tuple[str, str]:
        return network, _moved(address, self.SOCKET_DIR, self._socket_dir)

    def host_to_plugin(self, network: str, address: str) -> tuple[str, str]:
        return network, _moved(address, self._socket_dir, self.SOCKET_DIR)

    def _remove(self) -> bool | None:
        """Remove the container. Returns: whether that succeeded, None if it took too long."""
        remove = [*self._call(), "rm", "--force", self._container]
        try:
            done = subprocess.run(
                remove,
                capture_output=True,
                stdin=subprocess.DEVNULL,
                check=False,
                timeout=self.PATIENCE,
            )
        except subprocess.TimeoutExpired:
            return None
        return done.returncode == 0

    def _let_guard_remove(self) -> None:
        with self._lock:
            guard, self._guard = self._guard, None
        if guard is not None and guard.stdin is not None:
            guard.stdin.close()  # as if this process had ended
            threading.Thread(target=guard.wait, name="pygo-guard", daemon=True).start()

    def _dismiss_guard(self) -> None:
        with self._lock:
            guard, self._guard = self._guard, None
        if guard is not None and guard.stdin is not None:
            with contextlib.suppress(OSError):
                guard.stdin.write(b"done\n")
                guard.stdin.flush()
            guard.stdin.close()
            guard.wait()

    def _call(self) -> list[str]:
        """The engine, before its command."""
        engine = self._engine or shutil.which("podman") or shutil.which("docker")
        if engine is None:
            raise FileNotFoundError("there is neither podman nor docker to run containers with")
        return [engine, *self._engine_options]

    def _environment(self) -> dict[str, str]:
        return dict(os.environ)  # the engine's own; see below for what the plugin gets

    def _command(self, launch: Launch) -> list[str]:
        command = [*self._call(), "run", "--rm", f"--name={self._container}", *self._limits]
        command += [f"--volume={launch.socket_dir}:{self.SOCKET_DIR}"]
        if self.group is not None:
            command += [f"--group-add={self.group}"]
        for variable in launch.env:  # by name: the values come with the environment
            command += ["--env", variable]
        return [*command, *self._options, self._image, *self._arguments]


def _argv(cmd: StrPath | Sequence[StrPath]) -> list[str]:
    if isinstance(cmd, (str, os.PathLike)):
        return [os.fspath(cmd)]
    argv = [os.fspath(part) for part in cmd]
    if not argv:
        raise ConfigError("the runner has no program to run: its cmd is empty")
    return argv


def _moved(address: str, above: str, below: str) -> str:
    """The path of a file in the directory `above`, as seen from `below`."""
    folder, name = os.path.split(address)
    return os.path.join(below, name) if folder == above else address
