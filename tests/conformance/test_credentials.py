"""TLS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from certificates import Authority, Pair
from stage import Code, ask, failure, serving


def test_without_tls_there_are_no_identities(client: Any, host: Any) -> None:
    with (
        serving(host) as running,
        client.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        ask(channel)
        seen = running.service.seen
        assert seen.identities is None
        assert seen.identity_key is None
        assert seen.auth["transport_security_type"] == [b"insecure"]


def test_tls(client: Any, host: Any, authority: Authority, server_pair: Pair) -> None:
    with serving(host, credentials=host.ssl_server_credentials([server_pair])) as running:
        credentials = client.ssl_channel_credentials(authority.root)
        with client.secure_channel(f"localhost:{running.port}", credentials) as channel:
            assert ask(channel) == b"hello"
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
            assert ask(channel) == b"hello"


def test_another_name_may_be_expected(client: Any, host: Any, authority: Authority) -> None:
    pair = authority.issue("named", "service.test")
    with serving(host, credentials=host.ssl_server_credentials([pair])) as running:
        credentials = client.ssl_channel_credentials(authority.root)
        target = f"localhost:{running.port}"
        with client.secure_channel(target, credentials) as channel:
            assert failure(channel).code() is Code.UNAVAILABLE
        options = [("grpc.ssl_target_name_override", "service.test")]
        with client.secure_channel(target, credentials, options=options) as channel:
            assert ask(channel) == b"hello"


def test_a_server_of_another_authority_is_refused(
    client: Any, host: Any, server_pair: Pair
) -> None:
    stranger = Authority("unknown")
    with (
        serving(host, credentials=host.ssl_server_credentials([server_pair])) as running,
        client.secure_channel(
            f"localhost:{running.port}", client.ssl_channel_credentials(stranger.root)
        ) as channel,
    ):
        assert failure(channel).code() is Code.UNAVAILABLE


def test_no_plain_client_on_a_secure_port(client: Any, host: Any, server_pair: Pair) -> None:
    with (
        serving(host, credentials=host.ssl_server_credentials([server_pair])) as running,
        client.insecure_channel(f"localhost:{running.port}") as channel,
    ):
        assert failure(channel).code() is Code.UNAVAILABLE


def mutual(library: Any, authority: Authority, pair: Pair) -> Any:
    return library.ssl_server_credentials([pair], authority.root, True)


def test_mutual_tls(
    client: Any, host: Any, authority: Authority, server_pair: Pair, client_pair: Pair
) -> None:
    with serving(host, credentials=mutual(host, authority, server_pair)) as running:
        credentials = client.ssl_channel_credentials(authority.root, *client_pair)
        with client.secure_channel(f"localhost:{running.port}", credentials) as channel:
            assert ask(channel) == b"hello"
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
        assert failure(channel).code() is Code.UNAVAILABLE


def test_a_client_of_another_authority_is_refused(
    client: Any, host: Any, authority: Authority, server_pair: Pair
) -> None:
    stranger = Authority("unknown").issue("stranger", "client.test")
    with (
        serving(host, credentials=mutual(host, authority, server_pair)) as running,
        client.secure_channel(
            f"localhost:{running.port}",
            client.ssl_channel_credentials(authority.root, *stranger),
        ) as channel,
    ):
        assert failure(channel).code() is Code.UNAVAILABLE
