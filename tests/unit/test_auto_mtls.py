"""AutoMTLS: who gets in and who does not, on either side."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import certificates
import pytest

from pygo_plugin import Client, ConfigError, ReattachConfig, TLSError, aio, rpc

DEADLINE = 60.0


@pytest.fixture(params=["core", "aio"])
def command(request: pytest.FixtureRequest, peers: Any) -> list[str]:
    peer: list[str] = peers.plugin("python", "--server", str(request.param))
    return peer


def put(client: Any) -> None:
    import kv_pb2

    _, kv = client.dispense("kv")
    kv.Put(kv_pb2.PutRequest(key="k", value=b"v"), timeout=DEADLINE)


# ---- Both sides ours -----------------------------------------------------------------------------


@pytest.mark.usefixtures("no_leftovers")
def test_a_plugin_over_auto_mtls(command: list[str], make_client: Any) -> None:
    client = make_client(command, auto_mtls=True)
    put(client)
    assert client.ping() == ""
    client.kill()
    assert client.exit_status == 0


def test_asyncio_hosts_too(peers: Any, handshake: Any, plugins: Any) -> None:
    import asyncio

    import kv_pb2

    async def main() -> None:
        options = {"handshake_config": handshake, "plugins": plugins, "auto_mtls": True}
        async with aio.Client(peers.plugin("python"), **options) as client:
            _, kv = await client.dispense("kv")
            await kv.Put(kv_pb2.PutRequest(key="k", value=b"v"), timeout=DEADLINE)

    asyncio.run(main())


def test_nothing_of_it_is_left_in_the_environment(command: list[str], make_client: Any) -> None:
    """The plugin's children must not inherit the host's certificate."""
    import probe_pb2

    client = make_client(command, auto_mtls=True)
    _, probe = client.dispense("probe")
    environ = probe.Environ(probe_pb2.EnvironRequest(), timeout=DEADLINE).environ
    assert "PLUGIN_PROTOCOL_VERSIONS" in environ
    assert "PLUGIN_CLIENT_CERT" not in environ


def test_no_secret_shows(make_client: Any, peers: Any, records: Any, socket_dir: Path) -> None:
    client = make_client(peers.plugin("python"), auto_mtls=True)
    put(client)
    core = client._core
    shown = [repr(client), repr(core), *(repr(getattr(core, name)) for name in dir(core))]
    client.kill()
    for text in [*shown, *records.messages()]:
        assert "BEGIN" not in text
    assert not [path for path in socket_dir.rglob("*") if path.is_file()]  # nothing on disk


def test_it_excludes_reattaching(handshake: Any, plugins: Any) -> None:
    config = ReattachConfig("grpc", "unix", "/nowhere")
    client = Client(
        reattach_config=config, handshake_config=handshake, plugins=plugins, auto_mtls=True
    )
    with pytest.raises(ConfigError, match="auto_mtls does not go with a reattach_config"):
        client.start()


# ---- Our host and a plugin that is not what it says ----------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., list[str]]:
    """Options for the impostor to serve with a pair, written to files."""

    def write(pair: certificates.Pair, roots: bytes | None = None) -> list[str]:
        options = []
        texts = {"certificate": pair.chain, "key": pair.key, "roots": roots}
        for name, text in texts.items():
            if text is not None:
                (tmp_path / name).write_bytes(text)
                options += [f"--{name}", str(tmp_path / name)]
        return options

    return write


def refuse(client: Client, reason: str, words: str) -> None:
    """The start fails at once for that reason, and the plugin is gone."""
    with pytest.raises(TLSError, match=words) as caught:
        client.start()
    assert caught.value.reason == reason
    assert client.name in str(caught.value)
    assert "BEGIN" not in str(caught.value)
    pid = client.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(TLSError, match=words):  # and stays so
        client.start()


def test_a_plugin_without_certificate(peers: Any, make_client: Any) -> None:
    client = make_client(peers.plugin("grpcio"), auto_mtls=True)
    refuse(client, "no certificate", "holds no certificate")


def test_a_plugin_with_rubbish_for_a_certificate(peers: Any, make_client: Any) -> None:
    client = make_client(peers.plugin("impostor", "--field", "A" * 200), auto_mtls=True)
    refuse(client, "invalid certificate", "field 6")


def test_a_plugin_in_plain_text(peers: Any, make_client: Any) -> None:
    field = certificates.field(certificates.self_signed())
    client = make_client(peers.plugin("impostor", "--field", field), auto_mtls=True)
    refuse(client, "plaintext", "does not speak TLS")


def test_a_plugin_with_another_certificate(peers: Any, make_client: Any, files: Any) -> None:
    field = certificates.field(certificates.self_signed())
    options = files(certificates.self_signed())
    client = make_client(peers.plugin("impostor", "--field", field, *options), auto_mtls=True)
    refuse(client, "unknown authority", "not the one of its handshake")


def test_a_plugin_with_an_expired_certificate(peers: Any, make_client: Any, files: Any) -> None:
    pair = certificates.self_signed(valid=(-48, -24))
    options = files(pair)
    field = certificates.field(pair)
    client = make_client(peers.plugin("impostor", "--field", field, *options), auto_mtls=True)
    refuse(client, "expired", "has expired")


def test_a_plugin_that_trusts_another_host(peers: Any, make_client: Any, files: Any) -> None:
    pair = certificates.self_signed()
    options = files(pair, certificates.self_signed().chain)
    field = certificates.field(pair)
    client = make_client(peers.plugin("impostor", "--field", field, *options), auto_mtls=True)
    with pytest.raises(TLSError, match="host's certificate") as caught:
        client.start()
    assert caught.value.reason in ("refused", "closed")  # as talkative as its gRPC is


def test_a_host_that_is_killed_while_it_connects(
    peers: Any, make_client: Any, eventually: Any
) -> None:
    import threading

    field = certificates.field(certificates.self_signed())
    # It prints its line, listens nowhere, and waits.
    line = f"1|1|unix|/nowhere/plugin|grpc|{field}\n"
    client = make_client(peers.bad("line", "-line", line), auto_mtls=True)
    failures = []

    def start() -> None:
        try:
            client.start()
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    eventually(lambda: client.pid >= 0, "the launch")
    client.kill()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert "was killed" in str(failures[0])


# ---- Our plugin and a host that is not the one that started it -----------------------------------


class Served:
    """A plugin started with a certificate for its host, and what it said of itself."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        fields = process.stdout.readline().decode().rstrip("\n").split("|")
        self.target = f"unix:{fields[3]}"
        self.certificate = _pem(fields[5])


def _pem(field: str) -> bytes:
    import base64
    import textwrap

    der = base64.b64decode(field + "=" * (-len(field) % 4))
    body = "\n".join(textwrap.wrap(base64.b64encode(der).decode(), 64))
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n".encode()


@pytest.fixture
def serve(command: list[str], socket_dir: Path) -> Iterator[Callable[[bytes], Served]]:
    processes = []

    def start(certificate: bytes) -> Served:
        environment = {
            **os.environ,
            "PYGO_TEST_COOKIE": "pygo",
            "PLUGIN_PROTOCOL_VERSIONS": "1",
            "PLUGIN_CLIENT_CERT": certificate.decode(),
        }
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment
        )
        processes.append(process)
        return Served(process)

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def ask(served: Served, credentials: Any) -> str:
    """ "SERVING", or the name of the status code with which the plugin was not reached."""
    import grpc

    options = [("grpc.ssl_target_name_override", "localhost")]
    if credentials is None:
        channel = rpc.insecure_channel(served.target, options)
    else:
        channel = rpc.secure_channel(served.target, credentials, options)
    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    try:
        reply = check(b"\n\x06plugin", timeout=DEADLINE)
    except grpc.RpcError as error:
        return str(error.code().name)  # type: ignore[attr-defined]
    finally:
        channel.close()
    return "SERVING" if reply == b"\x08\x01" else repr(reply)


def test_only_the_host_gets_in(serve: Any) -> None:
    host = certificates.self_signed()
    other = certificates.self_signed()
    served = serve(host.chain)
    root = served.certificate
    asked = {
        "the host": rpc.ssl_channel_credentials(root, *host),
        "no TLS": None,
        "no certificate": rpc.ssl_channel_credentials(root),
        "another": rpc.ssl_channel_credentials(root, *other),
        "the plugin's": rpc.ssl_channel_credentials(root, other.key, other.chain + root),
    }
    answers = {name: ask(served, credentials) for name, credentials in asked.items()}
    refused = dict.fromkeys(asked, "UNAVAILABLE")
    assert answers == {**refused, "the host": "SERVING"}


def test_an_expired_host_does_not_get_in(serve: Any) -> None:
    host = certificates.self_signed(valid=(-48, -24))
    served = serve(host.chain)
    assert ask(served, rpc.ssl_channel_credentials(served.certificate, *host)) == "UNAVAILABLE"


def test_a_host_whose_certificate_is_none(peers: Any) -> None:
    environment = {**os.environ, "PYGO_TEST_COOKIE": "pygo", "PLUGIN_CLIENT_CERT": "rubbish"}
    done = subprocess.run(
        peers.plugin("python"), env=environment, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "panic: the host's certificate for AutoMTLS: no certificate" in done.stderr


def test_a_server_of_grpcios_own_says_that_it_cannot(peers: Any, make_client: Any) -> None:
    from pygo_plugin import ExitedEarlyError

    client = make_client(peers.plugin("python", "--server", "grpcio"), auto_mtls=True)
    with pytest.raises(ExitedEarlyError, match="grpcio does not take"):
        client.start()
