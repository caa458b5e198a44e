#!/usr/bin/env python3
"""Uses a key-value store that is a plugin.

usage: host.py put KEY VALUE         store a value
       host.py get KEY               print a value
       host.py [PLUGIN [ARGUMENT]]   store a value and read it back

The plugin is the command on the command line, or else in the variable KV_PLUGIN, or else plugin.py
next to this file.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import grpc
import kv_pb2
from shared import HANDSHAKE, KVPlugin

from pygo_plugin import Client, PluginError


def main(arguments: list[str]) -> int:
    # KV_LOG=INFO shows what the plugin logs.
    logging.basicConfig(level=os.environ.get("KV_LOG", "WARNING"), format="%(name)s: %(message)s")
    action, command = parse(arguments)
    try:
        with Client(command, handshake_config=HANDSHAKE, plugins={"kv": KVPlugin()}) as client:
            _, kv = client.dispense("kv")
            if action[0] == "put":
                put(kv, action[1], action[2])
            elif action[0] == "get":
                get(kv, action[1])
            else:
                print(f"started {client.name} as process {client.pid} at {client.conn_endpoint()}")
                put(kv, "greeting", "hello, plugin")
                get(kv, "greeting")
        if action[0] == "demo":
            print(f"ended {client.name}, its exit status is {client.exit_status}")
    except (PluginError, grpc.RpcError) as error:  # it did not start, or a call failed
        print(f"the plugin failed: {error}", file=sys.stderr)
        return 1
    return 0


def put(kv: Any, key: str, value: str) -> None:
    kv.Put(kv_pb2.PutRequest(key=key, value=value.encode()), timeout=10)
    print(f"put {key} = {value}")


def get(kv: Any, key: str) -> None:
    try:
        response = kv.Get(kv_pb2.GetRequest(key=key), timeout=10)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        print(f"got nothing: {error.details()}")
    else:
        print(f"got {key} = {response.value.decode()}")


def parse(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Returns: what to do, and the plugin's command line."""
    own = [sys.executable, str(Path(__file__).with_name("plugin.py"))]
    command = shlex.split(os.environ.get("KV_PLUGIN", "")) or own
    if arguments[:1] == ["put"] and len(arguments) == 3:
        return arguments, command
    if arguments[:1] == ["get"] and len(arguments) == 2:
        return arguments, command
    if arguments and (arguments[0] in ("put", "get") or arguments[0].startswith("-")):
        sys.exit(str(__doc__))
    return ["demo"], arguments or command


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
