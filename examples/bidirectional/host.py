#!/usr/bin/env python3
"""Uses a counter that is a plugin, and lends it the object that does the adding.

usage: host.py [--auto-mtls] [--multiplex] [PLUGIN [ARGUMENT]]

The plugin is plugin.py next to this file unless the command line names one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import counter_pb2
from shared import ADD_HELPER, COUNTER, HANDSHAKE

from pygo_plugin import Client, Plugin


class AddHelper(ADD_HELPER.Servicer):  # type: ignore[misc,name-defined]
    """Answers the calls of the plugin."""

    def Sum(self, request: Any, context: Any) -> Any:
        print(f"the plugin asks for {request.a} + {request.b}")
        return counter_pb2.SumResponse(r=request.a + request.b)


class Counter:
    """What dispense() gives: a counter to which an adding object is passed."""

    def __init__(self, broker: Any, channel: Any) -> None:
        self.broker = broker
        self.stub: Any = COUNTER.Stub(channel)

    def put(self, key: str, value: int, helper: AddHelper) -> None:
        with self.broker.serve(helper) as add_server:
            request = counter_pb2.PutRequest(add_server=add_server, key=key, value=value)
            self.stub.Put(request, timeout=10)

    def get(self, key: str) -> int:
        return int(self.stub.Get(counter_pb2.GetRequest(key=key), timeout=10).value)


class CounterPlugin(Plugin[Counter]):
    def grpc_client(self, broker: Any, channel: Any) -> Counter:
        return Counter(broker, channel)


def main(arguments: list[str]) -> None:
    command = [argument for argument in arguments if not argument.startswith("--")]
    with Client(
        command or [sys.executable, str(Path(__file__).with_name("plugin.py"))],
        handshake_config=HANDSHAKE,
        plugins={"counter": CounterPlugin()},
        auto_mtls="--auto-mtls" in arguments,
        broker_multiplex="--multiplex" in arguments,
    ) as client:
        counter = client.dispense("counter")
        counter.put("apples", 3, AddHelper())
        counter.put("apples", 4, AddHelper())
        print(f"apples = {counter.get('apples')}")


if __name__ == "__main__":
    main(sys.argv[1:])
