"""skip_output: what a plugin prints before its handshake, where its host has allowed for it."""

from __future__ import annotations

import asyncio
import logging
import shlex
from typing import Any

import pytest
from own_runner import Own

from pygo_plugin import (
    ConfigError,
    ConfigTypeError,
    ExitedEarlyError,
    HandshakeError,
    StartTimeoutError,
)
from pygo_plugin.config import ClientConfig

LINE = "1|1|unix|/nowhere|grpc"


@pytest.fixture
def talkative(peers: Any) -> Any:
    """The command line of a plugin; a shell prints something before it starts."""

    def make(script: str, *arguments: str) -> list[str]:
        command = shlex.join(peers.plugin("python", *arguments))
        return ["/bin/sh", "-c", f"{script}; exec {command}"]

    return make


@pytest.mark.parametrize(
    "options", [{}, {"auto_mtls": True}, {"broker_multiplex": True}], ids=["plain", "tls", "mux"]
)
def test_lines_before_the_handshake_are_skipped(
    options: Any, talkative: Any, make_client: Any, records: Any
) -> None:
    client = make_client(talkative("echo loading...; echo ready"), skip_output=True, **options)
    assert client.ping() == ""
    record = records.wait_for('the plugin printed 2 lines on its stdout: "loading...", "ready"')
    assert record.levelno == logging.WARNING
    assert record.name == "pygo_plugin.plugin.sh"
    client.kill()
    assert client.exit_status == 0


def test_a_line_that_was_not_ended(talkative: Any, make_client: Any, records: Any) -> None:
    client = make_client(talkative("printf 'loading... '"), skip_output=True)
    assert client.ping() == ""
    records.wait_for('the plugin printed 1 line on its stdout: "loading..."; ')


def test_a_plugin_that_prints_nothing(peers: Any, make_client: Any, records: Any) -> None:
    client = make_client(peers.plugin("python"), skip_output=True)
    assert client.ping() == ""
    client.kill()
    assert not [message for message in records.messages() if "printed" in message]


def test_only_so_many(talkative: Any, make_client: Any) -> None:
    assert make_client(talkative("echo 1; echo 2"), skip_output=2).ping() == ""
    words = 'after 2 lines on its stdout: "1", "2"; then there was "3", and no more than 2 may be'
    with pytest.raises(HandshakeError, match=words) as caught:
        make_client(talkative("echo 1; echo 2; echo 3"), skip_output=2).start()
    assert caught.value.line == b"3"
    with pytest.raises(HandshakeError, match="no more than 100 may be skipped"):
        make_client(["/bin/sh", "-c", "yes"], skip_output=True).start()


def test_with_a_runner_and_asyncio(
    talkative: Any, make_client: Any, handshake: Any, plugins: Any
) -> None:
    from pygo_plugin import aio

    assert make_client(runner=Own(talkative("echo hello")), skip_output=1).ping() == ""

    async def main() -> None:
        options = {"handshake_config": handshake, "plugins": plugins, "skip_output": True}
        async with aio.Client(talkative("echo hello"), **options) as client:
            assert await client.ping() == ""

    asyncio.run(main())


def test_a_line_of_any_length_is_one(talkative: Any, make_client: Any) -> None:
    script = "head -c 3000000 /dev/zero | tr '\\0' x; echo"
    assert make_client(talkative(script), skip_output=1).ping() == ""


@pytest.mark.parametrize("script", ["exec cat /dev/zero", "echo hello; exec sleep 1000"])
def test_the_start_timeout_goes_on(script: str, make_client: Any) -> None:
    client = make_client(["/bin/sh", "-c", script], skip_output=True, start_timeout=3)
    with pytest.raises(StartTimeoutError, match="it printed 1 line on its stdout: "):
        client.start()


def test_what_was_skipped_explains_why_there_is_no_handshake(make_client: Any) -> None:
    command = ["/bin/sh", "-c", "echo usage: tool; exit 2"]
    with pytest.raises(ExitedEarlyError, match='it printed 1 line on its stdout: "usage: tool"'):
        make_client(command, skip_output=True).start()


def test_without_it_the_error_names_it(make_client: Any) -> None:
    follows = ["/bin/sh", "-c", f"printf 'hello\\n{LINE}\\n'; exec sleep 1000"]
    with pytest.raises(HandshakeError, match="A handshake follows it: skip_output=True has"):
        make_client(follows).start()
    alone = ["/bin/sh", "-c", "echo hello; exec sleep 1000"]
    with pytest.raises(HandshakeError, match="If a handshake follows it, skip_output=True has"):
        make_client(alone).start()
    wrong = ["/bin/sh", "-c", "echo '2|1|unix|/nowhere|grpc'; exec sleep 1000"]
    for options in ({}, {"skip_output": True}):
        with pytest.raises(HandshakeError, match="core version 2") as caught:
            make_client(wrong, **options).start()
        assert "skip_output" not in str(caught.value)


def test_the_option() -> None:
    assert ClientConfig().skip_output == 0
    assert ClientConfig(skip_output=False).skip_output == 0
    assert ClientConfig(skip_output=True).skip_output == 100
    assert ClientConfig(skip_output=7).skip_output == 7
    with pytest.raises(ConfigTypeError, match="skip_output must be True, False or a number of"):
        ClientConfig(skip_output="yes")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="skip_output must not be negative"):
        ClientConfig(skip_output=-1)
