"""Peers that speak yamux badly, to a whole host and to a whole plugin."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import broker_plugin
import pytest
import yamux_frames
from broker_plugin import HANDSHAKE
from brokered import OPTIONS
from yamux_frames import ACK, FATAL, PING, PROTOCOL_ERROR, SYN, WINDOW, frame, hostile

from pygo_plugin import PluginError

DEADLINE = 60.0
PEER = str(Path(yamux_frames.__file__).with_name("yamux_plugin.py"))

pytestmark = pytest.mark.usefixtures("no_leftovers")


# ---- Plugins -------------------------------------------------------------------------------------


# Faults of streams. A host accepts only streams that it has asked for, so it does not see these.
OF_STREAMS = {"window overflow", "opened twice"}


# What calls, the broker and the log say of the others. Those that hang up give no reason.
REASONS = {
    "bad version": "expected a frame of yamux version 0, found 1",
    "bad type": "a yamux frame of type 0 to 3, found 9",
    "oversize frame": "no window is larger than",
    "an id of the other side's": "an id of this side",
    "unknown id": "which this side never opened",
    "session id": "the id 0, which is the session's",
    "unknown reason to go": "goes away with reason 77",
    "garbage": "expected a frame of yamux version 0",
    "half a frame": "",
    "flood": "",
}


@pytest.mark.parametrize("mode", REASONS)
def test_a_host_of_a_hostile_plugin(
    mode: str, make_client: Any, socket_dir: Path, records: Any
) -> None:
    """The host learns at once why the connection has ended, and can launch another plugin."""
    assert {*REASONS} - {"half a frame", "flood"} == {*FATAL} - OF_STREAMS
    client = make_client([sys.executable, PEER, mode], broker_multiplex=True, **OPTIONS)
    answer = client.ping(DEADLINE)
    assert answer
    assert "deadline" not in answer.lower()
    assert REASONS[mode] in answer
    with pytest.raises(PluginError) as raised:
        client.broker.dial(1, DEADLINE)
    assert REASONS[mode] in str(raised.value)
    client.kill()
    news = "the connection to the plugin has ended"
    lines = [line for line in records.messages() if news in line]
    assert len(lines) == (1 if REASONS[mode] else 0)
    assert all(REASONS[mode] in line for line in lines)

    good = make_client([sys.executable, broker_plugin.__file__], broker_multiplex=True, **OPTIONS)
    assert good.ping() == ""
    good.kill()
    assert list(socket_dir.iterdir()) == []


@pytest.mark.parametrize("mode", sorted(OF_STREAMS))
def test_streams_that_a_host_has_not_asked_for(mode: str, make_client: Any) -> None:
    client = make_client([sys.executable, PEER, mode], broker_multiplex=True, **OPTIONS)
    assert "deadline" in client.ping(0.2).lower()
    client.kill()


def test_a_plugin_that_goes_away(make_client: Any) -> None:
    """The plugin sends GO_AWAY before the first stream is open."""
    client = make_client([sys.executable, PEER, "go away"], broker_multiplex=True, **OPTIONS)
    assert client.ping(1) != ""
    client.kill()
    assert client.exited()


def test_a_plugin_that_says_nothing(make_client: Any) -> None:
    client = make_client([sys.executable, PEER, "silence"], broker_multiplex=True, **OPTIONS)
    assert "deadline" in client.ping(0.2).lower()
    client.kill()
    assert client.exited()


# ---- Hosts ---------------------------------------------------------------------------------------


class Launched:
    """A plugin of this package's that multiplexes, and one connection to it."""

    def __init__(self) -> None:
        env = {
            **os.environ,
            HANDSHAKE.magic_cookie_key: HANDSHAKE.magic_cookie_value,
            "PLUGIN_MULTIPLEX_GRPC": "true",
            "PLUGIN_PROTOCOL_VERSIONS": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, broker_plugin.__file__],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        fields = self.process.stdout.readline().strip().split("|")
        assert (fields[2], fields[6]) == ("unix", "true")
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.settimeout(DEADLINE)
        self.connection.connect(fields[3])

    def read_on(self) -> bytes:
        """Everything that arrives until the plugin closes the connection."""
        received = b""
        while data := self.connection.recv(1 << 16):
            received += data
        return received

    def read_log(self) -> str:
        """The next line."""
        assert self.process.stderr is not None
        assert select.select([self.process.stderr], [], [], DEADLINE)[0]
        return str(self.process.stderr.readline())

    def end(self) -> None:
        self.connection.close()
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            self.log = self.process.communicate(timeout=DEADLINE)[1]


@pytest.fixture
def launched() -> Iterator[Launched]:
    plugin = Launched()
    yield plugin
    plugin.end()


@pytest.mark.parametrize("mode", FATAL)
def test_a_plugin_of_a_hostile_host(mode: str, launched: Launched, socket_dir: Path) -> None:
    """It logs the reason, closes the connection, and still exits as usual when it is asked to."""
    launched.connection.sendall(hostile(1, 12346)[mode])
    assert launched.read_on().endswith(PROTOCOL_ERROR)
    why = launched.read_log()  # before the signal, which may end the process first
    assert why.startswith("[WARN] plugin: the connection to the host has ended: ")
    assert launched.process.poll() is None
    launched.end()
    assert launched.process.returncode == -signal.SIGTERM
    assert list(socket_dir.iterdir()) == []


def test_a_host_that_hangs_up_in_the_middle(launched: Launched, socket_dir: Path) -> None:
    launched.connection.sendall(frame(WINDOW, SYN, 1, 0)[:7])
    launched.connection.shutdown(socket.SHUT_WR)
    launched.read_on()
    assert launched.process.poll() is None
    launched.end()
    assert launched.log == ""
    assert list(socket_dir.iterdir()) == []


def test_a_flood_of_streams(launched: Launched) -> None:
    """Streams above the limit are refused, and the connection goes on."""
    for first in range(1, 40_001, 400):
        ids = range(first, first + 400, 2)
        launched.connection.sendall(b"".join(frame(WINDOW, SYN, stream, 0) for stream in ids))
        launched.connection.sendall(frame(PING, SYN, 0, first))
        received = b""
        while frame(PING, ACK, 0, first) not in received:
            data = launched.connection.recv(1 << 16)
            assert data
            received += data
    files = len(os.listdir(f"/proc/{launched.process.pid}/fd"))
    assert files < 3000
    assert launched.process.poll() is None
