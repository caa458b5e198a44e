"""Small helpers for hosts and plugins."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Union

    StrPath = Union[str, "os.PathLike[str]"]

__all__ = ["discover", "env_to_list", "find_free_port"]


def find_free_port(min_port: int = 1024, max_port: int = 65535) -> int:
    """A TCP port of 127.0.0.1 within the limits that is free.

    It is not reserved. Listen on it at once, and try another port if that fails.

    Raises: OSError if every port is in use; ValueError if the limits are wrong.
    """
    if not 0 < min_port <= max_port <= 65535:
        raise ValueError(f"no ports from {min_port} to {max_port}: need 1 <= min <= max <= 65535")
    from pygo_plugin._base.core import _core

    return _core.listen_port(min_port, max_port)


def env_to_list(env: Mapping[str, str]) -> list[str]:
    """Make a mapping a list of "KEY=VALUE", for `Cmd.env`."""
    return [f"{key}={value}" for key, value in env.items()]


def discover(glob: str, directory: StrPath) -> list[str]:
    """Find the executables in `directory` that match a pattern such as "myapp-plugin-*".

    Directories, and files that the user may not execute, are left out. `**` matches any depth.
    Names that start with a dot need a pattern that starts with a dot.

    Returns: sorted absolute paths.
    """
    import glob as pattern  # here, because plugins do not need it

    base = pattern.escape(os.path.abspath(os.fspath(directory)))
    found = pattern.glob(os.path.join(base, glob), recursive=True)
    return sorted({p for p in found if os.path.isfile(p) and os.access(p, os.X_OK)})
