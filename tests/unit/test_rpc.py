"""pygo_plugin.rpc in place of grpcio: each test runs with either library on either side."""

from __future__ import annotations

import datetime
import logging
import os
import queue
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pygo_plugin import errors, rpc

DEADLINE = 20.0

LIBRARIES = {"ours": rpc, "grpcio": grpc}


@pytest.fixture(params=LIBRARIES)
def client(request: pytest.FixtureRequest) -> Any:
    """The library that makes channels."""
    return LIBRARIES[request.param]


@pytest.fixture(params=LIBRARIES)
def host(request: pytest.FixtureRequest) -> Any:
    """The library that makes servers."""
    return LIBRARIES[request.param]


# ---- Certificates --------------------------------------------------------------------------------


class Pair(NamedTuple):
    key: bytes
    chain: bytes


class Authority:
    """Makes certificates on P-256, which every TLS library knows."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.root = self._sign(self._name, self._key, None)

    def issue(self, name: str, *hosts: str) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return Pair(private, self._sign(subject, key, names))

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        names: x509.SubjectAlternativeName | None,
    ) -> bytes:
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=names is None, path_length=None), True)
        )
        if names is not None:
            builder = builder.add_extension(names, False)
        signed = builder.sign(self._key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority("the tests' CA")


@pytest.fixture(scope="session")
def server_pair(authority: Authority) -> Pair:
    return authority.issue("server", "localhost")


@pytest.fixture(scope="session")
def client_pair(authority: Authority) -> Pair:
    return authority.issue("client", "client.test")


# ---- A service -----------------------------------------------------------------------------------


class Seen:
    """What the last handler saw of its call."""

    metadata: dict[str, str | bytes]
    auth: dict[str, list[bytes]]
    identities: list[bytes] | None
    identity_key: str | None
    peer: str


class Service(grpc.GenericRpcHandler):
    """Echo, Count (the request's bytes, one at a time), Join, Chat; and what a test adds."""

    def __init__(self, **more: Callable[[bytes, Any], bytes]) -> None:
        self.seen = Seen()
        self._methods = {
            "/t/Echo": grpc.unary_unary_rpc_method_handler(self.echo),
            "/t/Count": grpc.unary_stream_rpc_method_handler(self.count),
            "/t/Join": grpc.stream_unary_rpc_method_handler(self.join),
            "/t/Chat": grpc.stream_stream_rpc_method_handler(self.chat),
        }
        for name, method in more.items():
            self._methods[f"/t/{name}"] = grpc.unary_unary_rpc_method_handler(method)

    def service(self, handler_call_details: Any) -> Any:
        return self._methods.get(handler_call_details.method)

    def echo(self, request: bytes, context: Any) -> bytes:
        seen = self.seen
        seen.metadata = dict(context.invocation_metadata())
        seen.auth = {key: list(values) for key, values in context.auth_context().items()}
        identities = context.peer_identities()
        seen.identities = None if identities is None else list(identities)
        seen.identity_key = context.peer_identity_key()
        seen.peer = context.peer()
        return request

    def count(self, request: bytes, context: Any) -> Iterator[bytes]:
        for byte in request:
            yield bytes([byte])

    def join(self, requests: Iterator[bytes], context: Any) -> bytes:
        return b"".join(requests)

    def chat(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        yield from requests


class Running(NamedTuple):
    port: int
    service: Service


@contextmanager
def serving(
    library: Any,
    *,
    address: str = "127.0.0.1:0",
    credentials: Any = None,
    service: Service | None = None,
    **options: Any,
) -> Iterator[Running]:
    service = service or Service()
    server = library.server(ThreadPoolExecutor(4), handlers=[service], **options)
    if credentials is None:
        port = server.add_insecure_port(address)
    else:
        port = server.add_secure_port(address, credentials)
    server.start()
    try:
        yield Running(port, service)
    finally:
        assert server.stop(None).wait(DEADLINE)


def echo(channel: Any, request: bytes = b"hello", **options: Any) -> Any:
    options.setdefault("timeout", DEADLINE)
    return channel.unary_unary("/t/Echo")(request, **options)


def failure(channel: Any, **options: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        echo(channel, **options)
    return caught.value


# ---- Without TLS ---------------------------------------------------------------------------------


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
        assert echo(channel) == b"hello"
        grpc.channel_ready_future(channel).result(DEADLINE)


def test_all_kinds_of_calls(client: Any, host: Any) -> None:
    with (
        serving(host) as running,
        client.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        assert list(channel.unary_stream("/t/Count")(b"abc", timeout=DEADLINE)) == [
            b"a",
            b"b",
            b"c",
        ]
        assert channel.stream_unary("/t/Join")(iter([b"a", b"b"]), timeout=DEADLINE) == b"ab"
        chat = channel.stream_stream("/t/Chat")(iter([b"a", b"b"]), timeout=DEADLINE)
        assert list(chat) == [b"a", b"b"]
        assert channel.unary_unary("/t/Echo").future(b"x", timeout=DEADLINE).result() == b"x"
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/t/None")(b"", timeout=DEADLINE)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_nobody_is_known_without_tls(client: Any, host: Any) -> None:
    with (
        serving(host) as running,
        client.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        echo(channel)
        seen = running.service.seen
        assert seen.identities is None
        assert seen.identity_key is None
        assert seen.auth["transport_security_type"] == [b"insecure"]


def test_wait_for_ready(client: Any, host: Any, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/late"
    with client.insecure_channel(address) as channel:
        assert failure(channel, wait_for_ready=False).code() is grpc.StatusCode.UNAVAILABLE
        future = channel.unary_unary("/t/Echo").future(b"x", timeout=DEADLINE, wait_for_ready=True)
        assert not future.done()
        with serving(host, address=address):
            assert future.result(DEADLINE) == b"x"


def test_the_limit_on_messages_is_grpcs_and_an_option(client: Any, host: Any) -> None:
    unlimited = [("grpc.max_receive_message_length", -1)]
    large = b"x" * (5 << 20)
    with serving(host) as running:
        target = f"127.0.0.1:{running.port}"
        with client.insecure_channel(target) as channel:
            code = failure(channel, request=large).code()
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    with serving(host, options=unlimited) as running:
        target = f"127.0.0.1:{running.port}"
        with client.insecure_channel(target) as channel:
            code = failure(channel, request=large).code()
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        with client.insecure_channel(target, options=unlimited) as channel:
            assert len(echo(channel, large)) == len(large)


def test_service_configs_may_ask_for_retries(client: Any, host: Any) -> None:
    attempts = []

    def flaky(request: bytes, context: Any) -> bytes:
        attempts.append(1)
        if len(attempts) < 3:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
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
        assert echo(channel) == b"hello"
        assert str(running.service.seen.metadata["user-agent"]).startswith("keeper")


def test_a_unix_sockets_mode_is_the_umasks(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with serving(rpc, address=f"unix:{tmp_path}/s"):
            assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o755
    finally:
        os.umask(before)


def test_an_address_that_cannot_be_had(host: Any, tmp_path: Path) -> None:
    server = host.server(ThreadPoolExecutor(1))
    with pytest.raises(RuntimeError, match="Failed to bind"):
        server.add_insecure_port(f"unix:{tmp_path}/missing/s")


def test_interceptors_on_either_side(client: Any, host: Any) -> None:
    class Server(grpc.ServerInterceptor):
        def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
            metadata = dict(handler_call_details.invocation_metadata)
            assert metadata["added"] == "here"
            return continuation(handler_call_details)

    class Client(grpc.UnaryUnaryClientInterceptor):
        def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            return continuation(details._replace(metadata=[("added", "here")]), request)

    with (
        serving(host, interceptors=[Server()]) as running,
        client.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        assert echo(client.intercept_channel(channel, Client())) == b"hello"


def test_too_many_calls_at_once(client: Any, host: Any) -> None:
    inside, leave = threading.Event(), threading.Event()

    def block(request: bytes, context: Any) -> bytes:
        inside.set()
        assert leave.wait(DEADLINE)
        return request

    with (
        serving(host, service=Service(Block=block), maximum_concurrent_rpcs=1) as running,
        client.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        blocked = channel.unary_unary("/t/Block").future(b"", timeout=DEADLINE)
        assert inside.wait(DEADLINE)
        assert failure(channel).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        leave.set()
        assert blocked.result(DEADLINE) == b""


# ---- The thread pool -----------------------------------------------------------------------------


def test_a_pools_size_is_taken() -> None:
    inside = threading.Barrier(3)

    def meet(request: bytes, context: Any) -> bytes:
        inside.wait(DEADLINE)
        return request

    pool = ThreadPoolExecutor(3)
    server = rpc.server(pool, handlers=[Service(Meet=meet)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with rpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        method = channel.unary_unary("/t/Meet")
        calls = [method.future(b"", timeout=DEADLINE) for _ in range(3)]
        assert [call.result() for call in calls] == [b""] * 3
    assert server.stop(None).wait(DEADLINE)
    assert not pool._threads  # nothing was submitted


def test_pools_that_cannot_be_replaced() -> None:
    class Proud(ThreadPoolExecutor):
        def submit(self, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError

    class Other(Executor):
        pass

    for pool in (Proud(1), Other(), ThreadPoolExecutor(1, initializer=print), "pool"):
        with pytest.raises(TypeError, match="give max_workers instead"):
            rpc.server(pool)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="max_workers or a thread_pool"):
        rpc.server(ThreadPoolExecutor(1), max_workers=2)
    rpc.server(max_workers=2)
    rpc.server()


# ---- TLS -----------------------------------------------------------------------------------------


def test_tls(client: Any, host: Any, authority: Authority, server_pair: Pair) -> None:
    with serving(host, credentials=host.ssl_server_credentials([server_pair])) as running:
        credentials = client.ssl_channel_credentials(authority.root)
        with client.secure_channel(f"localhost:{running.port}", credentials) as channel:
            assert echo(channel) == b"hello"
    seen = running.service.seen
    assert seen.identities is None
    assert seen.auth["transport_security_type"] == [b"ssl"]


def test_tls_over_a_unix_socket(
    client: Any, host: Any, authority: Authority, server_pair: Pair, tmp_path: Path
) -> None:
    address = f"unix:{tmp_path}/s"
    with serving(host, address=address, credentials=host.ssl_server_credentials([server_pair])):
        credentials = client.ssl_channel_credentials(authority.root)
        # What a socket's path is in a certificate depends on gRPC's version.
        options = [("grpc.ssl_target_name_override", "localhost")]
        with client.secure_channel(address, credentials, options=options) as channel:
            assert echo(channel) == b"hello"


def test_another_name_may_be_expected(client: Any, host: Any, authority: Authority) -> None:
    pair = authority.issue("named", "service.test")
    with serving(host, credentials=host.ssl_server_credentials([pair])) as running:
        credentials = client.ssl_channel_credentials(authority.root)
        target = f"localhost:{running.port}"
        with client.secure_channel(target, credentials) as channel:
            assert failure(channel).code() is grpc.StatusCode.UNAVAILABLE
        options = [("grpc.ssl_target_name_override", "service.test")]
        with client.secure_channel(target, credentials, options=options) as channel:
            assert echo(channel) == b"hello"


def test_a_server_of_another_authority_is_refused(
    client: Any, host: Any, server_pair: Pair
) -> None:
    stranger = Authority("nobody")
    with (
        serving(host, credentials=host.ssl_server_credentials([server_pair])) as running,
        client.secure_channel(
            f"localhost:{running.port}", client.ssl_channel_credentials(stranger.root)
        ) as channel,
    ):
        assert failure(channel).code() is grpc.StatusCode.UNAVAILABLE


def test_no_plain_client_on_a_secure_port(client: Any, host: Any, server_pair: Pair) -> None:
    with (
        serving(host, credentials=host.ssl_server_credentials([server_pair])) as running,
        client.insecure_channel(f"localhost:{running.port}") as channel,
    ):
        assert failure(channel).code() is grpc.StatusCode.UNAVAILABLE


def mutual(library: Any, authority: Authority, pair: Pair) -> Any:
    return library.ssl_server_credentials([pair], authority.root, True)


def test_mutual_tls(
    client: Any, host: Any, authority: Authority, server_pair: Pair, client_pair: Pair
) -> None:
    with serving(host, credentials=mutual(host, authority, server_pair)) as running:
        credentials = client.ssl_channel_credentials(authority.root, *client_pair)
        with client.secure_channel(f"localhost:{running.port}", credentials) as channel:
            assert echo(channel) == b"hello"
    seen = running.service.seen
    assert seen.identity_key == "x509_subject_alternative_name"
    assert seen.identities == [b"client.test"]
    assert seen.auth["x509_common_name"] == [b"client"]
    assert seen.auth["x509_pem_cert"] == [client_pair.chain]


def test_a_client_without_certificate_is_refused(
    client: Any, host: Any, authority: Authority, server_pair: Pair
) -> None:
    with (
        serving(host, credentials=mutual(host, authority, server_pair)) as running,
        client.secure_channel(
            f"localhost:{running.port}", client.ssl_channel_credentials(authority.root)
        ) as channel,
    ):
        assert failure(channel).code() is grpc.StatusCode.UNAVAILABLE


def test_a_client_of_another_authority_is_refused(
    client: Any, host: Any, authority: Authority, server_pair: Pair
) -> None:
    stranger = Authority("nobody").issue("stranger", "client.test")
    with (
        serving(host, credentials=mutual(host, authority, server_pair)) as running,
        client.secure_channel(
            f"localhost:{running.port}",
            client.ssl_channel_credentials(authority.root, *stranger),
        ) as channel,
    ):
        assert failure(channel).code() is grpc.StatusCode.UNAVAILABLE


def test_pem_is_checked(authority: Authority, server_pair: Pair, client_pair: Pair) -> None:
    key, chain = server_pair
    with pytest.raises(errors.ConfigError, match="root certificates: no certificate"):
        rpc.ssl_channel_credentials(b"nonsense")
    with pytest.raises(ValueError, match="certificate 2 cannot be read"):
        rpc.ssl_channel_credentials(chain + chain.replace(b"MII", b"!!!"))
    with pytest.raises(ValueError, match="go together: one is missing"):
        rpc.ssl_channel_credentials(authority.root, key)
    with pytest.raises(ValueError, match="does not belong"):
        rpc.ssl_channel_credentials(authority.root, client_pair.key, chain)
    with pytest.raises(ValueError, match="the server's private key cannot be read") as caught:
        rpc.ssl_server_credentials([(key.replace(b"MI", b"XX"), chain)])
    assert "XX" not in str(caught.value)
    with pytest.raises(ValueError, match="at least one pair"):
        rpc.ssl_server_credentials([])
    with pytest.raises(ValueError, match="only with root certificates"):
        rpc.ssl_server_credentials([server_pair], require_client_auth=True)
    with pytest.raises(TypeError, match="PEM bytes"):
        rpc.ssl_channel_credentials("text")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="zero bytes"):
        rpc.ssl_channel_credentials(authority.root + b"\0")
    with pytest.raises(TypeError, match="must be a tuple"):
        rpc.ssl_server_credentials([(key, chain, key)])  # type: ignore[list-item]


def test_an_encrypted_key_asks_nobody(server_pair: Pair) -> None:
    key = serialization.load_pem_private_key(server_pair.key, None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    with pytest.raises(ValueError, match="an unencrypted key"):
        rpc.ssl_server_credentials([(locked, server_pair.chain)])


def test_secrets_do_not_show(server_pair: Pair) -> None:
    for made in (
        rpc.ssl_channel_credentials(server_pair.chain, *server_pair),
        rpc.ssl_server_credentials([server_pair]),
        rpc.access_token_call_credentials("hush"),
    ):
        assert "hush" not in repr(made)
        assert "BEGIN" not in repr(made)
        assert not [name for name in dir(made) if not name.startswith("__")]


def test_credentials_of_grpcios_are_refused_by_name(server_pair: Pair) -> None:
    with pytest.raises(TypeError, match=r"pygo_plugin\.rpc\.ssl_channel_credentials"):
        rpc.secure_channel("localhost:1", grpc.ssl_channel_credentials())
    with pytest.raises(TypeError, match="insecure_channel"):
        rpc.secure_channel("localhost:1", None)  # type: ignore[arg-type]
    server = rpc.server()
    with pytest.raises(TypeError, match=r"pygo_plugin\.rpc\.ssl_server_credentials"):
        server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([server_pair]))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="add_insecure_port"):
        server.add_secure_port("127.0.0.1:0", None)  # type: ignore[arg-type]
    token = grpc.access_token_call_credentials("x")
    ours = rpc.access_token_call_credentials("x")
    with pytest.raises(TypeError, match=r"pygo_plugin\.rpc\.metadata_call_credentials"):
        rpc.composite_call_credentials(ours, token)
    with pytest.raises(TypeError, match=r"pygo_plugin\.rpc\.metadata_call_credentials"):
        rpc.composite_channel_credentials(rpc.ssl_channel_credentials(), token)
    with (
        rpc.secure_channel("localhost:1", rpc.ssl_channel_credentials()) as channel,
        pytest.raises(TypeError, match=r"pygo_plugin\.rpc\.metadata_call_credentials"),
    ):
        echo(channel, credentials=token)


# ---- Credentials of calls ------------------------------------------------------------------------


class Plugin(grpc.AuthMetadataPlugin):
    """Answers with metadata; keeps the contexts it was asked with."""

    def __init__(self, *metadata: tuple[str, str | bytes]) -> None:
        self.metadata = metadata
        self.asked: list[Any] = []

    def __call__(self, context: Any, callback: Any) -> None:
        self.asked.append(context)
        callback(self.metadata, None)


@pytest.fixture
def secure(client: Any, host: Any, authority: Authority, server_pair: Pair) -> Iterator[Any]:
    """A server with TLS, as (Running, a channel, the channel's credentials)."""
    with serving(host, credentials=host.ssl_server_credentials([server_pair])) as running:
        credentials = client.ssl_channel_credentials(authority.root)
        with client.secure_channel(f"localhost:{running.port}", credentials) as channel:
            yield running, channel, credentials


def test_metadata_credentials(client: Any, secure: Any) -> None:
    running, channel, _ = secure
    plugin = Plugin(("token", "abc"), ("token-bin", b"\0\xff"))
    credentials = client.metadata_call_credentials(plugin, "mine")
    for _ in range(3):
        assert echo(channel, credentials=credentials) == b"hello"
    assert running.service.seen.metadata["token"] == "abc"
    assert running.service.seen.metadata["token-bin"] == b"\0\xff"
    assert len(plugin.asked) == 3
    context = plugin.asked[0]
    assert isinstance(context, grpc.AuthMetadataContext)
    assert context.service_url == f"https://localhost:{running.port}/t"
    assert context.method_name == "Echo"
    echo(channel)
    assert "token" not in running.service.seen.metadata


def test_access_tokens(client: Any, secure: Any) -> None:
    running, channel, _ = secure
    echo(channel, credentials=client.access_token_call_credentials("abc"))
    assert running.service.seen.metadata["authorization"] == "Bearer abc"


def test_composed_credentials(client: Any, secure: Any) -> None:
    running, channel, credentials = secure
    one = client.metadata_call_credentials(Plugin(("one", "1")))
    two = client.metadata_call_credentials(Plugin(("two", "2")))
    echo(channel, credentials=client.composite_call_credentials(one, two))
    assert {"one", "two"} <= running.service.seen.metadata.keys()

    composed = client.composite_channel_credentials(credentials, one)
    with client.secure_channel(f"localhost:{running.port}", composed) as other:
        echo(other, credentials=two)
        assert {"one", "two"} <= running.service.seen.metadata.keys()
        echo(other)
        assert "one" in running.service.seen.metadata
        assert "two" not in running.service.seen.metadata


def test_credentials_of_streams(client: Any, secure: Any) -> None:
    _, channel, _ = secure
    plugin = Plugin(("token", "abc"))
    credentials = client.metadata_call_credentials(plugin)
    options = {"credentials": credentials, "timeout": DEADLINE}
    assert list(channel.unary_stream("/t/Count")(b"ab", **options)) == [b"a", b"b"]
    assert channel.stream_unary("/t/Join")(iter([b"a"]), **options) == b"a"
    assert list(channel.stream_stream("/t/Chat")(iter([b"a"]), **options)) == [b"a"]
    assert channel.unary_unary("/t/Echo").future(b"x", **options).result() == b"x"
    assert channel.unary_unary("/t/Echo").with_call(b"x", **options)[0] == b"x"
    assert len(plugin.asked) == 5


def test_a_plugin_that_fails(client: Any, secure: Any, caplog: pytest.LogCaptureFixture) -> None:
    _, channel, _ = secure

    def refuse(context: Any, callback: Any) -> None:
        callback(None, ValueError("no token today"))

    def stumble(context: Any, callback: Any) -> None:
        raise KeyError("token")

    error = failure(channel, credentials=client.metadata_call_credentials(refuse))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "no token today" in str(error.details())
    error = failure(channel, credentials=client.metadata_call_credentials(stumble, "stumbler"))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "token" in str(error.details())
    if client is rpc:
        assert "stumbler raised" in caplog.text
    assert echo(channel) == b"hello"


@pytest.fixture
def channel(authority: Authority, server_pair: Pair) -> Iterator[Any]:
    """A secure channel of ours to a server of ours."""
    with (
        serving(rpc, credentials=rpc.ssl_server_credentials([server_pair])) as running,
        rpc.secure_channel(
            f"localhost:{running.port}", rpc.ssl_channel_credentials(authority.root)
        ) as made,
    ):
        yield made


def test_a_plugin_that_never_answers(channel: Any) -> None:
    def forget(context: Any, callback: Any) -> None:
        pass

    error = failure(channel, credentials=rpc.metadata_call_credentials(forget))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "dropped its callback" in str(error.details())


def test_a_plugin_answers_once(channel: Any) -> None:
    raised: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

    def twice(context: Any, callback: Any) -> None:
        callback([("a", "1")], None)
        try:
            callback([("b", "2")], None)
        except RuntimeError as error:
            raised.put(error)

    assert echo(channel, credentials=rpc.metadata_call_credentials(twice)) == b"hello"
    assert "more than once" in str(raised.get(timeout=DEADLINE))


def test_a_plugin_may_answer_later_and_elsewhere(channel: Any) -> None:
    waiting: list[Any] = []
    asked = threading.Event()

    def later(context: Any, callback: Any) -> None:
        waiting.append(callback)
        asked.set()

    credentials = rpc.metadata_call_credentials(later)
    call = channel.unary_unary("/t/Echo").future(b"x", timeout=DEADLINE, credentials=credentials)
    assert asked.wait(DEADLINE)
    assert not call.done()
    waiting.pop()((), None)
    assert call.result() == b"x"


def test_a_plugin_may_call_with_credentials_itself(channel: Any) -> None:
    inner = rpc.metadata_call_credentials(Plugin(("inner", "1")))

    def fetch(context: Any, callback: Any) -> None:
        callback([("token", echo(channel, b"fetched", credentials=inner).decode())], None)

    outer = rpc.metadata_call_credentials(fetch)
    assert echo(channel, credentials=outer) == b"hello"


def test_a_done_callback_may_call_with_credentials(channel: Any) -> None:
    credentials = rpc.metadata_call_credentials(Plugin(("token", "1")))
    results: list[bytes] = []
    done = threading.Event()

    def then(call: Any) -> None:
        results.append(echo(channel, call.result(), credentials=credentials))
        done.set()

    channel.unary_unary("/t/Echo").future(b"x", timeout=DEADLINE).add_done_callback(then)
    assert done.wait(DEADLINE), "the plugin was not asked while a callback waited for it"
    assert results == [b"x"]


def test_metadata_that_cannot_be_sent(channel: Any, caplog: pytest.LogCaptureFixture) -> None:
    for metadata in ([("Bad Key", "x")], [("key", "\n")], [("key", b"\xff")], 5):
        credentials = rpc.metadata_call_credentials(Plugin())
        plugin = Plugin()
        plugin.metadata = metadata  # type: ignore[assignment]
        credentials = rpc.metadata_call_credentials(plugin)
        assert failure(channel, credentials=credentials).code() is grpc.StatusCode.UNAVAILABLE


def test_wrong_call_credentials(channel: Any) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        rpc.access_token_call_credentials("a\nb")
    with pytest.raises(ValueError, match="printable ASCII"):
        rpc.access_token_call_credentials("a\0b")
    with pytest.raises(TypeError, match="must be str"):
        rpc.access_token_call_credentials(b"a")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be callable"):
        rpc.metadata_call_credentials("token")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least two"):
        rpc.composite_call_credentials(rpc.access_token_call_credentials("a"))
    with pytest.raises(ValueError, match="at least one"):
        rpc.composite_channel_credentials(rpc.ssl_channel_credentials())
    with pytest.raises(TypeError, match="not None"):
        rpc.composite_channel_credentials(rpc.ssl_channel_credentials(), None)  # type: ignore[arg-type]


def test_no_credentials_without_tls() -> None:
    with (
        rpc.insecure_channel("localhost:1") as channel,
        pytest.raises(ValueError, match="need a connection with TLS"),
    ):
        echo(channel, credentials=rpc.access_token_call_credentials("x"))


def test_plugins_are_let_go(channel: Any) -> None:
    import gc
    import weakref

    plugin = Plugin(("a", "1"))
    echo(channel, credentials=rpc.metadata_call_credentials(plugin))
    gone = threading.Event()
    weakref.finalize(plugin, gone.set)
    del plugin
    gc.collect()
    # The last reference goes on the thread for callbacks.
    assert gone.wait(DEADLINE)


# ---- Compression ---------------------------------------------------------------------------------


class Proxy:
    """Passes one TCP connection on, and counts its bytes."""

    def __init__(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._to = port
        self._lock = threading.Lock()
        self._counts = {"up": 0, "down": 0}
        self._threads: list[threading.Thread] = []
        self._sockets = [self._listener]
        self._start(self._accept)

    def _start(self, target: Any, *args: Any) -> None:
        thread = threading.Thread(target=target, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._to))
            self._sockets += [near, far]
            self._start(self._pump, near, far, "up")
            self._start(self._pump, far, near, "down")

    def _pump(self, source: socket.socket, sink: socket.socket, way: str) -> None:
        try:
            while data := source.recv(65536):
                with self._lock:
                    self._counts[way] += len(data)
                sink.sendall(data)
        except OSError:
            pass
        with_shutdown(sink)

    def take(self) -> tuple[int, int]:
        """Bytes (up, down) since the last time."""
        with self._lock:
            taken = (self._counts["up"], self._counts["down"])
            self._counts.update(up=0, down=0)
        return taken

    def close(self) -> None:
        for each in self._sockets:
            with_shutdown(each)
            each.close()
        for thread in self._threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()


def with_shutdown(each: socket.socket) -> None:
    try:
        each.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


@contextmanager
def proxied(running: Running) -> Iterator[Proxy]:
    proxy = Proxy(running.port)
    try:
        yield proxy
    finally:
        proxy.close()


BULK = b"the same again and again, " * 4000  # 104 kB, or a few hundred bytes
SMALL = 20_000


@pytest.mark.parametrize("algorithm", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_requests_compressed_for_the_whole_channel(
    client: Any, host: Any, algorithm: grpc.Compression
) -> None:
    with serving(host) as running, proxied(running) as proxy:
        target = f"127.0.0.1:{proxy.port}"
        with client.insecure_channel(target, compression=algorithm) as channel:
            assert echo(channel, BULK) == BULK
            up, down = proxy.take()
            assert up < SMALL
            assert down > len(BULK)
            if client is rpc:  # grpcio takes this one for no wish
                assert echo(channel, BULK, compression=grpc.Compression.NoCompression) == BULK
                assert proxy.take()[0] > len(BULK)


def test_requests_compressed_for_one_call(client: Any, host: Any) -> None:
    with (
        serving(host) as running,
        proxied(running) as proxy,
        client.insecure_channel(f"127.0.0.1:{proxy.port}") as channel,
    ):
        assert echo(channel, BULK) == BULK
        assert proxy.take()[0] > len(BULK)
        assert echo(channel, BULK, compression=grpc.Compression.Gzip) == BULK
        assert proxy.take()[0] < SMALL


def test_replies_compressed_for_the_whole_server(client: Any, host: Any) -> None:
    with (
        serving(host, compression=grpc.Compression.Gzip) as running,
        proxied(running) as proxy,
        client.insecure_channel(f"127.0.0.1:{proxy.port}") as channel,
    ):
        assert echo(channel, BULK) == BULK
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
        proxied(running) as proxy,
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


# ---- The module in place of grpcio's -------------------------------------------------------------


def test_the_rest_of_grpcio_is_there() -> None:
    for name in (
        "StatusCode",
        "RpcError",
        "Compression",
        "ChannelConnectivity",
        "FutureTimeoutError",
        "ServicerContext",
        "GenericRpcHandler",
        "channel_ready_future",
        "intercept_channel",
        "unary_unary_rpc_method_handler",
        "method_handlers_generic_handler",
    ):
        assert getattr(rpc, name) is getattr(grpc, name)
    assert rpc.insecure_channel is not grpc.insecure_channel


def test_what_cannot_be_had_says_why() -> None:
    with pytest.raises(AttributeError, match="neither pygo_plugin"):
        rpc.no_such_thing  # noqa: B018
    with pytest.raises(AttributeError, match="belong to the gRPC core inside grpcio"):
        rpc.local_channel_credentials  # noqa: B018
    with pytest.raises(AttributeError, match="has no attribute '_private'"):
        rpc._private  # noqa: B018


def test_every_public_function_of_grpcio_is_decided_on() -> None:
    """What makes channels, servers or credentials is ours or refused, not grpcio's by accident."""
    made = {
        name
        for name in grpc.__all__
        if name.endswith(("_channel", "_credentials", "_configuration")) or name == "server"
    } - {"intercept_channel"}
    for name in made:
        value = getattr(rpc, name, None)
        assert value is None or value.__module__ == rpc.__name__, name


def test_objects_are_grpcios_by_isinstance() -> None:
    with rpc.insecure_channel("localhost:1") as channel:
        assert isinstance(channel, grpc.Channel)
    assert isinstance(rpc.server(), grpc.Server)


def run_script(script: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GRPC_")}
    return subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
    ).stdout


def test_without_grpcio() -> None:
    output = run_script("""
import sys
sys.modules["grpc"] = None
from pygo_plugin import rpc, errors
channel = rpc.insecure_channel("unix:/nowhere/at/all")
try:
    channel.unary_unary("/a/b")(b"", timeout=5)
except rpc.RpcError as error:
    print(error.code() is rpc.StatusCode.UNAVAILABLE)
try:
    rpc.intercept_channel
except AttributeError as error:
    print(error)
""")
    assert output.splitlines() == [
        "True",
        "pygo_plugin.rpc.intercept_channel would be grpcio's, which is not installed",
    ]


def test_importing_it_does_not_import_grpcio_or_logging() -> None:
    output = run_script("""
import sys
from pygo_plugin import rpc
rpc.insecure_channel("localhost:1").close()
rpc.server(max_workers=1).add_insecure_port("127.0.0.1:0")
print({"grpc", "logging", "threading", "concurrent.futures"} & set(sys.modules))
""")
    assert output == "set()\n"


def test_in_a_forked_child() -> None:
    output = run_script("""
import os
from pygo_plugin import rpc, errors
channel = rpc.secure_channel("localhost:1", rpc.ssl_channel_credentials())
token = rpc.access_token_call_credentials("x")
if os.fork() == 0:
    for make in (
        lambda: rpc.insecure_channel("localhost:1"),
        rpc.server,
        rpc.ssl_channel_credentials,
        lambda: rpc.access_token_call_credentials("x"),
        lambda: rpc.metadata_call_credentials(print),
        lambda: rpc.composite_call_credentials(token, token),
    ):
        try:
            make()
        except errors.ForkedError:
            print("refused", flush=True)
    del channel, token
    raise SystemExit
os.wait()
""")
    assert output.splitlines() == ["refused"] * 6


# ---- gRPC's own log ------------------------------------------------------------------------------


def test_grpcs_log_is_logged(
    authority: Authority, server_pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = Authority("nobody")
    logged = threading.Event()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "handshake" in record.getMessage().lower():
                logged.set()

    logger = logging.getLogger("pygo_plugin.grpc")
    handler = Handler()
    logger.addHandler(handler)
    try:
        with (
            serving(rpc, credentials=rpc.ssl_server_credentials([server_pair])) as running,
            rpc.secure_channel(
                f"localhost:{running.port}", rpc.ssl_channel_credentials(stranger.root)
            ) as refused,
        ):
            failure(refused)
            assert logged.wait(DEADLINE)
    finally:
        logger.removeHandler(handler)
    levels = {record.levelno for record in caplog.records if record.name == "pygo_plugin.grpc"}
    assert logging.ERROR in levels


def test_grpcs_log_is_bounded_and_silent_in_a_forked_child() -> None:
    # All of gRPC's traces at once, while the callback thread is held up.
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            """
import logging, os, threading
from pygo_plugin import rpc
texts = []
go_on = threading.Event()
told = threading.Event()
class Handler(logging.Handler):
    def emit(self, record):
        go_on.wait(20)
        texts.append(record.getMessage())
        if "lines of gRPC's log were left out" in texts[-1]:
            told.set()
logger = logging.getLogger("pygo_plugin.grpc")
logger.addHandler(Handler())
logger.setLevel(1)
logger.propagate = False
channel = rpc.insecure_channel("unix:/nowhere/at/all")
for _ in range(200):
    try:
        channel.unary_unary("/a/b")(b"", timeout=5)
    except rpc.RpcError:
        pass
if os.fork() == 0:
    os._exit(0)
print(os.wait()[1])
go_on.set()
print(told.wait(20), len(texts) < 1000)
""",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "GRPC_VERBOSITY": "DEBUG", "GRPC_TRACE": "api,http,call_error"},
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["0", "True True"]
    assert result.stderr == ""


def test_rpc_is_a_module_that_generated_code_can_use(host: Any) -> None:
    """grpcio's generated code wants `grpc` as a module: the import can be changed there, too."""
    assert isinstance(rpc, ModuleType)
    source = (
        "from pygo_plugin import rpc as grpc\n"
        "def add(server):\n"
        "    methods = {'Echo': grpc.unary_unary_rpc_method_handler(lambda r, c: r)}\n"
        "    handler = grpc.method_handlers_generic_handler('t', methods)\n"
        "    server.add_generic_rpc_handlers((handler,))\n"
        "    server.add_registered_method_handlers('t', methods)\n"
    )
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    server = host.server(ThreadPoolExecutor(1))
    namespace["add"](server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with rpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert echo(channel) == b"hello"
    assert server.stop(None).wait(DEADLINE)
