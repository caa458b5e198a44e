"""Targets, and gRPC's channel arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from stage import DEADLINE, Code, Service, ask, failure, raised, serving

from pygo_plugin import rpc


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
        ([("key", 1.5)], TypeError),
        ([("key",)], TypeError),
        ([(5, 5)], TypeError),
        (5, TypeError),
    ]:
        with pytest.raises(kind):
            rpc.insecure_channel(target, wrong)


def test_channel_needs_a_target() -> None:
    with pytest.raises(TypeError):
        rpc.insecure_channel(5)  # type: ignore[arg-type]
