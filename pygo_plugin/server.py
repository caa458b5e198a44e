"""The plugin's side: check the cookie, listen, say where, serve until the host has had enough.

protocol.md 3 and internals.md of go-plugin describe what a host expects. Until the handshake line
is out nothing but the C core is imported: it is what the host waits for.
"""

from __future__ import annotations

import gc
import os
import sys

from pygo_plugin import _core, _exit
from pygo_plugin._leaving import Leaving
from pygo_plugin.config import ServeConfig, plugin_sets
from pygo_plugin.errors import ConfigError, ConfigTypeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from typing import Any, NoReturn

__all__ = ["Server", "serve"]

PORT_ATTEMPTS = 20  # a free port can be gone when it is listened on

MISCONFIGURED = (
    "Misconfigured plugin: its handshake config has no magic cookie key or value. "
    "Please report this to the plugin's author."
)
NOT_A_PROGRAM = (
    "This program is a plugin. It is not meant to be run directly: "
    "start the program that uses it, which loads its plugins by itself."
)


class ServerBase:
    """What serving with threads and with asyncio have in common: all but the waiting."""

    GRPC_SERVICE_NAME = "plugin"
    """The name under which the health service reports, fixed by the protocol."""

    def __init__(self, cfg: ServeConfig) -> None:
        if not isinstance(cfg, ServeConfig):
            raise ConfigTypeError(f"Server() takes a ServeConfig, not {type(cfg).__name__}")
        self.error_msg = ""
        """Why `serve()` or `check_magic_key()` returned False."""
        self._config = cfg
        self._server: Any = None
        self._leaving: Leaving | None = None

    def check_magic_key(self) -> bool:
        """Whether a host started this process: whether the environment holds the magic cookie.

        If not, or if the handshake config has no cookie at all, `error_msg` says what to do.
        """
        handshake = self._config.handshake_config
        key, value = handshake.magic_cookie_key, handshake.magic_cookie_value
        if not key or not value:
            return self._fail(MISCONFIGURED)
        if os.environ.get(key) != value:
            return self._fail(NOT_A_PROGRAM)
        return True

    def server(self, **opts: Any) -> Any:
        """Make the server. Overrides usually call `self.default_grpc_server(...)`.

        opts: `max_workers` and `interceptors`, each if the configuration sets it.
        """
        return self.default_grpc_server(**opts)

    def default_grpc_server(self, **opts: Any) -> Any:
        """Make a server on the C core."""
        raise NotImplementedError

    def _open(self) -> tuple[Any, Leaving, bytes] | None:
        """A server that listens, what tidies up after it, and its handshake line.

        None when it cannot serve; `error_msg` says why.
        """
        if self._server is not None:
            self._fail("this Server serves already")
            return None
        if not self.check_magic_key():
            return None
        if os.environ.get("PLUGIN_CLIENT_CERT"):
            # Serving in plain text would make the host fail with an obscure TLS error.
            self._fail(
                "the host asks for AutoMTLS, which is not available in this version of pygo_plugin"
            )
            return None
        try:
            sets = plugin_sets(self._config, "ServeConfig")
        except ConfigError as error:
            self._fail(str(error))
            return None
        version, notes = _core.negotiate(sorted(sets), os.environ.get("PLUGIN_PROTOCOL_VERSIONS"))
        for note in notes:
            _tell("WARN", note)

        server = self.server(**self._server_options())
        _add_plugin_services(server, self.GRPC_SERVICE_NAME)
        for plugin in sets[version].values():
            plugin.server_register(server)

        leaving = Leaving(self._stopper(server))
        _exit.register()
        leaving.enter()
        try:
            network, address = self._listen(server, leaving)
            line = _core.handshake_line(version, network, address, "grpc")
        except (OSError, RuntimeError, ValueError) as error:
            self._stopper(server).stop(None)
            leaving.leave(interrupts=True)
            self._fail(f"cannot serve: {error}")
            return None
        return server, leaving, line

    def _stopper(self, server: Any) -> Any:
        """What has a `stop(grace)` that stops the server without waiting."""
        return server

    def _server_options(self) -> dict[str, Any]:
        """What the configuration says about the server; nothing for what it leaves open."""
        options: dict[str, Any] = {}
        if self._config.max_workers is not None:
            options["max_workers"] = self._config.max_workers
        if self._config.interceptors:
            options["interceptors"] = self._config.interceptors
        return options

    def _fail(self, message: str) -> bool:
        self.error_msg = message
        return False

    def _listen(self, server: Any, leaving: Leaving) -> tuple[str, str]:
        """Give the server its address. Returns: network and address of the handshake line."""
        if self._config.network == "unix":
            try:
                path = _listen_unix(server, leaving)
            except (OSError, RuntimeError, ValueError) as error:  # ValueError: too long a path
                _tell("WARN", f"no unix socket, listening on TCP instead: {error}")
            else:
                _share(path, os.environ.get("PLUGIN_UNIX_SOCKET_GROUP"))
                return "unix", path
        return "tcp", _listen_tcp(server)


class Server(ServerBase):
    """Serves the plugins of a ServeConfig in this process.

    Subclasses may override `server()` to configure the gRPC server or to bring their own: anything
    with the interface of `grpc.Server`.
    """

    def default_grpc_server(self, **opts: Any) -> Any:
        """The server on the C core, with the interface of `grpc.Server`.

        opts: `max_workers`, handlers that run at the same time; `interceptors` and
        `maximum_concurrent_rpcs` as grpcio has them; `options`, pairs of gRPC channel arguments.
        """
        from pygo_plugin import _server

        return _server.Server(**opts)

    def serve(self, wait: bool = False) -> bool:
        """Start to serve and print the handshake line; with `wait`, return when it is all over.

        Returns: False when it could not start; `error_msg` says why. What an author's
        `server_register` raises is passed on.
        """
        opened = self._open()
        if opened is None:
            return False
        server, leaving, line = opened
        try:
            server.start()
            _print_handshake(line)
        except (OSError, RuntimeError, ValueError) as error:
            server.stop(None)
            leaving.leave(interrupts=True)
            return self._fail(f"cannot serve: {error}")
        self._server, self._leaving = server, leaving
        if wait:
            self._wait()
        return True

    def stop(self, grace: float | None = None) -> threading.Event:
        """Stop serving: refuse new calls, cancel those that still run after `grace` seconds.

        None cancels them at once. Never blocks; the event is set when all is over.
        """
        if self._server is None or self._leaving is None:
            from threading import Event

            event = Event()
            event.set()
            return event
        stopped: threading.Event = self._server.stop(grace)
        self._leaving.leave(interrupts=True)
        return stopped

    def _wait(self) -> None:
        try:
            self._server.wait_for_termination()
        finally:
            if self._leaving is not None:
                self._leaving.leave(interrupts=False)


def serve(cfg: ServeConfig) -> None:
    """Serve until the host shuts the plugin down. What a plugin's main program calls.

    When it cannot serve, it says why on stderr and exits with status 1.
    """
    server = Server(cfg)
    if not server.serve():
        _give_up(server.error_msg)
    # Modules and classes stay until the end anyway. Left in the collector, they are gone through
    # once more at exit, and the host waits for that: 16 ms instead of 4 once grpcio is imported.
    gc.freeze()
    server._wait()


def _give_up(message: str) -> NoReturn:
    # A person may have started the plugin: plain words for him. Otherwise a tag for the host's log.
    if message in (MISCONFIGURED, NOT_A_PROGRAM):
        print(message, file=sys.stderr)
    else:
        _tell("ERROR", message)
    sys.exit(1)


def _tell(level: str, message: str) -> None:
    """A line for the host's log, which works before `logging` does (protocol.md 6)."""
    print(f"[{level}] plugin: {message}", file=sys.stderr, flush=True)


def _add_plugin_services(server: Any, name: str) -> None:
    if hasattr(server, "add_plugin_services"):
        server.add_plugin_services(name)
    else:  # grpcio's, from an override of Server.server()
        from pygo_plugin import _grpcio_services

        _grpcio_services.add_plugin_services(server, name)


def _listen_unix(server: Any, leaving: Leaving) -> str:
    path = _core.listen_path(os.environ.get("PLUGIN_UNIX_SOCKET_DIR") or None)
    leaving.path = path  # before there is anything to remove, so that nothing gets forgotten
    if not server.add_insecure_port(f"unix:{path}"):  # older grpcio does not raise
        raise OSError(f"{path}: no socket can be made there")
    return path


def _share(path: str, group: str | None) -> None:
    """Let a group, given by name or number, use the socket: a host under another user asks so."""
    if not group:
        return
    if group.isdigit():
        number = int(group)
    else:
        import grp

        try:
            number = grp.getgrnam(group).gr_gid
        except KeyError:
            raise ValueError(f"PLUGIN_UNIX_SOCKET_GROUP: there is no group {group!r}") from None
    os.chown(path, -1, number)
    os.chmod(path, 0o660)


def _listen_tcp(server: Any) -> str:
    low, high = _port("PLUGIN_MIN_PORT", 1024), _port("PLUGIN_MAX_PORT", 65535)
    if low > high:
        raise ValueError(f"PLUGIN_MIN_PORT is {low}, more than PLUGIN_MAX_PORT {high}")
    problem: Exception | None = None
    for _ in range(PORT_ATTEMPTS):
        # 0 stands for no limits, as in go-plugin.
        wanted = _core.listen_port(low, high) if low else 0
        try:
            port = server.add_insecure_port(f"127.0.0.1:{wanted}")
        except (OSError, RuntimeError) as error:  # grpcio raises RuntimeError
            problem = error
            continue
        if port:  # older grpcio does not raise
            return f"127.0.0.1:{port}"
    raise OSError(f"no free port from {low} to {high}: {problem}")


def _port(variable: str, default: int) -> int:
    text = os.environ.get(variable)
    if not text:
        return default
    try:
        port = int(text)
    except ValueError:
        port = -1
    if not 0 <= port <= 65535:
        raise ValueError(f"{variable} must be a port, but is {text!r}")
    return port


def _print_handshake(line: bytes) -> None:
    """Write the line, and have `logging` speak hclog, whichever is there first."""
    # Output of the author's that sits in sys.stdout's buffer must not come before the line: hence
    # the descriptor, and one write, so that the host cannot see half of it.
    logging_in_use = "logging" in sys.modules
    if logging_in_use:
        _install_logging()
    os.write(1, line)
    if not logging_in_use:
        _install_logging()


def _install_logging() -> None:
    try:
        descriptor = os.dup(2)
    except OSError:  # started without a stderr
        return
    from pygo_plugin import _plugin_logging

    _plugin_logging.install(descriptor)
