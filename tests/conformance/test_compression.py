"""Compression, as seen by who counts bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from proxy import proxied
from stage import DEADLINE, Service, Stage, ask, replies, serving, unary

from pygo_plugin import rpc


def test_compression(probe: Any, pb: Any) -> None:
    payload = b"x" * 100_000
    for choice in (*grpc.Compression, None):
        request = pb.EchoRequest(payload=payload)
        reply = probe.Echo(request, compression=choice, timeout=DEADLINE)
        assert reply.payload == payload
        chat = probe.Chat(
            iter([pb.ChatMessage(payload=payload)] * 2), compression=choice, timeout=DEADLINE
        )
        assert [message.payload for message in chat] == [payload] * 2


@pytest.mark.parametrize("algorithm", list(grpc.Compression))
def test_compression_of_the_handlers(stage: Stage, algorithm: grpc.Compression) -> None:
    def one(request: bytes, context: Any) -> bytes:
        context.set_compression(algorithm)
        return b"x" * 100_000

    def many(request: bytes, context: Any) -> Iterator[bytes]:
        context.set_compression(algorithm)
        context.send_initial_metadata([("key", "value")])
        for number in range(4):
            if number % 2:
                context.disable_next_message_compression()
            yield b"x" * 100_000

    channel = stage.serve({"One": unary(one), "Many": replies(many)})
    assert channel.unary_unary("/test.T/One")(b"", timeout=DEADLINE) == b"x" * 100_000
    stream = channel.unary_stream("/test.T/Many")(b"", timeout=DEADLINE)
    assert list(stream) == [b"x" * 100_000] * 4


def test_compression_that_is_none(our_stage: Stage) -> None:
    def behavior(request: bytes, context: Any) -> bytes:
        with pytest.raises(ValueError, match=r"grpc\.Compression, not 9"):
            context.set_compression(9)
        with pytest.raises(TypeError):
            context.set_compression("gzip")
        return b""

    our_stage.call(behavior)


BULK = b"the same again and again, " * 4000  # 104 kB, or a few hundred bytes


SMALL = 20_000


@pytest.mark.parametrize("algorithm", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_requests_compressed_for_the_whole_channel(
    client: Any, host: Any, algorithm: grpc.Compression
) -> None:
    with serving(host) as running, proxied(running.port) as proxy:
        target = f"127.0.0.1:{proxy.port}"
        with client.insecure_channel(target, compression=algorithm) as channel:
            assert ask(channel, BULK) == BULK
            up, down = proxy.take()
            assert up < SMALL
            assert down > len(BULK)
            if client is rpc:  # grpcio takes this one for no wish
                assert ask(channel, BULK, compression=grpc.Compression.NoCompression) == BULK
                assert proxy.take()[0] > len(BULK)


def test_requests_compressed_for_one_call(client: Any, host: Any) -> None:
    with (
        serving(host) as running,
        proxied(running.port) as proxy,
        client.insecure_channel(f"127.0.0.1:{proxy.port}") as channel,
    ):
        assert ask(channel, BULK) == BULK
        assert proxy.take()[0] > len(BULK)
        assert ask(channel, BULK, compression=grpc.Compression.Gzip) == BULK
        assert proxy.take()[0] < SMALL


def test_replies_compressed_for_the_whole_server(client: Any, host: Any) -> None:
    with (
        serving(host, compression=grpc.Compression.Gzip) as running,
        proxied(running.port) as proxy,
        client.insecure_channel(f"127.0.0.1:{proxy.port}") as channel,
    ):
        assert ask(channel, BULK) == BULK
        up, down = proxy.take()
        assert up > len(BULK)
        assert down < SMALL


def test_replies_compressed_by_the_handler(client: Any, host: Any) -> None:
    def compressed(request: bytes, context: Any) -> bytes:
        context.set_compression(grpc.Compression.Gzip)
        return request

    def after_metadata(request: bytes, context: Any) -> bytes:
        context.set_compression(grpc.Compression.Deflate)
        context.send_initial_metadata([("a", "b")])
        return request

    def not_this_one(request: bytes, context: Any) -> bytes:
        context.set_compression(grpc.Compression.Gzip)
        context.disable_next_message_compression()
        return request

    service = Service(Compressed=compressed, Metadata=after_metadata, Plain=not_this_one)
    with (
        serving(host, service=service) as running,
        proxied(running.port) as proxy,
        client.insecure_channel(f"127.0.0.1:{proxy.port}") as channel,
    ):
        for name, small in (("Compressed", True), ("Metadata", True), ("Plain", False)):
            assert channel.unary_unary(f"/t/{name}")(BULK, timeout=DEADLINE) == BULK
            down = proxy.take()[1]
            assert down < SMALL if small else down > len(BULK), name


def test_a_compression_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match=r"grpc\.Compression"):
        rpc.insecure_channel("localhost:1", compression=7)
    with pytest.raises(ValueError, match=r"grpc\.Compression"):
        rpc.server(compression=-1)
