"""How to launch a plugin's program. For users it is part of `pygo_plugin.config`."""

from __future__ import annotations

import os

from pygo_plugin._base import checks as check
from pygo_plugin.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, ClassVar

    from pygo_plugin.config import StrPath

__all__ = ["Cmd", "variable", "variables"]


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
    if isinstance(value, (list, tuple)):
        return value if isinstance(value, list) else list(value)
    return [f"{key}={text}" for key, text in variables(what, value).items()]


def variables(what: str, value: Any) -> dict[str, str]:
    """Environment variables, of a mapping or of a list of "KEY=VALUE". Of equal keys the last wins.

    A dict stays the same object, so that the user may add to it later.
    """
    if value is None:
        return {}
    if isinstance(value, (list, tuple)):
        return dict(variable(what, entry) for entry in value)
    if not hasattr(value, "keys"):
        raise check.refuse(what, 'a mapping, or a list of "KEY=VALUE"', value)
    found = {key: _text(what, key, value[key]) for key in value.keys()}  # noqa: SIM118
    return value if isinstance(value, dict) and value == found else found


def variable(what: str, entry: Any) -> tuple[str, str]:
    """The key and the value of "KEY=VALUE". Raises: ConfigError, which does not quote it."""
    if not isinstance(entry, str) or entry.find("=") < 1 or not _encodable(entry):
        raise ConfigError(f'{what} must hold "KEY=VALUE" entries only')
    key, _, text = entry.partition("=")
    return key, text


def _text(what: str, key: Any, value: Any) -> str:
    """The value of a variable. Raises: ConfigError, which does not quote it."""
    if not isinstance(key, str) or not key or "=" in key or not _encodable(key):
        raise ConfigError(f"{what} has the key {key!r}, which cannot be that of a variable")
    if not isinstance(value, (str, os.PathLike)):
        raise check.refuse(f"{what}[{key!r}]", "a str", value)
    text = os.fsdecode(value)
    if not _encodable(text):
        raise ConfigError(f"{what}[{key!r}] has a null character, or one that cannot be encoded")
    return text


def _encodable(text: str) -> bool:
    """Whether system calls can take the text."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


class Cmd(check.Config):
    """How to launch a plugin: `Cmd(args, env=..., dir=...)`. All three are attributes as well.

    args    The program and its arguments. A str is a program without arguments, and is never split
            as a shell would split it. A relative path is looked up as by `subprocess`: along PATH
            if it has no slash, otherwise from `dir` if that is set.
    env     "KEY=VALUE" entries, which are added to the host's environment and take precedence over
            it. May be given as a mapping; the attribute is a list.
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
        env: Mapping[str, StrPath] | Sequence[str] | None = None,
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
