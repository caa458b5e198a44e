"""A plugin's process as a template: it waits before it serves, and copies of it serve.

csrc/include/gp/template.h describes what the two ends of the socket, this process's stdin, send
each other. Nothing of the plugin's program knows of this.
"""

from __future__ import annotations

import gc
import os
import sys

from pygo_plugin._base.core import _core
from pygo_plugin.config import plugin_sets, set_protocol
from pygo_plugin.errors import PluginError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, NoReturn

    from pygo_plugin.config import ServeConfig

VARIABLE = "PYGO_PLUGIN_TEMPLATE"

READY, REFUSED, LAUNCH, STARTED, FAILED = b"R", b"X", b"L", b"S", b"F"
DESCRIPTORS = 3
INT = 4  # the size of a descriptor in a message

# What may be open besides files: what /proc/self/fd calls it, and what an error does.
SHARED = {
    "socket:": "a socket",
    "pipe:": "a pipe",
    "anon_inode:[event": "an event descriptor, as event loops and gRPC have",
    "anon_inode:[timerfd]": "a timer descriptor",
    "anon_inode:[signalfd]": "a signal descriptor",
    "anon_inode:inotify": "an inotify descriptor",
    "anon_inode:[io_uring]": "an io_uring",
    "anon_inode:[pidfd]": "a descriptor of a process",
}


def wait(config: ServeConfig, on_loop: bool = False) -> None:
    """Wait here if the host has started this process as a template; in other processes, return.

    Returns in copies only, which the host has launched as plugins. `on_loop`: an event loop runs.
    """
    if os.environ.pop(VARIABLE, None) is None:
        return
    from _socket import AF_UNIX, SOCK_STREAM, socket

    host = socket(AF_UNIX, SOCK_STREAM, 0, fileno=os.dup(0))
    host.setblocking(True)
    _preload(config)
    reason = _obstacle(host.fileno(), on_loop)
    if reason is not None:
        _send(host, REFUSED, reason.encode())
        os._exit(0)
    _wait_for_launches(host)


def _preload(config: ServeConfig) -> None:
    """Load what each copy would load before its handshake. gRPC is loaded, and not started."""
    import faulthandler  # noqa: F401

    try:
        spoken = {set_protocol(plugins) for plugins in plugin_sets(config, "ServeConfig").values()}
        if "netrpc" in spoken:
            pass
        if "grpc" in spoken:
            _core.load_grpc()
    except PluginError:
        pass  # which the copies will report


def _obstacle(own: int, on_loop: bool) -> str | None:
    """Why this process cannot be copied; None if it can. `own` is the descriptor of its socket."""
    if on_loop:
        return (
            "it serves on an event loop that runs already; call aio.serve() as in "
            "asyncio.run(aio.serve(config)), which is called before the loop runs"
        )
    if len(os.listdir("/proc/self/task")) > 1:
        return f"it has started threads before serve(): {_threads()}"
    for descriptor in sorted(map(int, os.listdir("/proc/self/fd"))):
        if descriptor not in (0, 1, 2, own):
            shared = _shared(descriptor)
            if shared is not None:
                return f"it has opened {shared} before serve(), which copies would share"
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as children:
            if children.read().strip():
                return "it has started a process before serve()"
    except OSError:  # the kernel does not tell
        pass
    return _core.template_obstacle()


def _threads() -> str:
    """The names of the threads that Python knows of, or that they are none of Python's."""
    threading = sys.modules.get("threading")
    known = [] if threading is None else [thread.name for thread in threading.enumerate()[1:]]
    return ", ".join(known) or "they belong to a library in C"


def _shared(descriptor: int) -> str | None:
    """What kind of descriptor copies must not share this is; None if it is none."""
    try:
        target = os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:  # the listing's own, which is closed by now
        return None
    for prefix, kind in SHARED.items():
        if target.startswith(prefix):
            return kind
    return None


def _files() -> Iterator[str]:
    """The files of the modules that are loaded, apart from those of the interpreter."""
    own = os.path.dirname(os.__file__) + os.sep
    packages = own + "site-packages" + os.sep
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and (not path.startswith(own) or path.startswith(packages)):
            yield os.path.abspath(path)


def _wait_for_launches(host: Any) -> None:
    """Serve the host's requests. Returns in copies only."""
    # Ctrl-C in a terminal reaches this process, too. It ends when the host does.
    from _signal import SIG_IGN, SIGINT, signal  # type: ignore[import-not-found]

    handler = signal(SIGINT, SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()  # what is left in a buffer would be printed by each copy
    _send(host, READY, b"".join(os.fsencode(path) + b"\0" for path in _files()))
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)
    # Objects that the collector looks at are written to, and each copy would have pages of its own.
    gc.collect()
    gc.freeze()
    while True:
        message, descriptors = _receive(host)
        try:
            child = _core.template_clone()
        except OSError as error:
            _send(host, FAILED, (error.errno or 0).to_bytes(4, "big"))
            child = -1
        if child == 0:
            if handler is not None:
                signal(SIGINT, handler)
            _become_plugin(host, message, descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)


def _become_plugin(host: Any, message: bytes, descriptors: list[int]) -> None:
    """In the copy: take what the host gives this process."""
    detached, parent = message[0] != 0, int.from_bytes(message[1:5], "big")
    directory, *entries = message[5:-1].split(b"\0")
    _core.template_begin(detached, parent)
    # First, so that the host knows of this process, whatever becomes of it.
    _send(host, STARTED, os.getpid().to_bytes(4, "big"))
    host.close()
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
        os.close(descriptor)
    if directory:
        os.chdir(directory)
    _set_environment(entries)


def _set_environment(entries: list[bytes]) -> None:
    """Make the environment of this process what the entries say."""
    wanted = dict(entry.split(b"=", 1) for entry in entries)
    current = dict(os.environb)
    for key in current.keys() - wanted.keys():
        del os.environb[key]
    for key, value in wanted.items():
        if current.get(key) != value:
            os.environb[key] = value


# ---- Messages ------------------------------------------------------------------------------------


def _send(host: Any, kind: bytes, content: bytes) -> None:
    try:
        host.sendall(kind + len(content).to_bytes(4, "big") + content)
    except OSError:  # the host has gone
        os._exit(0)


def _receive(host: Any) -> tuple[bytes, list[int]]:
    """The content of a LAUNCH, and its descriptors. Exits if the host has closed the socket."""
    from _socket import CMSG_SPACE

    first, ancillary, _, _ = host.recvmsg(1, CMSG_SPACE(DESCRIPTORS * INT))
    descriptors = [
        int.from_bytes(data[at : at + INT], sys.byteorder)
        for _, _, data in ancillary
        for at in range(0, len(data) - len(data) % INT, INT)
    ]
    if first != LAUNCH or len(descriptors) != DESCRIPTORS:
        _exit()
    length = int.from_bytes(_receive_exactly(host, 4), "big")
    return _receive_exactly(host, length), descriptors


def _receive_exactly(host: Any, count: int) -> bytes:
    got = bytearray()
    while len(got) < count:
        piece = host.recv(min(count - len(got), 65536))
        if not piece:
            _exit()
        got += piece
    return bytes(got)


def _exit() -> NoReturn:
    """End a template: without its exit handlers, which are those of the plugin."""
    os._exit(0)
