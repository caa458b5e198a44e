"""What a host lends to a plugin of netrpc_peer or of Go's rpcpeer, and borrows from it."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import netrpc_peer
from netrpc_peer import CallBackArgs, DescendArgs, Nothing, WriteArgs

DEADLINE = 60.0  # seconds


def call_back(client: Any, test: Any, payload: bytes) -> None:
    """The plugin calls an object of the host's."""
    with client.broker.serve(netrpc_peer.Test(client.broker, "host")) as service_id:
        assert test.call_back(CallBackArgs(service_id, payload)) == payload


def call_served(client: Any, test: Any) -> None:
    """The host calls an object that the plugin serves under a new id."""
    with client.broker.client(test.serve(Nothing())) as served:
        assert served.call("Plugin.Echo", b"x", reply=bytes) == b"x"


def descend(client: Any, test: Any, depth: int) -> None:
    """Both sides call each other in turns, each within a call of the other's."""
    with client.broker.serve(netrpc_peer.Test(client.broker, "host")) as service_id:
        sides = test.descend(DescendArgs(service_id, depth))
    assert sides == " ".join(["plugin", "host"][number % 2] for number in range(depth + 1))


def lend_reader(client: Any, test: Any, size: int) -> None:
    with client.broker.serve_io(io.BytesIO(netrpc_peer.pattern(size)), "rb") as service_id:
        assert test.read_from(service_id) == netrpc_peer.digest_of_pattern(size)


def lend_writer(client: Any, test: Any, size: int) -> None:
    service_id = client.broker.next_id()
    with ThreadPoolExecutor(1) as thread:
        written = thread.submit(test.write_to, WriteArgs(service_id, size))
        with client.broker.accept(service_id) as file:
            assert netrpc_peer.digest_of(file) == netrpc_peer.digest_of_pattern(size)
        written.result(DEADLINE)


def borrow_reader(client: Any, test: Any, size: int) -> None:
    with client.broker.open_io(test.lend_reader(size)) as file:
        assert netrpc_peer.digest_of(file) == netrpc_peer.digest_of_pattern(size)


def borrow_writer(client: Any, test: Any, size: int) -> None:
    service_id = test.lend_writer(Nothing())
    with client.broker.open_io(service_id, "wb") as file:
        file.write(netrpc_peer.pattern(size))
    assert test.written(service_id) == netrpc_peer.digest_of_pattern(size)
