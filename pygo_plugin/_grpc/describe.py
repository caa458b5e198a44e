"""What repr(), help(), inspect.signature() and editors show of calls, and of what makes them.

Imported when the first of them is asked for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any

from pygo_plugin._grpc.enums import status_code
from pygo_plugin._grpc.known import described

if TYPE_CHECKING:
    from pygo_plugin._base.core import _core

__all__ = ["show_call", "signature_for", "signature_of"]

_OPTIONS = {
    "timeout": "float | None",
    "metadata": "Iterable[tuple[str, str | bytes]] | None",
    "credentials": "CallCredentials | None",
    "wait_for_ready": "bool | None",
    "compression": "Compression | None",
}


def show_call(call: Any, status: _core._CallStatus | None) -> str:
    """The repr of a call. `status` is None while it runs."""
    text = f"<{type(call).__name__} of {call._method.decode('utf-8', 'replace')}"
    if status is None:
        return f"{text}, running>"
    details = f", details {status[1]!r}" if status[1] else ""
    return f"{text}, ended with {status_code(status[0]).name}{details}>"


def signature_of(multicallable: Any) -> Signature:
    """The signature of a channel's callable, blocking or of asyncio. Called by the core, too.

    Its messages have types if a Service has described the method.
    """
    cls = type(multicallable)
    requests = cls.__name__.startswith("Stream")
    replies = cls.__name__.endswith("StreamMultiCallable")
    path = multicallable._method
    method = described(path.decode("utf-8", "replace") if isinstance(path, bytes) else path)
    if method and (method.request_streaming, method.response_streaming) != (requests, replies):
        method = None  # of another service with the same name
    return _signature(requests, replies, method, cls.__module__.startswith("pygo_plugin._grpc.aio"))


def signature_for(method: Any) -> Signature:
    """The signature of a service's method in the stub class."""
    return _signature(method.request_streaming, method.response_streaming, method, False)


def _signature(requests: bool, replies: bool, method: Any, asynchronous: bool) -> Signature:
    """`requests` and `replies`: whether they are streams. `method` is None, or describes both."""
    request: Any = Parameter.empty if method is None else method.request
    reply: Any = Signature.empty if method is None else method.response
    if method is not None:
        if requests:
            request = Iterable[request]
        if replies:
            reply = AsyncIterator[reply] if asynchronous else Iterator[reply]
        elif asynchronous:
            reply = Awaitable[reply]
    keywords = asynchronous and not requests  # as in grpc.aio
    option = Parameter.KEYWORD_ONLY if keywords else Parameter.POSITIONAL_OR_KEYWORD
    first = Parameter(
        "request_iterator" if requests else "request",
        Parameter.POSITIONAL_OR_KEYWORD,
        annotation=request,
        default=None if asynchronous and requests else Parameter.empty,
    )
    options = (
        Parameter(name, option, default=None, annotation=annotation)
        for name, annotation in _OPTIONS.items()
    )
    return Signature([first, *options], return_annotation=reply)
