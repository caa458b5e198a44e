"""Plugins that serve through grpcio and have a broker: pygo_plugin._serve.grpcio_broker."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import exercise
import pytest
from brokered import (
    OPTIONS,
    TIMEOUT,
    Census,
    at_once,
    broker_plugin,
    call_back,
    call_dialled,
    census_of,
    exercise_both_ways,
    serve_all,
    target,
)

from pygo_plugin import BrokerError, ExitedEarlyError, HandshakeError, TLSConfig

pytestmark = pytest.mark.usefixtures("no_leftovers")


@pytest.fixture
def command(peers: Any) -> list[str]:
    found: list[str] = target(peers, "python", "unix", False, "--grpcio")
    return found


@pytest.mark.parametrize("network", ["unix", "tcp"])
def test_every_kind_of_call(network: str, peers: Any, make_client: Any) -> None:
    client = make_client(target(peers, "python", network, False, "--grpcio"), **OPTIONS)
    exercise_both_ways(*client.dispense("test"))
    client.kill()
    assert client.exit_status == 0


def test_tls(
    command: list[str],
    make_client: Any,
    tmp_path: Path,
    authority: Any,
    server_pair: Any,
    client_pair: Any,
) -> None:
    """Brokered connections use the same TLS as the first one."""
    for name, text in {
        "ca": authority.root,
        "cert": server_pair.chain,
        "key": server_pair.key,
    }.items():
        (tmp_path / name).write_bytes(text)
        command += [f"--tls-{name}", str(tmp_path / name)]
    ours = TLSConfig(authority.root, server_pair.chain, server_pair.key)
    exercise_both_ways(*make_client(command, tls_config=ours, **OPTIONS).dispense("test"))


@pytest.mark.go
def test_a_go_host(command: list[str], go_host: Any) -> None:
    go_host.do("start", cmd=command)
    assert go_host.do("exercise") == {"ok": True, "plugin": exercise.ALL, "host": exercise.ALL}
    go_host.do("call_back", count=64, parallel=16)
    go_host.do("nest", count=3)
    assert not go_host.do("kill")["forced"]


def test_many(command: list[str], make_client: Any, eventually: Any) -> None:
    broker, test = make_client(command, **OPTIONS).dispense("test")
    at_once(64, lambda: call_back(broker, test))  # of which 16 at the same time
    ours, theirs = Census(broker_plugin.resources), census_of(test)
    for _ in range(100):
        call_back(broker, test)
        call_dialled(broker, test)
    eventually(ours.same, "the host's return to what it was")
    eventually(theirs.same, "the plugin's return to what it was")


def test_a_dial_that_is_not_accepted(command: list[str], make_client: Any) -> None:
    broker, test = make_client(command, **OPTIONS).dispense("test")
    assert b"connection 78 was dialled, and the host did not" in test.DialError(b"78")
    with pytest.raises(BrokerError, match="connection 77 was dialled, and the plugin did not"):
        broker.dial(77, 0.1)


def test_what_it_cannot(command: list[str], make_client: Any) -> None:
    """A broker over grpcio supports neither multiplexing nor AutoMTLS."""
    with pytest.raises(HandshakeError, match="the plugin cannot multiplex"):
        make_client(command, broker_multiplex=True, **OPTIONS).start()
    with pytest.raises(ExitedEarlyError, match="serve with default_grpc_server"):
        make_client(command, auto_mtls=True, **OPTIONS).start()


def test_killed(command: list[str], make_client: Any, socket_dir: Path, eventually: Any) -> None:
    client = make_client(command, **OPTIONS)
    broker, test = client.dispense("test")
    server = broker.accept_and_serve(broker.next_id(), serve_all)
    broker.dial(int(test.Serve(b"", timeout=TIMEOUT)))
    os.kill(client.pid, signal.SIGKILL)
    assert server.wait_for_termination(TIMEOUT) is False
    eventually(client.exited, "the news of the plugin's end")
    client.kill()
    assert list(socket_dir.iterdir()) == []
