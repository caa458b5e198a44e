"""The threads of all supervisors of the process: one that waits for the time, and workers.

A worker runs one function that blocks, and then another one; it ends after a second without any.
So a hundred supervised plugins that are well take one thread, and for moments a second one. All of
them are daemon threads: none keeps the interpreter from exiting.
"""

from __future__ import annotations

import heapq
import itertools
import os
import queue
import threading
import time
import weakref
from collections import deque

from pygo_plugin._base.core import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    _Job = Callable[[], object]

    class Timed(Protocol):
        """Something whose `_timer` is called on a worker, at the time that it was armed for."""

        _armed_at: float | None

        def _timer(self) -> None: ...


__all__ = ["arm", "end", "is_worker", "run"]

IDLE = 1.0  # seconds after which threads without work end
RETRY = 0.05  # seconds before another attempt to start a thread

ending = False  # whether the interpreter exits: nothing is begun any more

# The inboxes of workers without work. Not guarded: a deque's methods are atomic, and a signal
# handler may come at any point.
_idle: deque[queue.SimpleQueue[_Job]] = deque()
_waiting: deque[_Job] = deque()  # for which no thread could be started
_local = threading.local()


def is_worker() -> bool:
    """Whether this thread is a worker."""
    return getattr(_local, "worker", False)


def run(job: _Job) -> None:
    """Call a function on a worker, soon. At the system's limit of threads, as soon as possible."""
    if ending:
        return
    try:
        _idle.pop().put(job)
        return
    except IndexError:
        pass
    try:
        threading.Thread(target=_work, args=(job,), name="pygo-supervise", daemon=True).start()
    except RuntimeError:  # the system has no more threads
        _waiting.append(job)
        if not _scheduler.post(time.monotonic() + RETRY, None):
            _run_here(job)


def _run_here(job: _Job) -> None:
    """Call a function on this thread, since there is no other one, unless a worker has taken it."""
    try:
        _waiting.remove(job)
    except ValueError:
        return
    job()


def _work(job: _Job) -> None:
    _local.worker = True
    inbox: queue.SimpleQueue[_Job] = queue.SimpleQueue()
    while True:
        try:
            job()
        except BaseException as error:
            _core.unraisable(error, job)
        del job
        if _waiting:
            try:
                job = _waiting.popleft()
                continue
            except IndexError:
                pass
        _idle.append(inbox)
        try:
            job = inbox.get(timeout=IDLE)
        except queue.Empty:
            try:
                _idle.remove(inbox)
                return
            except ValueError:  # run() has taken it at the last moment, and puts something there
                job = inbox.get()


class _Scheduler:
    """The thread that waits for the time. It alone has the heap; others post entries to it."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._inbox: queue.SimpleQueue[tuple[float, int, Any]] = queue.SimpleQueue()
        self._lock = threading.RLock()
        self._runs = False

    def post(self, at: float, timed: weakref.ref[Timed] | None) -> bool:
        """Have `_timer` called at this time; None: look at the jobs that wait for a thread.

        Returns: False if the system has no thread for it now; a later post may get one.
        """
        self._inbox.put((at, next(self._numbers), timed))
        with self._lock:
            if self._runs or ending:
                return True
            self._runs = True
            try:
                threading.Thread(target=self._run, name="pygo-supervise-timer", daemon=True).start()
            except RuntimeError:
                self._runs = False
            return self._runs

    def _run(self) -> None:
        heap: list[tuple[float, int, Any]] = []
        while True:
            pause = IDLE if not heap else max(0.0, heap[0][0] - time.monotonic())
            try:
                heapq.heappush(heap, self._inbox.get(timeout=pause))
            except queue.Empty:
                with self._lock:
                    if not heap and self._inbox.empty():
                        self._runs = False
                        return
            while heap and heap[0][0] <= time.monotonic():
                at, _, timed = heapq.heappop(heap)
                self._fire(at, timed)
            if heap and not _is_armed(heap[0]):
                heap = [entry for entry in heap if _is_armed(entry)]
                heapq.heapify(heap)

    @staticmethod
    def _fire(at: float, timed: weakref.ref[Timed] | None) -> None:
        if timed is None:
            if _waiting:
                run(_waiting.popleft())
            return
        found = timed()
        if found is not None and found._armed_at == at:  # otherwise it was armed anew
            found._armed_at = None
            run(found._timer)


def _is_armed(entry: tuple[float, int, Any]) -> bool:
    """Whether an entry of the heap is still what its supervisor waits for."""
    at, _, timed = entry
    found = None if timed is None else timed()
    return timed is None or (found is not None and found._armed_at == at)


def arm(timed: Timed, at: float | None) -> None:
    """Have `_timer` called at this time and no other one; None: not at all."""
    if at != timed._armed_at:
        timed._armed_at = at
        # Without a time, the thread is to notice that it may have none to wait for any more.
        _scheduler.post(time.monotonic() if at is None else at, weakref.ref(timed))


_scheduler = _Scheduler()
_all: weakref.WeakSet[Any] = weakref.WeakSet()


def register(supervisor: Any) -> None:
    """Have the supervisor told of the interpreter's exit, and of a fork in the child."""
    _all.add(supervisor)


def end() -> None:
    """Let no supervisor start anything any more. The plugins are killed by what calls this."""
    global ending
    ending = True
    for supervisor in list(_all):
        supervisor._exit()


def _in_forked_child() -> None:
    global _scheduler
    _scheduler = _Scheduler()
    _idle.clear()
    _waiting.clear()
    _local.__dict__.clear()
    for supervisor in list(_all):
        supervisor._leave_behind()
    _all.clear()


os.register_at_fork(after_in_child=_in_forked_child)
