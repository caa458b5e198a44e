"""Blocking functions that an event loop waits for without being blocked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")


async def in_thread(function: Callable[..., _T], *arguments: Any) -> _T:
    """Call a function that blocks on a new thread, and return its result.

    It does not run on the loop's executor, which may be busy, and for which asyncio.run() waits
    before it returns.
    """
    future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
    call = (future, function, arguments)
    threading.Thread(target=_run, args=call, name="pygo-aio", daemon=True).start()
    del call
    try:
        return await future
    finally:
        del future  # the traceback of an exception keeps this frame


def _run(future: asyncio.Future[Any], function: Callable[..., Any], arguments: Any) -> None:
    outcome: Any
    failed = False
    try:
        outcome = function(*arguments)
    except BaseException as error:
        outcome, failed = error, True
    try:
        future.get_loop().call_soon_threadsafe(_set_outcome, future, outcome, failed)
    except RuntimeError:
        pass  # the loop has been closed
    finally:
        del future, outcome, function, arguments  # the traceback of an exception keeps this frame


def _set_outcome(future: asyncio.Future[Any], outcome: Any, failed: bool) -> None:
    if future.done():
        return
    if failed:
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
