#!/usr/bin/env python3
"""Counts. Started by a host only; see host.py."""

import threading

from counter_pb2 import AddReply
from shared import HANDSHAKE, Counter

from pygo_plugin import ServeConfig, serve


class CounterServicer:
    def __init__(self):
        self._lock = threading.Lock()
        self._total = 0

    def Add(self, request, context):
        with self._lock:
            self._total += request.amount
            return AddReply(total=self._total)


if __name__ == "__main__":
    plugins = {"counter": Counter.plugin(CounterServicer)}
    serve(ServeConfig(handshake_config=HANDSHAKE, plugins=plugins))
