"""The context of a handler."""

from __future__ import annotations

import threading
from typing import Any

import grpc
import pytest
from stage import DEADLINE, Stage, ask, fail, serving, unary


def test_context_is_a_servicer_context(stage: Stage) -> None:
    found: list[bool] = []

    def behavior(request: bytes, context: Any) -> bytes:
        found.append(isinstance(context, grpc.ServicerContext))
        found.append(isinstance(context, grpc.RpcContext))
        return b""

    stage.call(behavior)
    assert found == [True, True]
    for server in stage.servers:
        assert isinstance(server, grpc.Server)


def test_context_has_all_that_grpcios_has(stage: Stage) -> None:
    names = [name for name in dir(grpc.ServicerContext) if not name.startswith("_")]
    missing: list[str] = []

    def behavior(request: bytes, context: Any) -> bytes:
        missing.extend(name for name in names if not callable(getattr(context, name, None)))
        return b""

    stage.call(behavior)
    assert missing == []
    assert len(names) > 15


def test_peer_and_identity(stage: Stage) -> None:
    found: list[Any] = []

    def behavior(request: bytes, context: Any) -> bytes:
        found.extend([context.peer(), context.peer_identities(), context.peer_identity_key()])
        found.append(context.auth_context())
        return b""

    stage.call(behavior)
    assert found[0].startswith("unix:")
    assert found[1:3] == [None, None]
    assert found[3]["transport_security_type"] == [b"insecure"]
    assert "x509_common_name" not in found[3]


def test_peer_over_tcp(client: Any, host: Any) -> None:
    with serving(host) as running:
        assert running.port > 0
        with client.insecure_channel(f"127.0.0.1:{running.port}") as channel:
            ask(channel)
        assert running.service.seen.peer.startswith("ipv4:127.0.0.1:")


def test_callbacks_run_at_the_end_of_the_call(stage: Stage) -> None:
    called: list[int] = []
    done = threading.Semaphore(0)
    contexts: list[Any] = []

    def call_back(number: int) -> None:
        called.append(number)
        done.release()

    def behavior(request: bytes, context: Any) -> bytes:
        contexts.append(context)
        assert context.add_callback(lambda: call_back(1)) is True
        assert context.add_callback(lambda: call_back(2)) is True
        assert called == []
        return b""

    stage.call(behavior)
    for _ in range(2):
        assert done.acquire(timeout=DEADLINE)
    assert sorted(called) == [1, 2]
    assert contexts[0].is_active() is False
    assert contexts[0].add_callback(lambda: call_back(3)) is False
    assert sorted(called) == [1, 2]


def test_callback_that_raises(our_stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", lambda event: lost.append(event.exc_value))
    done = threading.Event()

    def behavior(request: bytes, context: Any) -> bytes:
        context.add_callback(fail)
        context.add_callback(done.set)
        return b""

    our_stage.call(behavior)
    assert done.wait(DEADLINE)
    assert [type(error) for error in lost] == [LookupError]


def test_callbacks_are_called_or_refused(stage: Stage) -> None:
    """A callback is called if add_callback() has returned True, whenever the call ends."""
    problems: list[str] = []
    finished = threading.Semaphore(0)

    def behavior(request: bytes, context: Any) -> bytes:
        def add() -> None:
            while True:
                called = threading.Event()
                if not context.add_callback(called.set):
                    break
                calls.append(called)
            if not all(called.wait(DEADLINE) for called in calls):
                problems.append("a callback was lost")
            finished.release()

        calls: list[threading.Event] = []
        threading.Thread(target=add).start()
        return b""

    call = stage.serve({"M": unary(behavior)}).unary_unary("/test.T/M")
    for _ in range(30):
        call(b"", timeout=DEADLINE)
        assert finished.acquire(timeout=2 * DEADLINE)
    assert problems == []
