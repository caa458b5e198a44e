"""Interceptors of a server."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from stage import DEADLINE, Code, Stage, echo, raised, unary

from pygo_plugin import rpc


class Noting(grpc.ServerInterceptor):
    """Notes what it sees, and goes on."""

    def __init__(self, name: str, seen: list[Any]) -> None:
        self.name, self.seen = name, seen

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        metadata = dict(details.invocation_metadata)
        self.seen.append((self.name, details.method, metadata.get("key")))
        return continuation(details)


def test_order_of_interceptors(stage: Stage) -> None:
    seen: list[Any] = []
    interceptors = [Noting("outer", seen), Noting("inner", seen)]
    channel = stage.serve({"M": unary(echo)}, interceptors=interceptors)
    call = channel.unary_unary("/test.T/M")
    assert call(b"x", timeout=DEADLINE, metadata=[("key", "value")]) == b"x"
    assert seen == [("outer", "/test.T/M", "value"), ("inner", "/test.T/M", "value")]


def test_interceptor_that_answers_itself(stage: Stage) -> None:
    seen: list[Any] = []

    class Guard(grpc.ServerInterceptor):
        def intercept_service(self, continuation: Any, details: Any) -> Any:
            if dict(details.invocation_metadata).get("token") == "right":
                return continuation(details)

            def refuse(request: bytes, context: Any) -> Any:
                context.abort(Code.UNAUTHENTICATED, "who are you?")

            return unary(refuse)

    channel = stage.serve({"M": unary(echo)}, interceptors=[Guard(), Noting("inner", seen)])
    call = channel.unary_unary("/test.T/M")
    error = raised(lambda: call(b"", timeout=DEADLINE))
    assert (error.code(), error.details()) == (Code.UNAUTHENTICATED, "who are you?")
    assert seen == []
    assert call(b"x", timeout=DEADLINE, metadata=[("token", "right")]) == b"x"
    assert len(seen) == 1


def test_interceptors_see_registered_and_unknown_methods(stage: Stage) -> None:
    seen: list[Any] = []
    server = stage.make(interceptors=[Noting("only", seen)])
    server.add_registered_method_handlers("test.T", {"M": unary(echo)})
    server.start()
    channel = stage.connect()
    channel.unary_unary("/test.T/M")(b"", timeout=DEADLINE)
    error = raised(lambda: channel.unary_unary("/test.T/No")(b"", timeout=DEADLINE))
    assert error.code() is Code.UNIMPLEMENTED
    assert [method for _, method, _ in seen] == ["/test.T/M", "/test.T/No"]


def test_interceptors_are_checked() -> None:
    with pytest.raises(TypeError, match="intercept_service"):
        rpc.server(interceptors=[object()])
