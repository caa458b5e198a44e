"""Our host over net/rpc. Neither gRPC nor protobuf is loaded."""

from __future__ import annotations

import logging
import time

import orders
from measure import COOKIE, launch_result, measure_calls, parse_arguments, report

from pygo_plugin import Client, HandshakeConfig, netrpc


class Test:
    """The methods of Go's rpcpeer.Test that are measured."""

    def echo(self, payload: bytes) -> bytes: ...
    def order(self, order: orders.Order) -> orders.Order: ...
    def call_back(self, args: orders.CallBackArgs) -> bytes: ...


class Echo:
    """What the plugin calls back."""

    def echo(self, payload: bytes) -> bytes:
        return payload


def make_client(arguments) -> Client:
    logger = logging.getLogger("bench.off")
    logger.disabled = True
    return Client(
        arguments.plugin,
        handshake_config=HandshakeConfig(1, *COOKIE),
        plugins={"test": netrpc.plugin(Test)},
        allowed_protocols=["netrpc"],
        logger=logger,
        auto_mtls=arguments.auto_mtls,
    )


def calls(arguments) -> dict:
    with make_client(arguments) as client:
        test = client.dispense("test")
        payload, order = bytes(arguments.size), orders.sample()

        def call_back():
            with client.broker.serve(Echo()) as service_id:
                test.call_back(orders.CallBackArgs(service_id, payload))

        if arguments.call_back:
            return measure_calls(call_back, arguments)
        if arguments.order:
            return measure_calls(lambda: test.order(order), arguments)
        return measure_calls(lambda: test.echo(payload), arguments)


def launches(arguments) -> dict:
    replies, kills = [], []
    for _ in range(arguments.launch):
        client = make_client(arguments)
        begin = time.perf_counter()
        client.dispense("test").echo(b"")
        replies.append(time.perf_counter() - begin)
        time.sleep(arguments.idle_ms / 1000)
        begin = time.perf_counter()
        client.kill()
        kills.append(time.perf_counter() - begin)
    return launch_result(replies, kills)


if __name__ == "__main__":
    given = parse_arguments()
    report(
        calls=calls(given) if given.calls else None,
        launch=launches(given) if given.launch else None,
    )
