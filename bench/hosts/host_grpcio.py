"""A host made of plain grpcio, as one writes it by hand for a single plugin."""

from __future__ import annotations

import os
import subprocess
import time

import grpc
import grpc_controller_pb2
import grpc_controller_pb2_grpc
import probe_pb2
import probe_pb2_grpc
from measure import COOKIE, launch_result, measure_calls, parse_arguments, report

UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


class Plugin:
    """The plugin's process and a channel to it."""

    def __init__(self, command: list[str]) -> None:
        key, value = COOKIE
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, key: value, "PLUGIN_PROTOCOL_VERSIONS": "1"},
        )
        assert self.process.stdout is not None
        network, address = self.process.stdout.readline().decode().strip().split("|")[2:4]
        target = f"unix:{address}" if network == "unix" else address
        self.channel = grpc.insecure_channel(target, options=UNLIMITED)
        self.stub = probe_pb2_grpc.ProbeStub(self.channel)

    def kill(self) -> None:
        controller = grpc_controller_pb2_grpc.GRPCControllerStub(self.channel)
        try:
            controller.Shutdown(grpc_controller_pb2.Empty(), timeout=2)
        except grpc.RpcError:
            pass  # the plugin may be quicker to go than to answer
        self.channel.close()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def calls(arguments) -> dict:
    plugin = Plugin(arguments.plugin)
    try:
        echo = plugin.stub.Echo
        request = probe_pb2.EchoRequest(payload=bytes(arguments.size), delay_ms=arguments.delay_ms)
        return measure_calls(lambda: echo(request), arguments)
    finally:
        plugin.kill()


def launches(arguments) -> dict:
    replies, kills = [], []
    for _ in range(arguments.launch):
        begin = time.perf_counter()
        plugin = Plugin(arguments.plugin)
        plugin.stub.Echo(probe_pb2.EchoRequest())
        replies.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        plugin.kill()
        kills.append(time.perf_counter() - begin)
    return launch_result(replies, kills)


def main() -> None:
    arguments = parse_arguments()
    report(
        calls=calls(arguments) if arguments.calls else None,
        launch=launches(arguments) if arguments.launch else None,
    )


if __name__ == "__main__":
    main()
