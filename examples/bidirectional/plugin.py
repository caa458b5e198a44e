#!/usr/bin/env python3
"""A counter as a plugin, which calls the host back to add. Started by a host only; see host.py."""

from __future__ import annotations

from typing import Any

import counter_pb2
from shared import ADD_HELPER, COUNTER, HANDSHAKE

from pygo_plugin import Plugin, ServeConfig, serve


class Counter(COUNTER.Servicer):  # type: ignore[misc,name-defined]
    """Answers the calls of the host."""

    def __init__(self, broker: Any) -> None:
        self.broker = broker
        self.values: dict[str, int] = {}

    def Get(self, request: Any, context: Any) -> Any:
        return counter_pb2.GetResponse(value=self.values.get(request.key, 0))

    def Put(self, request: Any, context: Any) -> Any:
        # The request carries an id; behind it is an object of the host's.
        with self.broker.dial(request.add_server) as channel:
            helper = ADD_HELPER.Stub(channel)
            old = self.values.get(request.key, 0)
            reply = helper.Sum(counter_pb2.SumRequest(a=old, b=request.value), timeout=10)
        self.values[request.key] = reply.r
        return counter_pb2.PutResponse()


class CounterPlugin(Plugin):
    def grpc_server(self, broker: Any, server: Any) -> None:
        COUNTER.add_to_server(Counter(broker), server)


if __name__ == "__main__":
    serve(ServeConfig(handshake_config=HANDSHAKE, plugins={"counter": CounterPlugin()}))
