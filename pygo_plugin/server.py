"""The plugin's side: check the cookie, listen, say where, serve until the host has had enough.

protocol.md 3 and internals.md of go-plugin describe what a host expects. Until the handshake line
is out nothing but the C core is imported: it is what the host waits for.
"""

from __future__ import annotations

import gc
import os
import sys

from pygo_plugin._base import at_exit
from pygo_plugin._base.core import _core
from pygo_plugin._serve import panic
from pygo_plugin._serve.cleanup import Leaving
from pygo_plugin._serve.protocol import NoSocketError, Security, port_range, socket_group
from pygo_plugin._serve.stdio import Stdio, keep_stderr
from pygo_plugin.config import ServeConfig, plugin_sets
from pygo_plugin.errors import ConfigError, ConfigTypeError, StartError, TLSError, _importing

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    import threading
    from typing import Any, NoReturn

    from pygo_plugin._serve.grpc_protocol import GrpcProtocol
    from pygo_plugin._serve.protocol import Protocol
    from pygo_plugin.config import ReattachConfig

__all__ = ["Server", "serve"]

PORT_ATTEMPTS = 20  # a free port can be gone when it is listened on

# What the process gets to end by itself when the host has died, in seconds: at least so much, and
# so much more than its handlers get. The host would have ended it by force.
PATIENCE = 5.0
PATIENCE_AFTER_GRACE = 3.0

MISCONFIGURED = (
    "Misconfigured plugin: its handshake config has no magic cookie key or value. "
    "Please report this to the plugin's author."
)
NO_FALLBACK = (
    'ServeConfig(network="tcp") would serve on TCP instead, where without mutual TLS everybody on '
    "this machine may connect"
)
NOT_A_PROGRAM = (
    "This program is a plugin. It is not meant to be run directly: "
    "start the program that uses it, which loads its plugins by itself."
)
# Neither value is shown: hosts' configurations do not show theirs either.
OTHER_VALUE = (
    "The magic cookie of the host is not that of this plugin: the environment variable {} is set, "
    "and has another value than the plugin's handshake config. Start the plugin with the program "
    "that it was made for; the HandshakeConfig of both has to have the same magic_cookie_value."
)
OTHER_KEY = (
    "The magic cookie of the host is not that of this plugin: it has not set the environment "
    "variable {}. Start the plugin with the program that it was made for; the HandshakeConfig of "
    "both has to have the same magic_cookie_key."
)
SPAWNED = (
    "serve() was called in a child process that multiprocessing has spawned, which imports the "
    "program of the plugin once more. Such a child cannot serve, and exits. Call serve() below "
    '`if __name__ == "__main__":`, which is false in the child'
)


class PluginServerBase:
    """What serving with threads and with asyncio have in common: all but the waiting."""

    GRPC_SERVICE_NAME = "plugin"
    """The name under which the health service reports, fixed by the protocol."""

    def __init__(self, cfg: ServeConfig) -> None:
        if not isinstance(cfg, ServeConfig):
            raise ConfigTypeError(f"Server() takes a ServeConfig, not {type(cfg).__name__}")
        self.error_msg = ""
        """Why `serve()` or `check_magic_key()` returned False."""
        self._config = cfg
        self._protocol: Protocol | None = None  # once it serves
        self._leaving: Leaving | None = None  # likewise
        self._reattach: ReattachConfig | None = None  # in test mode, once it listens
        self._stdio = Stdio()

    def check_magic_key(self) -> bool:
        """Whether a host started this process: whether the environment holds the magic cookie.

        If not, or if the handshake config has no cookie at all, `error_msg` says what to do.
        """
        handshake = self._config.handshake_config
        key, value = handshake.magic_cookie_key, handshake.magic_cookie_value
        if not key or not value:
            return self._fail(MISCONFIGURED)
        found = os.environ.get(key)
        if found == value:
            return True
        if found is not None:
            return self._fail(OTHER_VALUE.format(key))
        if "PLUGIN_PROTOCOL_VERSIONS" in os.environ:
            return self._fail(OTHER_KEY.format(key))
        return self._fail(NOT_A_PROGRAM)

    def reattach_config(self) -> ReattachConfig:
        """Where it serves in test mode; not `valid` before that, and under a host."""
        from pygo_plugin.config import ReattachConfig  # which a plugin under a host does not need

        return self._reattach or ReattachConfig()

    def server(self, **opts: Any) -> Any:
        """Make the server. Overrides usually call `self.default_grpc_server(...)`.

        opts: `max_workers`, `interceptors` and `options` (gRPC's channel arguments, which stand for
        the limits of the configuration, too), each if the configuration sets it.
        """
        return self.default_grpc_server(**opts)

    def default_grpc_server(self, **opts: Any) -> Any:
        """Make a server on the C core."""
        raise NotImplementedError

    def _make_protocol(self, security: Security) -> Protocol:
        """Make the server, and choose how to deal with it."""
        with _importing("pygo_plugin._serve.grpc_protocol"):
            from pygo_plugin._serve.grpc_protocol import GrpcOptions

        options = GrpcOptions(self._config)
        server = self.server(**options.keywords)
        return self._protocol_class(server)(server, self._config, security, options)

    def _protocol_class(self, server: Any) -> type[GrpcProtocol]:
        """What serves with this server."""
        raise NotImplementedError

    def _open(self) -> tuple[Any, Leaving, bytes] | None:
        """The protocol, which listens, what tidies up after it, and its handshake line.

        None when it cannot serve; `error_msg` says why.
        """
        if self._protocol is not None:
            self._fail("this Server serves already")
            return None
        if _in_spawned_child():
            self._fail(SPAWNED)
            return None
        test = self._config.test is not None  # no host, and a process that is not ours alone
        if not test:
            _occupy_standard_descriptors()
            if not self.check_magic_key():
                return None
            panic.announce()
        try:
            sets = plugin_sets(self._config, "ServeConfig")
            security = self._secure(test)
        except (ConfigError, TLSError) as error:
            self._fail(str(error))
            return None
        version = max(sets)
        if not test:
            version, notes = _core.negotiate(
                sorted(sets), os.environ.get("PLUGIN_PROTOCOL_VERSIONS")
            )
            for note in notes:
                _tell("WARN", note)

        protocol = self._make_protocol(security)
        protocol.add_services(self.GRPC_SERVICE_NAME, self._stdio)
        try:
            protocol.register(sets[version].values())
        except NoSocketError as error:
            protocol.stop(None)
            protocol.close()
            self._fail(f"cannot serve: {error}")
            return None

        leaving = Leaving(protocol, self._stdio)
        at_exit.register()
        leaving.enter(signals=not test)
        try:
            network, address = self._listen(protocol, security, leaving)
            protocol.listens(network)
            if test:
                from pygo_plugin.config import ReattachConfig

                self._reattach = ReattachConfig(
                    protocol.name, network, address, os.getpid(), True, version
                )
            field, multiplexes = security.field(), protocol.multiplexes()
            line = _core.handshake_line(
                version, network, address, protocol.name, field, multiplexes
            )
        except (OSError, RuntimeError, ValueError) as error:
            self._not_serving(protocol, leaving, error)
            return None
        return protocol, leaving, line

    def _serving(self, protocol: Protocol, leaving: Leaving, line: bytes) -> None:
        """The server has started: tell the host."""
        if self._config.test is None:
            self._watch_host(protocol, leaving)
            protocol.log_to(2)
            _print_handshake(line, self._stdio, self._config.logger)
        elif self._config.test.sync_stdio:
            self._stdio.borrow()
        self._protocol, self._leaving = protocol, leaving

    def _tell_test(self, protocol: Protocol, leaving: Leaving) -> None:
        """In test mode, say where it serves. What the author's `ready` raises is passed on."""
        if self._config.test is None:
            return

        def stop() -> None:
            self._stdio.end()  # or the stop would cut the output off
            protocol.stop(None)

        try:
            self._config.test.serving(self.reattach_config(), stop)
        except BaseException as error:
            self._stdio.end()
            self._not_serving(protocol, leaving, error)
            raise

    def _not_serving(self, protocol: Protocol, leaving: Leaving, error: BaseException) -> bool:
        protocol.stop(None)
        protocol.close()
        leaving.leave(interrupts=True)
        return self._fail(f"cannot serve: {error}")

    def _watch_host(self, protocol: Protocol, leaving: Leaving) -> None:
        """Leave when the host has died, unless this plugin is one to outlive it."""
        if self._config.outlive_host or os.environ.get("PYGO_PLUGIN_DETACHED"):
            return
        grace = self._config.shutdown_grace

        def gone() -> None:
            leaving.remove()
            protocol.remove_sockets()  # a handler may outlast the patience
            protocol.stop(grace)

        try:
            _core.watch_host(gone, max(PATIENCE, grace + PATIENCE_AFTER_GRACE))
        except (OSError, MemoryError) as error:
            _tell("WARN", f"this plugin would not notice the end of its host: {error}")

    def _secure(self, test: bool) -> Security:
        """Settle what to serve with: the author's TLS, what the host asks for, or plain text."""
        # Nobody else's business, least of all that of processes which this one may start.
        certificate = "" if test else os.environ.pop("PLUGIN_CLIENT_CERT", "")
        if self._config.tls_provider is not None:
            from pygo_plugin import security

            given = self._config.tls_provider()
            if not isinstance(given, security.TLSConfig):
                raise ConfigTypeError(
                    f"ServeConfig.tls_provider must return a TLSConfig, not {type(given).__name__}"
                )
            if certificate:
                _tell(
                    "WARN", "the host asks for AutoMTLS, but this plugin's tls_provider goes first"
                )
            config = given._need_certificate()
            return Security(given._tls, config)
        if certificate:
            return Security(_core.TLS.automatic(os.fsencode(certificate)))
        return Security()

    def _fail(self, message: str) -> bool:
        self.error_msg = message
        return False

    def _listen(self, protocol: Protocol, security: Security, leaving: Leaving) -> tuple[str, str]:
        """Give the server its address. Returns: network and address of the handshake line."""
        own_directory = protocol.prepare_to_listen()
        leaving.mux = protocol.mux
        directory, group = os.environ.get("PLUGIN_UNIX_SOCKET_DIR") or None, socket_group()
        if directory is None and not group:
            directory = own_directory
        if self._config.network == "unix":
            alone = self._config.test is None
            try:
                place = _core.SocketPlace(directory, group)
                leaving.take(place)
                _listen_unix(protocol, place, alone)
                return "unix", place.path
            except (OSError, RuntimeError) as error:
                if not security.admits_only_hosts():
                    raise OSError(f"{error}. {NO_FALLBACK}") from None
                _tell("WARN", f"no unix socket, listening on TCP instead: {error}")
        return "tcp", _listen_tcp(protocol)


class Server(PluginServerBase):
    """Serves the plugins of a ServeConfig in this process.

    Subclasses may override `server()` to configure the gRPC server or to bring their own: anything
    with the interface of `grpc.Server`.
    """

    def _protocol_class(self, server: Any) -> type[GrpcProtocol]:
        with _importing("pygo_plugin._grpc.server"):
            from pygo_plugin._grpc.server import GrpcServerBase
        if isinstance(server, GrpcServerBase):
            from pygo_plugin._serve.grpc_protocol import GrpcProtocol

            return GrpcProtocol
        from pygo_plugin._serve.grpcio_protocol import GrpcioProtocol

        return GrpcioProtocol

    def default_grpc_server(self, **opts: Any) -> Any:
        """The server on the C core, with the interface of `grpc.Server`.

        opts: `max_workers`, handlers that run at the same time; `interceptors` and
        `maximum_concurrent_rpcs` as grpcio has them; `options`, pairs of gRPC channel arguments.
        """
        with _importing("pygo_plugin._grpc.server"):
            from pygo_plugin._grpc import server

        return server.Server(**opts)

    def serve(self, wait: bool = False) -> bool:
        """Start to serve and print the handshake line; with `wait`, return when it is all over.

        Returns: False when it could not start; `error_msg` says why. What an author's
        `server_register` raises is passed on.
        """
        opened = self._open()
        if opened is None:
            return False
        protocol, leaving, line = opened
        try:
            protocol.start()
            self._serving(protocol, leaving, line)
        except (OSError, RuntimeError, ValueError) as error:
            return self._not_serving(protocol, leaving, error)
        self._tell_test(protocol, leaving)
        if wait:
            self._wait()
        return True

    def stop(self, grace: float | None = None) -> threading.Event:
        """Stop serving: refuse new calls, cancel those that still run after `grace` seconds.

        None cancels them at once. Printed output is sent to the host first. That takes no time
        unless the host does not read it, and then at most a second. The event is set when no call
        is left and all connections are closed.
        """
        if self._protocol is None or self._leaving is None:
            from threading import Event

            event = Event()
            event.set()
            return event
        if self._protocol.cuts_output_off(grace):
            self._stdio.end()
        stopped: threading.Event = self._protocol.stop(grace)
        self._leaving.leave(interrupts=True)
        if not self._protocol.has_connections():
            return stopped
        return _close_after(stopped, self._protocol)

    def _wait(self) -> None:
        """Return when it is all over, once it serves."""
        if self._protocol is None or self._leaving is None:
            return
        try:
            self._protocol.wait()
        finally:
            self._protocol.close()
            self._stdio.end()
            self._leaving.leave(interrupts=False)


def _close_after(stopped: threading.Event, protocol: Protocol) -> threading.Event:
    """Close the connections, which running calls may use, when the server has stopped.

    Returns: the event that is set when both is done.
    """
    if stopped.is_set():
        protocol.close()
        return stopped
    from threading import Event, Thread

    closed = Event()

    def close() -> None:
        stopped.wait()
        protocol.close()
        closed.set()

    Thread(target=close, name="pygo-stop", daemon=True).start()
    return closed


def serve(cfg: ServeConfig) -> None:
    """Serve until the host shuts the plugin down. What a plugin's main program calls.

    When it cannot serve, it says why on stderr and exits with status 1. In test mode it raises a
    StartError instead.

    Call it below `if __name__ == "__main__":`. A child process that multiprocessing spawns imports
    the main program again, and a call there is one that cannot serve.
    """
    server = Server(cfg)
    if not server.serve():
        _give_up(server.error_msg, cfg)
    if cfg.test is not None:
        server._wait()
        return
    # Modules and classes stay until the end anyway. Left in the collector, they are gone through
    # once more at exit, and the host waits for that: 16 ms instead of 4 once grpcio is imported.
    gc.freeze()
    server._wait()


def _give_up(message: str, cfg: ServeConfig) -> NoReturn:
    if cfg.test is not None:
        raise StartError(message)
    if message == SPAWNED:
        if not panic.write_to_parents_log(f"[ERROR] plugin: {message}\n"):
            _tell("ERROR", message)
    elif panic.is_announced():
        panic.say(message)
    else:  # a person has started it
        print(message, file=sys.stderr)
    sys.exit(1)


def _occupy_standard_descriptors() -> None:
    """Give descriptors that this process was started without to /dev/null.

    Otherwise the core's own descriptors would get their numbers, which are replaced by pipes later.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            os.set_inheritable(descriptor, True)


def _in_spawned_child() -> bool:
    """Whether this is a child of multiprocessing's that imports the main program.

    It is the fork server's process, too. Neither is meant to do what the main program does.
    """
    process = sys.modules.get("multiprocessing.process")
    return process is not None and getattr(process.current_process(), "_inheriting", False)


def _tell(level: str, message: str) -> None:
    """A line for the host's log, which works before `logging` does (protocol.md 6)."""
    print(f"[{level}] plugin: {message}", file=sys.stderr, flush=True)


def _listen_unix(protocol: Protocol, place: _core.SocketPlace, alone: bool) -> None:
    """Listen on a new socket. `alone`: nothing else in this process minds a umask for a moment."""
    umask = os.umask(0o177) if alone else None  # nobody else gets in before the mode is set
    try:
        protocol.listen_unix(place)
    finally:
        if umask is not None:
            os.umask(umask)
    place.publish()


def _listen_tcp(protocol: Protocol) -> str:
    low, high = port_range()
    if low > high:
        raise ValueError(f"PLUGIN_MIN_PORT is {low}, more than PLUGIN_MAX_PORT {high}")
    problem: Exception | None = None
    for _ in range(PORT_ATTEMPTS):
        # 0 stands for no limits, as in go-plugin.
        wanted = _core.listen_port(low, high) if low else 0
        try:
            port = protocol.listen_tcp(f"127.0.0.1:{wanted}")
        except (OSError, RuntimeError) as error:  # grpcio raises RuntimeError
            problem = error
            continue
        if port:  # older grpcio does not raise
            return f"127.0.0.1:{port}"
    raise OSError(f"no free port from {low} to {high}: {problem}")


def _print_handshake(line: bytes, stdio: Stdio, logger: logging.Logger | None) -> None:
    """Redirect what is printed, write the line, and have `logging` speak hclog."""
    logging_in_use = "logging" in sys.modules
    log = _log_descriptor()
    if log is not None:
        panic.log_to(log)
        # Set by hosts of this package with `sync_stderr`. It is not for this process's children.
        keep_stderr(log, sync=os.environ.pop("PYGO_PLUGIN_SYNC_STDERR", "") == "1")
    if logging_in_use:
        _install_logging(log, logger)
    # Output of the author's that sits in sys.stdout's buffer must not come before the line: hence
    # the descriptor, and one write, so that the host cannot see half of it.
    try:
        stdio.open(line)
    except (OSError, ValueError) as error:
        os.write(1, line)
        _tell("WARN", f"what is printed cannot be sent to the host: {error}")
    if not logging_in_use:
        _install_logging(log, logger)


def _log_descriptor() -> int | None:
    try:
        return os.dup(2)
    except OSError:  # started without a stderr
        return None


def _install_logging(descriptor: int | None, logger: logging.Logger | None) -> None:
    if descriptor is not None:
        from pygo_plugin._log import plugin

        plugin.install(descriptor, logger)
