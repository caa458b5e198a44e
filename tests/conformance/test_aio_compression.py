"""Compression with asyncio, as seen by who counts bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from aio_stage import Stage, all_of, echo
from proxy import Proxy
from stage import replies, unary

BULK = b"the same again and again, " * 4000  # 104 kB, or a few hundred bytes
SMALL = 20_000

Algorithm = grpc.Compression


@asynccontextmanager
async def proxied(
    stage: Stage, methods: dict[str, Any], server: Any = None, **options: Any
) -> AsyncIterator[tuple[Any, Proxy]]:
    """A channel with the options through a proxy to a server of the methods."""
    made = stage.host.server(compression=server)
    made.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.T", methods),))
    proxy = Proxy(made.add_insecure_port("127.0.0.1:0"))
    await made.start()
    try:
        async with stage.client.insecure_channel(f"127.0.0.1:{proxy.port}", **options) as channel:
            yield channel, proxy
    finally:
        proxy.close()
        await made.stop(None)


@pytest.mark.parametrize("algorithm", [Algorithm.Gzip, Algorithm.Deflate])
def test_requests_compressed_for_the_whole_channel(play: Any, algorithm: Algorithm) -> None:
    async def scene(stage: Stage) -> None:
        async with proxied(stage, {"M": unary(echo)}, compression=algorithm) as (channel, proxy):
            assert await channel.unary_unary("/test.T/M")(BULK) == BULK
            up, down = proxy.take()
            assert up < SMALL
            assert down > len(BULK)

    play(scene)


def test_requests_compressed_for_one_call(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        async with proxied(stage, {"M": unary(echo)}) as (channel, proxy):
            method = channel.unary_unary("/test.T/M")
            assert await method(BULK) == BULK
            assert proxy.take()[0] > len(BULK)
            assert await method(BULK, compression=Algorithm.Gzip) == BULK
            assert proxy.take()[0] < SMALL

    play(scene)


def test_replies_compressed_for_the_whole_server(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        async with proxied(stage, {"M": unary(echo)}, Algorithm.Gzip) as (channel, proxy):
            assert await channel.unary_unary("/test.T/M")(BULK) == BULK
            up, down = proxy.take()
            assert up > len(BULK)
            assert down < SMALL

    play(scene)


def test_replies_compressed_by_the_handler(play: Any) -> None:
    async def compressed(request: bytes, context: Any) -> bytes:
        context.set_compression(Algorithm.Gzip)
        return request

    async def after_metadata(request: bytes, context: Any) -> bytes:
        context.set_compression(Algorithm.Deflate)
        await context.send_initial_metadata([("a", "b")])
        return request

    async def some(request: bytes, context: Any) -> AsyncIterator[bytes]:
        context.set_compression(Algorithm.Gzip)
        for number in range(4):
            if number % 2:
                context.disable_next_message_compression()
            yield request

    async def scene(stage: Stage) -> None:
        methods = {
            "Compressed": unary(compressed),
            "Metadata": unary(after_metadata),
            "Some": replies(some),
        }
        async with proxied(stage, methods) as (channel, proxy):
            for name in ("Compressed", "Metadata"):
                assert await channel.unary_unary(f"/test.T/{name}")(BULK) == BULK
                down = proxy.take()[1]
                # grpc.aio's server compresses after initial metadata alone.
                assert down < SMALL or (name == "Compressed" and not stage.ours), name
            assert await all_of(channel.unary_stream("/test.T/Some")(BULK)) == [BULK] * 4
            if stage.ours:
                assert 2 * len(BULK) < proxy.take()[1] < 2 * len(BULK) + 2 * SMALL

    play(scene)


def test_messages_that_are_too_large_decompressed(play: Any) -> None:
    large = bytes(5 << 20)

    async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"x"
        yield large

    async def reply(request: bytes, context: Any) -> bytes:
        return large

    async def scene(stage: Stage) -> None:
        methods = {"Echo": unary(echo), "One": unary(reply), "Many": replies(stream)}
        async with proxied(stage, methods, Algorithm.Gzip) as (channel, _):
            one = channel.unary_unary("/test.T/Echo")
            for call in (
                one(large, compression=Algorithm.Gzip),
                channel.unary_unary("/test.T/One")(b""),
                all_of(channel.unary_stream("/test.T/Many")(b"")),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call
                assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert await one(BULK, compression=Algorithm.Gzip) == BULK

    play(scene)
