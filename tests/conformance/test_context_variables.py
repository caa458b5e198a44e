"""Context variables: what of a program's contextvars handlers and plugins see."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
from aio_stage import Stage as AioStage
from certificates import Authority, Pair
from stage import DEADLINE, Stage, ask, replies, serving, unary

who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="default")


class Naming(grpc.ServerInterceptor):
    """Sets the variable to what the metadata say."""

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        name = dict(details.invocation_metadata).get("who")
        if name is not None:
            who.set(name)
        return continuation(details)


def test_handlers_see_what_interceptors_set(stage: Stage) -> None:
    def one(request: bytes, context: Any) -> bytes:
        return who.get().encode()

    def many(request: bytes, context: Any) -> Iterator[bytes]:
        yield who.get().encode()
        who.set("changed")
        yield who.get().encode()

    methods = {"One": unary(one), "Many": replies(many)}
    channel = stage.serve(methods, max_workers=1, interceptors=[Naming()])
    call = channel.unary_unary("/test.T/One")
    stream = channel.unary_stream("/test.T/Many")
    for name in ("a", "b"):
        metadata = [("who", name)]
        assert call(b"", timeout=DEADLINE, metadata=metadata) == name.encode()
        found = list(stream(b"", timeout=DEADLINE, metadata=metadata))
        assert found == [name.encode(), b"changed"]
        assert call(b"", timeout=DEADLINE) == b"default"
        assert next(stream(b"", timeout=DEADLINE)) == b"default"


def test_calls_do_not_see_each_others(stage: Stage) -> None:
    def behavior(request: bytes, context: Any) -> bytes:
        found = who.get().encode()
        who.set(request.decode())
        return found

    channels = [stage.serve({"M": unary(behavior)}, max_workers=1), registered(stage, behavior)]
    for channel in channels:
        call = channel.unary_unary("/test.T/M", _registered_method=True)
        for number in range(5):
            assert call(b"%d" % number, timeout=DEADLINE) == b"default"


def registered(stage: Stage, behavior: Any) -> Any:
    server = stage.make(max_workers=1)
    server.add_registered_method_handlers("test.T", {"M": unary(behavior)})
    server.start()
    return stage.connect(len(stage.servers) - 1)


def test_credentials_see_those_of_who_made_them(
    client: Any, host: Any, authority: Authority, server_pair: Pair
) -> None:
    together = threading.Barrier(2)

    def plugin(context: Any, callback: Any) -> None:
        together.wait(DEADLINE)  # two at once
        callback([("who", who.get())], None)

    def make() -> Any:
        who.set("the caller")
        return client.metadata_call_credentials(plugin)

    credentials = contextvars.copy_context().run(make)
    assert who.get() == "default"
    with serving(host, credentials=host.ssl_server_credentials([server_pair])) as running:
        roots = client.ssl_channel_credentials(authority.root)
        with client.secure_channel(f"localhost:{running.port}", roots) as channel:
            call = channel.unary_unary("/t/Echo")
            options = {"timeout": DEADLINE, "credentials": credentials}
            futures = [call.future(b"", **options) for _ in range(2)]
            assert [future.result(DEADLINE) for future in futures] == [b"", b""]
            assert running.service.seen.metadata["who"] == "the caller"
            assert ask(channel) == b"hello"


def test_handlers_of_event_loops(play: Any) -> None:
    class AioNaming(grpc.aio.ServerInterceptor):  # type: ignore[misc]
        async def intercept_service(self, continuation: Any, details: Any) -> Any:
            name = dict(details.invocation_metadata).get("who")
            if name is not None:
                who.set(name)
            return await continuation(details)

    async def behavior(request: bytes, context: Any) -> bytes:
        found = who.get().encode()
        who.set("left behind")
        return found

    async def scene(stage: AioStage) -> None:
        method = await stage.method(unary(behavior), interceptors=[AioNaming()])
        for name in ("a", "b"):
            assert await method(b"", metadata=[("who", name)]) == name.encode()
            assert await method(b"") == b"default"

    play(scene)
