"""How a plugin's process behaves towards signals, and what it tidies up on its way out."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal itself costs an import of enum
import atexit
import os

from pygo_plugin._base.core import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Leaving"]

# Those that end a process by default and that people send on purpose.
FATAL = (_signal.SIGTERM, _signal.SIGHUP, _signal.SIGQUIT)


class Leaving:
    """Removes the plugin's socket on every way out that lets a process do anything.

    It also sees to it that the host gets the rest of what was printed. A normal end and sys.exit
    come by atexit, signals by handlers, which then let the signal do what it would have done, so
    that the exit status is the right one. SIGINT is swallowed: the terminal's Ctrl-C reaches host
    and plugins alike, and it is the host who decides when plugins end. Handlers of the author's are
    left alone, and so are ignored signals (nohup). Off the main thread, where Python sets no
    handlers, the core's remove the socket and do no more.
    """

    def __init__(self, protocol: Any, stdio: Any) -> None:
        self._socket: Any = None  # the SocketPlace, once there is one
        self._place = -1  # of its path among those that the core's handlers remove
        self._protocol = protocol
        self._stdio = stdio
        self.mux: Any = None
        """What has a directory of its own, if there is one."""
        self._pid = os.getpid()
        self._replaced: dict[int, Any] = {}
        self._null = -1

    def enter(self, signals: bool = True) -> None:
        """Take over the interpreter's exit and, unless the process is not ours alone, signals."""
        atexit.register(self._exit)
        if not signals:
            return
        try:
            # Handlers rather than SIG_IGN, which the plugin's own child processes would inherit.
            if _nobodys(_signal.getsignal(_signal.SIGINT)):
                self._replace(_signal.SIGINT, _swallow)
            for number in FATAL:
                if _signal.getsignal(number) == _signal.SIG_DFL:
                    self._replace(number, self._die)
        except ValueError:  # not the main thread
            self._swallow_elsewhere()

    def take(self, place: _core.SocketPlace) -> None:
        """Remove this socket in the end. Before there is one, so that nothing gets forgotten."""
        self._socket = place
        # After enter(): it finds what that has left to it.
        self._place = _core.socket_cleanup_add(place.path, place.directory)

    def leave(self, interrupts: bool) -> None:
        """Remove the socket and give the signals back, SIGINT only with `interrupts`. Idempotent.

        A process that the host has shut down is about to end, and a late Ctrl-C should not make it
        end with a traceback.
        """
        self.remove()
        atexit.unregister(self._exit)
        if self.mux is not None:  # calls that still run need it until they end, or the process does
            atexit.register(self._close_mux)
        try:
            for number, (ours, before) in list(self._replaced.items()):
                if number == _signal.SIGINT and not interrupts:
                    continue
                if _signal.getsignal(number) == ours:
                    _signal.signal(number, before)
                del self._replaced[number]
        except ValueError:
            pass  # not the main thread: the handlers stay, and do no harm
        if self._null >= 0 and interrupts:
            import faulthandler

            faulthandler.unregister(_signal.SIGINT)
            os.close(self._null)
            self._null = -1

    def _replace(self, number: int, handler: Any) -> None:
        self._replaced[number] = (handler, _signal.signal(number, handler))

    def _swallow_elsewhere(self) -> None:
        """Swallow SIGINT although only the main thread may set Python handlers.

        The main thread would get a KeyboardInterrupt. faulthandler may set a handler anywhere, is
        part of the interpreter, and its handler does nothing but write to the file it was given.
        """
        if _signal.getsignal(_signal.SIGINT) is not _signal.default_int_handler:
            return
        import faulthandler

        self._null = os.open(os.devnull, os.O_WRONLY)
        faulthandler.register(_signal.SIGINT, file=self._null, all_threads=False, chain=False)

    def remove(self) -> None:
        """Remove the socket. Idempotent, on any thread."""
        # A fork of this process has neither made the socket nor does it serve.
        if self._socket is not None and os.getpid() == self._pid:
            self._socket.remove()
            if self._place >= 0:
                _core.socket_cleanup_drop(self._place)
                self._place = -1

    def _close_mux(self) -> None:
        if self.mux is not None and os.getpid() == self._pid:
            self.mux.close()

    def _die(self, number: int, frame: object) -> None:
        self.remove()
        self._close_mux()
        self._stdio.end()
        _signal.signal(number, _signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _exit(self) -> None:
        self.remove()
        self._stdio.end()
        if os.getpid() == self._pid:
            # Ends the threads that run handlers before the interpreter goes away below them.
            try:
                self._protocol.stop(None)
            except RuntimeError:
                pass  # newer Pythons start no threads at exit, which stop() does after stopping
        self._close_mux()


def _nobodys(handler: Any) -> bool:
    """Whether SIGINT is as Python, or asyncio.run(), sets it up, and not the author."""
    if handler in (_signal.SIG_DFL, _signal.default_int_handler):
        return True
    # functools.partial(Runner._on_sigint, ...)
    return getattr(getattr(handler, "func", None), "__module__", "") == "asyncio.runners"


def _swallow(number: int, frame: object) -> None:
    pass
