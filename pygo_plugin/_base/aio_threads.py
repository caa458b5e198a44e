"""Waiting on an event loop for what blocks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")


async def in_thread(function: Callable[..., _T], *arguments: Any) -> _T:
    """What the function returns, which blocks a thread of its own meanwhile.

    Not the loop's executor: that may be busy, and asyncio.run() would wait for it at its end.
    """
    future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
    call = (future, function, arguments)
    threading.Thread(target=_run, args=call, name="pygo-aio", daemon=True).start()
    del call
    try:
        return await future
    finally:
        del future  # an error's traceback has this frame


def _run(future: asyncio.Future[Any], function: Callable[..., Any], arguments: Any) -> None:
    outcome: Any
    failed = False
    try:
        outcome = function(*arguments)
    except BaseException as error:
        outcome, failed = error, True
    try:
        future.get_loop().call_soon_threadsafe(_settle, future, outcome, failed)
    except RuntimeError:
        pass  # the loop has been closed
    finally:
        del future, outcome, function, arguments  # an error's traceback has this frame


def _settle(future: asyncio.Future[Any], outcome: Any, failed: bool) -> None:
    if future.done():
        return
    if failed:
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
