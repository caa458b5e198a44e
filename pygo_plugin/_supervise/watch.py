"""Reloads when files change: `watchfiles` tells of changes, on a thread of the supervisor's own."""

from __future__ import annotations

import os
import shutil
import threading
import weakref

from pygo_plugin._base.core import _core
from pygo_plugin._host.naming import program_of
from pygo_plugin.errors import ConfigError, _needing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pygo_plugin.config import Cmd

__all__ = ["Watcher", "program_file"]

# Milliseconds without further changes, before a change is told: a compiler writes for some time.
QUIET = 100


def program_file(name: str, cmd: Cmd, directory: str) -> str:
    """The file that a command runs: the script, or else the executable. Raises: ConfigError."""
    directory = cmd.dir or directory
    for program in (program_of(cmd.args), cmd.path):
        path = os.path.join(directory, program)
        if "/" not in program and not os.path.isfile(path):
            path = shutil.which(program) or path
        if os.path.isfile(path):
            return os.path.abspath(path)
    raise ConfigError(
        f"{name}: watch=True watches the file that the command runs, and {cmd.path!r} is none that "
        f"can be found; name the files instead, as in watch=[path]"
    )


class Watcher:
    """Calls `_changed` of a supervisor when one of the files changes, or a file in a directory."""

    def __init__(self, owner: Any, name: str, paths: Iterable[str]) -> None:
        """Raises: MissingPackageError; ConfigError if a path is in no directory."""
        with _needing(f"{name}: the option watch"):
            import watchfiles  # noqa: F401

        found = [os.path.abspath(path) for path in paths]
        directories = [path for path in found if os.path.isdir(path)]
        files = {path for path in found if not os.path.isdir(path)}
        parents = sorted({os.path.dirname(path) for path in files})
        for parent in parents:
            if not os.path.isdir(parent):
                raise ConfigError(f"{name}: watch has a file in {parent}, which is no directory")
        self._stopped = threading.Event()
        owner = weakref.ref(owner)
        for roots, recursive in ((directories, True), (parents, False)):
            if roots:
                arguments = (owner, self._stopped, roots, None if recursive else files)
                threading.Thread(
                    target=_watch, args=arguments, name="pygo-supervise-watch", daemon=True
                ).start()

    def stop(self) -> None:
        """Tell of no more changes. Returns before the threads have ended."""
        self._stopped.set()


def _watch(
    owner: weakref.ref[Any], stopped: threading.Event, roots: list[str], files: set[str] | None
) -> None:
    """Watch these directories until `stopped`: of `files` only, or all that is below."""
    from watchfiles import Change, DefaultFilter, watch

    usual = DefaultFilter()

    def counts(change: Change, path: str) -> bool:
        # What has been removed is often written anew; then that is the change.
        wanted = usual(change, path) if files is None else path in files
        return wanted and change is not Change.deleted

    try:
        for _ in watch(
            *roots,
            watch_filter=counts,
            step=QUIET,
            stop_event=stopped,
            recursive=files is None,
            raise_interrupt=False,
        ):
            supervisor = owner()
            if supervisor is None or stopped.is_set():
                return
            supervisor._changed_files()
            del supervisor
    except BaseException as error:
        _core.unraisable(error, _watch)
