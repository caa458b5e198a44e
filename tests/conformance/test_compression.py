"""Compression, as seen by who counts bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from proxy import proxied
from stage import DEADLINE, Code, Service, Stage, ask, raised, replies, requests, serving, unary

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


# ---- Messages that are too large once they are decompressed --------------------------------------

LARGE = bytes(5 << 20)  # beyond gRPC's limit, from a few kilobytes


def sizes(request: Any, context: Any) -> bytes:
    received = [request] if isinstance(request, bytes) else list(request)
    return b"%d" % sum(map(len, received))


@pytest.mark.parametrize("algorithm", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_requests_that_are_too_large_decompressed(stage: Stage, algorithm: Any) -> None:
    channel = stage.serve({"One": unary(sizes), "Many": requests(sizes)})
    one = channel.unary_unary("/test.T/One")
    many = channel.stream_unary("/test.T/Many")
    options = {"compression": algorithm, "timeout": DEADLINE}
    for _ in range(2):
        assert raised(lambda: one(LARGE, **options)).code() is Code.RESOURCE_EXHAUSTED
        error = raised(lambda: many(iter([b"x", LARGE, b"x"]), **options))
        assert error.code() is Code.RESOURCE_EXHAUSTED
        assert one(LARGE[: 3 << 20], **options) == b"%d" % (3 << 20)
        assert many(iter([LARGE[: 3 << 20]] * 2), **options) == b"%d" % (6 << 20)


@pytest.mark.parametrize("algorithm", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_replies_that_are_too_large_decompressed(stage: Stage, algorithm: Any) -> None:
    def reply(request: bytes, context: Any) -> bytes:
        return LARGE[: int(request)]

    def stream(request: bytes, context: Any) -> Iterator[bytes]:
        yield b"x"
        yield LARGE[: int(request)]
        yield b"x"

    channel = stage.serve({"One": unary(reply), "Many": replies(stream)}, compression=algorithm)
    one = channel.unary_unary("/test.T/One")
    many = channel.unary_stream("/test.T/Many")
    for _ in range(2):
        error = raised(lambda: one(b"%d" % len(LARGE), timeout=DEADLINE))
        assert error.code() is Code.RESOURCE_EXHAUSTED
        error = raised(lambda: one.future(b"%d" % len(LARGE), timeout=DEADLINE).result())
        assert error.code() is Code.RESOURCE_EXHAUSTED
        received = many(b"%d" % len(LARGE), timeout=DEADLINE)
        assert next(received) == b"x"
        error = raised(received.__next__)
        assert error.code() is Code.RESOURCE_EXHAUSTED
        assert len(one(b"%d" % (3 << 20), timeout=DEADLINE)) == 3 << 20
        assert len(list(many(b"%d" % (3 << 20), timeout=DEADLINE))) == 3


def test_the_limit_goes_for_what_has_been_decompressed(stage: Stage) -> None:
    options = [("grpc.max_receive_message_length", -1)]
    channel = stage.serve({"One": unary(sizes)}, options=options)
    call = channel.unary_unary("/test.T/One")
    assert call(LARGE, compression=grpc.Compression.Gzip, timeout=DEADLINE) == b"%d" % len(LARGE)


def test_messages_are_left_compressed_where_asked_for(stage: Stage) -> None:
    options = [("grpc.per_message_decompression", 0)]
    channel = stage.serve({"One": unary(sizes)}, options=options)
    call = channel.unary_unary("/test.T/One")
    assert int(call(LARGE, compression=grpc.Compression.Gzip, timeout=DEADLINE)) < 10_000
