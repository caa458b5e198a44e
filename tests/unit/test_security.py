"""TLS of one's own: the configuration, and who gets in and who does not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority, Pair
from cryptography.hazmat.primitives import serialization

from pygo_plugin import (
    Client,
    ClientConfig,
    ConfigError,
    ConfigTypeError,
    ServeConfig,
    TLSConfig,
    TLSError,
)

DEADLINE = 60.0


@pytest.fixture(scope="session")
def stranger() -> Authority:
    return Authority("another CA")


# ---- TLSConfig -----------------------------------------------------------------------------------


def test_pem_and_paths_are_the_same(
    authority: Authority, client_pair: Pair, tmp_path: Path
) -> None:
    for name, text in {"ca": authority.root, "cert": client_pair.chain}.items():
        (tmp_path / name).write_bytes(text)
    (tmp_path / "key").write_bytes(client_pair.key)
    (tmp_path / "both").write_bytes(client_pair.key + client_pair.chain)
    config = TLSConfig(authority.root, client_pair.chain, client_pair.key, server_name="a.test")
    assert config.roots == authority.root
    assert config.certificate == client_pair.chain
    assert config.server_name == "a.test"
    files = [str(tmp_path / "ca"), tmp_path / "cert", tmp_path / "key"]
    assert TLSConfig(*files, server_name="a.test") == config
    assert TLSConfig(*map(bytes.decode, (authority.root, *reversed(client_pair)))) == TLSConfig(
        authority.root, client_pair.chain, client_pair.key
    )
    assert TLSConfig(certificate=tmp_path / "both").certificate == client_pair.key + (
        client_pair.chain
    )
    assert len({config, TLSConfig(*files, server_name="a.test"), TLSConfig()}) == 2
    assert TLSConfig().server_name == "localhost"


def test_an_encrypted_key(client_pair: Pair, authority: Authority) -> None:
    key = serialization.load_pem_private_key(client_pair.key, None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    for password in ("secret", b"secret"):
        TLSConfig(None, client_pair.chain, locked, password=password)
    with pytest.raises(ConfigError, match="the password is not the right one"):
        TLSConfig(None, client_pair.chain, locked, password="other")
    with pytest.raises(ConfigError, match="an unencrypted key"):
        TLSConfig(None, client_pair.chain, locked)
    TLSConfig(None, client_pair.chain, client_pair.key, password="not needed")


def test_what_does_not_fit(authority: Authority, client_pair: Pair, server_pair: Pair) -> None:
    def refused(words: str, *arguments: Any, **options: Any) -> None:
        with pytest.raises(ConfigError, match=rf"^TLSConfig.*{words}") as caught:
            TLSConfig(*arguments, **options)
        assert "BEGIN PRIVATE" not in str(caught.value)

    refused("roots: /nowhere/ca.pem cannot be read: No such file", "/nowhere/ca.pem")
    refused("certificate: .* cannot be read: Is a directory", None, "/")
    refused("roots: the bytes are not PEM; a path has to be a str", b"ca.pem")
    refused("root certificates: no certificate", client_pair.key)
    refused("there is no certificate", authority.root, None, client_pair.key)
    refused("private key cannot be read", None, client_pair.chain)
    refused("does not belong to the first", None, client_pair.chain, server_pair.key)
    for options in ({"roots": 3}, {"server_name": b"x"}, {"password": 3}):
        with pytest.raises(ConfigTypeError, match=f"TLSConfig.{next(iter(options))} must be"):
            TLSConfig(**options)  # type: ignore[arg-type]


def test_nothing_secret_shows(authority: Authority, client_pair: Pair) -> None:
    config = TLSConfig(authority.root, *reversed(client_pair))
    shown = "TLSConfig(roots=..., certificate=..., key=..., server_name='localhost')"
    assert repr(config) == shown
    assert repr(TLSConfig()) == "TLSConfig(server_name='localhost')"
    assert shown in repr(ClientConfig(cmd="p", tls_config=config))
    for name in dir(config):
        if not name.startswith("_"):
            assert b"PRIVATE" not in repr(getattr(config, name)).encode()


def test_it_cannot_be_changed(authority: Authority) -> None:
    with pytest.raises(AttributeError, match="make another one"):
        TLSConfig().roots = authority.root


def test_where_it_goes(handshake: Any, plugins: Any) -> None:
    with pytest.raises(ConfigTypeError, match="tls_config must be a TLSConfig, not str"):
        ClientConfig(tls_config="ca.pem")  # type: ignore[arg-type]
    with pytest.raises(ConfigTypeError, match="tls_provider must be a function"):
        ServeConfig(tls_provider=TLSConfig())  # type: ignore[arg-type]
    client = Client(
        "p", handshake_config=handshake, plugins=plugins, auto_mtls=True, tls_config=TLSConfig()
    )
    with pytest.raises(ConfigError, match="auto_mtls and tls_config exclude each other"):
        client.start()


def test_plugins_without_tls_do_not_load_it() -> None:
    script = "import pygo_plugin, sys; pygo_plugin.ServeConfig(); pygo_plugin.Client('p')"
    check = f"{script}; sys.exit('pygo_plugin.security' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True, timeout=30)


# ---- Connections ---------------------------------------------------------------------------------


@pytest.fixture
def plugin(peers: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., list[str]]:
    """The command of a plugin that serves with a pair and asks for certificates by roots."""

    def command(pair: Pair | None, roots: bytes | None = None, server: str = "core") -> list[str]:
        options = ["--server", server]
        if pair is not None:
            for name, text in {"cert": pair.chain, "key": pair.key, "ca": roots}.items():
                if text is not None:
                    (tmp_path / name).write_bytes(text)
                    options += [f"--tls-{name}", str(tmp_path / name)]
        found: list[str] = peers.plugin("python", *options)
        return found

    return command


def put(client: Any) -> None:
    import kv_pb2

    _, kv = client.dispense("kv")
    kv.Put(kv_pb2.PutRequest(key="k", value=b"v"), timeout=DEADLINE)


def refuse(client: Client, reason: str | tuple[str, ...], words: str) -> None:
    """The start fails for that reason, and the plugin is gone."""
    with pytest.raises(TLSError, match=words) as caught:
        client.start()
    assert caught.value.reason in ((reason,) if isinstance(reason, str) else reason)
    assert str(caught.value).startswith(f"{client.name}: ")
    with pytest.raises(ProcessLookupError):
        os.kill(client.pid, 0)


@pytest.mark.parametrize("server", ["core", "aio", "grpcio"])
@pytest.mark.usefixtures("no_leftovers")
def test_tls_and_mutual_tls(
    plugin: Any,
    make_client: Any,
    authority: Authority,
    server_pair: Pair,
    client_pair: Pair,
    server: str,
) -> None:
    client = make_client(plugin(server_pair, server=server), tls_config=TLSConfig(authority.root))
    put(client)
    assert client.ping() == ""
    client.kill()
    client = make_client(
        plugin(server_pair, authority.root, server),
        tls_config=TLSConfig(authority.root, client_pair.chain, client_pair.key),
    )
    put(client)
    client.kill()
    assert client.exit_status == 0


def test_reattaching_over_tls(
    plugin: Any, make_client: Any, authority: Authority, server_pair: Pair, stranger: Authority
) -> None:
    first = make_client(plugin(server_pair), tls_config=TLSConfig(authority.root))
    put(first)
    second = make_client(
        reattach_config=first.reattach_config(), tls_config=TLSConfig(authority.root)
    )
    put(second)
    third = make_client(
        reattach_config=first.reattach_config(), tls_config=TLSConfig(stranger.root)
    )
    with pytest.raises(TLSError, match="unknown authority"):
        third.start()
    assert first.ping() == ""


def test_another_name(plugin: Any, make_client: Any, authority: Authority) -> None:
    command = plugin(authority.issue("server", "plugin.test", "other.test"))
    client = make_client(command, tls_config=TLSConfig(authority.root, server_name="plugin.test"))
    put(client)
    refuse(
        make_client(command, tls_config=TLSConfig(authority.root)),
        "name mismatch",
        "not valid for the name localhost, it is for plugin.test, other.test",
    )


def test_a_name_that_grpc_would_not_accept(
    plugin: Any, make_client: Any, authority: Authority
) -> None:
    """OpenSSL alone accepts an asterisk for part of a label; gRPC does not."""
    pair = authority.issue("server", "a*.example.test")
    tls = TLSConfig(authority.root, server_name="ab.example.test")
    words = "not valid for the name ab.example.test, it is for a\\*.example.test"
    refuse(make_client(plugin(pair), tls_config=tls), "name mismatch", words)


HOST = """
import sys
sys.path[:0] = {path!r}
import pygo_plugin_peer
from pygo_plugin import Client, TLSConfig, TLSError

client = Client(
    ["/usr/bin/env", "-u", "GRPC_SSL_CIPHER_SUITES", *{command!r}],
    handshake_config=pygo_plugin_peer.HANDSHAKE,
    plugins=pygo_plugin_peer.plugins(),
    tls_config=TLSConfig({root!r}),
    start_timeout=600,
)
try:
    client.start()
    print("started")
except TLSError as error:
    print(error.reason, error)
"""


def test_settings_that_only_grpc_has_something_against(
    plugin: Any, authority: Authority, server_pair: Pair
) -> None:
    """Our own handshake succeeds and gRPC's fails; start() must not wait for its timeout."""
    program = HOST.format(path=sys.path, command=plugin(server_pair), root=authority.root)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "GRPC_SSL_CIPHER_SUITES": "nonsense"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    name, what = "configuration pygo_plugin_peer.py", "gRPC does not accept the settings of TLS"
    words = f"{name}: {what} of the host or the plugin"
    assert done.stdout.startswith(words), done.stdout + done.stderr


def test_settings_that_openssl_has_something_against(authority: Authority) -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa

    weak = authority.issue("weak", "localhost", key=rsa.generate_private_key(65537, 512 * 2))
    with pytest.raises(
        ConfigError, match=r"TLSConfig: .*not accepted by OpenSSL: ee key too small"
    ):
        TLSConfig(certificate=weak.chain, key=weak.key)
    with pytest.raises(ConfigError, match="the server name has 256 characters"):
        TLSConfig(authority.root, server_name="a" * 256)


@pytest.mark.parametrize("multiplex", [False, True], ids=["sockets", "multiplexed"])
def test_expired_and_not_yet_valid(
    plugin: Any, make_client: Any, authority: Authority, multiplex: bool
) -> None:
    options = {"tls_config": TLSConfig(authority.root), "broker_multiplex": multiplex}
    command = plugin(authority.issue("server", "localhost", valid=(-3, -2)))
    refuse(make_client(command, **options), "expired", "has expired: it was valid until")
    command = plugin(authority.issue("server", "localhost", valid=(2, 3)))
    refuse(make_client(command, **options), "not yet valid", "not valid before")


def test_an_unknown_authority(
    plugin: Any, make_client: Any, server_pair: Pair, stranger: Authority
) -> None:
    client = make_client(plugin(server_pair), tls_config=TLSConfig(stranger.root))
    refuse(client, "unknown authority", "unknown authority")
    client = make_client(plugin(server_pair), tls_config=TLSConfig())  # the system's
    refuse(client, "unknown authority", "unknown authority")


def test_a_plugin_in_plain_text(plugin: Any, make_client: Any, authority: Authority) -> None:
    client = make_client(plugin(None), tls_config=TLSConfig(authority.root))
    refuse(client, "plaintext", "does not speak TLS")


def test_a_host_that_the_plugin_does_not_know(
    plugin: Any,
    make_client: Any,
    authority: Authority,
    server_pair: Pair,
    stranger: Authority,
) -> None:
    command = plugin(server_pair, authority.root)
    # How much a plugin says about it depends on its gRPC.
    reasons = ("refused", "closed")
    client = make_client(command, tls_config=TLSConfig(authority.root))
    refuse(client, reasons, "none to show")
    pairs = [stranger.issue("host", "h"), authority.issue("host", "h", valid=(-3, -2))]
    for key, chain in pairs:
        client = make_client(command, tls_config=TLSConfig(authority.root, chain, key))
        refuse(client, reasons, "host's certificate")


# ---- tls_provider --------------------------------------------------------------------------------


def serve(provider: str, **environment: str) -> subprocess.CompletedProcess[str]:
    script = f"""
from pygo_plugin import *
def provider():
    {provider}
serve(ServeConfig(handshake_config=HandshakeConfig(1, "KEY", "value"), tls_provider=provider))
"""
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "KEY": "value", **environment},
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize(
    ("provider", "words"),
    [
        ("return None", "panic: ServeConfig.tls_provider must return a TLSConfig, not No"),
        ("return TLSConfig()", "panic: TLSConfig: a plugin needs a certificate and its k"),
        ("return TLSConfig('/nowhere')", "panic: TLSConfig.roots: /nowhere cannot be re"),
        ("raise KeyError('mine')", "KeyError: 'mine'"),  # the author's own, with a traceback
    ],
)
def test_a_provider_that_fails(provider: str, words: str) -> None:
    done = serve(provider)
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr


def test_a_provider_goes_before_auto_mtls(
    plugin: Any, make_client: Any, server_pair: Pair, records: Any
) -> None:
    """As in go-plugin, the provider is used; the host, which requires AutoMTLS, refuses it."""
    refuse(make_client(plugin(server_pair), auto_mtls=True), "no certificate", "AutoMTLS")
    records.wait_for("tls_provider goes first")


def test_a_host_without_tls_does_not_get_in(
    plugin: Any, make_client: Any, server_pair: Pair
) -> None:
    client = make_client(plugin(server_pair))
    assert client.ping() != ""
