"""The client's side: has the workers keep pools, and makes futures of calls."""

from __future__ import annotations

import contextlib
import os
import uuid
from typing import TYPE_CHECKING, Any

from distributed.protocol.pickle import dumps

from pygo_plugin._base import checks
from pygo_plugin._dask.logs import Receiver, wanted_level
from pygo_plugin._dask.upload import Upload
from pygo_plugin._dask.worker import PoolOnWorker, call, made_plugins
from pygo_plugin.errors import ConfigError, ConfigTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from distributed import Client, Future
    from typing_extensions import Self

    from pygo_plugin.config import StrPath
    from pygo_plugin.plugin import PluginBase

    PluginSet = Mapping[str, PluginBase[Any, Any]]

# What belongs to this process, and would mean nothing on a worker.
HOSTS_OWN = ("logger", "on_event", "on_exit", "reattach_config", "stderr", "sync_stdout")

# Arguments of Client.submit and Client.map for the task, not for the call.
TASK_OPTIONS = frozenset(
    {
        *("actors", "allow_other_workers", "batch_size", "fifo_timeout", "key", "priority", "pure"),
        *("resources", "retries", "workers"),
    }
)


def dask_plugins(
    client: Client,
    cmd: StrPath | Sequence[StrPath],
    *,
    plugins: PluginSet | Callable[[], PluginSet],
    size: int = 1,
    upload: bool | StrPath | Iterable[StrPath] = False,
    logs: bool = False,
    name: str | None = None,
    **options: Any,
) -> Any:
    """Have every worker of a cluster keep a `Pool` of a plugin, those that join later included.

        with dask_plugins(client, cmd=["./kv"], plugins=PLUGINS, handshake_config=HANDSHAKE) as kv:
            future = kv.submit("kv", "Get", GetRequest(key="k"))

    client   a `distributed.Client`
    cmd      the program and its arguments, as on the workers
    plugins  the plugin set, or a function that makes it. It is sent to the workers, which need its
             modules. Plugins of `service()` cannot be sent: a function can
    size     how many processes each worker has
    upload   files that are sent to the workers, who launch what they have been sent: those whose
             paths are arguments of `cmd`. True: the program. Each worker verifies the checksum of
             what it has written, and that of the program again at each launch.
    logs     whether what plugins log reaches the loggers of this process, from the level on that
             the logger `pygo_plugin.plugin` has now
    name     what the worker plugin is called; by default a name of its own for each use
    options  what else `Pool` takes, if it can be sent

    Returns: DaskPlugins; something to await if the client is asynchronous.
    Raises: ConfigError; what the start of a pool raises on any worker; MissingPackageError.
    """
    checks.positive("dask_plugins: size", size)
    owned = [key for key in HOSTS_OWN if options.get(key) is not None]
    if owned:
        raise ConfigError(
            f"dask_plugins(..., {owned[0]}=...): this belongs to one process, and the plugins "
            "run on the workers of a cluster; logs=True brings what they log here"
        )
    args = [os.fspath(cmd)] if isinstance(cmd, (str, os.PathLike)) else [os.fspath(a) for a in cmd]
    if not args:
        raise ConfigError("dask_plugins: cmd is empty")
    uploads = _uploads(args, upload)
    if uploads and options.get("secure_config") is not None:
        raise ConfigError(
            "dask_plugins: upload and secure_config exclude each other: what is uploaded is checked"
        )
    name = name or f"pygo-plugin-{uuid.uuid4().hex}"
    options = {"plugins": plugins, "size": size, **options}
    pool = PoolOnWorker(name, args, options, uploads, wanted_level() if logs else None)
    try:
        dumps(pool)
    except Exception as error:
        raise ConfigTypeError(
            f"dask_plugins: the plugins and the options cannot be sent to workers: {error}. "
            "plugins may be a function that makes the plugin set on each worker"
        ) from error
    return client.sync(_register, client, pool)


def _uploads(args: list[str], upload: bool | StrPath | Iterable[StrPath]) -> list[Upload]:
    if upload is False:
        return []
    if upload is True:
        paths = [args[0]]
    elif isinstance(upload, (str, os.PathLike)):
        paths = [os.fspath(upload)]
    else:
        paths = [os.fspath(path) for path in upload]
    for path in paths:
        if path not in args:
            raise ConfigError(
                f"dask_plugins: upload has {path!r}, which is no argument of cmd, {args}: a worker "
                "would not know what it is for"
            )
    return [Upload(path) for path in paths]


async def _register(client: Client, pool: PoolOnWorker) -> DaskPlugins:
    made = DaskPlugins(client, pool)
    if pool.logs is not None:
        made._receiver = Receiver(pool.name)
        client.subscribe_topic(pool.name, made._receiver.receive)
    try:
        await _awaited(client.register_plugin(pool, name=pool.name))
    except BaseException:
        await made._unregister()
        raise
    return made


async def _awaited(result: Any) -> Any:
    """What a method of the client returns, called in a coroutine of its own loop."""
    return await result if hasattr(result, "__await__") else result


class DaskPlugins:
    """A plugin on the workers of a cluster: what `dask_plugins` returns.

    Leaving the `with` block, or `close()`, ends the processes on the workers.
    """

    def __init__(self, client: Client, pool: PoolOnWorker) -> None:
        self._client = client
        self._pool = pool
        self._receiver: Receiver | None = None
        self._names: set[str] | None = None  # of plugins, once they are asked for

    @property
    def name(self) -> str:
        """The name of the worker plugin."""
        return self._pool.name

    def submit(
        self,
        plugin: str,
        method: str,
        *requests: Any,
        timeout: float | None = None,
        **task: Any,
    ) -> Future:
        """Call a method on one of the workers, by the worker's own pool.

        plugin    the name in the plugin set
        method    of the stub, or of the object that `dispense` returns
        requests  what it is called with: one request, or the arguments of a net/rpc method; futures
                  are replaced by their results, as Dask does
        timeout   seconds for the call, once the task runs
        task      what `Client.submit` takes for the task: `workers`, `retries`, `priority`,
                  `resources`, `key`, `pure` (False by default, since calls may have effects)

        Returns: a Dask future of the reply; of a list, if the method streams replies.
        """
        self._check(plugin, task)
        task.setdefault("pure", False)
        task.setdefault("key", f"{plugin}.{method}-{uuid.uuid4().hex}")
        return self._client.submit(call, self.name, plugin, method, timeout, *requests, **task)

    def map(
        self,
        plugin: str,
        method: str,
        requests: Iterable[Any],
        *,
        timeout: float | None = None,
        **task: Any,
    ) -> list[Future]:
        """Call a method once for each request. Returns: futures, as `Client.map` does."""
        self._check(plugin, task)
        task.setdefault("pure", False)
        task.setdefault("key", f"{plugin}.{method}-{uuid.uuid4().hex}")
        wanted = list(requests)
        fixed = ([value] * len(wanted) for value in (self.name, plugin, method, timeout))
        made: list[Future] = self._client.map(call, *fixed, wanted, **task)
        return made

    def close(self) -> Any:
        """End the processes on all workers. Something to await if the client is asynchronous."""
        return self._client.sync(self._unregister)

    async def _unregister(self) -> None:
        if self._client.status == "running":
            # ValueError: it is not registered (any more). OSError: a worker is about to leave.
            with contextlib.suppress(ValueError, OSError):
                await _awaited(self._client.unregister_worker_plugin(self.name))
            if self._receiver is not None:
                self._client.unsubscribe_topic(self.name)
        self._receiver = None

    def _check(self, plugin: str, task: Mapping[str, Any]) -> None:
        unknown = sorted(task.keys() - TASK_OPTIONS)
        if unknown:
            raise ConfigError(
                f"{unknown[0]!r} is no argument for the task: there are {sorted(TASK_OPTIONS)}"
            )
        if self._names is None:
            sets = [made_plugins(self._pool.options["plugins"]), *self._pool.versioned()]
            self._names = {name for plugins in sets for name in plugins}
        names = sorted(self._names)
        if plugin not in names:
            raise ConfigError(f"no plugin named {plugin!r}; known: {', '.join(map(repr, names))}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<DaskPlugins {self._pool.args[0]!r}, {self._pool.options['size']} for each worker>"
