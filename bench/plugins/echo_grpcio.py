"""A plugin made of plain grpcio by hand, with no more than a host needs: see tests/peers for one
that has options."""

import os
import shutil
import signal
import sys
import tempfile
import threading
from concurrent import futures

import grpc
import grpc_controller_pb2
import grpc_controller_pb2_grpc
import probe_pb2_grpc
from echo import COOKIE, WORKERS, EchoServicer
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

LIFETIME = 600  # seconds, so that no benchmark leaves a process behind


class Controller(grpc_controller_pb2_grpc.GRPCControllerServicer):
    def __init__(self, stop):
        self._stop = stop

    def Shutdown(self, request, context):
        self._stop.set()
        return grpc_controller_pb2.Empty()


def main():
    key, value = COOKIE
    if os.environ.get(key) != value:
        sys.exit("This is a plugin, start it from its host.")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop = threading.Event()
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=WORKERS),
        options=[("grpc.max_receive_message_length", -1)],
    )
    probe_pb2_grpc.add_ProbeServicer_to_server(EchoServicer(), server)
    grpc_controller_pb2_grpc.add_GRPCControllerServicer_to_server(Controller(stop), server)
    checks = health.HealthServicer()
    checks.set("plugin", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    directory = tempfile.mkdtemp(prefix="plugin")
    address = os.path.join(directory, "socket")
    server.add_insecure_port(f"unix:{address}")
    server.start()
    print(f"1|1|unix|{address}|grpc", flush=True)
    try:
        stop.wait(LIFETIME)
        server.stop(grace=0.5).wait()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
