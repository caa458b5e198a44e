"""Templates of Python plugins: which there are in this process, and who uses them.

A template is a process that has imported a plugin's program and waits in `serve()`. Clients with
the option `template` that launch the same program share one; the last of them ends it.
"""

from __future__ import annotations

import os
import threading
import time

from pygo_plugin._base.core import _core
from pygo_plugin._host.launch import find_program
from pygo_plugin.errors import ClosedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Stamp = tuple[int, int, int] | None

    Key = tuple[tuple[str, ...], str, tuple[str, ...]]

SLICE = 0.1  # seconds between two looks at whether the client has been killed meanwhile

# Variables that the interpreter, the linker and libraries read before a program calls serve(). They
# are the template's own: launches that differ in them do not share one.
READ_EARLY = (
    *(
        "PYTHON",
        "LD_",
        "LC_",
        "GLIBC_",
        "MALLOC_",
        "GRPC_",
        "OPENSSL_",
        "SSL_",
        "PROTOCOL_BUFFERS_",
    ),
    *("PATH=", "LANG=", "LANGUAGE=", "TZ=", "HOME=", "TMPDIR=", "VIRTUAL_ENV="),
)

# Reentrant, since the collector may end a use while its thread holds the lock.
_lock = threading.RLock()
_templates: dict[Key, Template] = {}


def _in_forked_child() -> None:
    """Forget the parent's templates."""
    global _lock
    _lock = threading.RLock()
    _templates.clear()


os.register_at_fork(after_in_child=_in_forked_child)


class _Abandoned(Exception):
    """The template was given up for a reason that says nothing about the program."""


class Use:
    """A client's use of a template. `core` is the template for `_core.Client`, if there is one."""

    __slots__ = ("_template", "core")

    def __init__(self, template: Template, core: _core.Template | None) -> None:
        self._template: Template | None = template
        self.core = core

    def again(self) -> Use | None:
        """Another use of the same template, which ends by itself when it is forgotten."""
        template = self._template
        if template is None:
            return None
        with _lock:
            template.users += 1
        return Use(template, self.core)

    def __del__(self) -> None:
        self.release()

    def release(self) -> None:
        """End the use. Idempotent."""
        template, self._template = self._template, None
        if template is not None:
            _drop(template)


def use(
    argv: Sequence[str],
    env: Sequence[str],
    directory: str,
    timeout: float,
    cancelled: Callable[[], bool],
    refused: Callable[[str], None],
) -> Use:
    """The template of a program, which is started if there is none, or if its files have changed.

    timeout    seconds for the program to import what it needs
    cancelled  asked now and then whether to give up
    refused    called with the reason if the program cannot be a template; it is then launched in
               the usual way, and not asked again before its files change

    Blocks. Raises: what a start of the program raises that finds no program or no memory.
    """
    early = tuple(entry for entry in env if entry.startswith(READ_EARLY))
    key = (tuple(argv), os.path.abspath(directory or "."), early)
    with _lock:
        template = _templates.get(key)
        if template is None:
            template = _templates[key] = Template(key)
        template.users += 1
    try:
        core = template.ready(env, timeout, cancelled, refused)
    except BaseException:
        _drop(template)
        raise
    return Use(template, core)


def _drop(template: Template) -> None:
    with _lock:
        template.users -= 1
        last = template.users == 0 and _templates.get(template.key) is template
        if last:
            del _templates[template.key]
    if last:
        template.close()


class Template:
    """The template of one program, or the knowledge that it cannot have one."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.users = 0  # guarded by _lock
        self._lock = threading.Lock()  # held while it is started, so that it is started once
        self._core: _core.Template | None = None
        self._files: dict[str, Stamp] = {}  # of which it, or its refusal, was made
        self._refusal = ""

    def ready(
        self,
        env: Sequence[str],
        timeout: float,
        cancelled: Callable[[], bool],
        refused: Callable[[str], None],
    ) -> _core.Template | None:
        """What launches the program, started if needed; None if the program cannot be one."""
        with self._lock:
            unchanged = all(_stamp(path) == stamp for path, stamp in self._files.items())
            if self._refusal and unchanged:
                return None
            if self._core is not None and self._core.alive and unchanged:
                return self._core
            self._close()
            try:
                self._start(env, timeout, cancelled)
            except _Abandoned as error:
                refused(str(error))
            except ClosedError as error:
                self._refusal = str(error)
                self._files = {path: _stamp(path) for path in _named_files(self.key)}
                refused(self._refusal)
            return self._core

    def _start(self, env: Sequence[str], timeout: float, cancelled: Callable[[], bool]) -> None:
        """Start it and wait until it is ready.

        Raises: ClosedError, with the reason why the program cannot be one; _Abandoned.
        """
        argv, directory, _ = self.key
        self._refusal = ""
        if _is_other_program(argv[0], directory):
            raise ClosedError("it is no Python program that calls pygo_plugin.serve()")
        self._core = core = _core.Template(argv, [*env, "PYGO_PLUGIN_TEMPLATE=1"], directory)
        deadline = time.monotonic() + timeout
        try:
            while (files := _core.call_blocking(core.wait, SLICE)) is None:
                if cancelled():
                    raise _Abandoned("the client has been killed meanwhile")
                if time.monotonic() > deadline:
                    raise _Abandoned(
                        f"it has not come to serve() within {timeout:g} s (start_timeout)"
                    )
        except BaseException:
            self._close()
            raise
        paths = [os.fsdecode(path) for path in files.split(b"\0")[:-1]]
        self._files = {path: _stamp(path) for path in (*paths, *_named_files(self.key))}

    def close(self) -> None:
        """End it. Plugins that it has launched go on."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        core, self._core = self._core, None
        if core is not None:
            _core.call_blocking(core.close)


def _is_other_program(name: str, directory: str) -> bool:
    """Whether this is a program in machine code other than an interpreter of Python."""
    path = find_program(name, directory)
    if path is None:
        return False  # the error will say more
    path = os.path.realpath(path)
    with open(path, "rb") as file:
        machine_code = file.read(4) == b"\x7fELF"
    return machine_code and not os.path.basename(path).startswith(("python", "pypy"))


def _named_files(key: Key) -> list[str]:
    """The files that the command line names, as far as they are files."""
    argv, directory, _ = key
    paths = (os.path.join(directory, argument) for argument in argv)
    return [path for path in paths if os.path.isfile(path)]


def _stamp(path: str) -> Stamp:
    """What changes when a file is written or replaced; None if there is no file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def refusal(name: str, reason: str) -> str:
    """What is logged when a program cannot be a template."""
    return f"{name}: cannot be launched from a template, and is started in the usual way: {reason}"
