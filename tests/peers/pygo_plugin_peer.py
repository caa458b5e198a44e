#!/usr/bin/env python3
"""The plugin of the test suite that serves through pygo_plugin, and what its hosts share with it.

The modules generated from kv.proto and probe.proto are found on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import threading
from typing import Any

from pygo_plugin import HandshakeConfig, Plugin, ServeConfig, Server, serve

HANDSHAKE = HandshakeConfig(
    protocol_version=1, magic_cookie_key="PYGO_TEST_COOKIE", magic_cookie_value="pygo"
)


class KVPlugin(Plugin):
    def client_class(self) -> Any:
        import kv_pb2_grpc

        return kv_pb2_grpc.KVStub

    def server_register(self, server: Any) -> None:
        import kv_pb2_grpc
        from servicers import KVServicer

        kv_pb2_grpc.add_KVServicer_to_server(KVServicer(), server)


class ProbePlugin(Plugin):
    def __init__(self, version: int = 0) -> None:
        self._version = version

    def client_class(self) -> Any:
        import probe_pb2_grpc

        return probe_pb2_grpc.ProbeStub

    def server_register(self, server: Any) -> None:
        import probe_pb2_grpc
        from servicers import ProbeServicer

        probe_pb2_grpc.add_ProbeServicer_to_server(ProbeServicer(self._version), server)


def plugins(version: int = 0) -> dict[str, Plugin]:
    return {"kv": KVPlugin(), "probe": ProbePlugin(version)}


class GrpcioServer(Server):
    """Serves through a server of grpcio's own."""

    def server(self, **opts: Any) -> Any:
        from concurrent import futures

        import grpc

        return grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=opts.get("options"))


class WorkersServer(Server):
    """Serves with a number of workers."""

    workers = 0

    def server(self, **opts: Any) -> Any:
        return self.default_grpc_server(max_workers=self.workers, **opts)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=["unix", "tcp"], default="unix")
    parser.add_argument("--versions", default="1", help="protocol versions, comma-separated")
    parser.add_argument("--server", choices=["core", "grpcio", "aio"], default="core")
    parser.add_argument("--workers", type=int, help="handlers that run at the same time")
    parser.add_argument("--log-lines", type=int, default=0, help="log entries before serving")
    parser.add_argument("--lifetime", type=float, default=600, help="seconds until exit anyway")
    parser.add_argument(
        "--own-logging", action="store_true", help="configure logging before serving"
    )
    parser.add_argument("--early-print", help="print this before serving, without a flush")
    parser.add_argument(
        "--thread", action="store_true", help="serve off the main thread, which waits"
    )
    parser.add_argument("--outlive-host", action="store_true", help="go on when the host is gone")
    parser.add_argument("--tls-cert", help="serve TLS with the certificate in this PEM file")
    parser.add_argument("--tls-key", help="the certificate's key, a PEM file")
    parser.add_argument("--tls-ca", help="require client certificates by the one in this file")
    parser.add_argument("--config", default="{}", help="more for ServeConfig, as JSON")
    parser.add_argument("--end", choices=["return", "exit", "raise"], default="return")
    return parser.parse_args()


def tls_provider(arguments: argparse.Namespace) -> Any:
    def provide() -> Any:
        from pygo_plugin import TLSConfig

        return TLSConfig(arguments.tls_ca, arguments.tls_cert, arguments.tls_key)

    return provide


def main() -> None:
    arguments = parse_arguments()
    watchdog = threading.Timer(arguments.lifetime, os._exit, (3,))
    watchdog.daemon = True
    watchdog.start()
    if arguments.own_logging:
        logging.basicConfig(level=logging.DEBUG, format="own: %(message)s")
    if arguments.early_print:
        print(arguments.early_print)
    versions = [int(field) for field in arguments.versions.split(",")]
    config = ServeConfig(
        handshake_config=HANDSHAKE,
        versioned_plugins={version: plugins(version) for version in versions},
        network=arguments.network,
        outlive_host=arguments.outlive_host,
        tls_provider=tls_provider(arguments) if arguments.tls_cert else None,
        **json.loads(arguments.config),
    )
    for number in range(arguments.log_lines):
        entry = {"@level": "info", "@message": "a line of the log", "number": number}
        print(json.dumps(entry), file=sys.stderr)
    sys.stderr.flush()

    if arguments.thread:
        thread = threading.Thread(target=run, args=(arguments, config))
        thread.start()
        thread.join()
    else:
        run(arguments, config)
    if arguments.end == "exit":
        sys.exit(5)
    if arguments.end == "raise":
        raise RuntimeError("the end of the peer")


def run(arguments: argparse.Namespace, config: ServeConfig) -> None:
    if arguments.server == "aio":
        import asyncio

        from pygo_plugin import aio

        asyncio.run(aio.serve(config))
        return
    server: Server
    if arguments.server == "grpcio":
        server = GrpcioServer(config)
    elif arguments.workers:
        server = WorkersServer(config)
        server.workers = arguments.workers
    else:
        serve(config)
        return
    if not server.serve(wait=True):
        sys.exit(server.error_msg)


if __name__ == "__main__":
    main()
