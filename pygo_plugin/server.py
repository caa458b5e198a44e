"""The plugin's side: check the cookie, listen, say where, serve until the host has had enough.

protocol.md 3 and internals.md of go-plugin describe what a host expects. Until the handshake line
is out nothing but the C core is imported: it is what the host waits for.
"""

from __future__ import annotations

import gc
import os
import sys

from pygo_plugin._base import at_exit, checks
from pygo_plugin._base.core import _core
from pygo_plugin._serve import panic
from pygo_plugin._serve.cleanup import Leaving
from pygo_plugin._serve.stdio import Stdio, keep_stderr
from pygo_plugin.config import ServeConfig, plugin_sets
from pygo_plugin.errors import ConfigError, ConfigTypeError, StartError, TLSError, _importing
from pygo_plugin.plugin import Plugin

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    import threading
    from collections.abc import Callable, Iterable
    from typing import Any, NoReturn

    from pygo_plugin.config import ReattachConfig
    from pygo_plugin.security import TLSConfig

    # What makes a server listen on an address and returns the port, or takes the one connection.
    _Listener = Callable[[str], int] | _core.Mux

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
        self._server: Any = None
        self._leaving: Leaving | None = None
        self._broker: Any = None  # made when a plugin wants it
        self._bridge: Any = None  # to the broker, of a server of grpcio's
        self._mux: _core.Mux | None = None  # when the host wants one connection for everything
        self._tls: _core.TLS | None = None  # of all its connections
        self._reattach: ReattachConfig | None = None  # in test mode, once it listens
        self._stdio = Stdio()
        self._tls_config: TLSConfig | None = None  # where that comes from, unless it is AutoMTLS
        self._quota: _core.MemoryQuota | None = None  # of all its connections

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

    def _open(self) -> tuple[Any, Leaving, bytes] | None:
        """A server that listens, what tidies up after it, and its handshake line.

        None when it cannot serve; `error_msg` says why.
        """
        if self._server is not None:
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
            self._secure(test)
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

        self._quota = checks.memory_quota(self._config)
        server = self.server(**self._server_options())
        stopper = self._stopper(server)
        _add_plugin_services(
            server, self.GRPC_SERVICE_NAME, self._stdio, self._config.shutdown_grace
        )
        try:
            self._register(server, sets[version].values())
        except _NoSocketError as error:
            stopper.stop(None)
            self._close_broker()
            self._fail(f"cannot serve: {error}")
            return None

        leaving = Leaving(stopper, self._stdio)
        at_exit.register()
        leaving.enter(signals=not test)
        try:
            network, address = self._listen(server, leaving)
            if self._broker is not None:
                self._broker.use(network, _ports())
            if test:
                from pygo_plugin.config import ReattachConfig

                self._reattach = ReattachConfig(
                    "grpc", network, address, os.getpid(), True, version
                )
            field = None if self._tls is None else self._tls.field()
            # Hosts that do not know it would take it for a part of the certificate.
            mux = self._mux is not None if _asked_to_multiplex() else None
            line = _core.handshake_line(version, network, address, "grpc", field, mux)
        except (OSError, RuntimeError, ValueError) as error:
            self._not_serving(server, leaving, error)
            return None
        return server, leaving, line

    def _register(self, server: Any, plugins: Iterable[Plugin]) -> None:
        """Have the plugins add their servicers, and those that want the broker get it."""
        core: _core.Broker | None = None
        if hasattr(server, "add_broker"):
            if self._config.test is None and _asked_to_multiplex():
                self._mux = _made(_core.Mux)
            core = server.add_broker(self._tls, self._mux, self._channel_options())
        for plugin in plugins:
            if getattr(type(plugin), "grpc_server", Plugin.grpc_server) is Plugin.grpc_server:
                plugin.server_register(server)
                continue
            if core is None:
                from pygo_plugin._serve.grpcio_broker import Bridge

                self._bridge = _made(lambda: Bridge(server, self._tls, self._channel_options()))
                core = self._bridge.core
            if self._broker is None:
                options = {"options": self._grpc_options(self._config.server_options)}
                self._broker = self._broker_class()(core, "", group=_group(), options=options)
            plugin.grpc_server(self._broker, server)

    def _broker_class(self) -> Any:
        raise NotImplementedError

    def _close_broker(self) -> None:
        if self._broker is not None:
            self._broker.close()
        if self._bridge is not None:
            self._bridge.close()
        if self._mux is not None:
            self._mux.close()

    def _serving(self, server: Any, leaving: Leaving, line: bytes) -> None:
        """The server has started: tell the host."""
        if self._config.test is None:
            self._watch_host(server, leaving)
            if self._mux is not None:
                try:
                    self._mux.log_to(2)
                except OSError:
                    pass  # started without a stderr
            _print_handshake(line, self._stdio, self._config.logger)
        elif self._config.test.sync_stdio:
            self._stdio.borrow()
        self._server, self._leaving = server, leaving

    def _tell_test(self, server: Any, leaving: Leaving) -> None:
        """In test mode, say where it serves. What the author's `ready` raises is passed on."""
        if self._config.test is None:
            return
        stopper = self._stopper(server)

        def stop() -> None:
            self._stdio.end()  # or the stop would cut the output off
            stopper.stop(None)

        try:
            self._config.test.serving(self.reattach_config(), stop)
        except BaseException as error:
            self._stdio.end()
            self._not_serving(server, leaving, error)
            raise

    def _not_serving(self, server: Any, leaving: Leaving, error: BaseException) -> bool:
        self._stopper(server).stop(None)
        self._close_broker()
        leaving.leave(interrupts=True)
        return self._fail(f"cannot serve: {error}")

    def _watch_host(self, server: Any, leaving: Leaving) -> None:
        """Leave when the host has died, unless this plugin is one to outlive it."""
        if self._config.outlive_host or os.environ.get("PYGO_PLUGIN_DETACHED"):
            return
        stopper = self._stopper(server)
        grace = self._config.shutdown_grace

        def gone() -> None:
            leaving.remove()
            if self._mux is not None:
                self._mux.remove()  # a handler may outlast the patience
            stopper.stop(grace)

        try:
            _core.watch_host(gone, max(PATIENCE, grace + PATIENCE_AFTER_GRACE))
        except (OSError, MemoryError) as error:
            _tell("WARN", f"this plugin would not notice the end of its host: {error}")

    def _secure(self, test: bool) -> None:
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
            self._tls_config = given._need_certificate()
            self._tls = given._tls
        elif certificate:
            self._tls = _core.TLS.automatic(os.fsencode(certificate))

    def _port_adder(self, server: Any) -> Callable[[str], int]:
        """What makes the server listen on an address and returns the port."""
        if self._tls is None:
            return server.add_insecure_port  # type: ignore[no-any-return]
        if hasattr(server, "add_plugin_services"):
            credentials = self._tls.server_credentials()
        elif self._tls_config is not None:
            credentials = self._tls_config._grpcio_server_credentials()
        else:
            raise ValueError(
                "the host asks for AutoMTLS, whose keys the TLS library inside grpcio does not "
                "take; serve with default_grpc_server() instead of a server of grpcio's own"
            )
        return lambda address: server.add_secure_port(address, credentials)

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
        of_grpc = self._grpc_options(self._config.server_options)
        if of_grpc:
            options["options"] = of_grpc
        return options

    def _channel_options(self) -> tuple[tuple[Any, Any], ...]:
        """Of what the broker dials."""
        return self._grpc_options(self._config.channel_options)

    def _grpc_options(self, given: Any) -> tuple[tuple[Any, Any], ...]:
        return checks.grpc_options(self._config, self._quota, given)

    def _ends_stdio_first(self, grace: float | None) -> bool:
        """Whether a stop would cut off the stream of output, as any other call.

        Otherwise it ends after the last handler, by the server's doing.
        """
        return not grace or not hasattr(self._server, "add_plugin_services")

    def _fail(self, message: str) -> bool:
        self.error_msg = message
        return False

    def _listen(self, server: Any, leaving: Leaving) -> tuple[str, str]:
        """Give the server its address. Returns: network and address of the handshake line."""
        add_port = self._port_adder(server)
        directory = os.environ.get("PLUGIN_UNIX_SOCKET_DIR") or None
        group, mux = _group(), self._mux
        if mux is not None:
            if directory is None and not group:
                directory = mux.directory  # which a host that has us killed removes with all
            add_port(mux.target)  # where streams arrive
            leaving.mux = mux
        if self._config.network == "unix":
            alone = self._config.test is None
            try:
                place = _core.SocketPlace(directory, group)
                leaving.take(place)
                _listen_unix(mux or add_port, place, alone)
                return "unix", place.path
            except (OSError, RuntimeError) as error:
                if not self._knows_its_clients():
                    raise OSError(f"{error}. {NO_FALLBACK}") from None
                _tell("WARN", f"no unix socket, listening on TCP instead: {error}")
        return "tcp", _listen_tcp(mux or add_port)

    def _knows_its_clients(self) -> bool:
        """Whether nobody but the host gets in by TCP: it has to show a certificate."""
        if self._tls_config is not None:
            return self._tls_config.roots is not None
        return self._tls is not None


class Server(PluginServerBase):
    """Serves the plugins of a ServeConfig in this process.

    Subclasses may override `server()` to configure the gRPC server or to bring their own: anything
    with the interface of `grpc.Server`.
    """

    def default_grpc_server(self, **opts: Any) -> Any:
        """The server on the C core, with the interface of `grpc.Server`.

        opts: `max_workers`, handlers that run at the same time; `interceptors` and
        `maximum_concurrent_rpcs` as grpcio has them; `options`, pairs of gRPC channel arguments.
        """
        with _importing("pygo_plugin._grpc.server"):
            from pygo_plugin._grpc import server

        return server.Server(**opts)

    def _broker_class(self) -> Any:
        with _importing("pygo_plugin.broker"):
            from pygo_plugin.broker import Broker

        return Broker

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
            self._serving(server, leaving, line)
        except (OSError, RuntimeError, ValueError) as error:
            return self._not_serving(server, leaving, error)
        self._tell_test(server, leaving)
        if wait:
            self._wait()
        return True

    def stop(self, grace: float | None = None) -> threading.Event:
        """Stop serving: refuse new calls, cancel those that still run after `grace` seconds.

        None cancels them at once. What was printed reaches the host first, which takes no time but
        with a host that does not read, and then no more than a second. The event is set when all is
        over.
        """
        if self._server is None or self._leaving is None:
            from threading import Event

            event = Event()
            event.set()
            return event
        if self._ends_stdio_first(grace):
            self._stdio.end()
        stopped: threading.Event = self._server.stop(grace)
        self._leaving.leave(interrupts=True)
        if self._broker is None and self._bridge is None and self._mux is None:
            return stopped
        return self._close_broker_after(stopped)

    def _close_broker_after(self, stopped: threading.Event) -> threading.Event:
        """Running calls may use it until they end. The event is set when it is closed, too."""
        if stopped.is_set():
            self._close_broker()
            return stopped
        from threading import Event, Thread

        closed = Event()

        def close() -> None:
            stopped.wait()
            self._close_broker()
            closed.set()

        Thread(target=close, name="pygo-stop", daemon=True).start()
        return closed

    def _wait(self) -> None:
        try:
            self._server.wait_for_termination()
        finally:
            self._close_broker()
            self._stdio.end()
            if self._leaving is not None:
                self._leaving.leave(interrupts=False)


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


class _NoSocketError(StartError):
    """A socket inside this process cannot be made."""


def _made(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except OSError as error:
        raise _NoSocketError(str(error)) from None


def _add_plugin_services(server: Any, name: str, stdio: Stdio, grace: float) -> None:
    if hasattr(server, "add_plugin_services"):
        server.add_plugin_services(name, stdio.core, grace)
    else:  # grpcio's, from an override of Server.server()
        from pygo_plugin._serve import grpcio_services

        grpcio_services.add_plugin_services(server, name, stdio, grace)


def _asked_to_multiplex() -> bool:
    return os.environ.get("PLUGIN_MULTIPLEX_GRPC") == "true"


def _group() -> str | None:
    """Who may use the sockets besides this user, as the host wants it."""
    return os.environ.get("PLUGIN_UNIX_SOCKET_GROUP") or None


def _listen_unix(to: _Listener, place: _core.SocketPlace, alone: bool) -> None:
    """Listen on a new socket. `alone`: nothing else in this process minds a umask for a moment."""
    umask = os.umask(0o177) if alone else None  # nobody else gets in before the mode is set
    try:
        if isinstance(to, _core.Mux):
            to.listen("unix", place.bind)
        elif not to(place.target):  # older grpcio does not raise
            raise OSError(f"{place.path}: no socket can be made there")
    finally:
        if umask is not None:
            os.umask(umask)
    place.publish()


def _ports() -> tuple[int, int]:
    return _port("PLUGIN_MIN_PORT", 1024), _port("PLUGIN_MAX_PORT", 65535)


def _listen_tcp(to: _Listener) -> str:
    low, high = _ports()
    if low > high:
        raise ValueError(f"PLUGIN_MIN_PORT is {low}, more than PLUGIN_MAX_PORT {high}")
    problem: Exception | None = None
    for _ in range(PORT_ATTEMPTS):
        # 0 stands for no limits, as in go-plugin.
        wanted = _core.listen_port(low, high) if low else 0
        try:
            address = f"127.0.0.1:{wanted}"
            port = to.listen("tcp", address) if isinstance(to, _core.Mux) else to(address)
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
