"""The hosts and plugins that are measured, and how to run them.

A host and a plugin are named alike, after what they are made of. `LAB.measure(host, plugin, ...)`
runs a host with a plugin and returns what it printed.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / "bench"
BUILD = ROOT / "build"
COOKIE = ("PYGO_TEST_COOKIE", "pygo")
Json = dict[str, Any]
TIMEOUT = 120  # seconds for any one measurement

OURS = "pygo"
GO = "go"
GRPCIO = "grpcio"
C = "c"
BARE = "bare"
OURS_AIO = "pygo.aio"
GRPC_AIO = "grpc.aio"
RPC = "netrpc"
GO_RPC = "go.netrpc"
PYTHON_PLUGIN = "python-plugin"
PYVIDER = "pyvider-rpcplugin"
OPTIONAL = (PYTHON_PLUGIN, PYVIDER)


class Failed(Exception):
    """A measurement did not come about; the message says why."""


@dataclass(frozen=True)
class Started:
    """A plugin that was launched by hand, after its handshake line."""

    process: subprocess.Popen[bytes]
    target: str


class Lab:
    def __init__(self) -> None:
        self.scratch = tempfile.mkdtemp(prefix="pygo-bench-")
        self.pair = str(BUILD / "bench" / "pair")
        self.missing = {name: why for name in OPTIONAL if (why := self._why_missing(name))}

    def close(self) -> None:
        """Remove what plugins have left in their temporary directory."""
        shutil.rmtree(self.scratch, ignore_errors=True)

    def python(self, name: str) -> str:
        """The interpreter that runs the programs of one contender."""
        if name in OPTIONAL:
            return str(BUILD / "bench" / name / "bin" / "python")
        return sys.executable

    def plugin(self, name: str) -> list[str]:
        """The command line of a plugin."""
        if name == GO:
            return [str(BUILD / "peers" / "plugin")]
        if name == GO_RPC:
            return [*self.plugin(GO), "-netrpc", "1"]
        if name == C:
            return [self.pair, "plugin"]
        program = f"{name}.py" if name in (BARE, RPC) else f"echo_{_module(name)}.py"
        return [self.python(name), str(BENCH / "plugins" / program)]

    def host(self, name: str, plugin: str, **options: int | str) -> list[str]:
        """The command line of a host that measures, with the options of bench/hosts/measure.py."""
        arguments = []
        for key, value in options.items():
            if value is not False:
                arguments += [_flag(name, key)] if value is True else [_flag(name, key), str(value)]
        if name in (GO, GO_RPC):
            if name == GO_RPC:
                arguments.append("-netrpc")
            program, *rest = self.plugin(plugin)
            return [str(BUILD / "peers" / "bench"), *arguments, "-cmd", program, "--", *rest]
        program = str(BENCH / "hosts" / f"host_{_module(name)}.py")
        return [self.python(name), program, *arguments, "--", *self.plugin(plugin)]

    def measure(self, host: str, plugin: str, pinned: bool = False, **options: int | str) -> Json:
        """Run a host with a plugin. Returns: what it printed. Raises: Failed."""
        if host == C:
            return self._measure_c(plugin, pinned, options)
        printed: Json = json.loads(self.output(self.host(host, plugin, **options), pinned=pinned))
        return printed

    def spawn(
        self,
        command: Sequence[str],
        *,
        pinned: bool = False,
        stdin: int = subprocess.DEVNULL,
        stderr: int = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        """Start a program in a process group of its own, with the plugins' modules at hand."""
        with _affinity(pinned):
            return subprocess.Popen(
                command,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=self.environment(),
                start_new_session=True,
            )

    def output(self, command: Sequence[str], *, pinned: bool = False) -> bytes:
        """Run a program to its end. Returns: its stdout. Raises: Failed."""
        process = self.spawn(command, pinned=pinned, stderr=subprocess.PIPE)
        try:
            stdout, stderr = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            raise Failed(f"{_shown(command)}: took more than {TIMEOUT} s") from None
        finally:
            end_group(process)
        if process.returncode != 0:
            lines = stderr.decode(errors="replace").strip().splitlines()
            # Go's errors begin with what matters, Python's tracebacks end with it.
            gist = " ... ".join(dict.fromkeys(lines[:1] + lines[-1:]))
            raise Failed(f"{_shown(command)}: exit status {process.returncode}: {gist}")
        return stdout

    def launch(self, name: str, *, pinned: bool = False) -> Started:
        """Launch a plugin by hand and wait for its handshake. `end()` it."""
        process = self.spawn(self.plugin(name), pinned=pinned)
        try:
            target = handshake_target(first_line(process))
        except BaseException:
            end_group(process)
            raise
        return Started(process, target)

    def end(self, plugin: Started) -> None:
        """Have a plugin shut itself down, or make it."""
        try:
            self.output([self.pair, "shutdown", plugin.target])
            plugin.process.wait(5)
        except subprocess.TimeoutExpired:
            pass
        finally:
            end_group(plugin.process)

    def environment(self) -> dict[str, str]:
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("PLUGIN_", "PYTHON", "GRPC_"))
        }
        # Generated modules; and orders.py, for plugins.
        environment["PYTHONPATH"] = os.pathsep.join([str(BUILD / "proto"), str(BENCH / "hosts")])
        environment["TMPDIR"] = self.scratch
        environment["PLUGIN_PROTOCOL_VERSIONS"] = "1"
        environment[COOKIE[0]] = COOKIE[1]
        return environment

    def _measure_c(self, plugin: str, pinned: bool, options: dict[str, int | str]) -> Json:
        """The C client knows how to call, not how to launch."""
        started = self.launch(plugin, pinned=pinned)
        try:
            numbers = [str(options[key]) for key in ("size", "calls", "threads")]
            command = [self.pair, "client", started.target, "/probe.Probe/Echo", *numbers]
            printed: Json = json.loads(self.output(command, pinned=pinned))
            return printed
        finally:
            self.end(started)

    def _why_missing(self, name: str) -> str:
        """Why a peer cannot take part, empty if it can."""
        if (BUILD / "bench" / name / "installed").exists():
            return ""
        log = BUILD / "bench" / f"{name}.log"
        lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
        return lines[-1] if lines else "not installed"


def first_line(process: subprocess.Popen[bytes]) -> bytes:
    """What a program prints first; empty if it ends without a word. Raises: Failed."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], TIMEOUT)
    if not ready:
        raise Failed(f"{process.args!r}: printed nothing within {TIMEOUT} s")
    return process.stdout.readline()


def handshake_target(line: bytes) -> str:
    """Where the plugin listens that printed this line, as gRPC writes it. Raises: Failed."""
    fields = line.decode(errors="replace").strip().split("|")
    if len(fields) < 4:
        raise Failed(f"a plugin printed {line!r} for a handshake")
    network, address = fields[2:4]
    return f"unix:{address}" if network == "unix" else address


def children(pid: int) -> list[int]:
    """The processes that another one has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a spawned program and what it has left behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


@contextlib.contextmanager
def _affinity(pinned: bool) -> Iterator[None]:
    """What is started meanwhile runs on one CPU, and so does all that it starts."""
    if not pinned:
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _module(name: str) -> str:
    return {
        PYTHON_PLUGIN: "python_plugin",
        PYVIDER: "pyvider",
        OURS_AIO: "pygo_aio",
        GRPC_AIO: "grpcio_aio",
    }.get(name, name)


def _flag(host: str, key: str) -> str:
    return f"{'-' if host in (GO, GO_RPC) else '--'}{key.replace('_', '-')}"


def _shown(command: Sequence[str]) -> str:
    """A command line without the checkout's own path."""
    return " ".join(command).replace(f"{ROOT}/", "")
