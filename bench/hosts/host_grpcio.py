"""A host made of plain grpcio, as one writes it by hand for a single plugin."""

from __future__ import annotations

import time

import grpc
import grpc_controller_pb2
import grpc_controller_pb2_grpc
import probe_pb2
import probe_pb2_grpc
from by_hand import PATIENCE, UNLIMITED, launch, reap
from measure import launch_result, measure_calls, parse_arguments, report
from messages import measure_stream
from opened import hold_open


class Plugin:
    """The plugin's process and a channel to it."""

    def __init__(self, command: list[str]) -> None:
        self.process, target = launch(command)
        self.channel = grpc.insecure_channel(target, options=UNLIMITED)
        self.stub = probe_pb2_grpc.ProbeStub(self.channel)

    def kill(self) -> None:
        controller = grpc_controller_pb2_grpc.GRPCControllerStub(self.channel)
        try:
            controller.Shutdown(grpc_controller_pb2.Empty(), timeout=PATIENCE)
        except grpc.RpcError:
            pass  # the plugin may be quicker to go than to answer
        self.channel.close()
        reap(self.process)


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


def stream(arguments) -> dict:
    plugin = Plugin(arguments.plugin)
    try:
        return measure_stream(plugin.stub, arguments)
    finally:
        plugin.kill()


def opened(arguments) -> None:
    plugin = Plugin(arguments.plugin)
    try:
        hold_open(plugin.stub, arguments.open)
    finally:
        plugin.kill()


def main() -> None:
    arguments = parse_arguments()
    if arguments.open:
        opened(arguments)
        return
    report(
        calls=calls(arguments) if arguments.calls else None,
        stream=stream(arguments) if arguments.messages else None,
        launch=launches(arguments) if arguments.launch else None,
    )


if __name__ == "__main__":
    main()
