"""TLS, and credentials of calls, with asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from aio_stage import Code, Stage, all_of, raised
from certificates import Authority, Pair
from stage import MetadataPlugin, replies, requests, streams, unary

from pygo_plugin import rpc


def library(ours: bool) -> Any:
    """What makes credentials for that side."""
    return rpc if ours else grpc


class Service:
    """All arities, with what the last handler saw of its call."""

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {}
        self.auth: dict[str, list[bytes]] = {}
        self.identities: list[bytes] | None = None
        self.identity_key: str | None = None

    def methods(self) -> dict[str, Any]:
        return {
            "A": unary(self.one),
            "B": replies(self.many),
            "C": requests(self.join),
            "D": streams(self.chat),
            "Sync": unary(self.plain),
        }

    def look(self, context: Any) -> None:
        self.metadata = dict(context.invocation_metadata())
        self.auth = {key: list(values) for key, values in context.auth_context().items()}
        identities = context.peer_identities()
        self.identities = None if identities is None else list(identities)
        self.identity_key = context.peer_identity_key()

    async def one(self, request: bytes, context: Any) -> bytes:
        self.look(context)
        return request

    async def many(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        self.look(context)
        yield request
        yield request

    async def join(self, incoming: Any, context: Any) -> bytes:
        self.look(context)
        return b"".join([request async for request in incoming])

    async def chat(self, incoming: Any, context: Any) -> AsyncIterator[bytes]:
        self.look(context)
        async for request in incoming:
            yield request

    def plain(self, request: bytes, context: Any) -> bytes:
        self.look(context)
        return request


@asynccontextmanager
async def serving(stage: Stage, pair: Pair, *more: Any) -> AsyncIterator[tuple[str, Service]]:
    """A server with that certificate: where it listens, and its service."""
    service = Service()
    server = stage.host.server()
    handler = grpc.method_handlers_generic_handler("test.T", service.methods())
    server.add_generic_rpc_handlers((handler,))
    credentials = library(stage.ours).ssl_server_credentials([pair], *more)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield f"localhost:{port}", service
    finally:
        await server.stop(None)


def secure(stage: Stage, target: str, *pem: Any, **options: Any) -> Any:
    """A channel that trusts, and shows, that."""
    credentials = library(stage.our_channel).ssl_channel_credentials(*pem)
    return stage.client.secure_channel(target, credentials, **options)


def test_tls(play: Any, authority: Authority, server_pair: Pair) -> None:
    async def scene(stage: Stage) -> None:
        async with (
            serving(stage, server_pair) as (target, service),
            secure(stage, target, authority.root) as channel,
        ):
            await channel.channel_ready()
            assert await channel.unary_unary("/test.T/A")(b"x") == b"x"
            assert service.identities is None
            assert service.identity_key is None
            assert service.auth["transport_security_type"] == [b"ssl"]
            assert await all_of(channel.unary_stream("/test.T/B")(b"x")) == [b"x", b"x"]
            assert await channel.stream_unary("/test.T/C")([b"a", b"b"]) == b"ab"
            chat = channel.stream_stream("/test.T/D")()
            for n in range(3):
                await chat.write(b"%d" % n)
                assert await chat.read() == b"%d" % n
            await chat.done_writing()
            assert await chat.code() is Code.OK
            large = b"x" * (3 << 20)
            assert await channel.unary_unary("/test.T/A")(large) == large
            assert await channel.unary_unary("/test.T/Sync")(b"x") == b"x"

    play(scene)


def test_mutual_tls(play: Any, authority: Authority, server_pair: Pair, client_pair: Pair) -> None:
    async def scene(stage: Stage) -> None:
        async with (
            serving(stage, server_pair, authority.root, True) as (target, service),
            secure(stage, target, authority.root, *client_pair) as channel,
        ):
            for name in ("A", "Sync"):
                assert await channel.unary_unary(f"/test.T/{name}")(b"x") == b"x"
                assert service.identity_key == "x509_subject_alternative_name"
                assert service.identities == [b"client.test"]
                assert service.auth["x509_common_name"] == [b"client"]
                assert service.auth["x509_pem_cert"] == [client_pair.chain]

    play(scene)


def test_a_client_that_is_refused(play: Any, authority: Authority, server_pair: Pair) -> None:
    """The client has no certificate, one of another authority, or no TLS."""
    stranger = Authority("unknown").issue("stranger", "client.test")

    async def scene(stage: Stage) -> None:
        async with serving(stage, server_pair, authority.root, True) as (target, _):
            for channel in (
                secure(stage, target, authority.root),
                secure(stage, target, authority.root, *stranger),
                stage.client.insecure_channel(target),
            ):
                async with channel:
                    error = await raised(channel.unary_unary("/test.T/A")(b""))
                    assert error.code() is Code.UNAVAILABLE

    play(scene)


def test_a_server_that_is_refused(play: Any, authority: Authority) -> None:
    """The server's certificate is of another authority, or for another name."""
    pair = authority.issue("named", "service.test")
    name = [("grpc.ssl_target_name_override", "service.test")]

    async def scene(stage: Stage) -> None:
        async with serving(stage, pair) as (target, _):
            for channel in (
                secure(stage, target, Authority("unknown").root, options=name),
                secure(stage, target, authority.root),
            ):
                async with channel:
                    error = await raised(channel.unary_unary("/test.T/A")(b""))
                    assert error.code() is Code.UNAVAILABLE
            async with secure(stage, target, authority.root, options=name) as channel:
                assert await channel.unary_unary("/test.T/A")(b"x") == b"x"

    play(scene)


# ---- Credentials of calls ------------------------------------------------------------------------


def test_credentials_of_calls(play: Any, authority: Authority, server_pair: Pair) -> None:
    async def scene(stage: Stage) -> None:
        made = library(stage.our_channel)
        async with (
            serving(stage, server_pair) as (target, service),
            secure(stage, target, authority.root) as channel,
        ):
            plugin = MetadataPlugin(("token", "abc"), ("token-bin", b"\0\xff"))
            options = {"credentials": made.metadata_call_credentials(plugin)}
            for call in (
                lambda: channel.unary_unary("/test.T/A")(b"x", **options),
                lambda: all_of(channel.unary_stream("/test.T/B")(b"x", **options)),
                lambda: channel.stream_unary("/test.T/C")([b"x"], **options),
                lambda: all_of(channel.stream_stream("/test.T/D")([b"x"], **options)),
            ):
                service.metadata = {}
                assert await call() in (b"x", [b"x"], [b"x", b"x"])
                assert service.metadata["token"] == "abc"
                assert service.metadata["token-bin"] == b"\0\xff"
            assert len(plugin.asked) == 4
            assert plugin.asked[0].service_url == f"https://{target}/test.T"
            assert plugin.asked[0].method_name == "A"
            await channel.unary_unary("/test.T/A")(b"x")
            assert "token" not in service.metadata
            token = made.access_token_call_credentials("abc")
            await channel.unary_unary("/test.T/A")(b"x", credentials=token)
            assert service.metadata["authorization"] == "Bearer abc"

    play(scene)


def test_credentials_of_the_channel(play: Any, authority: Authority, server_pair: Pair) -> None:
    async def scene(stage: Stage) -> None:
        made = library(stage.our_channel)
        one = made.metadata_call_credentials(MetadataPlugin(("one", "1")))
        two = made.metadata_call_credentials(MetadataPlugin(("two", "2")))
        composed = made.composite_channel_credentials(
            made.ssl_channel_credentials(authority.root), one
        )
        async with (
            serving(stage, server_pair) as (target, service),
            stage.client.secure_channel(target, composed) as channel,
        ):
            await channel.unary_unary("/test.T/A")(b"", credentials=two)
            assert {"one", "two"} <= service.metadata.keys()
            await channel.unary_unary("/test.T/A")(b"")
            assert "one" in service.metadata
            assert "two" not in service.metadata

    play(scene)


def test_a_plugin_that_fails(
    play: Any, authority: Authority, server_pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(context: Any, callback: Any) -> None:
        callback(None, ValueError("no token today"))

    async def scene(stage: Stage) -> None:
        credentials = library(stage.our_channel).metadata_call_credentials(refuse)
        async with (
            serving(stage, server_pair) as (target, _),
            secure(stage, target, authority.root) as channel,
        ):
            method = channel.unary_unary("/test.T/A")
            error = await raised(method(b"", credentials=credentials))
            assert error.code() is Code.UNAVAILABLE
            assert "no token today" in str(error.details())
            assert await method(b"x") == b"x"

    play(scene)


def test_no_credentials_without_tls(play_our_channel: Any) -> None:
    """Ours raises; grpc.aio sends the call without the credentials."""

    async def scene(stage: Stage) -> None:
        channel = await stage.serve(Service().methods())
        token = rpc.access_token_call_credentials("abc")
        with pytest.raises(ValueError, match="need a connection with TLS"):
            await channel.unary_unary("/test.T/A")(b"", credentials=token)

    play_our_channel(scene)
