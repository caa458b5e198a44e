#!/usr/bin/env python3
"""Uses a key-value store that is a plugin, from asyncio: many values at the same time.

usage: host_async.py [PLUGIN [ARGUMENT]]

The plugin is the command on the command line, or else in the variable KV_PLUGIN, or else plugin.py
next to this file.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from pathlib import Path

import grpc
import kv_pb2
from shared import HANDSHAKE, KVPlugin

from pygo_plugin import PluginError, aio

COUNT = 100


async def main(command: list[str]) -> int:
    try:
        async with aio.Client(
            command, handshake_config=HANDSHAKE, plugins={"kv": KVPlugin()}
        ) as client:
            _, kv = await client.dispense("kv")
            keys = [f"key-{number}" for number in range(COUNT)]
            await asyncio.gather(
                *(
                    kv.Put(kv_pb2.PutRequest(key=key, value=key.encode()), timeout=10)
                    for key in keys
                )
            )
            replies = await asyncio.gather(
                *(kv.Get(kv_pb2.GetRequest(key=key), timeout=10) for key in keys)
            )
            good = sum(reply.value.decode() == key for key, reply in zip(keys, replies))
            print(f"put and got {good} values")
        print(f"ended {client.name}, its exit status is {client.exit_status}")
    except (PluginError, grpc.RpcError) as error:  # it did not start, or a call failed
        print(f"the plugin failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    own = [sys.executable, str(Path(__file__).with_name("plugin.py"))]
    given = sys.argv[1:] or shlex.split(os.environ.get("KV_PLUGIN", ""))
    sys.exit(asyncio.run(main(given or own)))
