#!/usr/bin/env python3
"""A key-value store as a plugin: each key is a file in the working directory.

Started by a host only; see host.py.
"""

from __future__ import annotations

import logging
import os
from typing import Any
from urllib.parse import quote

import grpc
import kv_pb2
import kv_pb2_grpc
from shared import HANDSHAKE, KVPlugin

from pygo_plugin import ServeConfig, serve

log = logging.getLogger("kv")


class KVServicer(kv_pb2_grpc.KVServicer):
    """Answers the calls of the host."""

    def Get(self, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            with open(path_of(request.key), "rb") as file:
                return kv_pb2.GetResponse(value=file.read())
        except FileNotFoundError:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no key {request.key!r}")

    def Put(self, request: Any, context: grpc.ServicerContext) -> Any:
        with open(path_of(request.key), "wb") as file:
            file.write(request.value)
        # Arrives at the host as a record of its own logging.
        log.info("stored a value", extra={"key": request.key, "bytes": len(request.value)})
        return kv_pb2.PutResponse()


def path_of(key: str) -> str:
    # Quoted, so that a key such as "../../etc/passwd" stays a file of this directory.
    return os.path.join(os.curdir, "kv_" + quote(key, safe=""))


class ServedKVPlugin(KVPlugin):
    def server_register(self, server: Any) -> None:
        kv_pb2_grpc.add_KVServicer_to_server(KVServicer(), server)


if __name__ == "__main__":
    serve(ServeConfig(handshake_config=HANDSHAKE, plugins={"kv": ServedKVPlugin()}))
