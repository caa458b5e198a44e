"""One queue per event loop: what the C core has finished, and one reader that hands it out."""

from __future__ import annotations

import asyncio
import contextvars
import weakref

from pygo_plugin._base import at_exit
from pygo_plugin._base.core import _core

UNBROKEN = 32  # what completes at once, until others on the loop have their turn

# Neither side is kept: the loop's reader owns the queue, which so ends when the loop is closed.
_queues: weakref.WeakKeyDictionary[
    asyncio.AbstractEventLoop, weakref.ReferenceType[_core.LoopQueue]
] = weakref.WeakKeyDictionary()


_at_once = 0  # awaitables that had nothing to wait for


async def checkpoint() -> None:
    """Let other tasks run, one time in UNBROKEN. Awaited by what is complete already.

    Otherwise a coroutine that awaits such things in a loop would block its event loop for ever.
    """
    global _at_once
    _at_once += 1
    if _at_once % UNBROKEN == 0:
        await asyncio.sleep(0)


def running_loop() -> asyncio.AbstractEventLoop:
    """The running loop. Raises: ForkedError in a forked child, which has none; RuntimeError."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        _core.refuse_forked()  # says more to a child that has the parent's loop in view
        raise


def queue_of(loop: asyncio.AbstractEventLoop) -> _core.LoopQueue:
    """The queue of the running loop, made at first use. On the loop's own thread."""
    known = _queues.get(loop)
    queue = None if known is None else known()
    if queue is None:
        at_exit.register()
        queue = _core.LoopQueue()
        # In an empty context, which is what the tasks of servers begin with: not in that of whoever
        # happens to come first.
        contextvars.Context().run(loop.add_reader, queue.fileno(), queue.drain)
        _queues[loop] = weakref.ref(queue)
    return queue
