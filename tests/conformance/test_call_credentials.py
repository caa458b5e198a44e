"""Credentials of calls."""

from __future__ import annotations

import gc
import queue
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from certificates import Authority, Pair
from stage import DEADLINE, Code, MetadataPlugin, ask, failure, serving

from pygo_plugin import rpc


@pytest.fixture
def secure(client: Any, host: Any, authority: Authority, server_pair: Pair) -> Iterator[Any]:
    """A server with TLS, as (Running, a channel, the channel's credentials)."""
    with serving(host, credentials=host.ssl_server_credentials([server_pair])) as running:
        credentials = client.ssl_channel_credentials(authority.root)
        with client.secure_channel(f"localhost:{running.port}", credentials) as channel:
            yield running, channel, credentials


def test_metadata_credentials(client: Any, secure: Any) -> None:
    running, channel, _ = secure
    plugin = MetadataPlugin(("token", "abc"), ("token-bin", b"\0\xff"))
    credentials = client.metadata_call_credentials(plugin, "mine")
    for _ in range(3):
        assert ask(channel, credentials=credentials) == b"hello"
    assert running.service.seen.metadata["token"] == "abc"
    assert running.service.seen.metadata["token-bin"] == b"\0\xff"
    assert len(plugin.asked) == 3
    context = plugin.asked[0]
    assert isinstance(context, grpc.AuthMetadataContext)
    assert context.service_url == f"https://localhost:{running.port}/t"
    assert context.method_name == "Echo"
    ask(channel)
    assert "token" not in running.service.seen.metadata


def test_access_tokens(client: Any, secure: Any) -> None:
    running, channel, _ = secure
    ask(channel, credentials=client.access_token_call_credentials("abc"))
    assert running.service.seen.metadata["authorization"] == "Bearer abc"


def test_composed_credentials(client: Any, secure: Any) -> None:
    running, channel, credentials = secure
    one = client.metadata_call_credentials(MetadataPlugin(("one", "1")))
    two = client.metadata_call_credentials(MetadataPlugin(("two", "2")))
    ask(channel, credentials=client.composite_call_credentials(one, two))
    assert {"one", "two"} <= running.service.seen.metadata.keys()

    composed = client.composite_channel_credentials(credentials, one)
    with client.secure_channel(f"localhost:{running.port}", composed) as other:
        ask(other, credentials=two)
        assert {"one", "two"} <= running.service.seen.metadata.keys()
        ask(other)
        assert "one" in running.service.seen.metadata
        assert "two" not in running.service.seen.metadata


def test_credentials_of_streams(client: Any, secure: Any) -> None:
    _, channel, _ = secure
    plugin = MetadataPlugin(("token", "abc"))
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
    assert error.code() is Code.UNAVAILABLE
    assert "no token today" in str(error.details())
    error = failure(channel, credentials=client.metadata_call_credentials(stumble, "stumbler"))
    assert error.code() is Code.UNAVAILABLE
    assert "token" in str(error.details())
    if client is rpc:
        assert "stumbler raised" in caplog.text
    assert ask(channel) == b"hello"


# ---- With ours alone ----------------------------------------------------------------------------


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
    assert error.code() is Code.UNAVAILABLE
    assert "dropped its callback" in str(error.details())


def test_a_plugin_answers_once(channel: Any) -> None:
    raised: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

    def twice(context: Any, callback: Any) -> None:
        callback([("a", "1")], None)
        try:
            callback([("b", "2")], None)
        except RuntimeError as error:
            raised.put(error)

    assert ask(channel, credentials=rpc.metadata_call_credentials(twice)) == b"hello"
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
    inner = rpc.metadata_call_credentials(MetadataPlugin(("inner", "1")))

    def fetch(context: Any, callback: Any) -> None:
        callback([("token", ask(channel, b"fetched", credentials=inner).decode())], None)

    outer = rpc.metadata_call_credentials(fetch)
    assert ask(channel, credentials=outer) == b"hello"


def test_a_done_callback_may_call_with_credentials(channel: Any) -> None:
    credentials = rpc.metadata_call_credentials(MetadataPlugin(("token", "1")))
    results: list[bytes] = []
    done = threading.Event()

    def then(call: Any) -> None:
        results.append(ask(channel, call.result(), credentials=credentials))
        done.set()

    channel.unary_unary("/t/Echo").future(b"x", timeout=DEADLINE).add_done_callback(then)
    assert done.wait(DEADLINE), "the plugin was not asked while a callback waited for it"
    assert results == [b"x"]


def test_metadata_that_cannot_be_sent(channel: Any, caplog: pytest.LogCaptureFixture) -> None:
    for metadata in ([("Bad Key", "x")], [("key", "\n")], [("key", b"\xff")], 5):
        credentials = rpc.metadata_call_credentials(MetadataPlugin())
        plugin = MetadataPlugin()
        plugin.metadata = metadata  # type: ignore[assignment]
        credentials = rpc.metadata_call_credentials(plugin)
        assert failure(channel, credentials=credentials).code() is Code.UNAVAILABLE


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
        ask(channel, credentials=rpc.access_token_call_credentials("x"))


def test_plugins_are_let_go(channel: Any) -> None:

    plugin = MetadataPlugin(("a", "1"))
    ask(channel, credentials=rpc.metadata_call_credentials(plugin))
    gone = threading.Event()
    weakref.finalize(plugin, gone.set)
    del plugin
    gc.collect()
    # The last reference goes on the thread for callbacks.
    assert gone.wait(DEADLINE)
