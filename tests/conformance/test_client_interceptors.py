"""Interceptors of a channel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from stage import DEADLINE, Code, Service, ask, raised, received, serving


class Interceptor(grpc.UnaryUnaryClientInterceptor, grpc.StreamStreamClientInterceptor):
    """Adds metadata to every call, and remembers the calls."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def _with_metadata(self, details: Any) -> Any:
        self.seen.append(details.method)

        class Details(grpc.ClientCallDetails):  # what OpenTelemetry's does
            method = details.method
            timeout = details.timeout
            metadata = (*(details.metadata or ()), ("intercepted", "yes"))
            credentials = details.credentials
            wait_for_ready = details.wait_for_ready
            compression = details.compression

        return Details()

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(self._with_metadata(details), request)

    def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        return continuation(self._with_metadata(details), requests)


def test_interceptors(channel: Any, pb: Any) -> None:
    import probe_pb2_grpc

    interceptor = Interceptor()
    probe = probe_pb2_grpc.ProbeStub(grpc.intercept_channel(channel, interceptor))
    reply = probe.Echo(pb.EchoRequest(), timeout=DEADLINE)
    assert received(reply, "intercepted") == [b"yes"]
    reply, call = probe.Echo.with_call(pb.EchoRequest(), timeout=DEADLINE)
    assert received(reply, "intercepted") == [b"yes"]
    assert call.code() is Code.OK
    future = probe.Echo.future(pb.EchoRequest(), timeout=DEADLINE)
    assert received(future.result(DEADLINE), "intercepted") == [b"yes"]
    chat = probe.Chat(iter([pb.ChatMessage(payload=b"x")]), timeout=DEADLINE)
    assert [message.payload for message in chat] == [b"x"]
    assert chat.code() is Code.OK
    error = raised(lambda: probe.Fail(pb.FailRequest(code=5, details="x"), timeout=DEADLINE))
    assert error.code() is Code.NOT_FOUND
    assert interceptor.seen == [
        *["/probe.Probe/Echo"] * 3,
        "/probe.Probe/Chat",
        "/probe.Probe/Fail",
    ]


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
        assert ask(client.intercept_channel(channel, Client())) == b"hello"


class Everything(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Notes what passes, and adds its name to requests and replies."""

    def __init__(self, name: str, seen: list[str]) -> None:
        self.name, self.seen = name, seen

    def _note(self, details: Any) -> None:
        self.seen.append(f"{self.name} {details.method}")

    def _all(self, messages: Any) -> Iterator[bytes]:
        for message in messages:
            yield message + self.name.encode()

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        self._note(details)
        return continuation(details, request + self.name.encode())

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        self._note(details)
        return self._all(continuation(details, request + self.name.encode()))

    def intercept_stream_unary(self, continuation: Any, details: Any, requests: Any) -> Any:
        self._note(details)
        return continuation(details, self._all(requests))

    def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        self._note(details)
        return self._all(continuation(details, self._all(requests)))


@pytest.fixture
def intercepted(client: Any, host: Any) -> Iterator[tuple[Any, list[str]]]:
    """A channel behind two interceptors, and what they have seen."""
    seen: list[str] = []
    with (
        serving(host) as running,
        client.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        both = (Everything("1", seen), Everything("2", seen))
        yield client.intercept_channel(channel, *both), seen


def test_all_arities(intercepted: Any) -> None:
    channel, seen = intercepted
    assert ask(channel, b"x") == b"x12"
    reply, call = channel.unary_unary("/t/Echo").with_call(b"x", timeout=DEADLINE)
    assert (reply, call.code()) == (b"x12", Code.OK)
    assert channel.unary_unary("/t/Echo").future(b"x", timeout=DEADLINE).result(DEADLINE) == b"x12"
    # The inner one changes what the outer one then changes.
    found = list(channel.unary_stream("/t/Count")(b"x", timeout=DEADLINE))
    assert found == [b"x21", b"121", b"221"]
    join = channel.stream_unary("/t/Join")
    assert join(iter([b"x", b"y"]), timeout=DEADLINE) == b"x12y12"
    reply, call = join.with_call(iter([b"x"]), timeout=DEADLINE)
    assert (reply, call.code()) == (b"x12", Code.OK)
    assert join.future(iter([b"x"]), timeout=DEADLINE).result(DEADLINE) == b"x12"
    chat = channel.stream_stream("/t/Chat")(iter([b"x", b"y"]), timeout=DEADLINE)
    assert list(chat) == [b"x1221", b"y1221"]
    expected = ["Echo"] * 3 + ["Count"] + ["Join"] * 3 + ["Chat"]
    assert seen == [f"{name} /t/{method}" for method in expected for name in "12"]


def test_interceptors_see_what_the_caller_gave(client: Any, host: Any) -> None:
    seen: list[Any] = []

    class Look(grpc.UnaryUnaryClientInterceptor):
        def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            seen.append(details)
            return continuation(details, request)

    with (
        serving(host) as running,
        client.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        metadata = (("key", "value"),)
        options = {"timeout": 50, "metadata": metadata, "wait_for_ready": True}
        options["compression"] = grpc.Compression.Gzip
        assert ask(client.intercept_channel(channel, Look()), **options) == b"hello"
    (details,) = seen
    assert (details.method, details.timeout, details.metadata) == ("/t/Echo", 50, metadata)
    assert (details.wait_for_ready, details.compression) == (True, grpc.Compression.Gzip)
    assert details.credentials is None


def test_an_interceptor_that_raises(client: Any, host: Any) -> None:
    class Failing(grpc.UnaryUnaryClientInterceptor):
        def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            raise LookupError("by design")

    with (
        serving(host) as running,
        client.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        call = client.intercept_channel(channel, Failing()).unary_unary("/t/Echo")
        for form in (call, call.with_call, lambda request: call.future(request).result(DEADLINE)):
            with pytest.raises(LookupError, match="by design"):
                form(b"")


def test_an_interceptor_may_try_again(client: Any, host: Any) -> None:
    attempts: list[int] = []

    def flaky(request: bytes, context: Any) -> bytes:
        attempts.append(1)
        if len(attempts) < 3:
            context.abort(Code.UNAVAILABLE, "not yet")
        return request

    class Retry(grpc.UnaryUnaryClientInterceptor):
        def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            while (call := continuation(details, request)).code() is Code.UNAVAILABLE:
                pass
            return call

    with (
        serving(host, service=Service(Flaky=flaky)) as running,
        client.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        call = client.intercept_channel(channel, Retry()).unary_unary("/t/Flaky")
        assert call(b"x", timeout=DEADLINE) == b"x"
        assert len(attempts) == 3


def test_what_is_no_interceptor_is_refused(client: Any) -> None:
    with (
        client.insecure_channel("unix:/nowhere/at/all") as channel,
        pytest.raises(TypeError, match="nterceptor"),
    ):
        client.intercept_channel(channel, object())
