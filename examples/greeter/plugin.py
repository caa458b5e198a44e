#!/usr/bin/env python3
"""Greets. Started by a host only; see host.py."""

from greeter_pb2 import GreetReply
from shared import HANDSHAKE, Greeter

from pygo_plugin import ServeConfig, StatusCode, serve


class GreeterServicer:
    def Greet(self, request, context):
        if not request.name:
            context.abort(StatusCode.INVALID_ARGUMENT, "nobody to greet")
        return GreetReply(text=f"hello, {request.name}")


if __name__ == "__main__":
    plugins = {"greeter": Greeter.plugin(GreeterServicer)}
    serve(ServeConfig(handshake_config=HANDSHAKE, plugins=plugins))
