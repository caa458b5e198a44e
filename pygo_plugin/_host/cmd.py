"""How to launch a plugin's program. For users it is part of `pygo_plugin.config`."""

from __future__ import annotations

import os

from pygo_plugin._base import checks as check

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, ClassVar

    from pygo_plugin.config import StrPath

__all__ = ["Cmd"]


def _argv(what: str, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, (str, bytes, os.PathLike)):
        return [os.fsdecode(value)]
    if not isinstance(value, (list, tuple)):
        hint = 'a str is one program, never split; give arguments as ["program", "argument"]'
        raise check.refuse(what, "a str or a list of str", value, hint)
    return [check.path(f"{what}[{i}]", arg) for i, arg in enumerate(value)]


def _environment(what: str, value: Any) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, (list, tuple)):
        hint = "utils.env_to_list() makes one of a mapping"
        raise check.refuse(what, 'a list of "KEY=VALUE"', value, hint)
    return value if isinstance(value, list) else list(value)


class Cmd(check.Config):
    """How to launch a plugin: `Cmd(args, env=..., dir=...)`. All three are attributes as well.

    args    The program and its arguments. A str is a program without arguments, and is never split
            as a shell would split it. A relative path is looked up as by `subprocess`: along PATH
            if it has no slash, otherwise from `dir` if that is set.
    env     "KEY=VALUE" entries, which take precedence over the host's environment.
    dir     The working directory; "" for the host's.
    """

    __module__ = "pygo_plugin.config"  # where users import it from, and pickles look for it

    __slots__ = ("args", "dir", "env")
    _checks: ClassVar[check.Checks] = {"args": _argv, "env": _environment, "dir": check.path}

    args: list[str]
    env: list[str]
    dir: str

    def __init__(
        self,
        args: StrPath | Sequence[StrPath] | None = None,
        *,
        env: Sequence[str] | None = None,
        dir: StrPath | None = None,  # noqa: A002
    ) -> None:
        self.args = args  # type: ignore[assignment]  # converted on the way
        self.env = env  # type: ignore[assignment]
        self.dir = dir  # type: ignore[assignment]

    @property
    def path(self) -> str:
        """The program, which is `args[0]`; "" if there is none."""
        return self.args[0] if self.args else ""

    @path.setter
    def path(self, value: StrPath) -> None:
        self.args = [check.path("Cmd.path", value), *self.args[1:]]

    @property
    def valid(self) -> bool:
        """Whether there is a program to launch."""
        return bool(self.path)

    def __repr__(self) -> str:
        # Values of the environment may be passwords.
        env = [str(entry).split("=", 1)[0] + "=..." for entry in self.env]
        return f"Cmd({self.args!r}, env={env!r}, dir={self.dir!r})"
