"""The channel that `dispense` gives.

Most tests run three times: with our channel to our plugin, with our channel to a plugin made of
grpcio, and with grpcio's own channel, which shows that they ask for what grpcio's users know.
"""

from __future__ import annotations

import gc
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

import pygo_plugin
from pygo_plugin import Client, ClosedError, RpcError, _channel

DEADLINE = 20.0  # seconds for what happens soon

Code = grpc.StatusCode


class Lost(list[BaseException]):
    """Exceptions that came to sys.unraisablehook."""


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> Lost:
    """Collects what would make the test fail otherwise."""
    found = Lost()
    monkeypatch.setattr(sys, "unraisablehook", lambda event: found.append(event.exc_value))
    return found


@pytest.fixture(scope="module")
def running(peers: Any) -> Iterator[Callable[[str], Client]]:
    """One plugin of each kind for all tests that do not harm it."""
    import pygo_plugin_peer

    clients: dict[str, Client] = {}

    def get(kind: str) -> Client:
        if kind not in clients:
            clients[kind] = Client(
                peers.plugin(kind),
                handshake_config=pygo_plugin_peer.HANDSHAKE,
                plugins=pygo_plugin_peer.plugins(),
            )
            clients[kind].start()
        return clients[kind]

    yield get
    for client in clients.values():
        client.kill()


@pytest.fixture(params=["python", "grpcio"])
def client(running: Any, request: pytest.FixtureRequest) -> Client:
    found: Client = running(request.param)
    return found


@pytest.fixture
def own(client: Client) -> Iterator[Any]:
    """A channel of ours."""
    with client.new_channel() as channel:
        yield channel


@pytest.fixture(params=["python", "grpcio", "grpcio's own"])
def channel(running: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A channel of ours to either plugin, or grpcio's."""
    if request.param == "grpcio's own":
        made = grpc.insecure_channel(running("python").conn_endpoint())
    else:
        made = running(request.param).new_channel()
    with made:
        yield made


@pytest.fixture
def probe(channel: Any) -> Any:
    import probe_pb2_grpc

    return probe_pb2_grpc.ProbeStub(channel)


@pytest.fixture
def own_probe(own: Any) -> Any:
    import probe_pb2_grpc

    return probe_pb2_grpc.ProbeStub(own)


@pytest.fixture
def pb() -> Any:
    import probe_pb2

    return probe_pb2


def raised(call: Callable[[], Any]) -> Any:
    """The RpcError that the call raises."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def hang(probe: Any, pb: Any, eventually: Any, **options: Any) -> Any:
    """The future of a Hang call that has reached its handler."""
    before = probe.Cancelled(pb.CancelledRequest(), timeout=DEADLINE).started
    future = probe.Hang.future(pb.HangRequest(), **options)
    eventually(
        lambda: probe.Cancelled(pb.CancelledRequest(), timeout=DEADLINE).started > before,
        "the call's arrival",
    )
    return future


def none_hangs(probe: Any, pb: Any) -> bool:
    found = probe.Cancelled(pb.CancelledRequest(), timeout=DEADLINE)
    return bool(found.started == found.cancelled)


# ---- Unary calls --------------------------------------------------------------------------------


def test_plain_call(probe: Any, pb: Any) -> None:
    assert probe.Echo(pb.EchoRequest(payload=b"x"), timeout=DEADLINE).payload == b"x"


def test_request_as_a_keyword(probe: Any, pb: Any) -> None:
    assert probe.Echo(request=pb.EchoRequest(payload=b"x"), timeout=DEADLINE).payload == b"x"
    requests = iter([pb.SumRequest(value=2)])
    assert probe.Sum(request_iterator=requests, timeout=DEADLINE).total == 2


@pytest.mark.parametrize("size", [0, 1, 16384, 5 << 20])
def test_messages_of_any_size(own_probe: Any, pb: Any, size: int) -> None:
    payload = b"\xa5" * size
    assert own_probe.Echo(pb.EchoRequest(payload=payload), timeout=DEADLINE).payload == payload


def test_with_call(probe: Any, pb: Any) -> None:
    metadata = (("want-initial-a", "1"), ("want-trailing-b", "2"))
    reply, call = probe.Echo.with_call(
        pb.EchoRequest(payload=b"x"), timeout=DEADLINE, metadata=metadata
    )
    assert reply.payload == b"x"
    assert call.code() is Code.OK
    assert not call.details()
    assert ("a", "1") in call.initial_metadata()
    assert ("b", "2") in call.trailing_metadata()
    assert isinstance(call, grpc.Call)
    assert isinstance(call, grpc.RpcContext)
    assert call.is_active() is False
    assert call.cancel() in (False, None)


def test_failure(probe: Any, pb: Any) -> None:
    request = pb.FailRequest(code=5, details="no such thing: \N{SNOWMAN}")
    metadata = (("want-initial-a", "1"), ("want-trailing-b", "2"))
    error = raised(lambda: probe.Fail(request, timeout=DEADLINE, metadata=metadata))
    assert error.code() is Code.NOT_FOUND
    assert error.details() == "no such thing: \N{SNOWMAN}"
    assert ("a", "1") in error.initial_metadata()
    assert ("b", "2") in error.trailing_metadata()
    assert isinstance(error, grpc.Call)
    assert "NOT_FOUND" in str(error)
    assert "no such thing" in str(error)
    assert "NOT_FOUND" in repr(error)


@pytest.mark.parametrize("number", range(1, 17))
def test_every_status_code(own_probe: Any, pb: Any, number: int) -> None:
    error = raised(lambda: own_probe.Fail(pb.FailRequest(code=number), timeout=DEADLINE))
    assert error.code().value[0] == number
    assert error.details() == ""


def test_failure_of_with_call_and_future(probe: Any, pb: Any) -> None:
    request = pb.FailRequest(code=9, details="not now")
    assert raised(lambda: probe.Fail.with_call(request)).code() is Code.FAILED_PRECONDITION
    future = probe.Fail.future(request)
    error = future.exception(DEADLINE)
    assert isinstance(error, grpc.RpcError)
    assert error.code() is Code.FAILED_PRECONDITION
    assert error.details() == "not now"
    assert raised(future.result).code() is Code.FAILED_PRECONDITION
    assert future.code() is Code.FAILED_PRECONDITION
    assert future.details() == "not now"
    assert future.cancelled() is False
    assert future.done() is True
    future.traceback(DEADLINE)


def test_errors_are_ours_and_grpcios(own_probe: Any, pb: Any) -> None:
    error = raised(lambda: own_probe.Fail(pb.FailRequest(code=5, details="x"), timeout=DEADLINE))
    assert isinstance(error, RpcError)
    assert isinstance(error, pygo_plugin.PluginError)
    assert isinstance(error, grpc.Future)
    assert error.exception() is error
    assert error.debug_error_string()
    assert error.is_active() is False
    assert error.cancel() is False
    assert error.cancelled() is False
    assert error.done() is True
    assert error.running() is False
    assert error.time_remaining() > 0
    assert error.traceback() is error.__traceback__ is not None
    assert error.add_callback(print) is False
    told: list[Any] = []
    error.add_done_callback(told.append)
    assert told == [error]
    with pytest.raises(RpcError) as again:
        error.result()
    assert again.value is error


def test_errors_travel_in_pickles(own_probe: Any, pb: Any) -> None:
    request = pb.FailRequest(code=5, details="no such thing")
    metadata = (("want-trailing-b", "2"), ("want-trailing-c-bin", b"\0\xff"))
    error = raised(lambda: own_probe.Fail(request, timeout=DEADLINE, metadata=metadata))
    for _ in range(2):  # what came out of a pickle goes into the next
        text = str(error)
        error = pickle.loads(pickle.dumps(error))
        assert isinstance(error, RpcError)
        assert isinstance(error, grpc.RpcError)
        assert isinstance(error, grpc.Call)
        assert error.code() is Code.NOT_FOUND
        assert error.details() == "no such thing"
        assert set(error.trailing_metadata()) >= {("b", "2"), ("c-bin", b"\0\xff")}
        assert str(error) == text


# ---- Futures ------------------------------------------------------------------------------------


def test_future(probe: Any, pb: Any) -> None:
    future = probe.Echo.future(pb.EchoRequest(payload=b"x"), timeout=DEADLINE)
    assert isinstance(future, grpc.Future)
    assert isinstance(future, grpc.Call)
    assert future.result(DEADLINE).payload == b"x"
    assert future.result().payload == b"x"
    assert future.exception() is None
    assert future.traceback() is None
    assert future.code() is Code.OK
    assert future.done() is True
    assert future.running() is False
    assert future.is_active() is False
    assert future.cancelled() is False
    assert not future.cancel()


def test_future_gives_initial_metadata_before_the_reply(
    own_probe: Any, pb: Any, eventually: Any
) -> None:
    future = hang(own_probe, pb, eventually, metadata=(("want-initial-a", "1"),))
    assert ("a", "1") in future.initial_metadata()
    assert future.running() is True
    future.cancel()


def test_future_that_takes_too_long(probe: Any, pb: Any, eventually: Any) -> None:
    future = hang(probe, pb, eventually)
    for ask in (future.result, future.exception, future.traceback):
        for timeout in (0, 0.01):
            with pytest.raises(grpc.FutureTimeoutError):
                ask(timeout=timeout)
    assert future.running() is True
    assert future.is_active() is True
    assert future.done() is False
    future.cancel()


def test_cancelled_future(probe: Any, pb: Any, eventually: Any) -> None:
    future = hang(probe, pb, eventually)
    assert future.cancel() is True
    for ask in (future.result, future.exception, future.traceback):
        with pytest.raises(grpc.FutureCancelledError):
            ask(DEADLINE)
    assert future.cancelled() is True
    assert future.done() is True
    assert future.code() is Code.CANCELLED
    assert future.details() == "Locally cancelled by application!"
    assert not future.cancel()
    eventually(lambda: none_hangs(probe, pb), "the cancellation in the plugin")


def test_cancelled_by_the_server_is_a_failure(probe: Any, pb: Any) -> None:
    future = probe.Fail.future(pb.FailRequest(code=1, details="by the server"))
    error = future.exception(DEADLINE)
    assert error.code() is Code.CANCELLED
    assert error.details() == "by the server"
    assert future.cancelled() is False
    assert raised(future.result).code() is Code.CANCELLED


def test_forgotten_future_is_cancelled(probe: Any, pb: Any, eventually: Any) -> None:
    hang(probe, pb, eventually)
    gc.collect()
    eventually(lambda: none_hangs(probe, pb), "the cancellation in the plugin")


def test_done_callbacks_run_once(probe: Any, pb: Any, eventually: Any) -> None:
    future = hang(probe, pb, eventually)
    told: list[Any] = []
    done = threading.Semaphore(0)

    def tell(who: Any) -> None:
        told.append(who)
        done.release()

    for _ in range(3):
        future.add_done_callback(tell)
    assert future.add_callback(lambda: tell("context")) is True
    assert told == []
    future.cancel()
    for _ in range(4):
        assert done.acquire(timeout=DEADLINE)
    assert told.count(future) == 3
    assert told.count("context") == 1
    # What comes too late is told at once, and alone.
    future.add_done_callback(tell)
    assert told[4:] == [future]
    eventually(lambda: not future.add_callback(print), "the refusal of callbacks")


def test_done_callback_sees_a_finished_call(probe: Any, pb: Any) -> None:
    seen: list[Any] = []
    done = threading.Event()

    def look(future: Any) -> None:
        seen.extend([future.done(), future.code(), future.result(0).payload])
        done.set()

    probe.Echo.future(pb.EchoRequest(payload=b"x", delay_ms=20)).add_done_callback(look)
    assert done.wait(DEADLINE)
    assert seen == [True, Code.OK, b"x"]


def test_callback_that_raises_keeps_none_from_the_others(
    own_probe: Any, pb: Any, eventually: Any, lost: Lost
) -> None:
    future = hang(own_probe, pb, eventually)
    done = threading.Event()
    future.add_done_callback(lambda _: 1 / 0)
    future.add_done_callback(lambda _: done.set())
    future.cancel()
    assert done.wait(DEADLINE)
    assert [type(error) for error in lost] == [ZeroDivisionError]


def test_callbacks_added_while_calls_end(own_probe: Any, pb: Any) -> None:
    """Each callback of many runs once, wherever the end of the call falls."""
    ran = threading.Semaphore(0)
    for _ in range(100):
        future = own_probe.Echo.future(pb.EchoRequest(), timeout=DEADLINE)
        for _ in range(5):
            future.add_done_callback(lambda _: ran.release())
    for _ in range(500):
        assert ran.acquire(timeout=DEADLINE)
    assert not ran.acquire(blocking=False)


def test_results_for_many_threads(own_probe: Any, pb: Any) -> None:
    future = own_probe.Echo.future(pb.EchoRequest(payload=b"x", delay_ms=20))
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(future.result(DEADLINE).payload))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"x"] * 8


# ---- Timeouts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0.05, 0, -1])
def test_timeout(probe: Any, pb: Any, timeout: float) -> None:
    error = raised(lambda: probe.Hang(pb.HangRequest(), timeout=timeout))
    assert error.code() is Code.DEADLINE_EXCEEDED
    assert error.details().lower() == "deadline exceeded"


def test_timeout_of_a_stream(probe: Any, pb: Any) -> None:
    stream = probe.Count(pb.CountRequest(n=2, delay_ms=60_000), timeout=0.05)
    assert raised(lambda: next(stream)).code() is Code.DEADLINE_EXCEEDED
    assert stream.code() is Code.DEADLINE_EXCEEDED


def test_the_server_knows_the_deadline(probe: Any, pb: Any) -> None:
    assert 0 < probe.Echo(pb.EchoRequest(), timeout=50).time_remaining_ms <= 51_000
    assert probe.Echo(pb.EchoRequest()).time_remaining_ms == -1
    assert probe.Echo(pb.EchoRequest(), timeout=None).time_remaining_ms == -1


def test_time_remaining(probe: Any, pb: Any) -> None:
    assert 0 < probe.Echo.future(pb.EchoRequest(), timeout=50).time_remaining() <= 50
    assert probe.Echo.future(pb.EchoRequest()).time_remaining() is None


@pytest.mark.parametrize("timeout", [float("inf"), 1e18, 3600 * 24 * 365])
def test_huge_timeouts(own_probe: Any, pb: Any, timeout: float) -> None:
    assert own_probe.Echo(pb.EchoRequest(payload=b"x"), timeout=timeout).payload == b"x"


def test_timeout_must_be_a_number(own_probe: Any, pb: Any) -> None:
    with pytest.raises(TypeError, match="str"):
        own_probe.Echo(pb.EchoRequest(), timeout="5")


# ---- Metadata -----------------------------------------------------------------------------------


def received(reply: Any, key: str) -> list[bytes]:
    return [item.value for item in reply.metadata if item.key == key]


def test_metadata(probe: Any, pb: Any) -> None:
    sent = [
        ("plain", "ASCII, and more: ~!"),
        ("raw-bin", b"\x00\xff\n"),
        ("empty", ""),
        ("empty-bin", b""),
        ("twice", "one"),
        ("twice", "two"),
        ("twice-bin", b"\1"),
        ("twice-bin", b"\2"),
    ]
    reply = probe.Echo(pb.EchoRequest(), metadata=sent, timeout=DEADLINE)
    assert received(reply, "plain") == [b"ASCII, and more: ~!"]
    assert received(reply, "raw-bin") == [b"\x00\xff\n"]
    assert received(reply, "empty") == [b""]
    assert received(reply, "empty-bin") == [b""]
    assert received(reply, "twice") == [b"one", b"two"]
    assert received(reply, "twice-bin") == [b"\1", b"\2"]


def test_received_metadata(probe: Any, pb: Any) -> None:
    sent = [
        ("want-initial-a", "1"),
        ("want-initial-a", "2"),
        ("want-initial-b-bin", b"\xff"),
        ("want-trailing-c", "3"),
        ("want-trailing-d-bin", b"\0"),
    ]
    _, call = probe.Echo.with_call(pb.EchoRequest(), metadata=sent, timeout=DEADLINE)
    initial = call.initial_metadata()
    assert [value for key, value in initial if key == "a"] == ["1", "2"]
    assert dict(initial)["b-bin"] == b"\xff"
    trailing = {item.key: item.value for item in call.trailing_metadata()}
    assert trailing["c"] == "3"
    assert trailing["d-bin"] == b"\0"


def test_metadata_of_any_iterable(own_probe: Any, pb: Any) -> None:
    for metadata in (
        {"key": "value"}.items(),
        (pair for pair in [["key", "value"]]),
        [(b"key", b"value")],
    ):
        reply = own_probe.Echo(pb.EchoRequest(), metadata=metadata, timeout=DEADLINE)
        assert received(reply, "key") == [b"value"]
    for none in (None, (), []):
        assert own_probe.Echo(pb.EchoRequest(), metadata=none, timeout=DEADLINE) is not None


@pytest.mark.parametrize(
    ("metadata", "kind", "words"),
    [
        ([("Upper", "x")], ValueError, "metadata was invalid: the key 'Upper'"),
        ([("with space", "x")], ValueError, "the key 'with space'"),
        ([("", "x")], ValueError, "the key ''"),
        ([("key", "new\nline")], ValueError, "the value of 'key'"),
        ([("key", "\N{SNOWMAN}")], ValueError, "'-bin' may carry any bytes"),
        ([("key", 5)], TypeError, "values must be str or bytes, not int: 5"),
        ([("key", None)], TypeError, "values must be str or bytes, not NoneType"),
        ([(5, "x")], TypeError, "keys must be str or bytes, not int"),
        ([("key", "x", "y")], ValueError, r"pairs, not \('key', 'x', 'y'\)"),
        ([5], TypeError, "pairs"),
        (5, TypeError, "pairs"),
    ],
)
@pytest.mark.parametrize("method", ["Echo", "Count", "Sum", "Chat"])
def test_bad_metadata(
    own_probe: Any, pb: Any, metadata: Any, kind: type[Exception], words: str, method: str
) -> None:
    request = {
        "Echo": pb.EchoRequest(),
        "Count": pb.CountRequest(),
    }.get(method, iter(()))
    with pytest.raises(kind, match=words):
        getattr(own_probe, method)(request, metadata=metadata)


# ---- Other arguments ----------------------------------------------------------------------------


def test_wait_for_ready(probe: Any, pb: Any) -> None:
    for choice in (None, True, False):
        reply = probe.Echo(pb.EchoRequest(payload=b"x"), wait_for_ready=choice, timeout=DEADLINE)
        assert reply.payload == b"x"


@pytest.mark.parametrize("make", [_channel.Channel, grpc.insecure_channel], ids=["ours", "grpcio"])
def test_wait_for_ready_where_nobody_listens(make: Any, socket_dir: Any) -> None:
    with make(f"unix:{socket_dir}/nobody") as channel:
        call = channel.unary_unary("/x/Y")
        assert raised(lambda: call(b"")).code() is Code.UNAVAILABLE
        assert raised(lambda: call(b"", wait_for_ready=False)).code() is Code.UNAVAILABLE
        error = raised(lambda: call(b"", wait_for_ready=True, timeout=0.2))
        assert error.code() is Code.DEADLINE_EXCEEDED


def test_compression(probe: Any, pb: Any) -> None:
    payload = b"x" * 100_000
    for choice in (*grpc.Compression, None):
        request = pb.EchoRequest(payload=payload)
        reply = probe.Echo(request, compression=choice, timeout=DEADLINE)
        assert reply.payload == payload
        chat = probe.Chat(
            iter([pb.ChatMessage(payload=payload)] * 2), compression=choice, timeout=DEADLINE
        )
        assert [message.payload for message in chat] == [payload] * 2


def test_compression_must_be_known(own_probe: Any, pb: Any) -> None:
    with pytest.raises(ValueError, match=r"grpc\.Compression, not 17"):
        own_probe.Echo(pb.EchoRequest(), compression=17)
    with pytest.raises(TypeError):
        own_probe.Echo(pb.EchoRequest(), compression="gzip")


def test_credentials_need_tls(own_probe: Any, pb: Any) -> None:
    credentials = grpc.access_token_call_credentials("secret")
    with pytest.raises(ValueError, match="call credentials need a connection with TLS"):
        own_probe.Echo(pb.EchoRequest(), credentials=credentials)
    assert own_probe.Echo(pb.EchoRequest(), credentials=None, timeout=DEADLINE) is not None


def test_unknown_arguments(own_probe: Any, pb: Any) -> None:
    with pytest.raises(TypeError, match="no argument 'time_out'"):
        own_probe.Echo(pb.EchoRequest(), time_out=5)
    with pytest.raises(TypeError, match="two values for 'timeout'"):
        own_probe.Echo(pb.EchoRequest(), 5, timeout=5)
    with pytest.raises(TypeError, match="needs its request"):
        own_probe.Echo()
    with pytest.raises(TypeError, match="at most 6"):
        own_probe.Echo(pb.EchoRequest(), None, None, None, None, None, None)


def test_method_must_be_text(own: Any) -> None:
    for name in (5, None):
        with pytest.raises(TypeError, match="must be a str like"):
            own.unary_unary(name)
    assert raised(lambda: own.unary_unary("/no/Such")(b"")).code() is Code.UNIMPLEMENTED


def test_bytes_method_and_what_new_generated_code_passes(own: Any) -> None:
    for name in ("/probe.Probe/Echo", b"/probe.Probe/Echo"):
        assert isinstance(own.unary_unary(name, None, None, _registered_method=True)(b""), bytes)


# ---- Messages -----------------------------------------------------------------------------------


def test_without_serializers_messages_are_bytes(channel: Any, pb: Any) -> None:
    echo = channel.unary_unary("/probe.Probe/Echo")
    raw = echo(pb.EchoRequest(payload=b"x").SerializeToString(), timeout=DEADLINE)
    assert pb.EchoReply.FromString(raw).payload == b"x"


@pytest.mark.parametrize("message", ["text", None, 5, bytearray(b"x")])
def test_messages_that_are_no_bytes(own: Any, message: Any) -> None:
    with pytest.raises(TypeError, match="without a serializer, messages must be bytes, not"):
        own.unary_unary("/probe.Probe/Echo")(message)
    with pytest.raises(TypeError, match="messages must be bytes"):
        own.unary_stream("/probe.Probe/Count")(message)


def test_serializer_that_fails(own: Any) -> None:
    def fail(message: Any) -> bytes:
        raise LookupError(message)

    for make in (own.unary_unary, own.unary_stream):
        with pytest.raises(LookupError, match="the message"):
            make("/probe.Probe/Echo", request_serializer=fail)("the message")
        with pytest.raises(TypeError, match="the serializer must return bytes, not str"):
            make("/probe.Probe/Echo", request_serializer=str)(5)


def test_serializer_that_fails_for_a_later_request(own: Any, pb: Any, lost: Lost) -> None:
    def serialize(request: Any) -> bytes:
        return bytes(request.SerializeToString())

    total = own.stream_unary("/probe.Probe/Sum", request_serializer=serialize)
    error = raised(lambda: total(iter([pb.SumRequest(value=1), None]), timeout=DEADLINE))
    assert error.code() is Code.INTERNAL
    assert error.details().startswith("Exception serializing request!")
    assert [type(error) for error in lost] == [AttributeError]


def test_deserializer_that_fails(own: Any, pb: Any) -> None:
    def fail(message: bytes) -> Any:
        raise LookupError("unreadable")

    request = pb.EchoRequest().SerializeToString()
    echo = own.unary_unary("/probe.Probe/Echo", response_deserializer=fail)
    for call in (echo, echo.with_call, lambda r: echo.future(r).result(DEADLINE)):
        with pytest.raises(LookupError, match="unreadable"):
            call(request)


def test_deserializer_that_fails_ends_a_stream(own: Any, pb: Any) -> None:
    def fail(message: bytes) -> Any:
        raise LookupError("unreadable")

    count = own.unary_stream("/probe.Probe/Count", response_deserializer=fail)
    stream = count(pb.CountRequest(n=3, delay_ms=1).SerializeToString(), timeout=DEADLINE)
    with pytest.raises(LookupError, match="unreadable"):
        next(stream)
    assert stream.code() is Code.CANCELLED
    assert stream.details() == "Exception deserializing response!"


# ---- Streams ------------------------------------------------------------------------------------


def test_stream_of_replies(probe: Any, pb: Any) -> None:
    stream = probe.Count(pb.CountRequest(n=100), timeout=DEADLINE)
    assert iter(stream) is stream
    assert [reply.number for reply in stream] == list(range(100))
    assert stream.code() is Code.OK
    with pytest.raises(StopIteration):
        next(stream)


def test_stream_is_a_call(probe: Any, pb: Any, eventually: Any) -> None:
    metadata = (("want-initial-a", "1"), ("want-trailing-b", "2"))
    stream = probe.Count(pb.CountRequest(n=1, delay_ms=20), timeout=50, metadata=metadata)
    assert isinstance(stream, grpc.Call)
    assert isinstance(stream, grpc.RpcContext)
    told = threading.Event()
    assert stream.is_active() is True
    assert stream.add_callback(told.set) is True
    assert 0 < stream.time_remaining() <= 50
    assert ("a", "1") in stream.initial_metadata()
    assert len(list(stream)) == 1
    assert told.wait(DEADLINE)
    assert ("b", "2") in stream.trailing_metadata()
    assert stream.is_active() is False
    assert not stream.cancel()
    eventually(lambda: not stream.add_callback(print), "the refusal of callbacks")


def test_stream_that_fails_at_its_end(probe: Any, pb: Any) -> None:
    request = pb.CountRequest(n=3, fail_code=10, fail_details="half way")
    stream = probe.Count(request, timeout=DEADLINE)
    assert [next(stream).number for _ in range(3)] == [0, 1, 2]
    for _ in range(2):
        error = raised(lambda: next(stream))
        assert error.code() is Code.ABORTED
        assert error.details() == "half way"
    assert stream.code() is Code.ABORTED
    assert stream.details() == "half way"


def test_stream_of_requests(probe: Any, pb: Any) -> None:
    requests = [pb.SumRequest(value=value) for value in range(100)]
    assert probe.Sum(iter(requests), timeout=DEADLINE).total == 4950
    reply, call = probe.Sum.with_call(iter(requests), timeout=DEADLINE)
    assert (reply.count, call.code()) == (100, Code.OK)
    assert probe.Sum.future(iter(requests)).result(DEADLINE).total == 4950
    assert probe.Sum(iter(()), timeout=DEADLINE).count == 0


def test_requests_of_any_iterable(own_probe: Any, pb: Any) -> None:
    assert own_probe.Sum([pb.SumRequest(value=3)], timeout=DEADLINE).total == 3
    with pytest.raises(TypeError, match="not iterable"):
        own_probe.Sum(5)


def test_streams_both_ways(probe: Any, pb: Any) -> None:
    turn = threading.Semaphore(1)

    def requests() -> Iterator[Any]:
        for number in range(20):
            assert turn.acquire(timeout=DEADLINE)
            yield pb.ChatMessage(payload=b"%d" % number)

    found = []
    for reply in probe.Chat(requests(), timeout=DEADLINE):
        found.append(reply.payload)
        turn.release()
    assert found == [b"%d" % number for number in range(20)]


def test_large_streams_both_ways(own_probe: Any, pb: Any) -> None:
    """More than flow control lets through while nobody reads."""
    messages = [pb.ChatMessage(payload=bytes([n]) * (1 << 20)) for n in range(16)]
    stream = own_probe.Chat(iter(messages), timeout=DEADLINE)
    assert list(stream) == messages


def test_half_read_stream_that_is_dropped(probe: Any, pb: Any, eventually: Any) -> None:
    ended = threading.Event()

    def requests() -> Iterator[Any]:
        try:
            while True:
                yield pb.ChatMessage()
        finally:
            ended.set()

    stream = probe.Chat(requests(), timeout=60)
    assert next(stream) is not None
    del stream
    gc.collect()
    assert ended.wait(DEADLINE)


def test_half_read_stream_with_a_callback_that_is_dropped(own_probe: Any, pb: Any) -> None:
    stream = own_probe.Count(pb.CountRequest(n=2, delay_ms=60_000))
    told = threading.Event()
    gone = weakref.ref(stream)
    stream.add_callback(told.set)
    del stream
    gc.collect()
    assert gone() is None
    assert told.wait(DEADLINE)


def test_dropped_unary_call_of_a_stream_of_requests(own_probe: Any, pb: Any) -> None:
    ended, release = threading.Event(), threading.Event()

    def requests() -> Iterator[Any]:
        try:
            yield pb.SumRequest()
            release.wait(DEADLINE)
            yield pb.SumRequest()
            yield pb.SumRequest()
        finally:
            ended.set()

    own_probe.Sum.future(requests())
    gc.collect()
    release.set()
    assert ended.wait(DEADLINE)


def test_cancelled_stream(probe: Any, pb: Any) -> None:
    stream = probe.Count(pb.CountRequest(n=1_000_000, delay_ms=1), timeout=60)
    next(stream)
    assert stream.cancel() is True
    error = raised(lambda: [None for _ in stream])
    assert error.code() is Code.CANCELLED
    assert stream.code() is Code.CANCELLED
    assert stream.details() == "Locally cancelled by application!"
    assert stream.is_active() is False


def test_cancelled_from_another_thread_while_waiting(probe: Any, pb: Any) -> None:
    stream = probe.Count(pb.CountRequest(n=2, delay_ms=60_000))
    timer = threading.Timer(0.05, stream.cancel)
    timer.start()
    assert raised(lambda: next(stream)).code() is Code.CANCELLED
    timer.join()


@pytest.mark.parametrize("method", ["Sum", "Chat"])
def test_iterator_that_raises(own_probe: Any, pb: Any, lost: Lost, method: str) -> None:
    def requests() -> Iterator[Any]:
        yield pb.SumRequest() if method == "Sum" else pb.ChatMessage()
        raise LookupError("out of requests")

    def run() -> None:
        result = getattr(own_probe, method)(requests(), timeout=DEADLINE)
        for _ in result:
            pass

    error = raised(run)
    assert error.code() is Code.UNKNOWN
    assert error.details().startswith("Exception iterating requests!")
    assert "out of requests" in error.details()
    assert [type(error) for error in lost] == [LookupError]


def test_requests_end_with_the_call(channel: Any) -> None:
    """The iterator is not asked for ever once the server has said its last word."""
    ended = threading.Event()

    def requests() -> Iterator[bytes]:
        try:
            while True:
                yield b""
        finally:
            ended.set()

    unknown = channel.stream_stream("/probe.Probe/Unknown")
    error = raised(lambda: next(unknown(requests(), timeout=DEADLINE)))
    assert error.code() is Code.UNIMPLEMENTED
    assert ended.wait(DEADLINE)


# ---- Channels -----------------------------------------------------------------------------------


def test_channel_is_a_grpc_channel(own: Any) -> None:
    assert isinstance(own, grpc.Channel)
    assert issubclass(type(own), grpc.Channel)


def test_grpcio_may_be_imported_late(running: Any) -> None:
    """As it is by a plugin class that imports its stubs when it is asked for them."""
    script = f"""
    import sys
    from pygo_plugin import _calls, _channel, _server

    channel = _channel.Channel({running("python").conn_endpoint()!r})
    call = channel.unary_stream("/probe.Probe/Count")(b"")
    assert "grpc" not in sys.modules
    import grpc
    assert isinstance(channel, grpc.Channel)
    assert isinstance(call, grpc.Call)
    assert isinstance(call, grpc.RpcContext)
    assert type(channel) is _channel.Channel
    assert channel.__class__ is _channel.Channel
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=60)


def test_close_cancels_its_own_calls_alone(client: Client, pb: Any, eventually: Any) -> None:
    first, first_probe = client.dispense("probe")
    second, second_probe = client.dispense("probe")
    mine = hang(first_probe, pb, eventually)
    stream = first_probe.Count(pb.CountRequest(n=2, delay_ms=60_000))
    other = hang(second_probe, pb, eventually)
    first.close()
    first.close()
    assert mine.code() is Code.CANCELLED
    assert mine.details() == "Channel closed!"
    assert raised(lambda: next(stream)).code() is Code.CANCELLED
    assert other.running() is True
    for call in (first_probe.Echo, first_probe.Echo.future, first_probe.Count):
        with pytest.raises(ClosedError, match="closed"):
            call(pb.EchoRequest())
    other.cancel()
    second.close()
    third, third_probe = client.dispense("probe")
    assert third_probe.Echo(pb.EchoRequest(payload=b"x"), timeout=DEADLINE).payload == b"x"
    third.close()


@pytest.mark.parametrize("make", [_channel.Channel, grpc.insecure_channel], ids=["ours", "grpcio"])
def test_calls_on_a_closed_channel_are_value_errors(make: Any, running: Any) -> None:
    channel = make(running("python").conn_endpoint())
    call = channel.unary_unary("/probe.Probe/Echo")
    call(b"", timeout=DEADLINE)
    channel.close()
    with pytest.raises(ValueError, match="closed"):
        call(b"")


class States(list[Any]):
    """Remembers the states of a channel, and waits for one."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()

    def __call__(self, state: Any) -> None:
        with self._changed:
            self.append(state)
            self._changed.notify_all()

    def wait_for(self, state: Any) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: state in self, DEADLINE)


def test_subscribe(channel: Any) -> None:
    states = States()
    channel.subscribe(states, try_to_connect=True)
    assert states.wait_for(grpc.ChannelConnectivity.READY)
    channel.unsubscribe(states)
    channel.unsubscribe(states)
    channel.unsubscribe(print)
    again = States()
    channel.subscribe(again)
    assert again.wait_for(grpc.ChannelConnectivity.READY)
    channel.unsubscribe(again)


def test_subscribers_hear_of_the_end(client: Client) -> None:
    channel = client.new_channel()
    states = States()
    channel.subscribe(states)
    channel.close()
    assert states.wait_for(grpc.ChannelConnectivity.SHUTDOWN)


def test_subscriber_that_raises(own: Any, lost: Lost) -> None:
    states = States()

    def fail(state: Any) -> None:
        raise LookupError(state)

    own.subscribe(fail, try_to_connect=True)
    own.subscribe(states, try_to_connect=True)
    assert states.wait_for(grpc.ChannelConnectivity.READY)
    own.unsubscribe(fail)
    own.unsubscribe(states)
    assert {type(error) for error in lost} == {LookupError}


def test_subscribing_does_not_keep_a_channel(client: Client, eventually: Any) -> None:
    channel = client.new_channel()
    states = States()
    channel.subscribe(states, try_to_connect=True)
    assert states.wait_for(grpc.ChannelConnectivity.READY)
    gone = weakref.ref(channel)
    del channel
    gc.collect()
    eventually(lambda: gone() is None, "the channel's end")


def test_channel_ready_future(channel: Any) -> None:
    grpc.channel_ready_future(channel).result(DEADLINE)


@pytest.mark.parametrize("make", [_channel.Channel, grpc.insecure_channel], ids=["ours", "grpcio"])
def test_channel_that_never_gets_ready(make: Any, socket_dir: Any) -> None:
    with make(f"unix:{socket_dir}/nobody") as channel:
        future = grpc.channel_ready_future(channel)
        with pytest.raises(grpc.FutureTimeoutError):
            future.result(0.2)
        assert future.cancel() is True


def test_channel_needs_a_target() -> None:
    with pytest.raises(TypeError):
        _channel.Channel(5)  # type: ignore[arg-type]


def test_channel_options(running: Any, pb: Any) -> None:
    target = running("python").conn_endpoint()
    options = [("grpc.max_receive_message_length", 10), ("grpc.primary_user_agent", "tester")]
    with _channel.Channel(target, options) as channel:
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
            _channel.Channel(target, wrong)


# ---- Interceptors -------------------------------------------------------------------------------


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


# ---- The end of a plugin ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["python", "grpcio"])
def test_calls_on_a_killed_client(make_client: Any, peers: Any, pb: Any, kind: str) -> None:
    client = make_client(peers.plugin(kind))
    channel, probe = client.dispense("probe")
    probe.Echo(pb.EchoRequest(), timeout=DEADLINE)
    client.kill()
    error = raised(lambda: probe.Echo(pb.EchoRequest(), timeout=DEADLINE))
    assert error.code() is Code.UNAVAILABLE
    assert raised(lambda: list(probe.Count(pb.CountRequest()))).code() is Code.UNAVAILABLE
    assert raised(lambda: probe.Sum(iter(()))).code() is Code.UNAVAILABLE
    channel.close()
    for use in (client.start, client.new_channel, lambda: client.dispense("probe")):
        with pytest.raises(ClosedError, match="has been killed") as caught:
            use()
        assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("kind", ["python", "grpcio"])
def test_kill_ends_running_calls(
    make_client: Any, peers: Any, pb: Any, eventually: Any, kind: str
) -> None:
    client = make_client(peers.plugin(kind))
    _, probe = client.dispense("probe")
    future = hang(probe, pb, eventually)
    stream = probe.Count(pb.CountRequest(n=2, delay_ms=60_000))
    client.kill()
    assert future.exception(DEADLINE).code() in (Code.UNAVAILABLE, Code.CANCELLED)
    assert raised(lambda: next(stream)).code() in (Code.UNAVAILABLE, Code.CANCELLED)


@pytest.mark.parametrize("kind", ["python", "grpcio", "go"])
def test_plugin_that_dies_in_the_middle(
    make_client: Any, peers: Any, pb: Any, eventually: Any, kind: str
) -> None:
    client = make_client(peers.plugin(kind))
    _, probe = client.dispense("probe")
    future = hang(probe, pb, eventually)
    stream = probe.Count(pb.CountRequest(n=2, delay_ms=60_000))
    error = raised(lambda: probe.Exit(pb.ExitRequest(signal=signal.SIGKILL), timeout=DEADLINE))
    assert error.code() is Code.UNAVAILABLE
    assert future.exception(DEADLINE).code() is Code.UNAVAILABLE
    assert raised(lambda: next(stream)).code() is Code.UNAVAILABLE
    eventually(client.exited, "the notice of the plugin's death")
    assert client.exit_status == -signal.SIGKILL
    assert raised(lambda: probe.Echo(pb.EchoRequest())).code() is Code.UNAVAILABLE


# ---- Many at once -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["python", "grpcio", "go"])
def test_mixed_calls_on_many_threads(make_client: Any, peers: Any, pb: Any, kind: str) -> None:
    client = make_client(peers.plugin(kind))
    channel, probe = client.dispense("probe")
    problems: list[BaseException] = []
    start = threading.Barrier(8)

    def one(number: int) -> None:
        payload = b"%d" % number
        arity = number % 6
        if arity == 0:
            assert probe.Echo(pb.EchoRequest(payload=payload)).payload == payload
        elif arity == 1:
            replies = probe.Count(pb.CountRequest(n=number % 7))
            assert [reply.number for reply in replies] == list(range(number % 7))
        elif arity == 2:
            values = [pb.SumRequest(value=value) for value in range(number % 7)]
            assert probe.Sum(iter(values)).count == len(values)
        elif arity == 3:
            messages = [pb.ChatMessage(payload=payload)] * (number % 7)
            assert list(probe.Chat(iter(messages))) == messages
        elif arity == 4:
            future = probe.Echo.future(pb.EchoRequest(payload=payload))
            assert future.result(DEADLINE).payload == payload
        else:
            error = raised(lambda: probe.Fail(pb.FailRequest(code=5, details=str(number))))
            assert error.details() == str(number)

    def run(first: int) -> None:
        try:
            start.wait(DEADLINE)
            for number in range(200):
                one(first + number)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=run, args=(1000 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    channel.close()
    assert problems == []
