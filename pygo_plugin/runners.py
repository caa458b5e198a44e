"""Runners, which launch plugins in containers and sandboxes instead of as subprocesses.

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

from pygo_plugin._base.checks import refuse_copy
from pygo_plugin._base.core import _core
from pygo_plugin._host.naming import base_name, program_of
from pygo_plugin._host.runner import Launch
from pygo_plugin.errors import ConfigError
from pygo_plugin.utils import env_to_list

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pygo_plugin.config import StrPath

__all__ = ["BubblewrapRunner", "ContainerRunner", "Launch", "Runner"]


class Runner(Protocol):
    """A way to run one plugin once, for the option `runner` of Client.

    It is any object with these members. `wait` and `kill` are called on the core's threads, while
    other methods may run. All methods may block.
    """

    @property
    def name(self) -> str:
        """The plugin's name, for messages and its logger."""

    @property
    def id(self) -> str:
        """What identifies the running plugin; "" before the start."""

    @property
    def stdout(self) -> Any:
        """What the handshake is read from: a descriptor, or an object with `fileno()`.

        Read after the start. The descriptor is duplicated, and the runner closes the original.
        """

    @property
    def stderr(self) -> Any:
        """What the plugin's log is read from, as `stdout`."""

    def start(self, launch: Launch) -> None:
        """Start the plugin. An exception becomes the cause of a StartError."""

    def wait(self) -> int | None:
        """Block until the plugin has ended. Returns: its exit status, None if unknown."""

    def kill(self) -> None:
        """End it by force, so that `wait` returns. Called at most once."""

    def diagnose(self) -> str:
        """What may explain why a start has failed, for the error's message; "" if unknown."""

    def plugin_to_host(self, network: str, address: str) -> tuple[str, str]:
        """Translate the address of one of the plugin's listeners for the host.

        Called for the handshake, then for brokered connections. An exception becomes the cause of a
        HandshakeError, or part of the message of a BrokerError. Returns: network and address.
        """

    def host_to_plugin(self, network: str, address: str) -> tuple[str, str]:
        """Translate the address of one of the host's listeners for the plugin.

        Called for brokered connections that the host accepts, on the thread that accepts. Returns:
        network and address.
        """


class _CommandRunner:
    """A runner that runs a local command. The plugin ends when the command does."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._process: _core.Process | None = None

    @property
    def name(self) -> str:
        """The plugin's name, for messages and its logger."""
        return self._name

    @property
    def id(self) -> str:
        """What identifies the running plugin; "" before the start."""
        return "" if self._process is None else str(self._process.pid)

    @property
    def stdout(self) -> int:
        """What the handshake is read from: a descriptor."""
        return self._running_process().stdout

    @property
    def stderr(self) -> int:
        """What the plugin's log is read from: a descriptor."""
        return self._running_process().stderr

    def start(self, launch: Launch) -> None:
        """Start the plugin. Raises: StartError if the command cannot be run."""
        self._refuse_second_start()
        environment = {**self._environment(), **launch.env}
        self._process = _core.Process(
            tuple(map(os.fsencode, self._command(launch))),
            tuple(map(os.fsencode, env_to_list(environment))),
        )

    def wait(self) -> int | None:
        """Block until the plugin has ended. Returns: its exit status, None if unknown."""
        return self._running_process().wait(None)

    def kill(self) -> None:
        """End the plugin by force."""
        self._running_process().kill()

    def diagnose(self) -> str:
        """What may explain why a start has failed; "" if unknown."""
        return ""

    def __repr__(self) -> str:
        state = "not started" if self._process is None else f"process {self._process.pid}"
        return f"<{type(self).__name__} of {self._name!r}, {state}>"

    __reduce_ex__ = refuse_copy

    def plugin_to_host(self, network: str, address: str) -> tuple[str, str]:
        """Translate the address of one of the plugin's listeners for the host."""
        return network, address

    def host_to_plugin(self, network: str, address: str) -> tuple[str, str]:
        """Translate the address of one of the host's listeners for the plugin."""
        return network, address

    def _refuse_second_start(self) -> None:
        if self._process is not None:
            raise ConfigError(f"{self.name}: a runner runs once; make another one")

    def _running_process(self) -> _core.Process:
        if self._process is None:
            raise ConfigError(f"{self.name}: the runner has not been started")
        return self._process

    def _environment(self) -> dict[str, str]:
        """The environment variables of the command itself."""
        return {}

    def _command(self, launch: Launch) -> list[str]:
        raise NotImplementedError


class BubblewrapRunner(_CommandRunner):
    """Runs a plugin in a bubblewrap sandbox (`bwrap`), without a daemon.

    The sandbox has its own namespaces: no other processes, no network, an empty /tmp. Of the file
    system it contains the given paths and the plugin's socket directory.

    cmd        the program and its arguments, with paths inside the sandbox
    read_only  paths that the sandbox contains read-only; those that do not exist are left out
    writable   paths that the sandbox contains writable
    env        environment variables besides the protocol's; the host's own are not passed on
    network    whether the sandbox uses the host's network
    options    further options of bwrap
    bwrap      the program
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
        super().__init__(base_name(program_of(self._argv)))
        self._read_only = [os.fspath(path) for path in read_only]
        self._writable = [os.fspath(path) for path in writable]
        self._env = dict(env or {})
        self._network = network
        self._options = list(options)
        self._bwrap = os.fspath(bwrap)

    def diagnose(self) -> str:
        """What may explain why a start has failed; "" if unknown."""
        missing = [path for path in self._writable if not os.path.exists(path)]
        return f"writable paths do not exist: {', '.join(missing)}" if missing else ""

    def _environment(self) -> dict[str, str]:
        # Not on the command line, which every user can read.
        return {"PATH": os.defpath, **self._env}

    def _command(self, launch: Launch) -> list[str]:
        program = shutil.which(self._bwrap)
        if program is None:
            raise FileNotFoundError(f"there is no program {self._bwrap}; install bubblewrap")
        command = [program, "--die-with-parent", "--unshare-all", "--new-session"]
        if self._network:
            command += ["--share-net"]
        # A later mount covers an earlier one, so that paths below /tmp come after the empty /tmp.
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
    """Runs a plugin in a container, by the command line of podman or docker.

    The image's entry point is the plugin. Only a private directory for its socket is mounted into
    the container, which has no network unless one is named.

    image      the image to run
    command    arguments for the entry point
    engine     "podman" or "docker", or a path; by default the first of the two that is installed
    group      id of the group that shares the socket, for images that run as another user
    memory     the memory limit in the engine's notation, such as "256m"
    cpus       how many CPUs the container may use
    network    the engine's name for a network, by default "none"
    env        environment variables besides the protocol's
    options    further options of the engine's run command
    engine_options  options of the engine itself
    """

    SOCKET_DIR = "/run/pygo-plugin"  # inside the container
    PATIENCE = 20.0  # seconds for the engine to remove the container; podman stops it first

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
        """Start the plugin. Raises: StartError if the command cannot be run."""
        self._refuse_second_start()  # before anything of the first start is changed
        self._socket_dir = launch.socket_dir
        launch.env["PLUGIN_UNIX_SOCKET_DIR"] = self.SOCKET_DIR
        if self.group is not None:
            launch.env["PLUGIN_UNIX_SOCKET_GROUP"] = str(self.group)
        launch.env.update(self._env)
        # The container is a child of the engine and does not end with this process. Therefore a
        # shell waits for a line of this process, and removes the container if it ends without one.
        remove = [*self._engine_command(), "rm", "--force", self._container]
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
            self._end_guard()
            raise

    def wait(self) -> int | None:
        """Block until the plugin has ended. Returns: its exit status, None if unknown."""
        status = super().wait()
        self._end_guard()
        return status

    def kill(self) -> None:
        """End the plugin by force."""
        removed = self._remove()
        if removed is None:  # the engine hangs, and the guard waits for it instead of this thread
            self._let_guard_remove()
        # If the engine was still making the container, it exists now, after the first removal.
        super().kill()
        if removed is False:
            self._remove()

    def plugin_to_host(self, network: str, address: str) -> tuple[str, str]:
        """Translate the address of one of the plugin's listeners for the host."""
        return network, _moved(address, self.SOCKET_DIR, self._socket_dir)

    def host_to_plugin(self, network: str, address: str) -> tuple[str, str]:
        """Translate the address of one of the host's listeners for the plugin."""
        return network, _moved(address, self._socket_dir, self.SOCKET_DIR)

    def _remove(self) -> bool | None:
        """Remove the container. Returns: whether that succeeded, None after PATIENCE."""
        remove = [*self._engine_command(), "rm", "--force", self._container]
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
        """Have the guard remove the container, as if this process had ended."""
        with self._lock:
            guard, self._guard = self._guard, None
        if guard is not None and guard.stdin is not None:
            guard.stdin.close()
            threading.Thread(target=guard.wait, name="pygo-guard", daemon=True).start()

    def _end_guard(self) -> None:
        with self._lock:
            guard, self._guard = self._guard, None
        if guard is not None and guard.stdin is not None:
            with contextlib.suppress(OSError):
                guard.stdin.write(b"done\n")
                guard.stdin.flush()
            guard.stdin.close()
            guard.wait()

    def _engine_command(self) -> list[str]:
        """The command line of the engine, to which its command is added."""
        engine = self._engine or shutil.which("podman") or shutil.which("docker")
        if engine is None:
            raise FileNotFoundError("there is neither podman nor docker to run containers with")
        return [engine, *self._engine_options]

    def _environment(self) -> dict[str, str]:
        return dict(os.environ)  # for the engine; _command() names those that the plugin gets

    def _command(self, launch: Launch) -> list[str]:
        command = [
            *self._engine_command(),
            "run",
            "--rm",
            f"--name={self._container}",
            *self._limits,
        ]
        command += [f"--volume={launch.socket_dir}:{self.SOCKET_DIR}"]
        if self.group is not None:
            command += [f"--group-add={self.group}"]
        for variable in launch.env:  # only the names; the engine takes values from its environment
            command += ["--env", variable]
        return [*command, *self._options, self._image, *self._arguments]


def _argv(cmd: StrPath | Sequence[StrPath]) -> list[str]:
    if isinstance(cmd, (str, os.PathLike)):
        return [os.fspath(cmd)]
    argv = [os.fspath(part) for part in cmd]
    if not argv:
        raise ConfigError("the runner has no program to run: its cmd is empty")
    return argv


def _moved(address: str, source: str, target: str) -> str:
    """The path of a file with its directory `source` replaced by `target`. Others are kept."""
    folder, name = os.path.split(address)
    return os.path.join(target, name) if folder == source else address
