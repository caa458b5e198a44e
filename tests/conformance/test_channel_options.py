"""Targets, and gRPC's channel arguments."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from stage import DEADLINE, Code, Service, ask, failure, raised, serving

from pygo_plugin import rpc


class Address:
    """As an object of grpcio's core that is not there."""

    def __int__(self) -> int:
        return 0


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("127.0.0.1:0", "127.0.0.1:{port}"),
        ("localhost:0", "localhost:{port}"),
        ("localhost:0", "dns:///localhost:{port}"),
        ("127.0.0.1:0", "ipv4:127.0.0.1:{port}"),
        ("unix:{dir}/s", "unix:{dir}/s"),
        ("unix:{dir}/s", "unix://{dir}/s"),
    ],
)
def test_targets(client: Any, host: Any, address: str, target: str, tmp_path: Path) -> None:
    with (
        serving(host, address=address.format(dir=tmp_path)) as running,
        client.insecure_channel(target.format(dir=tmp_path, port=running.port)) as channel,
    ):
        assert ask(channel) == b"hello"
        grpc.channel_ready_future(channel).result(DEADLINE)


def test_the_limit_on_messages_is_grpcs_and_an_option(client: Any, host: Any) -> None:
    unlimited = [("grpc.max_receive_message_length", -1)]
    large = b"x" * (5 << 20)
    with serving(host) as running:
        target = f"127.0.0.1:{running.port}"
        with client.insecure_channel(target) as channel:
            code = failure(channel, request=large).code()
            assert code is Code.RESOURCE_EXHAUSTED
    with serving(host, options=unlimited) as running:
        target = f"127.0.0.1:{running.port}"
        with client.insecure_channel(target) as channel:
            code = failure(channel, request=large).code()
            assert code is Code.RESOURCE_EXHAUSTED
        with client.insecure_channel(target, options=unlimited) as channel:
            assert len(ask(channel, large)) == len(large)


def test_service_configs_may_ask_for_retries(client: Any, host: Any) -> None:
    attempts = []

    def flaky(request: bytes, context: Any) -> bytes:
        attempts.append(1)
        if len(attempts) < 3:
            context.abort(Code.UNAVAILABLE, "not yet")
        return request

    config = """{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 4,
        "initialBackoff": "0.01s", "maxBackoff": "0.1s", "backoffMultiplier": 1,
        "retryableStatusCodes": ["UNAVAILABLE"]}}]}"""
    with (
        serving(host, service=Service(Flaky=flaky)) as running,
        client.insecure_channel(
            f"127.0.0.1:{running.port}", options=[("grpc.service_config", config)]
        ) as channel,
    ):
        assert channel.unary_unary("/t/Flaky")(b"x", timeout=DEADLINE) == b"x"
        assert len(attempts) == 3


def test_keepalive_options_are_passed_on(client: Any, host: Any) -> None:
    options = [
        ("grpc.keepalive_time_ms", 1000),
        ("grpc.keepalive_timeout_ms", 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.primary_user_agent", "keeper"),
    ]
    with (
        serving(host, options=options[:3]) as running,
        client.insecure_channel(f"127.0.0.1:{running.port}", options=options) as channel,
    ):
        assert ask(channel) == b"hello"
        assert str(running.service.seen.metadata["user-agent"]).startswith("keeper")


def test_channel_options(probe_target: Any, pb: Any) -> None:
    target = probe_target("ours")
    options = [("grpc.max_receive_message_length", 10), ("grpc.primary_user_agent", "tester")]
    with rpc.insecure_channel(target, options) as channel:
        call = channel.unary_unary("/probe.Probe/Echo")
        request = pb.EchoRequest(payload=b"x" * 100).SerializeToString()
        assert raised(lambda: call(request)).code() is Code.RESOURCE_EXHAUSTED
    for wrong, kind in [
        ([("key", 1 << 40)], ValueError),
        ([("grpc.resource_quota", 1.5)], TypeError),
        ([("key", object())], TypeError),
        ([("key", None)], TypeError),
        ([("key",)], TypeError),
        (["ab"], TypeError),
        ([(5, 5)], TypeError),
        (5, TypeError),
    ]:
        with pytest.raises(kind):
            rpc.insecure_channel(target, wrong)


def test_channel_needs_a_target() -> None:
    with pytest.raises(TypeError):
        rpc.insecure_channel(5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "option",
    [
        (b"grpc.primary_user_agent", b"tester"),
        ["grpc.keepalive_time_ms", True],
        ("grpc.keepalive_time_ms", 1000.5),  # for grpcio an address, of which the core says no
        ("of.another", Address()),
    ],
)
def test_names_and_values(client: Any, host: Any, option: Any) -> None:
    with (
        serving(host, options=[option]) as running,
        client.insecure_channel(f"127.0.0.1:{running.port}", options=[option]) as channel,
    ):
        assert ask(channel) == b"hello"
        agent = str(running.service.seen.metadata["user-agent"])
        assert agent.startswith("tester grpc-python/" if option[1] == b"tester" else "grpc-python/")


def test_the_last_of_several_values_counts(host: Any) -> None:
    name = "grpc.max_receive_message_length"
    options = [(name, 10), ("grpc.primary_user_agent", "first"), (name, -1)]
    options += [("grpc.primary_user_agent", "last")]
    with (
        serving(host) as running,
        rpc.insecure_channel(f"127.0.0.1:{running.port}", options=options) as channel,
    ):
        assert ask(channel, b"x" * 1000) == b"x" * 1000
        agent = str(running.service.seen.metadata["user-agent"])
        assert agent.startswith("last grpc-python/")


def test_the_user_agent_of_asyncio(host: Any) -> None:
    from pygo_plugin import aio

    async def main(port: int) -> None:
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert await channel.unary_unary("/t/Echo")(b"x") == b"x"

    with serving(host) as running:
        asyncio.run(main(running.port))
        agent = str(running.service.seen.metadata["user-agent"])
        assert agent.startswith("grpc-python-asyncio/")


# ---- Objects of gRPC's ---------------------------------------------------------------------------


def cache_of(library: Any, capacity: int) -> Any:
    if library is rpc:
        return rpc.SSLSessionCacheLRU(capacity)
    from grpc._cython import cygrpc

    return cygrpc.SSLSessionCacheLRU(capacity)


def test_tls_sessions_are_resumed(client: Any, host: Any, authority: Any, server_pair: Any) -> None:
    server = host.ssl_server_credentials([server_pair])
    options = [("grpc.ssl_session_cache", cache_of(client, 1))]
    with serving(host, credentials=server) as running:

        def resumed(options: Any) -> list[bytes]:
            credentials = client.ssl_channel_credentials(authority.root)
            target = f"localhost:{running.port}"
            with client.secure_channel(target, credentials, options) as channel:
                assert ask(channel) == b"hello"
            return running.service.seen.auth["ssl_session_reused"]

        assert resumed(options) == [b"false"]
        assert resumed(options) == [b"true"]
        assert resumed(None) == [b"false"]


def test_objects_of_grpcios_core_are_refused() -> None:
    with pytest.raises(TypeError, match=r"core inside grpcio: make it with pygo_plugin\.rpc"):
        rpc.insecure_channel("localhost:1", [("grpc.ssl_session_cache", cache_of(grpc, 1))])
    with pytest.raises(TypeError):  # nor does grpcio take ours
        grpc.insecure_channel(
            "localhost:1", [("grpc.ssl_session_cache", rpc.SSLSessionCacheLRU(1))]
        ).close()
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="greater than 0"):
            rpc.SSLSessionCacheLRU(wrong)
        with pytest.raises(ValueError, match="greater than 0"):
            rpc.MemoryQuota(wrong)


# ---- Metadata ------------------------------------------------------------------------------------

LONG = "0123456789abcdef" * (1 << 12)  # 64 KiB


def too_much(request: bytes, context: Any) -> bytes:
    context.abort(Code.DATA_LOSS, LONG)
    raise AssertionError


def test_the_details_of_an_error_are_as_long_as_the_client_accepts(client: Any) -> None:
    """grpcio's client accepts 8 KiB, and cannot announce another limit."""
    with serving(rpc, service=Service(Fail=too_much)) as running:
        target = f"127.0.0.1:{running.port}"
        with client.insecure_channel(target) as channel:
            error = raised(lambda: channel.unary_unary("/t/Fail")(b"", timeout=DEADLINE))
    assert error.code() is Code.DATA_LOSS
    if client is rpc:
        assert error.details() == LONG
    else:
        assert error.details()[:7000] == LONG[:7000]
        assert error.details().endswith(
            "... [cut: 65536 bytes in all, more than the client accepts]"
        )


def test_metadata_may_be_more_if_both_sides_say_so(client: Any, host: Any) -> None:
    options = [("grpc.max_metadata_size", 1 << 20), ("grpc.absolute_max_metadata_size", 1 << 20)]
    with (
        serving(host, service=Service(Fail=too_much), options=options) as running,
        client.insecure_channel(f"127.0.0.1:{running.port}", options=options) as channel,
    ):
        error = raised(lambda: channel.unary_unary("/t/Fail")(b"", timeout=DEADLINE))
        assert (error.code(), error.details()) == (Code.DATA_LOSS, LONG)
        assert ask(channel, metadata=(("key", LONG),)) == b"hello"
        assert running.service.seen.metadata["key"] == LONG
