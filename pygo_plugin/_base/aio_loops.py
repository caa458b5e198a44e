"""The queues by which the C core hands finished operations to event loops, one for each loop."""

from __future__ import annotations

import asyncio
import contextvars
import weakref

from pygo_plugin._base import at_exit
from pygo_plugin._base.core import _core

UNBROKEN = 32  # awaits that may complete at once before other tasks of the loop get to run

# Both references are weak. The loop's reader owns the queue, and closing the loop frees it.
_queues: weakref.WeakKeyDictionary[
    asyncio.AbstractEventLoop, weakref.ReferenceType[_core.LoopQueue]
] = weakref.WeakKeyDictionary()

_immediate = 0  # how many checkpoints there have been


async def checkpoint() -> None:
    """Let other tasks run, one time in UNBROKEN.

    Coroutines with nothing to wait for await this. Otherwise a task that awaits such coroutines in
    a loop would block its event loop for ever.
    """
    global _immediate
    _immediate += 1
    if _immediate % UNBROKEN == 0:
        await asyncio.sleep(0)


def running_loop() -> asyncio.AbstractEventLoop:
    """The running loop. Raises: ForkedError in a forked child, which has none; RuntimeError."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        _core.refuse_forked()  # in a forked child this error says more
        raise


def queue_of(loop: asyncio.AbstractEventLoop) -> _core.LoopQueue:
    """The queue of the running loop, made at first use. Called on the loop's own thread."""
    known = _queues.get(loop)
    queue = None if known is None else known()
    if queue is None:
        at_exit.register()
        queue = _core.LoopQueue()
        # The reader runs in an empty context, since the tasks of servers inherit it. They must not
        # get the context variables of the task that happens to make the first call.
        contextvars.Context().run(loop.add_reader, queue.fileno(), queue.drain)
        _queues[loop] = weakref.ref(queue)
    return queue
