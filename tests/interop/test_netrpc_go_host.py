"""Go's host with net/rpc plugins: every kind of value, call, object lent and stream lent."""

from __future__ import annotations

import base64
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.go, pytest.mark.usefixtures("no_leftovers")]

KINDS = ["go", "python"]
CELLS = {
    "unix": {},
    "tcp": {"tcp": True},
    "mtls": {"auto_mtls": True},
    "tcp-mtls": {"tcp": True, "auto_mtls": True},
}

Start = Callable[..., dict[str, Any]]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """What the plugin is written in."""
    found: str = request.param
    return found


@pytest.fixture
def start(kind: str, go_host: Any, peers: Any) -> Start:
    """Starts a plugin that serves version 1 over net/rpc."""

    def start(*, tcp: bool = False, arguments: tuple[str, ...] = (), **options: Any) -> Any:
        if tcp:
            arguments = ("--network", "tcp", *arguments)
            options.update(min_port=20000, max_port=29999)
        command = peers.netrpc_plugin(kind, *arguments)
        options.setdefault("netrpc", [1])
        return go_host.do("start", cmd=command, **options)

    return start


def refused(host: Any, method: str, **request: Any) -> str:
    """The error that the plugin answers a call with."""
    answer = host.ask("rpc_call", method=method, **request)
    assert not answer["ok"]
    assert answer.get("server_error"), answer
    text: str = answer["error"]
    return text


def call(host: Any, method: str, **request: Any) -> Any:
    return host.do("rpc_call", method=method, **request)["value"]


@pytest.mark.parametrize("cell", CELLS)
def test_every_kind_of_call(cell: str, kind: str, start: Start, go_host: Any) -> None:
    started = start(**CELLS[cell])
    assert started["protocol"] == "netrpc"
    assert started["network"] == ("tcp" if "tcp" in cell else "unix")
    go_host.do("ping")
    checked = go_host.do("rpc_types")
    # A list of Python's within an interface value is []interface {}, whatever it was before.
    accepted = "nothing" if kind == "go" else 'Any of {"type":{"slice":'
    assert [text for text in checked["failures"] if not text.startswith(accepted)] == []
    assert checked["checked"] > 100
    go_host.do("rpc_many", size=100, count=200, parallel=16)
    go_host.do("rpc_many", size=1_000_000, count=4, parallel=4)
    go_host.do("rpc_call_back", size=100, count=20, parallel=4)
    go_host.do("rpc_call_served", size=100, count=20, parallel=4)
    go_host.do("rpc_descend", depth=7)
    for op in ("rpc_lend_reader", "rpc_lend_writer", "rpc_borrow_reader", "rpc_borrow_writer"):
        go_host.do(op, size=0, count=1)
        go_host.do(op, size=1_000_000, count=4, parallel=4)
    killed = go_host.do("kill")
    assert killed["exited"]
    # Go's plugin may end before it has answered Quit, which makes go-plugin's host use force.
    assert kind == "go" or not killed["forced"]


def test_errors(start: Start, go_host: Any) -> None:
    start()
    assert refused(go_host, "Fail", type="string", value="by design") == "by design"
    assert refused(go_host, "FailBasic", type="string", value="by design") == "by design"
    assert refused(go_host, "Nowhere") == "rpc: can't find method Plugin.Nowhere"
    assert refused(go_host, "X", service="Nobody") == "rpc: can't find service Nobody.X"
    reply = {
        "struct": [["Quotient", "int"], ["Error", {"pointer": {"struct": [["Message", "string"]]}}]]
    }
    operands = {"struct": [["A", "int"], ["B", "int"]]}
    value = call(go_host, "Divide", type=operands, value={"A": 6, "B": 3}, reply=reply)
    assert value == {"Quotient": 2, "Error": None}
    value = call(go_host, "Divide", type=operands, value={"A": 6, "B": 0}, reply=reply)
    assert value == {"Quotient": 0, "Error": {"Message": "division by zero"}}
    inside = {"struct": [["Err", "any"]]}
    value = call(go_host, "FailInside", type="string", value="by design", reply=inside)
    assert value["Err"]["value"] == {"Message": "by design"}
    assert "Err" in call(go_host, "FailInside", type="string", value="", reply=inside)
    assert "unknown plugin type: nothing" in go_host.ask("dispense", name="nothing")["error"]
    assert go_host.ask("dispense", name="broken")["error"] == "this plugin is broken by design"
    # The connection is as good as before.
    go_host.do("rpc_many", size=100, count=1)


def test_calls_at_the_same_time(start: Start, go_host: Any) -> None:
    start()
    for key in ("a", "b"):
        go_host.do("rpc_begin", call=key, method="Block", type="string", value=key, reply="string")
    blocked = 0
    while blocked < 2:
        blocked = call(go_host, "Blocked", reply="int")
    call(go_host, "Release", type="string", value="b")
    assert go_host.do("rpc_wait", call="b")["value"] == "b"
    assert "no reply" in go_host.ask("rpc_wait", call="a", timeout_ms=10)["error"]
    call(go_host, "Release", type="string", value="a")
    assert go_host.do("rpc_wait", call="a")["value"] == "a"


@pytest.mark.parametrize("end", ["kill -9", "exit"])
def test_death_in_the_middle_of_a_call(
    end: str, start: Start, go_host: Any, socket_dir: Path
) -> None:
    pid = start()["pid"]
    go_host.do("rpc_begin", call="a", method="Block", type="string", value="a", reply="string")
    while call(go_host, "Blocked", reply="int") < 1:
        pass
    if end == "exit":
        go_host.ask("rpc_call", method="Exit", type="int", value=3)
    else:
        os.kill(pid, signal.SIGKILL)
    answer = go_host.ask("rpc_wait", call="a")
    assert not answer["ok"]
    assert "server_error" not in answer
    assert go_host.do("exited", timeout_ms=30_000)["exited"]
    for socket in socket_dir.glob("plugin*"):  # which go-plugin's host leaves
        socket.unlink()


def test_output_and_logs(kind: str, start: Start, go_host: Any) -> None:
    start()
    output = {"struct": [["Stdout", "bytes"], ["Stderr", "bytes"], ["Repeat", "int"]]}
    text = {"Stdout": b"out \xff\n".hex(), "Stderr": b"err\n".hex(), "Repeat": 3}
    call(go_host, "Print", type=output, value=text)
    last = {"Stdout": b"the end\n".hex(), "Stderr": b"the end\n".hex()}
    call(go_host, "Print", type=output, value=last)
    stdout = stderr = b""
    # Ours writes to the plugin's real stderr, which hosts log.
    while not stdout.endswith(b"the end\n") or (kind == "go" and not stderr.endswith(b"end\n")):
        got = go_host.do("stdio")
        stdout += base64.b64decode(got["stdout_b64"])
        stderr += base64.b64decode(got["stderr_b64"])
    assert stdout == b"out \xff\n" * 3 + b"the end\n"
    assert kind == "python" or stderr == b"err\n" * 3 + b"the end\n"
    fields = {"map": "string", "value": "string"}
    entry = {"struct": [["Level", "string"], ["Message", "string"], ["Fields", fields]]}
    value = {"Level": "warn", "Message": "a warning", "Fields": [["key", "value"]]}
    call(go_host, "Log", type=entry, value=value)
    records = go_host.do("logs", until="a warning")["records"]
    (found,) = [record for record in records if record["message"] == "a warning"]
    assert found["level"] == "warn"
    assert found["fields"]["key"] == "value"


def test_reattach(start: Start, go_host: Any) -> None:
    start(client="first")
    go_host.do("rpc_many", client="first", size=1, count=1)
    reattach = go_host.do("reattach_config", client="first")["reattach"]
    assert reattach["protocol"] == "netrpc"
    go_host.do("start", client="second", reattach=reattach, netrpc=[1])
    go_host.do("rpc_call_back", client="second", size=1, count=2)
    go_host.do("rpc_call_back", client="first", size=1, count=2)
    go_host.do("kill", client="second")
    assert go_host.do("exited", client="first", timeout_ms=30_000)["exited"]


@pytest.mark.parametrize(
    ("versions", "netrpc", "chosen"),
    [([1, 2], [1], (2, "grpc")), ([1], [1], (1, "netrpc")), ([2], [], (2, "grpc"))],
)
def test_negotiation_chooses_the_protocol(
    versions: list[int], netrpc: list[int], chosen: tuple[int, str], start: Start, go_host: Any
) -> None:
    started = start(arguments=("--versions", "1,2"), versions=versions, netrpc=netrpc)
    assert (started["negotiated_version"], started["protocol"]) == chosen
    go_host.do("ping")
    if started["protocol"] == "netrpc":
        go_host.do("rpc_many", size=1, count=1)
    else:
        assert go_host.do("echo", value="x")["value"] == "x"


def test_nothing_is_left_of_what_was_lent(start: Start, go_host: Any, eventually: Any) -> None:
    start()

    def lend() -> None:
        go_host.do("rpc_call_back", size=100, count=20, parallel=4)
        go_host.do("rpc_call_served", size=100, count=20, parallel=4)
        go_host.do("rpc_lend_reader", size=10_000, count=20, parallel=4)
        go_host.do("rpc_borrow_writer", size=10_000, count=20, parallel=4)

    def descriptors() -> int:
        info = {"struct": [["Descriptors", "int"]]}
        found: int = call(go_host, "Info", reply=info)["Descriptors"]
        return found

    go_host.do("rpc_many", size=1, count=1)
    goroutines, before = go_host.do("goroutines")["goroutines"], descriptors()
    lend()
    eventually(lambda: go_host.do("goroutines")["goroutines"] <= goroutines, "their end")
    assert descriptors() <= before
