"""The context of a handler, with asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from aio_stage import Code, Stage, all_of, raised
from stage import replies, unary


def test_the_context_is_a_servicer_context(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        found: list[bool] = []

        async def behavior(request: bytes, context: Any) -> bytes:
            found.append(isinstance(context, grpc.aio.ServicerContext) or not stage.ours)
            found.append(not context.done())
            found.append(not context.cancelled())
            return b""

        await (await stage.method(unary(behavior)))(b"")
        assert found == [True, True, True]
        assert isinstance(stage.servers[0], grpc.aio.Server)

    play(scene)


def test_the_context_has_all_that_grpcios_has(play_our_server: Any) -> None:
    async def scene(stage: Stage) -> None:
        names = [name for name in dir(grpc.aio.ServicerContext) if not name.startswith("_")]
        missing: list[str] = []

        async def behavior(request: bytes, context: Any) -> bytes:
            missing.extend(name for name in names if not callable(getattr(context, name, None)))
            return b""

        await (await stage.method(unary(behavior)))(b"")
        assert missing == []
        assert len(names) > 15

    play_our_server(scene)


def test_peer(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        found: list[Any] = []

        async def behavior(request: bytes, context: Any) -> bytes:
            found.extend([context.peer(), context.peer_identities(), context.peer_identity_key()])
            found.append({key: list(values) for key, values in context.auth_context().items()})
            return b""

        await (await stage.method(unary(behavior)))(b"")
        assert found[0].startswith("unix:")
        assert found[1:3] == [None, None]
        assert found[3]["transport_security_type"] == [b"insecure"]
        assert "x509_common_name" not in found[3]

    play(scene)


def test_done_callbacks(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        called_with: list[Any] = []
        contexts: list[Any] = []
        over = asyncio.Event()

        async def behavior(request: bytes, context: Any) -> bytes:
            contexts.append(context)
            context.add_done_callback(called_with.append)
            context.add_done_callback(lambda _: over.set())
            assert called_with == []
            return b""

        await (await stage.method(unary(behavior)))(b"")
        await over.wait()
        assert called_with == contexts
        assert contexts[0].done()
        assert not contexts[0].cancelled()

    play(scene)


def test_done_callbacks_of_a_handler_that_raises(
    play: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(stage: Stage) -> None:
        over = asyncio.Event()

        async def behavior(request: bytes, context: Any) -> bytes:
            context.add_done_callback(lambda _: over.set())
            raise LookupError("by design")

        assert (await raised((await stage.method(unary(behavior)))(b""))).code() is Code.UNKNOWN
        await over.wait()

    play(scene)


def test_a_done_callback_that_raises(play_our_server: Any, lost: Any) -> None:
    """The other callbacks still run; grpc.aio's server stops at the first that raises."""

    async def scene(stage: Stage) -> None:
        over = asyncio.Event()

        async def behavior(request: bytes, context: Any) -> bytes:
            context.add_done_callback(lambda _: 1 / 0)
            context.add_done_callback(lambda _: over.set())
            return b"x"

        assert await (await stage.method(unary(behavior)))(b"") == b"x"
        await over.wait()
        assert [type(error) for error in lost] == [ZeroDivisionError]

    play_our_server(scene)


def test_abort_with_status(play_our_server: Any) -> None:
    """grpc.aio's server does not implement it."""

    class Status(grpc.Status):
        code = Code.OUT_OF_RANGE
        details = "too far"
        trailing_metadata = (("key-bin", b"\0\xff"),)

    async def scene(stage: Stage) -> None:
        async def behavior(request: bytes, context: Any) -> bytes:
            return await context.abort_with_status(Status())

        error = await raised((await stage.method(unary(behavior)))(b""))
        assert (error.code(), error.details()) == (Code.OUT_OF_RANGE, "too far")
        assert ("key-bin", b"\0\xff") in tuple(error.trailing_metadata())

    play_our_server(scene)


def test_trailing_metadata_survive_an_abort(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        async def behavior(request: bytes, context: Any) -> bytes:
            context.set_trailing_metadata((("key", "value"),))
            return await context.abort(Code.PERMISSION_DENIED, "not for you")

        error = await raised((await stage.method(unary(behavior)))(b""))
        assert (error.code(), error.details()) == (Code.PERMISSION_DENIED, "not for you")
        assert ("key", "value") in tuple(error.trailing_metadata())

    play(scene)


def test_details_of_success(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        async def behavior(request: bytes, context: Any) -> bytes:
            context.set_code(Code.OK)
            context.set_details("fine")
            return b"x"

        call = (await stage.method(unary(behavior)))(b"")
        assert await call == b"x"
        assert await call.code() is Code.OK
        # grpc.aio's channel keeps no details of success.
        assert await call.details() == ("fine" if stage.our_channel else "")

    play(scene)


def test_writing_after_the_end(play: Any) -> None:
    """Writing on a context after the end of its call raises."""

    async def scene(stage: Stage) -> None:
        contexts: list[Any] = []

        async def behavior(request: bytes, context: Any) -> AsyncIterator[bytes]:
            contexts.append(context)
            yield b"1"

        assert await all_of((await stage.method(replies(behavior)))(b"")) == [b"1"]
        with pytest.raises((asyncio.InvalidStateError, grpc.RpcError, grpc.aio.UsageError)):
            await contexts[0].write(b"2")

    play(scene)
