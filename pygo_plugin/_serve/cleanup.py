"""What a plugin's process does about signals, and what it removes and closes when it ends."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the module signal would import enum
import atexit
import os

from pygo_plugin._base.core import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Cleanup"]

# Signals that end a process by default and that users send on purpose.
FATAL = (_signal.SIGTERM, _signal.SIGHUP, _signal.SIGQUIT)


class Cleanup:
    """Removes the plugin's socket and sends the host the rest of the printed output, at the end.

    When the program ends, or calls sys.exit(), atexit runs this. When a signal ends it, a handler
    does, and then sends the signal again, so that the exit status is the signal's. SIGINT is
    ignored: the terminal's Ctrl-C reaches the host and its plugins, and the host decides when
    plugins end. Handlers that the author has set stay, and signals that are ignored (by nohup) stay
    ignored. Python sets handlers only on the main thread. If a plugin serves on another thread, the
    core's handlers remove the socket, and nothing else is done after a signal.
    """

    def __init__(self, protocol: Any, stdio: Any) -> None:
        self._socket: Any = None  # a SocketPlace
        self._entry = -1  # the number of the socket in the core's list of sockets to remove
        self._protocol = protocol
        self._stdio = stdio
        self.mux: Any = None
        """The Mux, which has a directory of its own, if there is one."""
        self._pid = os.getpid()
        self._replaced: dict[int, Any] = {}  # (our handler, the one before) by signal
        self._null = -1  # a descriptor of /dev/null while faulthandler handles SIGINT

    def install(self, signals: bool = True) -> None:
        """Register with atexit and, with `signals`, set the handlers."""
        atexit.register(self._exit)
        if not signals:
            return
        try:
            # A handler instead of SIG_IGN, which the plugin's child processes would inherit.
            if _is_default(_signal.getsignal(_signal.SIGINT)):
                self._set_handler(_signal.SIGINT, _ignore)
            for number in FATAL:
                if _signal.getsignal(number) == _signal.SIG_DFL:
                    self._set_handler(number, self._end_by_signal)
        except ValueError:  # this is not the main thread
            self._ignore_sigint_by_faulthandler()

    def add_socket(self, place: _core.SocketPlace) -> None:
        """Remove this socket at the end. Called before the socket is made."""
        self._socket = place
        # This comes after install(): the core sets handlers for the signals that still have none.
        self._entry = _core.socket_cleanup_add(place.path, place.directory)

    def finish(self, interrupts: bool) -> None:
        """Remove the socket and restore the handlers, that of SIGINT only with `interrupts`.

        Idempotent. A process that the host has shut down is about to end, and a Ctrl-C then must
        not make it end with a traceback.
        """
        self.remove_socket()
        atexit.unregister(self._exit)
        if self.mux is not None:  # calls that still run need it
            atexit.register(self._close_mux)
        try:
            for number, (ours, before) in list(self._replaced.items()):
                if number == _signal.SIGINT and not interrupts:
                    continue
                if _signal.getsignal(number) == ours:
                    _signal.signal(number, before)
                del self._replaced[number]
        except ValueError:
            pass  # this is not the main thread; the handlers may stay
        if self._null >= 0 and interrupts:
            import faulthandler

            faulthandler.unregister(_signal.SIGINT)
            os.close(self._null)
            self._null = -1

    def _set_handler(self, number: int, handler: Any) -> None:
        self._replaced[number] = (handler, _signal.signal(number, handler))

    def _ignore_sigint_by_faulthandler(self) -> None:
        """Ignore SIGINT, on a thread that cannot set Python handlers.

        Otherwise the main thread would get a KeyboardInterrupt. faulthandler's handler can be set
        on any thread, and does nothing but write to the file that it is given.
        """
        if _signal.getsignal(_signal.SIGINT) is not _signal.default_int_handler:
            return
        import faulthandler

        self._null = os.open(os.devnull, os.O_WRONLY)
        faulthandler.register(_signal.SIGINT, file=self._null, all_threads=False, chain=False)

    def remove_socket(self) -> None:
        """Remove the socket. Idempotent. May be called on any thread."""
        # In a forked child it is the parent's socket.
        if self._socket is not None and os.getpid() == self._pid:
            self._socket.remove()
            if self._entry >= 0:
                _core.socket_cleanup_drop(self._entry)
                self._entry = -1

    def _close_mux(self) -> None:
        if self.mux is not None and os.getpid() == self._pid:
            self.mux.close()

    def _end_by_signal(self, number: int, frame: object) -> None:
        self.remove_socket()
        self._close_mux()
        self._stdio.end()
        self._protocol.deliver()
        _signal.signal(number, _signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _exit(self) -> None:
        self.remove_socket()
        self._stdio.end()
        if os.getpid() == self._pid:
            # Ends the threads that run handlers before the interpreter is finalized.
            try:
                self._protocol.stop(None)
            except RuntimeError:
                pass  # raised after the stop: newer Pythons do not start stop()'s thread at exit
            self._protocol.deliver()
        self._close_mux()


def _is_default(handler: Any) -> bool:
    """Whether Python or asyncio.run() has set this handler of SIGINT, and not the author."""
    if handler in (_signal.SIG_DFL, _signal.default_int_handler):
        return True
    # functools.partial(Runner._on_sigint, ...)
    return getattr(getattr(handler, "func", None), "__module__", "") == "asyncio.runners"


def _ignore(number: int, frame: object) -> None:
    pass
