"""The workers' side: a pool for each worker, and the task that calls it."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from distributed import WorkerPlugin, get_worker

from pygo_plugin._dask.logs import Sender
from pygo_plugin._supervise.map import method_of
from pygo_plugin.errors import ClosedError
from pygo_plugin.pool import Pool
from pygo_plugin.security import SecureConfig

if TYPE_CHECKING:
    from pygo_plugin._dask.upload import Upload


class PoolOnWorker(WorkerPlugin):
    """Keeps a pool on a worker, from when the worker starts until it ends."""

    def __init__(
        self,
        name: str,
        args: list[str],
        options: dict[str, Any],
        uploads: list[Upload],
        logs: int | None,
    ) -> None:
        """`logs` is the lowest level of what is sent to the client; None: nothing is."""
        self.name = name
        self.args = args
        self.options = options
        self.uploads = uploads
        self.logs = logs
        self._pool: Pool[Any] | None = None
        self._sender: Sender | None = None
        self._dispensed: dict[str, Any] = {}
        self._lock: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """What is sent to workers: nothing of a pool that runs."""
        state = self.__dict__.copy()
        state.update(_pool=None, _sender=None, _dispensed={}, _lock=None)
        return state

    def versioned(self) -> list[Any]:
        """The plugin sets of `versioned_plugins`."""
        return list((self.options.get("versioned_plugins") or {}).values())

    async def setup(self, worker: Any) -> None:
        """Start the pool. Called on the worker's event loop, which goes on meanwhile."""
        self._lock = threading.Lock()
        if self.logs is not None:
            self._sender = Sender(self.name, worker, self.logs)
            self._sender.start()
        try:
            await asyncio.to_thread(self._start, worker.local_directory)
        except BaseException:
            await self.teardown(worker)
            raise

    async def teardown(self, worker: Any) -> None:
        """End the pool."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.to_thread(pool.close)
        if self._sender is not None:
            self._sender.stop()

    def _start(self, directory: str) -> None:
        places = {upload.path: upload.write(directory) for upload in self.uploads}
        args = [places.get(arg, arg) for arg in self.args]
        options = {**self.options, "plugins": made_plugins(self.options["plugins"])}
        for upload in self.uploads:
            if upload.path == self.args[0]:
                options["secure_config"] = SecureConfig(upload.sha256, "sha256")
        pool: Pool[Any] = Pool(args, **options)
        try:
            pool.start()
        except BaseException:
            pool.close()
            raise
        self._pool = pool

    def method(self, plugin: str, method: str) -> Any:
        """A method of what the pool dispenses, good for all its processes."""
        pool = self._pool
        if pool is None or self._lock is None:
            raise ClosedError(f"{self.args[0]}: the plugin has ended on this worker")
        with self._lock:
            found = self._dispensed.get(plugin)
            if found is None:
                found = self._dispensed[plugin] = pool.dispense(plugin)
        return method_of(found, plugin, method)


def made_plugins(given: Any) -> Any:
    """A plugin set, of itself or of a function that makes it."""
    return given() if callable(given) else given


def call(name: str, plugin: str, method: str, timeout: float | None, *requests: Any) -> Any:
    """The task: a call by the pool of the worker that runs it. Returns: the reply, or a list."""
    worker = get_worker()
    pool = worker.plugins.get(name)
    if not isinstance(pool, PoolOnWorker):
        raise ClosedError(f"{plugin}.{method}: the plugins have been closed")
    reply = pool.method(plugin, method)(*requests, timeout=timeout)
    return list(reply) if hasattr(reply, "__next__") else reply
