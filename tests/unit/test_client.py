"""The client with a real plugin: start, use, end, and everything in between."""

from __future__ import annotations

import gc
import io
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from processes import is_reaped

from pygo_plugin import (
    Client,
    ClientConfig,
    ClosedError,
    Cmd,
    ConfigError,
    ExitedEarlyError,
    HandshakeConfig,
    ReattachConfig,
    ReattachError,
    StartError,
    StartTimeoutError,
    VersionError,
    cleanup_clients,
)

pytestmark = pytest.mark.usefixtures("socket_dir")  # for those that die without tidying up


@pytest.fixture
def command(peers: Any) -> list[str]:
    peer: list[str] = peers.plugin("python")
    return peer


@pytest.fixture
def plain_command(peers: Any) -> list[str]:
    """A plugin that keeps its original stderr. Ours redirect it once they serve."""
    peer: list[str] = peers.plugin("grpcio")
    return peer


def environ(client: Client) -> Any:
    import probe_pb2

    _, probe = client.dispense("probe")
    return probe.Environ(probe_pb2.EnvironRequest(), timeout=10)


def print_lines(client: Client, *lines: dict[str, Any]) -> None:
    import probe_pb2

    _, probe = client.dispense("probe")
    request = probe_pb2.PrintRequest(lines=[probe_pb2.Line(**line) for line in lines])
    probe.Print(request, timeout=10)


# ---- Start --------------------------------------------------------------------------------------


def test_attributes_of_a_started_client(command: list[str], make_client: Any) -> None:
    client = make_client(command)
    address = client.start()
    assert address.network() == "unix"
    assert client.conn_endpoint() == f"unix:{address.string()}"
    assert client.pid > 0
    assert client.id == str(client.pid)
    assert client.name == "pygo_plugin_peer.py"
    assert client.protocol == "grpc"
    assert client.negotiated_version == 1
    assert client.exit_status is None
    assert "running" in repr(client)


def test_start_is_idempotent(command: list[str], make_client: Any) -> None:
    client = make_client(command)
    first = client.start()
    pid = client.pid
    assert client.start() == first
    assert client.pid == pid


def test_many_threads_start_one_process(command: list[str], make_client: Any) -> None:
    client = make_client(command)
    gate = threading.Barrier(8)
    found = []

    def start() -> None:
        gate.wait()
        found.append((client.start(), client.pid))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len({pid for _, pid in found}) == 1
    assert len({str(address) for address, _ in found}) == 1


def test_config_object_may_change_until_the_start(
    command: list[str], handshake: HandshakeConfig, plugins: Any
) -> None:
    config = ClientConfig()
    client = Client(config)
    config.plugins.update(plugins)
    config.handshake_config = handshake
    config.set_cmd(command)
    config.set_start_timeout(30_000)
    try:
        assert client.ping() == ""
    finally:
        client.kill()


@pytest.mark.usefixtures("no_leftovers")
def test_missing_program(make_client: Any) -> None:
    client = make_client("/nowhere/plugin-of-mine")
    for _ in range(2):  # the second start reports what came of the first
        with pytest.raises(StartError, match="plugin-of-mine"):
            client.start()
    assert "plugin-of-mine" in client.ping()
    client.kill()


def test_program_that_cannot_be_executed(tmp_path: Path, make_client: Any) -> None:
    path = tmp_path / "not-a-program"
    path.write_text("just text")
    with pytest.raises(StartError, match="not-a-program"):
        make_client(str(path)).start()


@pytest.mark.usefixtures("no_leftovers")
def test_early_exit_quotes_status_and_stderr(make_client: Any) -> None:
    script = "import sys; sys.stderr.write('no database\\n'); sys.exit(7)"
    with pytest.raises(ExitedEarlyError) as caught:
        make_client([sys.executable, "-c", script]).start()
    assert caught.value.exit_status == 7
    assert "no database" in caught.value.stderr
    assert "no database" in str(caught.value)
    assert "7" in str(caught.value)


def test_wrong_cookie_is_an_early_exit(command: list[str], make_client: Any) -> None:
    wrong = HandshakeConfig(1, "PYGO_TEST_COOKIE", "not it")
    with pytest.raises(
        ExitedEarlyError, match="PYGO_TEST_COOKIE is set, and has another value"
    ) as caught:
        make_client(command, handshake_config=wrong).start()
    assert caught.value.exit_status == 1


TRACED = """
import ctypes, os, sys, time

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
PR_SET_PTRACER, PTRACE_SEIZE = 0x59616D61, 0x4206
libc.prctl(PR_SET_PTRACER, ctypes.c_ulong(-1))
plugin = os.getpid()
if os.fork() == 0:
    # Keeps stdout open, and its parent from being reaped.
    assert libc.ptrace(PTRACE_SEIZE, plugin, None, None) == 0, ctypes.get_errno()
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.05)
    os._exit(0)
while "TracerPid:\\t0\\n" in open("/proc/self/status").read():
    time.sleep(0.01)
os._exit(3)
"""


def test_waiting_for_a_dead_plugin_that_is_traced_takes_no_cpu(
    make_client: Any, tmp_path: Path
) -> None:
    """Its pidfd is readable, but it cannot be reaped until its tracer has ended."""
    done = tmp_path / "done"
    client = make_client([sys.executable, "-c", TRACED, str(done)], start_timeout=2)
    timer = threading.Timer(4, done.touch)  # the tracer's end, for which the start waits
    timer.start()
    before = time.thread_time()
    with pytest.raises(StartTimeoutError):
        client.start()
    used = time.thread_time() - before
    timer.join()
    assert used < 0.5


@pytest.mark.usefixtures("no_leftovers")
def test_start_timeout(make_client: Any) -> None:
    script = "import threading; threading.Event().wait(60)"
    client = make_client([sys.executable, "-c", script], start_timeout=0.3)
    with pytest.raises(StartTimeoutError, match=r"0\.3"):
        client.start()


def test_versions_that_do_not_match(peers: Any, make_client: Any, plugins: Any) -> None:
    command = peers.plugin("python", "--versions", "3,4")
    with pytest.raises(VersionError) as caught:
        make_client(command, versioned_plugins={1: plugins, 2: plugins}).start()
    assert caught.value.plugin_version == 3  # its lowest
    assert list(caught.value.host_versions) == [1, 2]


def test_highest_common_version_counts(peers: Any, make_client: Any, plugins: Any) -> None:
    command = peers.plugin("python", "--versions", "1,2,3")
    client = make_client(command, versioned_plugins={1: {}, 2: plugins, 4: {}})
    client.start()
    assert client.negotiated_version == 2
    assert environ(client).version == 2


def test_dispense_looks_into_the_set_of_the_version(
    peers: Any, make_client: Any, plugins: Any
) -> None:
    command = peers.plugin("python", "--versions", "1")
    client = make_client(command, versioned_plugins={1: {}, 2: plugins})
    with pytest.raises(ValueError, match="no plugin named 'kv'; known: none"):
        client.dispense("kv")


def test_dispense_takes_the_plugin_itself(peers: Any, make_client: Any, plugins: Any) -> None:
    import kv_pb2

    command = peers.plugin("python", "--versions", "1,2")
    old, new = type(plugins["kv"])(), type(plugins["kv"])()
    client = make_client(command, versioned_plugins={1: {"kv": old}, 2: {"kv": new}})
    with pytest.raises(ConfigError, match=r"<.* object at .*> is no plugin of this client.* 'kv'$"):
        client.dispense(plugins["kv"])
    with pytest.raises(TypeError, match="a name or an object of the plugin set, not the class"):
        client.dispense(type(new))
    assert not client.protocol  # it has not been started
    _, kv = client.dispense(new)
    kv.Put(kv_pb2.PutRequest(key="k"), timeout=10)
    with pytest.raises(ConfigError, match="is no plugin of version 2 of this client"):
        client.dispense(old)


def test_dispense_refuses_a_plugin_with_several_names(
    command: list[str], make_client: Any, plugins: Any
) -> None:
    kv = plugins["kv"]
    client = make_client(command, plugins={"kv": kv, "other": kv})
    with pytest.raises(ConfigError, match="under several names, 'kv', 'other': dispense it by one"):
        client.dispense(kv)
    client.dispense("kv")


# ---- Environment --------------------------------------------------------------------------------


def test_environment_and_directory(
    peers: Any, make_client: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYGO_HOST", "from the host")
    monkeypatch.setenv("PYGO_BOTH", "from the host")
    cmd = Cmd([*peers.plugin("python"), "--workers", "3"])
    cmd.env = ["PYGO_BOTH=from the cmd", "PYGO_BYTES=\udcff"]
    cmd.dir = str(tmp_path)
    found = environ(make_client(cmd, min_port=12000, max_port=13000))
    assert found.environ["PYGO_HOST"] == b"from the host"
    assert found.environ["PYGO_BOTH"] == b"from the cmd"
    assert found.environ["PYGO_BYTES"] == b"\xff"
    assert found.environ["PLUGIN_MIN_PORT"] == b"12000"
    assert found.environ["PLUGIN_MAX_PORT"] == b"13000"
    assert found.environ["PLUGIN_PROTOCOL_VERSIONS"] == b"1"
    assert found.environ["PYGO_TEST_COOKIE"] == b"pygo"
    assert found.cwd == os.fsencode(tmp_path.resolve())
    assert found.argv[-2:] == [b"--workers", b"3"]


def test_environment_and_directory_as_options(
    command: list[str], make_client: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYGO_HOST", "from the host")
    monkeypatch.setenv("PYGO_BOTH", "from the host")
    env = {"PYGO_BOTH": "from the option", "PYGO_PATH": tmp_path}
    found = environ(make_client(command, env=env, cwd=tmp_path))
    assert found.environ["PYGO_HOST"] == b"from the host"
    assert found.environ["PYGO_BOTH"] == b"from the option"
    assert found.environ["PYGO_PATH"] == os.fsencode(tmp_path)
    assert found.cwd == os.fsencode(tmp_path.resolve())


def test_a_relative_program_is_looked_up_in_cwd(make_client: Any, tmp_path: Path) -> None:
    program = tmp_path / "plugin"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(ExitedEarlyError, match=r"^plugin: the plugin exited with status 3"):
        make_client("./plugin", cwd=tmp_path).start()


def test_the_environment_as_an_option_with_skip_host_env(
    command: list[str], make_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYGO_HOST", "from the host")
    env = [f"PYTHONPATH={os.environ['PYTHONPATH']}", "PYGO_OWN=1"]
    found = environ(make_client(command, env=env, skip_host_env=True)).environ
    assert found["PYGO_OWN"] == b"1"
    assert "PYGO_HOST" not in found


def test_skip_host_env(
    command: list[str], make_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYGO_HOST", "from the host")
    cmd = Cmd(command)
    cmd.env = [f"PYTHONPATH={os.environ['PYTHONPATH']}"]
    found = environ(make_client(cmd, skip_host_env=True)).environ
    assert "PYGO_HOST" not in found
    assert found["PYGO_TEST_COOKIE"] == b"pygo"


def test_plugin_gets_default_signals_and_the_hosts_process_group(
    peers: Any, make_client: Any
) -> None:
    found = environ(make_client(peers.plugin("go")))
    assert found.signals_blocked == 0
    assert found.pgid == os.getpgrp()


def test_plugin_inherits_three_descriptors(peers: Any, make_client: Any, tmp_path: Path) -> None:
    with open(tmp_path / "open file", "wb") as file:
        os.set_inheritable(file.fileno(), True)
        found = environ(make_client(peers.plugin("go")))
    inherited = [target for target in found.fds.values() if b"open file" in target]
    assert not inherited
    assert {0, 1, 2} <= set(found.fds)


# ---- Use ----------------------------------------------------------------------------------------


def test_each_dispense_has_a_channel_of_its_own(command: list[str], make_client: Any) -> None:
    import kv_pb2

    client = make_client(command)
    one, _ = client.dispense("kv")
    other, kv = client.dispense("kv")
    assert one is not other
    one.close()
    kv.Put(kv_pb2.PutRequest(key="k", value=b"v"), timeout=10)
    _, again = client.dispense("kv")
    assert again.Get(kv_pb2.GetRequest(key="k"), timeout=10).value == b"v"
    assert client.ping() == ""


def test_channel_attribute_stays_the_same(command: list[str], make_client: Any) -> None:
    client = make_client(command)
    client.start()
    assert client.channel is client.channel
    client.kill()
    with pytest.raises(ClosedError, match="has been killed"):
        _ = client.channel


def test_plugin_without_a_client_class_gives_the_bare_channel(
    command: list[str], make_client: Any
) -> None:
    import kv_pb2
    import kv_pb2_grpc

    from pygo_plugin import Plugin

    class Bare(Plugin):
        pass

    client = make_client(command, plugins={"kv": Bare()})
    channel, stub = client.dispense("kv")
    assert stub is None
    kv_pb2_grpc.KVStub(channel).Put(kv_pb2.PutRequest(key="k"), timeout=10)


def test_client_method_of_a_plugin_may_connect_by_itself(
    command: list[str], make_client: Any
) -> None:
    import grpc
    import kv_pb2
    import kv_pb2_grpc

    from pygo_plugin import Plugin

    class Own(Plugin):
        def client(self, client_conn: Client) -> Any:
            return grpc.insecure_channel(client_conn.conn_endpoint())

    client = make_client(command, plugins={"kv": Own()})
    with client.dispense("kv") as channel:
        kv_pb2_grpc.KVStub(channel).Put(kv_pb2.PutRequest(key="k"), timeout=10)


# ---- End ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_leftovers")
def test_context_manager_kills(
    command: list[str], handshake: HandshakeConfig, plugins: Any
) -> None:
    with Client(command, handshake_config=handshake, plugins=plugins) as client:
        assert client.ping() == ""
    assert client.exited()
    assert client.exit_status == 0
    assert "exit_status=0" in repr(client)


def test_kill_from_many_threads(command: list[str], make_client: Any) -> None:
    client = make_client(command)
    client.start()
    threads = [threading.Thread(target=client.kill) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.exited()
    with pytest.raises(ClosedError):
        client.start()
    with pytest.raises(ClosedError):
        client.dispense("kv")
    assert client.ping() != ""


def test_death_of_the_plugin_is_noticed(
    command: list[str], make_client: Any, eventually: Any
) -> None:
    import grpc
    import probe_pb2

    client = make_client(command)
    _, probe = client.dispense("probe")
    with pytest.raises(grpc.RpcError) as caught:
        probe.Exit(probe_pb2.ExitRequest(status=9), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]
    eventually(client.exited, "exited()")
    assert client.exit_status == 9
    assert client.ping() != ""


def test_death_by_a_signal(command: list[str], make_client: Any, eventually: Any) -> None:
    client = make_client(command)
    client.start()
    os.kill(client.pid, 9)
    eventually(client.exited, "exited()")
    assert client.exit_status == -9


@pytest.mark.parametrize("reads_output", [False, True])
def test_a_suspended_plugin_is_killed_in_time(
    command: list[str], make_client: Any, reads_output: bool
) -> None:
    """kill_timeout bounds all steps of kill() together, not each of them."""
    output = io.BytesIO() if reads_output else None
    client = make_client(command, sync_stdout=output, kill_timeout=6)
    assert client.ping() == ""
    os.kill(client.pid, signal.SIGSTOP)
    before = time.monotonic()
    client.kill()
    assert 6 <= time.monotonic() - before < 8.9
    assert client.exit_status == -signal.SIGKILL


@pytest.mark.usefixtures("no_leftovers")
def test_forgotten_client_warns_and_is_killed(
    command: list[str], handshake: HandshakeConfig, plugins: Any
) -> None:
    def forget() -> None:
        Client(command, handshake_config=handshake, plugins=plugins).start()
        gc.collect()

    with pytest.warns(ResourceWarning, match=r"pid=\d+ running> was never killed"):
        forget()


def test_no_warning_for_a_plugin_that_is_gone(
    command: list[str], handshake: HandshakeConfig, plugins: Any, eventually: Any
) -> None:
    client = Client(command, handshake_config=handshake, plugins=plugins)
    client.start()
    os.kill(client.pid, 9)
    eventually(client.exited, "exited()")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del client
        gc.collect()


def test_cleanup_kills_managed_clients_only(command: list[str], make_client: Any) -> None:
    managed = [make_client(command, managed=True) for _ in range(3)]
    other = make_client(command)
    for client in [*managed, other]:
        client.start()
    cleanup_clients()
    assert [client.exited() for client in managed] == [True] * 3
    assert other.exited() is False
    cleanup_clients()


# ---- Reattach -----------------------------------------------------------------------------------


def test_reattach(command: list[str], make_client: Any, eventually: Any) -> None:
    import kv_pb2

    first = make_client(command)
    _, kv = first.dispense("kv")
    kv.Put(kv_pb2.PutRequest(key="k", value=b"v"), timeout=10)
    reattach = first.reattach_config()
    assert reattach.valid
    assert reattach.pid == first.pid

    second = make_client(reattach_config=reattach)
    _, kv = second.dispense("kv")
    assert kv.Get(kv_pb2.GetRequest(key="k"), timeout=10).value == b"v"
    assert second.conn_endpoint() == first.conn_endpoint()
    assert second.negotiated_version == 1
    assert second.reattach_config() == reattach
    second.kill()
    assert second.exited()
    eventually(first.exited, "the first client's exited()")


def test_reattach_in_test_mode_leaves_the_plugin_alone(
    command: list[str], make_client: Any
) -> None:
    first = make_client(command)
    first.start()
    reattach = first.reattach_config()
    reattach.test = True
    second = make_client(reattach_config=reattach)
    assert second.ping() == ""
    second.kill()
    assert second.exited()
    assert first.exited() is False
    assert first.ping() == ""


def test_reattach_to_an_address_without_a_listener(make_client: Any, socket_dir: Path) -> None:
    nowhere = ReattachConfig("grpc", "unix", str(socket_dir / "missing"), os.getpid())
    client = make_client(reattach_config=nowhere)
    with pytest.raises(ReattachError, match="missing"):
        client.start()
    client.kill()


@pytest.mark.parametrize("how", ["plain", "tls", "multiplexed"])
def test_an_address_without_a_host(peers: Any, make_client: Any, tmp_path: Path, how: str) -> None:
    """A plugin may announce only a port; as in Go, the host connects to the local machine."""
    script = tmp_path / "plugin.py"
    script.write_text(
        "import sys\n"
        "from pygo_plugin import _core\n"
        "whole = _core.handshake_line\n"
        "def line(version, network, address, *rest):\n"
        "    return whole(version, network, address[address.rindex(':'):], *rest)\n"
        "_core.handshake_line = line\n"
        "import pygo_plugin_peer\n"
        "sys.exit(pygo_plugin_peer.main())\n"
    )
    command = [peers.plugin("python")[0], str(script), "--network", "tcp"]
    client = make_client(command, auto_mtls=how == "tls", broker_multiplex=how == "multiplexed")
    address = client.start()
    assert address.string().startswith(":")
    assert client.ping() == ""
    other = make_client(reattach_config=client.reattach_config()) if how == "plain" else client
    assert other.ping() == ""
    assert client.conn_endpoint() == f"127.0.0.1{address.string()}"


# ---- Logs ---------------------------------------------------------------------------------------


def test_log_lines_from_before_the_handshake(peers: Any, make_client: Any, records: Any) -> None:
    client = make_client(peers.plugin("python", "--log-lines", "100"))
    client.start()
    client.kill()
    numbers = [r.hclog["number"] for r in records.records if "line of the log" in r.getMessage()]
    assert numbers == list(range(100))


def test_everything_logged_is_there_after_kill(
    plain_command: list[str], make_client: Any, records: Any
) -> None:
    client = make_client(plain_command)
    print_lines(client, {"channel": "STDERR", "text": b"[INFO] last line\n"})
    client.kill()
    assert [r.levelname for r in records.records if r.getMessage().endswith("last line")] == [
        "INFO"
    ]


def test_log_fields_that_python_cannot_parse(
    plain_command: list[str], make_client: Any, records: Any
) -> None:
    """The fields are nested deeper than Python's JSON parser allows, but not the core's."""
    deep = "[" * 1500 + "]" * 1500
    line = '{"@level": "info", "@message": "deep", "deep": ' + deep + "}\n"
    client = make_client(plain_command)
    print_lines(client, {"channel": "STDERR", "text": 2 * line.encode()})
    client.kill()
    fields = [r.hclog for r in records.records if r.hclog]
    assert fields == [{"deep": deep}] * 2


def test_given_logger(command: list[str], make_client: Any, records: Any) -> None:
    logger = logging.getLogger("test_client.own")
    logger.setLevel(5)
    logger.addHandler(records)
    client = make_client(command, logger=logger)
    try:
        print_lines(client, {"channel": "LOG", "text": b"a trace", "level": "trace"})
        record = records.wait_for("a trace")
    finally:
        client.kill()
        logger.removeHandler(records)
    assert record.name == f"test_client.own.{client.name}"
    assert record.levelno == 5


def test_raw_copy_of_stderr(plain_command: list[str], make_client: Any) -> None:
    copy = io.BytesIO()
    client = make_client(plain_command, stderr=copy)
    lines = b"plain\n[ERROR] tagged \xff\nunfinished"
    print_lines(client, {"channel": "STDERR", "text": lines, "raw": True})
    client.kill()
    assert lines in copy.getvalue()


def test_raw_copy_to_a_descriptor(
    plain_command: list[str], make_client: Any, tmp_path: Path
) -> None:
    path = tmp_path / "stderr"
    with open(path, "wb") as file:
        client = make_client(plain_command, stderr=file.fileno())
        print_lines(client, {"channel": "STDERR", "text": b"for the file\n"})
        client.kill()
    assert b"for the file\n" in path.read_bytes()


def test_long_lines_arrive_in_pieces(
    plain_command: list[str], make_client: Any, records: Any
) -> None:
    client = make_client(plain_command, plugin_log_buffer_size=1024)
    print_lines(client, {"channel": "STDERR", "text": b"x" * 5000 + b"\n", "raw": True})
    client.kill()
    pieces = [r.getMessage() for r in records.records if r.getMessage().startswith("x")]
    assert "".join(pieces) == "x" * 5000
    assert len(pieces) > 1


# ---- Ends of the host ---------------------------------------------------------------------------

HOST = """
import sys
from pygo_plugin import Client
import pygo_plugin_peer
command = {command!r}
client = Client(command, handshake_config=pygo_plugin_peer.HANDSHAKE,
                plugins=pygo_plugin_peer.plugins())
"""


def run_host(command: list[str], body: str, *flags: str) -> subprocess.CompletedProcess[str]:
    script = HOST.format(command=command) + textwrap.dedent(body)
    return subprocess.run(
        [sys.executable, *flags, "-c", script], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("ending", ["", "sys.exit(3)", "raise RuntimeError('the end')"])
@pytest.mark.usefixtures("no_leftovers")
def test_plugins_end_with_the_interpreter(command: list[str], ending: str, eventually: Any) -> None:
    done = run_host(command, f"client.start(); print(client.pid, flush=True)\n{ending}")
    assert done.returncode == {"": 0, "sys.exit(3)": 3}.get(ending, 1)
    if not ending.startswith("raise"):
        assert done.stderr == ""
    eventually(lambda: is_reaped(int(done.stdout)), "the plugin's end")


@pytest.mark.usefixtures("no_leftovers")
def test_exit_while_a_daemon_thread_is_calling(command: list[str]) -> None:
    body = """
    import threading
    import probe_pb2
    _, probe = client.dispense("probe")

    def hang():
        try:
            probe.Hang(probe_pb2.HangRequest())
        except BaseException:
            pass

    threading.Thread(target=hang, daemon=True).start()
    while not probe.Cancelled(probe_pb2.CancelledRequest()).started:
        pass
    print("hanging")
    """
    done = run_host(command, body)
    assert (done.stdout, done.returncode) == ("hanging\n", 0)


def test_forked_child_cannot_use_the_plugin_and_does_not_end_it(command: list[str]) -> None:
    body = """
    import os
    from pygo_plugin import ForkedError, cleanup_clients
    client.start()
    pid = os.fork()
    if pid == 0:
        for use in (client.start, client.ping, client.new_channel, lambda: client.channel,
                    lambda: client.dispense("kv")):
            try:
                use()
            except ForkedError as error:
                assert "spawn" in str(error)
            else:
                os._exit(9)
        client.kill()
        cleanup_clients()
        sys.exit(0)  # runs everything that runs at exit
    _, status = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(status), repr(client.ping()), client.exited())
    client.kill()
    """
    done = run_host(command, body, "-W", "error", "-X", "dev")
    assert (done.stdout, done.stderr) == ("0 '' False\n", "")


def test_children_of_the_host_made_by_subprocess_are_fine(
    command: list[str], make_client: Any
) -> None:
    client = make_client(command)
    client.start()
    assert subprocess.check_output([sys.executable, "-c", "print(1)"]) == b"1\n"
    assert client.ping() == ""
