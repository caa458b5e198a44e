"""Where a Python plugin's standard error leads once it serves (docs/logging.md)."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from logging_plugin import TEXT, WAYS

pytestmark = [pytest.mark.go, pytest.mark.usefixtures("no_leftovers")]

DEADLINE = 60.0  # seconds

PEER = str(Path(__file__).resolve().parents[1] / "peers" / "logging_plugin.py")

# What writes to the log wherever sys.stderr leads, if it was configured before the plugin served:
# it holds the stream of that time, or the root logger has got a handler from `serve`.
LOG = {
    "basicConfig",
    "dictConfig",
    "handler",
    "held",
    "wrapped",
    "loguru",
    "structlog",
    "lastResort",
}

MOMENTS = ["before", "in a call"]


class Sink:
    def __init__(self) -> None:
        self.data = bytearray()
        self._changed = threading.Condition()

    def write(self, data: bytes) -> None:
        with self._changed:
            self.data += data
            self._changed.notify_all()

    def wait_for(self, text: bytes) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: text in self.data, DEADLINE), bytes(self.data)


def command(way: str, moment: str, server: str = "core") -> list[str]:
    return [sys.executable, PEER, server, way, *(["--before"] if moment == "before" else [])]


def emit(client: Any, moment: str) -> None:
    import kv_pb2

    _, kv = client.dispense("kv")
    for key in ("emit",) if moment == "before" else ("setup", "emit"):
        kv.Get(kv_pb2.GetRequest(key=key), timeout=DEADLINE)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("way", WAYS)
def test_it_is_the_log(way: str, moment: str, make_client: Any, records: Any) -> None:
    """Without sync_stderr, the plugin's standard error goes to the host's log."""
    client = make_client(command(way, moment))
    emit(client, moment)
    client.kill()
    assert any(TEXT in message for message in records.messages()), records.messages()


@pytest.mark.parametrize("server", ["aio", "grpcio"])
@pytest.mark.parametrize("way", ["basicConfig", "print"])
def test_it_is_the_log_of_every_server(
    way: str, server: str, make_client: Any, records: Any
) -> None:
    client = make_client(command(way, "in a call", server))
    emit(client, "in a call")
    client.kill()
    assert any(TEXT in message for message in records.messages()), records.messages()


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("way", WAYS)
def test_a_host_that_wants_it_has_it(way: str, moment: str, make_client: Any, records: Any) -> None:
    """Loggers that kept sys.stderr from before the handshake still write to the log, as in Go."""
    err = Sink()
    client = make_client(command(way, moment), sync_stderr=err)
    emit(client, moment)
    client.kill()
    in_log = any(TEXT in message for message in records.messages())
    assert (in_log, TEXT.encode() in err.data) == (
        (True, False) if moment == "before" and way in LOG else (False, True)
    )


@pytest.mark.parametrize("closed", ["2>&-", "<&-", "<&- 2>&-"])
def test_a_plugin_without_it_serves(closed: str, make_client: Any) -> None:
    """If descriptor 1 or 2 is closed, none of the core's descriptors may take its number."""
    wrapped = ["sh", "-c", f'exec "$@" {closed}', "sh", *command("print", "in a call")]
    client = make_client(wrapped)
    emit(client, "in a call")
    client.kill()
    assert client.exit_status == 0


@pytest.mark.parametrize("way", ["basicConfig", "loguru", "print"])
def test_it_is_the_log_of_go_hosts(way: str, go_host: Any) -> None:
    go_host.do("start", cmd=command(way, "in a call"))
    go_host.ask("kv_get", key="setup")
    go_host.ask("kv_get", key="emit")
    logged = go_host.do("logs", until=TEXT)["records"]
    assert any(TEXT in record["message"] for record in logged)
    assert go_host.do("kill")["exited"]
    assert go_host.do("stdio")["stderr"] == ""


def test_a_go_host_can_ask_for_it(go_host: Any) -> None:
    go_host.do("start", cmd=command("print", "in a call"), env=["PYGO_PLUGIN_SYNC_STDERR=1"])
    go_host.ask("kv_get", key="setup")
    go_host.ask("kv_get", key="emit")
    assert TEXT in go_host.do("stdio", until=TEXT)["stderr"]


def test_the_wish_is_not_handed_down(
    make_client: Any, peers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable is not passed on to plugins of a plugin, nor to its other children."""
    import probe_pb2

    monkeypatch.setenv("PYGO_PLUGIN_SYNC_STDERR", "1")
    for options in ({}, {"sync_stderr": Sink()}):
        client = make_client(peers.plugin("python"), **options)
        _, probe = client.dispense("probe")
        found = probe.Environ(probe_pb2.EnvironRequest(), timeout=DEADLINE).environ
        assert "PYGO_PLUGIN_SYNC_STDERR" not in found
        client.kill()


# ---- Without a host ------------------------------------------------------------------------------

SCRIPT = """
import os, sys
{before}
from pygo_plugin import HandshakeConfig, ServeConfig, Server
server = Server(ServeConfig(handshake_config=HandshakeConfig(1, "PYGO_TEST_COOKIE", "pygo")))
stream = sys.stderr
assert server.serve(), server.error_msg
{after}
server.stop().wait()
"""


def run(after: str, before: str = "", *options: str, **environment: str) -> bytes:
    """What a plugin writes to its original standard error."""
    return subprocess.run(
        [sys.executable, *options, "-c", SCRIPT.format(before=before, after=after)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=60,
        check=True,
        env={
            **os.environ,
            "PYGO_TEST_COOKIE": "pygo",
            "PLUGIN_PROTOCOL_VERSIONS": "1",
            **environment,
        },
    ).stderr


def test_the_stream_keeps_its_identity() -> None:
    after = "assert sys.stderr is stream is sys.__stderr__; print(sys.stderr.name, file=sys.stderr)"
    assert run(after) == b"<stderr>\n"


@pytest.mark.parametrize("sync", ["", "1"])
@pytest.mark.parametrize("options", [(), ("-u",)])
def test_unbuffered_or_not(options: tuple[str, ...], sync: str) -> None:
    after = "sys.stderr.write('a line\\nand more')"
    assert run(after, "", *options, PYGO_PLUGIN_SYNC_STDERR=sync) == b"a line\nand more"


def test_it_is_utf8_as_hosts_read_it() -> None:
    after = "print('\\xfc \\udcff', file=sys.stderr)"
    assert run(after, PYTHONIOENCODING="latin-1") == b"\xc3\xbc \\udcff\n"


@pytest.mark.parametrize(
    "before",
    [
        "sys.stderr = None",
        "sys.stderr = sys.__stderr__ = None",
        "sys.stderr.close()",
        "import io; sys.stderr = io.StringIO()",
        "sys.stderr = open(os.devnull, 'w')",
    ],
)
def test_streams_of_the_authors_are_left_alone(before: str) -> None:
    for sync in ("", "1"):
        after = "assert sys.stderr is stream"
        assert run(after, before, PYGO_PLUGIN_SYNC_STDERR=sync) == b""


def test_children_of_a_fork_have_it() -> None:
    after = """
pid = os.fork()
if pid == 0:
    print("of the child", file=sys.stderr)
    os._exit(0)
os.waitpid(pid, 0)
"""
    assert run(after) == b"of the child\n"


def test_it_stays_the_log_when_the_server_has_stopped() -> None:
    after = "server.stop().wait(); print('late', file=sys.stderr); os.write(2, b'by number\\n')"
    assert run(after) == b"late\nby number\n"
    assert run(after, PYGO_PLUGIN_SYNC_STDERR="1") == b"late\nby number\n"
