#!/usr/bin/env python3
"""A plugin made of plain grpcio, as a Python author would write one today.

It prints its own handshake line, and knows neither AutoMTLS, nor the broker,
nor stdio. The modules generated from kv.proto, probe.proto and
grpc_controller.proto are found on PYTHONPATH.
"""

import argparse
import json
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from concurrent import futures
from datetime import datetime, timezone

import grpc
import grpc_controller_pb2
import grpc_controller_pb2_grpc
import kv_pb2_grpc
import probe_pb2_grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from servicers import LEVELS, KVServicer, ProbeServicer

COOKIE = ("PYGO_TEST_COOKIE", "pygo")
LEVEL_NAMES = {number: name for name, number in LEVELS.items()}


class Controller(grpc_controller_pb2_grpc.GRPCControllerServicer):
    """Ends the process when the host asks for it."""

    def __init__(self, stop):
        self._stop = stop

    def Shutdown(self, request, context):
        # The main thread stops the server, which waits for this very call.
        self._stop.set()
        return grpc_controller_pb2.Empty()


def log(level, message, fields):
    """Write a log entry the way hosts understand it."""
    now = datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
    entry = {
        "@level": LEVEL_NAMES[level],
        "@message": message,
        "@module": "peer",
        "@timestamp": now,
    }
    sys.stderr.write(json.dumps({**fields, **entry}) + "\n")
    sys.stderr.flush()


def choose_version(served):
    """Return the highest version that the host lists, or the lowest of ours."""
    offered = os.environ.get("PLUGIN_PROTOCOL_VERSIONS", "").split(",")
    matching = [version for version in served if str(version) in offered]
    return max(matching) if matching else min(served)


def free_port():
    """Return a port within the limits that the host sets."""
    low = int(os.environ.get("PLUGIN_MIN_PORT", "10000"))
    high = int(os.environ.get("PLUGIN_MAX_PORT", "25000"))
    for port in range(low, high + 1):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port from {low} to {high}")


def make_server(version, workers, stop):
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=workers),
        options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)],
    )
    kv_pb2_grpc.add_KVServicer_to_server(KVServicer(), server)
    probe_pb2_grpc.add_ProbeServicer_to_server(ProbeServicer(version, log), server)
    grpc_controller_pb2_grpc.add_GRPCControllerServicer_to_server(Controller(stop), server)
    checks = health.HealthServicer()
    checks.set("plugin", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    return server


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=["unix", "tcp"], default="unix")
    parser.add_argument(
        "--versions", default="1", help="application protocol versions, comma-separated"
    )
    parser.add_argument("--workers", type=int, default=16, help="threads that run handlers")
    parser.add_argument(
        "--log-lines", type=int, default=0, help="log entries to write before the handshake"
    )
    parser.add_argument(
        "--lifetime", type=float, default=600, help="seconds after which to exit anyway"
    )
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    key, value = COOKIE
    if os.environ.get(key) != value:
        sys.exit("This is a plugin, start it from its host.")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in range(arguments.log_lines):
        log(logging.INFO, "a line of the log", {"number": number})

    stop = threading.Event()
    version = choose_version([int(field) for field in arguments.versions.split(",")])
    server = make_server(version, arguments.workers, stop)
    directory = None
    if arguments.network == "unix":
        directory = tempfile.mkdtemp(prefix="plugin")
        address = os.path.join(directory, "socket")
        server.add_insecure_port(f"unix:{address}")
    else:
        address = f"127.0.0.1:{free_port()}"
        server.add_insecure_port(address)
    server.start()
    print(f"1|{version}|{arguments.network}|{address}|grpc", flush=True)
    try:
        stop.wait(arguments.lifetime)
        server.stop(grace=0.5).wait()
    finally:
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
