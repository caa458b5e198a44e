"""The plugin's side, run as a process of its own and looked at from outside."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pygo_plugin import (
    Cmd,
    ConfigError,
    HandshakeConfig,
    Plugin,
    ReattachConfig,
    ServeConfig,
    Server,
    ServeTestConfig,
    server,
)
from pygo_plugin._serve.grpc_protocol import GrpcProtocol
from pygo_plugin._serve.protocol import Protocol

COOKIE = {"PYGO_TEST_COOKIE": "pygo"}

Run = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def run(socket_dir: Path) -> Iterator[Run]:
    """Starts a plugin as a host would, and kills it after the test."""
    processes = []

    def start(command: list[str], **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **COOKIE, "PLUGIN_PROTOCOL_VERSIONS": "1", **environment},
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def handshake(process: subprocess.Popen[str]) -> list[str]:
    """The fields of the handshake line."""
    assert process.stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        # Byte by byte: communicate() would not find what a reader has taken beyond the line.
        byte = os.read(process.stdout.fileno(), 1)
        if not byte:
            pytest.fail(f"no handshake but {line!r}; stderr: {process.communicate()[1]}")
        line += byte
    return line.decode().rstrip("\n").split("|")


def shut_down(fields: list[str]) -> None:
    import grpc

    target = fields[3] if fields[2] == "tcp" else f"unix:{fields[3]}"
    with grpc.insecure_channel(target) as channel:
        channel.unary_unary("/plugin.GRPCController/Shutdown")(b"", timeout=10)


# ---- The handshake line -------------------------------------------------------------------------


def test_handshake_line(run: Run, peers: Any, socket_dir: Path) -> None:
    fields = handshake(run(peers.plugin("python")))
    assert fields[:3] == ["1", "1", "unix"]
    assert fields[4] == "grpc"
    assert fields[5:] in ([], [""])  # no certificate, and nothing behind
    path = Path(fields[3])
    assert path.is_socket()
    assert path.parent == socket_dir
    assert path.name.startswith("plugin")


def test_handshake_over_tcp_within_the_limits(run: Run, peers: Any) -> None:
    process = run(
        peers.plugin("python", "--network", "tcp"),
        PLUGIN_MIN_PORT="23000",
        PLUGIN_MAX_PORT="24000",
    )
    fields = handshake(process)
    assert fields[2] == "tcp"
    host, port = fields[3].split(":")
    assert host == "127.0.0.1"
    assert 23000 <= int(port) <= 24000


def test_socket_directory_of_the_host(run: Run, peers: Any, socket_dir: Path) -> None:
    directory = socket_dir / "given"
    directory.mkdir()
    fields = handshake(run(peers.plugin("python"), PLUGIN_UNIX_SOCKET_DIR=str(directory)))
    assert Path(fields[3]).parent == directory


def test_socket_group_of_the_host(run: Run, peers: Any) -> None:
    fields = handshake(run(peers.plugin("python"), PLUGIN_UNIX_SOCKET_GROUP=str(os.getgid())))
    status = os.stat(fields[3])
    assert status.st_gid == os.getgid()
    assert status.st_mode & 0o777 == 0o660


def test_unknown_group(run: Run, peers: Any) -> None:
    process = run(peers.plugin("python"), PLUGIN_UNIX_SOCKET_GROUP="no-such-group")
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (1, "")
    assert stderr.startswith("panic: ")
    assert "no-such-group" in stderr


@pytest.mark.parametrize("name", ["x" * 120, "a|b", "a\nb"], ids=["long", "bar", "newline"])
def test_another_directory_where_no_socket_fits(
    run: Run, peers: Any, socket_dir: Path, name: str
) -> None:
    directory = socket_dir / name
    directory.mkdir()
    process = run(peers.plugin("python"), PLUGIN_UNIX_SOCKET_DIR=str(directory))
    fields = handshake(process)
    path = Path(fields[3])
    assert path.parent.name.startswith("plugin-dir")
    assert path.parent.parent == Path("/tmp")
    assert path.parent.stat().st_mode & 0o777 == 0o700
    shut_down(fields)
    assert process.wait(30) == 0
    assert not path.parent.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
@pytest.mark.parametrize("arguments", [[], ["--thread"]])
def test_that_directory_goes_with_a_signal(
    run: Run, peers: Any, socket_dir: Path, number: signal.Signals, arguments: list[str]
) -> None:
    directory = socket_dir / ("x" * 120)
    directory.mkdir()
    process = run(peers.plugin("python", *arguments), PLUGIN_UNIX_SOCKET_DIR=str(directory))
    path = Path(handshake(process)[3])
    process.send_signal(number)
    assert process.wait(30) == -number
    assert not path.parent.exists()


@pytest.mark.parametrize(
    ("server", "multiplex"),
    [("core", ""), ("core", "true"), ("aio", ""), ("aio", "true"), ("grpcio", "")],
)
def test_no_tcp_unless_it_is_configured(
    run: Run, peers: Any, socket_dir: Path, server: str, multiplex: str
) -> None:
    process = run(
        peers.plugin("python", "--server", server),
        TMPDIR=str(socket_dir / "nowhere"),
        PLUGIN_MULTIPLEX_GRPC=multiplex,
    )
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (1, "")
    assert "cannot serve: no " in stderr
    assert "nowhere: No such file or directory" in stderr
    assert "Traceback" not in stderr
    if not multiplex:
        assert 'ServeConfig(network="tcp") would serve on TCP' in stderr


def test_tcp_for_a_host_that_shows_a_certificate(
    make_client: Any, peers: Any, socket_dir: Path, records: Any
) -> None:
    """AutoMTLS keeps others out, so the author need not allow TCP."""
    command = Cmd(peers.plugin("python"))
    command.env = [f"TMPDIR={socket_dir / 'nowhere'}"]
    client = make_client(command, auto_mtls=True)
    assert client.start().network() == "tcp"
    assert client.ping() == ""
    records.wait_for("no unix socket, listening on TCP instead")


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (("2000", "1000"), "PLUGIN_MIN_PORT is 2000, more than PLUGIN_MAX_PORT 1000"),
        (("many", "1000"), "PLUGIN_MIN_PORT must be a port, but is 'many'"),
        (("1", "65536"), "PLUGIN_MAX_PORT must be a port, but is '65536'"),
    ],
)
def test_senseless_ports(run: Run, peers: Any, limits: tuple[str, str], words: str) -> None:
    process = run(
        peers.plugin("python", "--network", "tcp"),
        PLUGIN_MIN_PORT=limits[0],
        PLUGIN_MAX_PORT=limits[1],
    )
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (1, "")
    assert words in stderr


def test_unflushed_output_does_not_come_before_the_line(run: Run, peers: Any) -> None:
    process = run(peers.plugin("python", "--early-print", "too early"), PYTHONUNBUFFERED="")
    fields = handshake(process)
    assert fields[0] == "1"
    shut_down(fields)
    assert process.communicate(timeout=30)[0] == "too early\n"


@pytest.mark.parametrize(
    ("own", "offered", "chosen"),
    [
        ("1,2,3", "1,2", "2"),
        ("1,2,3", "3,9", "3"),
        ("2,3", "1", "2"),
        ("2,3", "", "2"),
        ("1,2", "x,2", "2"),
    ],
)
def test_version_choice(run: Run, peers: Any, own: str, offered: str, chosen: str) -> None:
    process = run(peers.plugin("python", "--versions", own), PLUGIN_PROTOCOL_VERSIONS=offered)
    assert handshake(process)[1] == chosen


def test_invalid_versions_are_noted(run: Run, peers: Any) -> None:
    process = run(peers.plugin("python"), PLUGIN_PROTOCOL_VERSIONS="x,1")
    handshake(process)
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith("[WARN]")
    assert "x" in line


# ---- Refusals -----------------------------------------------------------------------------------


def test_started_by_hand(peers: Any) -> None:
    done = subprocess.run(peers.plugin("python"), capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (1, "")
    assert "not meant to be run directly" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_magic_key(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = Server(ServeConfig(handshake_config=HandshakeConfig(1, "PYGO_KEY", "value")))
    monkeypatch.delenv("PYGO_KEY", raising=False)
    assert plugin.check_magic_key() is False
    assert "not meant to be run directly" in plugin.error_msg
    monkeypatch.setenv("PLUGIN_PROTOCOL_VERSIONS", "1")
    assert plugin.check_magic_key() is False
    assert "it has not set the environment variable PYGO_KEY" in plugin.error_msg
    for other in ("other", ""):
        monkeypatch.setenv("PYGO_KEY", other)
        assert plugin.check_magic_key() is False
        assert "PYGO_KEY is set, and has another value" in plugin.error_msg
        assert "value'" not in plugin.error_msg
    monkeypatch.setenv("PYGO_KEY", "value")
    assert plugin.check_magic_key() is True


@pytest.mark.parametrize("cookie", [("", ""), ("KEY", ""), ("", "value")])
def test_misconfigured_cookie(cookie: tuple[str, str]) -> None:
    plugin = Server(ServeConfig(handshake_config=HandshakeConfig(1, *cookie)))
    assert plugin.serve() is False
    assert "Misconfigured" in plugin.error_msg


def test_server_takes_a_serve_config() -> None:
    with pytest.raises(ConfigError, match="takes a ServeConfig, not dict"):
        Server({})  # type: ignore[arg-type]


def test_stop_before_serve() -> None:
    assert Server(ServeConfig()).stop().is_set()


def test_stop_leaves_nothing_of_one_connection_for_everything(
    run: Run, peers: Any, socket_dir: Path
) -> None:
    script = """
    from pygo_plugin import HandshakeConfig, Plugin, ServeConfig, Server

    class Nothing(Plugin):
        def server_register(self, server):
            pass

    server = Server(ServeConfig(
        handshake_config=HandshakeConfig(1, "PYGO_TEST_COOKIE", "pygo"),
        plugins={"nothing": Nothing()}))
    assert server.serve()
    server.stop()
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    process = run(command, PLUGIN_MULTIPLEX_GRPC="true")
    assert handshake(process)[6] == "true"
    assert process.wait(30) == 0
    assert list(socket_dir.iterdir()) == []


def test_failing_author_is_a_traceback() -> None:
    script = """
    from pygo_plugin import *
    serve(ServeConfig(handshake_config=HandshakeConfig(1, "PYGO_TEST_COOKIE", "pygo"),
                      plugins={"kv": Plugin()}))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, **COOKIE},
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "NotImplementedError: Plugin has no server_register" in done.stderr


# ---- Ways out -----------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ["core", "grpcio"])
@pytest.mark.parametrize("network", ["unix", "tcp"])
def test_shutdown_ends_the_process(
    run: Run, peers: Any, socket_dir: Path, flavour: str, network: str
) -> None:
    process = run(peers.plugin("python", "--network", network, "--server", flavour))
    fields = handshake(process)
    shut_down(fields)
    assert process.wait(30) == 0
    assert list(socket_dir.iterdir()) == []


@pytest.mark.parametrize(("end", "status"), [("exit", 5), ("raise", 1)])
def test_socket_is_gone_however_the_program_ends(
    run: Run, peers: Any, socket_dir: Path, end: str, status: int
) -> None:
    process = run(peers.plugin("python", "--end", end))
    shut_down(handshake(process))
    assert process.wait(30) == status
    assert list(socket_dir.iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["--thread"]])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signals_kill_after_the_socket_is_gone(
    run: Run, peers: Any, socket_dir: Path, number: signal.Signals, arguments: list[str]
) -> None:
    process = run(peers.plugin("python", *arguments))
    handshake(process)
    process.send_signal(number)
    assert process.wait(30) == -number
    assert list(socket_dir.iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["--thread"]])
def test_sigint_is_swallowed(run: Run, peers: Any, arguments: list[str]) -> None:
    process = run(peers.plugin("python", *arguments))
    fields = handshake(process)
    process.send_signal(signal.SIGINT)
    shut_down(fields)
    assert process.wait(30) == 0
    assert "KeyboardInterrupt" not in process.communicate()[1]


def test_sigint_is_not_ignored_for_children_of_the_plugin(run: Run, peers: Any) -> None:
    """An ignored signal stays ignored across exec; a handled one is reset to its default."""
    import grpc
    import probe_pb2
    import probe_pb2_grpc

    fields = handshake(run(peers.plugin("python")))
    with grpc.insecure_channel(f"unix:{fields[3]}") as channel:
        found = probe_pb2_grpc.ProbeStub(channel).Environ(probe_pb2.EnvironRequest(), timeout=10)
    bit = 1 << (signal.SIGINT - 1)
    assert not found.signals_ignored & bit
    assert found.signals_caught & bit


def test_forked_child_of_a_plugin_leaves_the_socket_alone(run: Run, socket_dir: Path) -> None:
    script = """
    import os, sys
    from pygo_plugin import *
    server = Server(ServeConfig(handshake_config=HandshakeConfig(1, "PYGO_TEST_COOKIE", "pygo")))
    assert server.serve()
    pid = os.fork()
    if pid == 0:
        sys.exit(4)
    _, status = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(status), len(os.listdir(os.environ["TMPDIR"])), flush=True)
    server.stop(None).wait()
    """
    process = run([sys.executable, "-c", textwrap.dedent(script)])
    handshake(process)
    assert process.communicate(timeout=30)[0] == "4 1\n"
    assert process.returncode == 0
    assert list(socket_dir.iterdir()) == []


def test_serve_without_wait(run: Run, socket_dir: Path) -> None:
    script = """
    from pygo_plugin import *
    server = Server(ServeConfig(handshake_config=HandshakeConfig(1, "PYGO_TEST_COOKIE", "pygo")))
    print(server.serve(), server.serve(), server.error_msg)
    print(server.stop(None).wait(20))
    """
    process = run([sys.executable, "-c", textwrap.dedent(script)])
    fields = handshake(process)
    assert fields[:3] == ["1", "1", "unix"]
    assert process.communicate(timeout=30)[0] == ("True False this Server serves already\nTrue\n")
    assert list(socket_dir.iterdir()) == []


def test_signals_are_given_back(run: Run) -> None:
    script = """
    import signal
    from pygo_plugin import *
    server = Server(ServeConfig(handshake_config=HandshakeConfig(1, "PYGO_TEST_COOKIE", "pygo")))
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    server.serve()
    during = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    server.stop(None).wait()
    after = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    print(before == after, before == during)
    """
    process = run([sys.executable, "-c", textwrap.dedent(script)])
    handshake(process)
    assert process.communicate(timeout=30)[0] == "True False\n"


def test_handlers_of_the_author_stay(run: Run) -> None:
    script = """
    import signal
    from pygo_plugin import *
    def own(number, frame): pass
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, own)
    server = Server(ServeConfig(handshake_config=HandshakeConfig(1, "PYGO_TEST_COOKIE", "pygo")))
    server.serve()
    print([signal.getsignal(n) is own for n in (signal.SIGINT, signal.SIGTERM)])
    """
    process = run([sys.executable, "-c", textwrap.dedent(script)])
    handshake(process)
    assert process.communicate(timeout=30)[0] == "[True, True]\n"


# ---- Logging ------------------------------------------------------------------------------------


def log_through(fields: list[str], text: bytes) -> None:
    import grpc
    import probe_pb2
    import probe_pb2_grpc

    line = probe_pb2.Line(channel="LOG", text=text, level="debug", fields={"key": "value"})
    with grpc.insecure_channel(f"unix:{fields[3]}") as channel:
        stub = probe_pb2_grpc.ProbeStub(channel)
        stub.Print(probe_pb2.PrintRequest(lines=[line]), timeout=10)


def test_logging_speaks_hclog(run: Run, peers: Any) -> None:
    process = run(peers.plugin("python"))
    fields = handshake(process)
    log_through(fields, b"a message")
    shut_down(fields)
    lines = process.communicate(timeout=30)[1].splitlines()
    (entry,) = [e for e in map(json.loads, lines) if e["@message"] == "a message"]
    assert (entry["@level"], entry["@module"], entry["key"]) == ("debug", "peer", "value")


def test_logging_of_the_author_stays(run: Run, peers: Any) -> None:
    process = run(peers.plugin("python", "--own-logging"))
    fields = handshake(process)
    log_through(fields, b"a message")
    shut_down(fields)
    assert "own: a message\n" in process.communicate(timeout=30)[1]


def test_logger_of_the_configuration(run: Run) -> None:
    script = """
import logging
from pygo_plugin import HandshakeConfig, Plugin, ServeConfig, Server

class Idle(Plugin):
    def server_register(self, server):
        pass

server = Server(ServeConfig(
    handshake_config=HandshakeConfig(1, "PYGO_TEST_COOKIE", "pygo"),
    plugins={"idle": Idle()},
    logger=logging.getLogger("mine"),
))
assert server.serve(), server.error_msg
logging.getLogger("mine.part").debug("a message")
logging.getLogger("other").info("not ours")
assert not logging.getLogger().handlers
server.stop().wait()
"""
    process = run([sys.executable, "-c", script])
    (line,) = process.communicate(timeout=30)[1].splitlines()
    entry = json.loads(line)
    assert (entry["@level"], entry["@module"]) == ("debug", "mine.part")
    assert entry["@message"] == "a message"


# ---- The server of the configuration ------------------------------------------------------------

CONFIGURED = """
import threading

import grpc
from pygo_plugin import *
from pygo_plugin_peer import HANDSHAKE, KVPlugin

together = threading.Barrier({together})


class Guard(grpc.ServerInterceptor):
    def intercept_service(self, continuation, details):
        if details.method.startswith("/kv.KV/") and ("token", "right") not in [
            tuple(item) for item in details.invocation_metadata
        ]:
            return grpc.unary_unary_rpc_method_handler(self.refuse)
        return continuation(details)

    def refuse(self, request, context):
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")


class Meeting(Plugin):
    def server_register(self, server):
        handler = grpc.unary_unary_rpc_method_handler(self.meet)
        server.add_registered_method_handlers("meeting.Meeting", {{"Meet": handler}})

    def meet(self, request, context):
        try:
            together.wait({patience})
        except threading.BrokenBarrierError:
            return b"alone"
        return b"together"


plugins = {{"kv": KVPlugin(), "meeting": Meeting()}}
serve(ServeConfig(handshake_config=HANDSHAKE, plugins=plugins, {options}))
"""


def configured(run: Run, options: str, together: int = 1, patience: float = 20) -> list[str]:
    script = CONFIGURED.format(options=options, together=together, patience=patience)
    return handshake(run([sys.executable, "-c", script]))


def test_interceptors_of_the_configuration(run: Run) -> None:
    import grpc
    import kv_pb2
    import kv_pb2_grpc

    fields = configured(run, "interceptors=[Guard()]")
    with grpc.insecure_channel(f"unix:{fields[3]}") as channel:
        kv = kv_pb2_grpc.KVStub(channel)
        request = kv_pb2.PutRequest(key="key", value=b"value")
        with pytest.raises(grpc.RpcError) as caught:
            kv.Put(request, timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        kv.Put(request, timeout=10, metadata=[("token", "right")])
    shut_down(fields)


@pytest.mark.parametrize(
    ("workers", "patience", "found"), [(2, 20, {b"together"}), (1, 0.1, {b"alone"})]
)
def test_workers_of_the_configuration(
    run: Run, workers: int, patience: float, found: set[bytes]
) -> None:
    import grpc

    fields = configured(run, f"max_workers={workers}", 2, patience)
    with grpc.insecure_channel(f"unix:{fields[3]}") as channel:
        meet = channel.unary_unary("/meeting.Meeting/Meet")
        meetings = [meet.future(b"", timeout=40) for _ in range(2)]
        assert {meeting.result() for meeting in meetings} == found
    shut_down(fields)


# ---- Inside this process ------------------------------------------------------------------------


class Recorder:
    """Stands in for a gRPC server, and remembers what was asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def method(*arguments: Any) -> Any:
            self.asked.append(name)
            if name == "add_insecure_port":
                with socket.socket(socket.AF_UNIX) as made:  # whose mode will be set
                    made.bind(arguments[0][len("unix:") :])
                return 1
            event = threading.Event()
            event.set()
            return event

        return method


def test_order_of_events(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()

    class Own(Server):
        def server(self, **opts: Any) -> Any:
            return recorder

        def _protocol_class(self, server: Any) -> type[GrpcProtocol]:
            return GrpcProtocol  # as for a server of the package's

    class Registering(Plugin):
        def server_register(self, server: Any) -> None:
            server.registered()

    monkeypatch.setenv("PYGO_KEY", "value")
    for variable in ("PLUGIN_CLIENT_CERT", "PLUGIN_UNIX_SOCKET_GROUP"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(
        server, "_print_handshake", lambda line, stdio, logger: recorder.asked.append("line")
    )
    config = ServeConfig(
        handshake_config=HandshakeConfig(1, "PYGO_KEY", "value"), plugins={"x": Registering()}
    )
    plugin = Own(config)
    before = signal.getsignal(signal.SIGINT)
    try:
        assert plugin.serve(wait=True) is True
    finally:
        signal.signal(signal.SIGINT, before)  # swallowed until the process ends, were it a plugin
    assert recorder.asked == [
        "add_plugin_services",
        "add_broker",
        "registered",
        "add_insecure_port",
        "start",
        "line",
        "wait_for_termination",
    ]
    assert plugin.GRPC_SERVICE_NAME == "plugin"


class Lines(Protocol):
    """A protocol of one line for each connection, to show what a protocol has to implement."""

    name = "lines"

    def __init__(self) -> None:
        self.plugins: list[Plugin] = []
        self.socket = socket.socket(socket.AF_UNIX)
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.answer)

    def add_services(self, name: str, stdio: Any) -> None:
        pass

    def register(self, plugins: Any) -> None:
        self.plugins += plugins

    def prepare_to_listen(self) -> str | None:
        return None

    def listen_unix(self, place: Any) -> None:
        self.address = place.path  # once it is published
        self.socket.bind(place.bind)
        self.socket.listen()

    def listens(self, network: str) -> None:
        assert network == "unix"

    def start(self) -> None:
        self.thread.start()

    def answer(self) -> None:
        while True:
            connection = self.socket.accept()[0]
            with connection:
                if self.stopped.is_set():
                    return
                connection.sendall(f"{len(self.plugins)} plugin\n".encode())

    def stop(self, grace: float | None) -> threading.Event:
        if not self.stopped.is_set():
            self.stopped.set()
            with socket.socket(socket.AF_UNIX) as last:
                last.connect(self.address)
        return self.stopped

    def cuts_output_off(self, grace: float | None) -> bool:
        return False

    def wait(self) -> None:
        self.thread.join()

    def has_connections(self) -> bool:
        return True

    def close(self) -> None:
        self.thread.join()
        self.socket.close()


def test_a_protocol_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLUGIN_UNIX_SOCKET_DIR", raising=False)
    where: list[ReattachConfig] = []
    config = ServeConfig(plugins={"x": Plugin()}, test=ServeTestConfig(ready=where.append))
    plugin = Server(config)
    monkeypatch.setattr(plugin, "_make_protocol", lambda *_: Lines())
    assert plugin.serve() is True
    assert (where[0].protocol, where[0].network) == ("lines", "unix")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(where[0].address)
        assert client.makefile().readline() == "1 plugin\n"
    assert plugin.stop().wait(60)
    assert not os.path.exists(where[0].address)
