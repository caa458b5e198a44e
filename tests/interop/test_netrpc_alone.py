"""net/rpc with Go's own package on the other side, over connections without go-plugin."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pygo_plugin import GobError, ServerError, gob, netrpc

PATIENCE = 60.0  # seconds


@gob.struct
class Args:
    a: int = 0
    b: int = 0


@gob.struct
class Quotient:
    quo: int = 0
    rem: int = 0
    notes: list[str] = gob.field(default_factory=list)


class Arith:
    """The service as cmd/netrpc has it in Go."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.blocked: dict[str, threading.Event] = {}

    def _event(self, name: str) -> threading.Event:
        with self.lock:
            return self.blocked.setdefault(name, threading.Event())

    def add(self, args: Args) -> int:
        return args.a + args.b

    def divide(self, args: Args) -> Quotient:
        if args.b == 0:
            raise ServerError("divide by zero")
        return Quotient(args.a // args.b, args.a % args.b, ["exact"])

    def echo(self, value: bytes) -> bytes:
        return value

    def block(self, name: str) -> str:
        assert self._event(name).wait(PATIENCE)
        return name

    def release(self, name: str) -> None:
        self._event(name).set()


# ---- A server of Go's ----------------------------------------------------------------------------


@pytest.fixture(params=["unix", "tcp"])
def address(request: pytest.FixtureRequest, peers: Any, tmp_path: Path) -> Iterator[str]:
    where = f"unix:{tmp_path}/go" if request.param == "unix" else "127.0.0.1:0"
    with subprocess.Popen(
        peers.netrpc("-serve", where), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0


@pytest.fixture
def client(address: str) -> Iterator[netrpc.Client]:
    with netrpc.connect(address, timeout=PATIENCE) as made:
        yield made


def test_calls_of_a_go_server(client: netrpc.Client) -> None:
    assert client.call("Arith.Add", Args(7, 8), int) == 15
    assert client.call("Arith.Divide", Args(17, 5), Quotient) == Quotient(3, 2, ["exact"])
    untyped = client.call("Arith.Divide", Args(17, 5))
    assert untyped.to_dict() == {"Quo": 3, "Rem": 2, "Notes": ["exact"]}
    data = bytes(range(256)) * 4096
    assert client.call("Arith.Echo", data, bytes) == data
    assert client.call("Arith.Any", "text", Any, args_type=Any) == "text"
    assert client.call("Arith.Any", None, Any) is None


def test_errors_of_a_go_server(client: netrpc.Client) -> None:
    for method, text in (
        ("Arith.Divide", "divide by zero"),
        ("Arith.Nope", "rpc: can't find method Arith.Nope"),
        ("Nope.Add", "rpc: can't find service Nope.Add"),
        ("Arith", "rpc: service/method request ill-formed: Arith"),
    ):
        with pytest.raises(ServerError) as caught:
            client.call(method, Args(1, 0), int)
        assert str(caught.value) == text
    with pytest.raises(ServerError, match="gob: type mismatch"):
        client.call("Arith.Add", "no struct", int)
    with pytest.raises(GobError, match="the stream has an int, the class a str"):
        client.call("Arith.Add", Args(1, 1), str)
    assert client.call("Arith.Add", Args(1, 1), int) == 2


def test_calls_of_a_go_server_overtake_each_other(client: netrpc.Client) -> None:
    calls = {name: client.go("Arith.Block", name, str) for name in "abcdefgh"}
    for name in "hcabgfde":
        client.call("Arith.Release", name, None)
        assert calls.pop(name).result(PATIENCE) == name
        assert not any(call.done() for call in calls.values())


def test_threads_call_a_go_server(client: netrpc.Client) -> None:
    sums: list[int] = []

    def call_often(number: int) -> None:
        sums.extend(client.call("Arith.Add", Args(number, i), int) - i for i in range(200))

    threads = [threading.Thread(target=call_often, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(sums) == sorted(n for n in range(8) for _ in range(200))


# ---- A client of Go's ----------------------------------------------------------------------------


def test_a_go_client(peers: Any, tmp_path: Path) -> None:
    with netrpc.listen(f"unix:{tmp_path}/py", Arith()) as server:
        output = subprocess.check_output(peers.netrpc("-call", server.address), timeout=PATIENCE)
    outcomes = [json.loads(line) for line in output.splitlines()]
    assert outcomes == [
        {"method": "Arith.Add", "reply": 15},
        {"method": "Arith.Divide", "reply": {"Quo": 3, "Rem": 2, "Notes": ["exact"]}},
        {"method": "Arith.Divide", "error": "divide by zero"},
        {"method": "Arith.Nope", "error": "rpc: can't find method Arith.Nope"},
        {"method": "Nope.Add", "error": "rpc: can't find service Nope.Add"},
        {"method": "Arith", "error": "rpc: service/method request ill-formed: Arith"},
        {
            "method": "Arith.Add",
            "error": "Arith.add: Args: the stream has a string, the class the struct Args",
        },
        {"method": "Arith.Echo", "reply": 1 << 20},
        {"method": "Arith.Block", "reply": "second"},
        {"method": "Arith.Block", "reply": "first"},
        {
            "method": "Arith.Add",
            "error": "reading body gob: decoding into local type *string, received remote type int",
        },
    ]
