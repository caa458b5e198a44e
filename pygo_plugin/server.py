"""The plugin's side: check the magic cookie, listen, write the handshake line, and serve.

go-plugin's protocol.md (section 3) and internals.md describe what a host expects. The host waits
for the handshake line, so nothing but the C core is imported before the line is written. What
depends on the protocol is in _serve/protocol.py and the modules that it names.
"""

from __future__ import annotations

import gc
import os
import sys

from pygo_plugin._base import at_exit
from pygo_plugin._base.checks import refuse_copy, refuse_other_protocols
from pygo_plugin._base.core import _core
from pygo_plugin._serve import panic
from pygo_plugin._serve.cleanup import Cleanup
from pygo_plugin._serve.protocol import NoSocketError, Security, port_range, socket_group
from pygo_plugin._serve.stdio import Stdio, keep_stderr
from pygo_plugin.config import SERVE_OPTIONS, ServeConfig, plugin_sets, set_protocol
from pygo_plugin.errors import ConfigError, ConfigTypeError, StartError, TLSError, _importing

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    import threading
    from typing import Any, ClassVar, NoReturn

    from pygo_plugin._serve.grpc_protocol import GrpcProtocol
    from pygo_plugin._serve.netrpc_protocol import NetrpcProtocol
    from pygo_plugin._serve.protocol import Protocol
    from pygo_plugin.config import ReattachConfig

__all__ = ["Server", "serve"]

PORT_ATTEMPTS = 20  # another process may take a free port before this one listens on it

# How many seconds after its host's death the core ends this process by force, as the host would
# have done: at least PATIENCE, and PATIENCE_AFTER_GRACE more than its handlers have to end.
PATIENCE = 5.0
PATIENCE_AFTER_GRACE = 3.0

MISCONFIGURED = (
    "Misconfigured plugin: its handshake config has no magic cookie key or value. "
    "Please report this to the plugin's author."
)
NO_FALLBACK = (
    'ServeConfig(network="tcp") would serve on TCP instead, where any process on this machine may '
    "connect unless there is mutual TLS"
)
NOT_A_PROGRAM = (
    "This program is a plugin. It is not meant to be run directly: "
    "start the program that uses it, which loads its plugins by itself."
)
# Neither value is shown, as the repr of a HandshakeConfig does not show it either.
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
    """What the servers for threads and for asyncio share: everything except waiting."""

    _PUBLIC: ClassVar[str]  # what repr() calls the class
    _ON_LOOP: ClassVar[bool] = False  # whether it serves on an event loop

    GRPC_SERVICE_NAME = "plugin"
    """The name under which the health service reports, fixed by the protocol."""

    def __init__(self, cfg: ServeConfig) -> None:
        if not isinstance(cfg, ServeConfig):
            raise ConfigTypeError(f"Server() takes a ServeConfig, not {type(cfg).__name__}")
        self.error_msg = ""
        """Why `serve()` or `check_magic_key()` returned False."""
        self._config = cfg
        self._protocol: Protocol | None = None  # once it serves
        self._cleanup: Cleanup | None = None  # likewise
        self._reattach: ReattachConfig | None = None  # in test mode, once it listens
        self._stdio = Stdio()

    def __repr__(self) -> str:
        sets = (self._config.plugins, *self._config.versioned_plugins.values())
        names = ", ".join(sorted({repr(name) for plugins in sets for name in plugins}))
        state = "not started" if self._protocol is None else f"serving {self._protocol.name}"
        if self.error_msg:
            state = f"failed: {self.error_msg.partition(chr(10))[0]}"
        return f"<{self._PUBLIC} of {names or 'no plugins'}, {state}>"

    __reduce_ex__ = refuse_copy

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
        """Where it serves in test mode; not `valid` before it listens, nor under a host."""
        from pygo_plugin.config import ReattachConfig  # which a plugin under a host does not need

        return self._reattach or ReattachConfig()

    def server(self, **opts: Any) -> Any:
        """Make the server. Overrides usually call `self.default_grpc_server(...)`.

        opts: `max_workers`, `interceptors` and `options` (gRPC's channel arguments, which include
        the limits of the configuration), each only if the configuration sets it.
        """
        return self.default_grpc_server(**opts)

    def default_grpc_server(self, **opts: Any) -> Any:
        """Make a server on the C core."""
        raise NotImplementedError

    def _make_protocol(self, name: str, security: Security) -> Protocol:
        """Make the server, and choose the protocol object for it."""
        if name == "netrpc":
            return self._netrpc_protocol_class()(self._config, security)
        with _importing("pygo_plugin._serve.grpc_protocol"):
            from pygo_plugin._serve.grpc_protocol import GrpcOptions

        options = GrpcOptions(self._config)
        server = self.server(**options.keywords)
        return self._protocol_class(server)(server, self._config, security, options)

    def _protocol_class(self, server: Any) -> type[GrpcProtocol]:
        """The class of the protocol object for this server."""
        raise NotImplementedError

    def _netrpc_protocol_class(self) -> type[NetrpcProtocol]:
        """The class of the protocol object for net/rpc."""
        raise NotImplementedError

    def _open(self) -> tuple[Protocol, Cleanup, bytes] | None:
        """Make a server that listens.

        Returns: its protocol object, what cleans up after it, and its handshake line; None if it
        cannot serve, and `error_msg` says why.
        """
        if self._protocol is not None:
            self._fail("this Server serves already")
            return None
        wait_as_template(self._config, on_loop=self._ON_LOOP)
        if _in_spawned_child():
            self._fail(SPAWNED)
            return None
        # In test mode there is no host, and the process runs other things than this plugin.
        test = self._config.test is not None
        if not test:
            _occupy_standard_descriptors()
            if not self.check_magic_key():
                return None
            panic.announce()
        try:
            sets = plugin_sets(self._config, "ServeConfig")
            spoken = {set_protocol(plugins) for plugins in sets.values()}
            refuse_other_protocols(self._config, "ServeConfig", SERVE_OPTIONS, spoken)
            security = self._choose_security(test)
        except (ConfigError, TLSError) as error:
            self._fail(str(error))
            return None
        version = max(sets)
        if not test:
            version, notes = _core.negotiate(
                sorted(sets), os.environ.get("PLUGIN_PROTOCOL_VERSIONS")
            )
            for note in notes:
                _log("WARN", note)

        protocol = self._make_protocol(set_protocol(sets[version]), security)
        protocol.add_services(self.GRPC_SERVICE_NAME, self._stdio)
        try:
            protocol.register(sets[version])
        except NoSocketError as error:
            protocol.stop(None)
            protocol.close()
            self._fail(f"cannot serve: {error}")
            return None

        cleanup = Cleanup(protocol, self._stdio)
        at_exit.register()
        cleanup.install(signals=not test)
        try:
            network, address = self._listen(protocol, security, cleanup)
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
            self._abandon(protocol, cleanup, error)
            return None
        return protocol, cleanup, line

    def _announce(self, protocol: Protocol, cleanup: Cleanup, line: bytes) -> None:
        """Tell the host that the server has started."""
        if self._config.test is None:
            self._watch_host(protocol, cleanup)
            protocol.log_to(2)
            _print_handshake(line, self._stdio, self._config.logger)
        elif self._config.test.sync_stdio:
            self._stdio.borrow()
        self._protocol, self._cleanup = protocol, cleanup

    def _announce_to_test(self, protocol: Protocol, cleanup: Cleanup) -> None:
        """In test mode, call `ready`. What it raises is passed on."""
        if self._config.test is None:
            return

        def stop() -> None:
            self._stdio.end()  # first, since the stop would cut off its stream
            protocol.stop(None)

        try:
            self._config.test.serving(self.reattach_config(), stop)
        except BaseException as error:
            self._stdio.end()
            self._abandon(protocol, cleanup, error)
            raise

    def _abandon(self, protocol: Protocol, cleanup: Cleanup, error: BaseException) -> bool:
        """Undo what `_open` has done, because of the error. Returns: False."""
        protocol.stop(None)
        protocol.close()
        cleanup.finish(interrupts=True)
        return self._fail(f"cannot serve: {error}")

    def _watch_host(self, protocol: Protocol, cleanup: Cleanup) -> None:
        """Stop serving when the host has died, unless the plugin is to outlive it."""
        if self._config.outlive_host or os.environ.get("PYGO_PLUGIN_DETACHED"):
            return
        grace = self._config.shutdown_grace

        def gone() -> None:
            cleanup.remove_socket()
            protocol.remove_sockets()  # at once: the process is killed if a handler takes long
            protocol.stop(grace)

        try:
            _core.watch_host(gone, max(PATIENCE, grace + PATIENCE_AFTER_GRACE))
        except (OSError, MemoryError) as error:
            _log("WARN", f"this plugin would not notice the end of its host: {error}")

    def _choose_security(self, test: bool) -> Security:
        """The TLS of the plugin's author, else AutoMTLS if the host asks for it, else none."""
        # Removed, so that the processes which this one starts do not inherit it.
        certificate = "" if test else os.environ.pop("PLUGIN_CLIENT_CERT", "")
        if self._config.tls_provider is not None:
            from pygo_plugin import security

            given = self._config.tls_provider()
            if not isinstance(given, security.TLSConfig):
                raise ConfigTypeError(
                    f"ServeConfig.tls_provider must return a TLSConfig, not {type(given).__name__}"
                )
            if certificate:
                _log(
                    "WARN",
                    "the host asks for AutoMTLS, but this plugin's tls_provider goes first",
                )
            config = given._need_certificate()
            return Security(given._tls, config)
        if certificate:
            return Security(_core.TLS.automatic(os.fsencode(certificate)))
        return Security()

    def _fail(self, message: str) -> bool:
        """Set `error_msg` to the reason why it cannot serve. Returns: False."""
        self.error_msg = message
        return False

    def _listen(self, protocol: Protocol, security: Security, cleanup: Cleanup) -> tuple[str, str]:
        """Have the server listen. Returns: network and address for the handshake line."""
        own_directory = protocol.prepare_to_listen()
        cleanup.mux = protocol.mux
        directory, group = os.environ.get("PLUGIN_UNIX_SOCKET_DIR") or None, socket_group()
        if directory is None and not group:
            directory = own_directory
        if self._config.network == "unix":
            alone = self._config.test is None
            try:
                place = _core.SocketPlace(directory, group)
                cleanup.add_socket(place)
                _listen_unix(protocol, place, alone)
                return "unix", place.path
            except (OSError, RuntimeError) as error:
                if not security.admits_only_hosts():
                    raise OSError(f"{error}. {NO_FALLBACK}") from None
                _log("WARN", f"no unix socket, listening on TCP instead: {error}")
        return "tcp", _listen_tcp(protocol)


class Server(PluginServerBase):
    """Serves the plugins of a ServeConfig in this process.

    Subclasses may override `server()` to configure the gRPC server or to bring their own: anything
    with the interface of `grpc.Server`.
    """

    _PUBLIC = "pygo_plugin.Server"

    def _protocol_class(self, server: Any) -> type[GrpcProtocol]:
        with _importing("pygo_plugin._grpc.server"):
            from pygo_plugin._grpc.server import GrpcServerBase
        if isinstance(server, GrpcServerBase):
            from pygo_plugin._serve.grpc_protocol import GrpcProtocol

            return GrpcProtocol
        from pygo_plugin._serve.grpcio_protocol import GrpcioProtocol

        return GrpcioProtocol

    def _netrpc_protocol_class(self) -> type[NetrpcProtocol]:
        with _importing("pygo_plugin._serve.netrpc_protocol"):
            from pygo_plugin._serve.netrpc_protocol import NetrpcProtocol

        return NetrpcProtocol

    def default_grpc_server(self, **opts: Any) -> Any:
        """The server on the C core, with the interface of `grpc.Server`.

        opts: `max_workers`, how many handlers may run at the same time; `interceptors` and
        `maximum_concurrent_rpcs` as grpcio has them; `options`, gRPC's channel arguments.
        """
        with _importing("pygo_plugin._grpc.server"):
            from pygo_plugin._grpc import server

        return server.Server(**opts)

    def serve(self, wait: bool = False) -> bool:
        """Start to serve and print the handshake line; with `wait`, return when serving has ended.

        Returns: False if it could not start; `error_msg` says why. What a plugin's
        `server_register` raises is passed on.
        """
        opened = self._open()
        if opened is None:
            return False
        protocol, cleanup, line = opened
        try:
            protocol.start()
            self._announce(protocol, cleanup, line)
        except (OSError, RuntimeError, ValueError) as error:
            return self._abandon(protocol, cleanup, error)
        self._announce_to_test(protocol, cleanup)
        if wait:
            self._wait()
        return True

    def stop(self, grace: float | None = None) -> threading.Event:
        """Stop serving: refuse new calls, cancel those that still run after `grace` seconds.

        None cancels them at once. Printed output is sent to the host first. That takes no time
        unless the host does not read it, and then at most a second. The event is set when no call
        is left and all connections are closed.
        """
        if self._protocol is None or self._cleanup is None:
            from threading import Event

            event = Event()
            event.set()
            return event
        if self._protocol.cuts_output_off(grace):
            self._stdio.end()
        stopped: threading.Event = self._protocol.stop(grace)
        self._cleanup.finish(interrupts=True)
        if not self._protocol.has_connections():
            return stopped
        return _close_after(stopped, self._protocol)

    def _wait(self) -> None:
        """Wait until serving has ended, and clean up."""
        if self._protocol is None or self._cleanup is None:
            return
        try:
            self._protocol.wait()
        finally:
            self._protocol.close()
            self._stdio.end()
            self._cleanup.finish(interrupts=False)


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
    """Serve until the host shuts the plugin down. A plugin's main program calls this.

    If it cannot serve, it says why on stderr and exits with status 1. In test mode it raises a
    StartError instead.

    Call it below `if __name__ == "__main__":`. A child process that multiprocessing spawns imports
    the main program again, and cannot serve.
    """
    server = Server(cfg)
    if not server.serve():
        _refuse_to_serve(server.error_msg, cfg)
    if cfg.test is not None:
        server._wait()
        return
    # Modules and classes stay until the end anyway. If they were left in the garbage collector, it
    # would traverse them at exit, and the host waits for that: 16 ms instead of 4 with grpcio.
    gc.freeze()
    server._wait()


def wait_as_template(cfg: ServeConfig, on_loop: bool = False) -> None:
    """If the host has started this process as a template, wait: what returns is a copy of it."""
    if cfg.test is not None or "PYGO_PLUGIN_TEMPLATE" not in os.environ:
        return
    from pygo_plugin._serve import template

    template.wait(cfg, on_loop)


def _refuse_to_serve(message: str, cfg: ServeConfig) -> NoReturn:
    """Report why it cannot serve: in test mode raise an exception, otherwise write to stderr."""
    if cfg.test is not None:
        raise StartError(message)
    if message == SPAWNED:
        if not panic.write_to_parents_log(f"[ERROR] plugin: {message}\n"):
            _log("ERROR", message)
    elif panic.is_announced():
        panic.write(message)
    else:  # a user has started it by hand
        print(message, file=sys.stderr)
    sys.exit(1)


def _occupy_standard_descriptors() -> None:
    """Open /dev/null for each of the descriptors 0, 1 and 2 that is closed.

    Otherwise the core's own descriptors would get these numbers, and be replaced by pipes later.
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
    """Whether multiprocessing has started this process, which imports the main program only.

    The process of its fork server counts, too.
    """
    process = sys.modules.get("multiprocessing.process")
    return process is not None and getattr(process.current_process(), "_inheriting", False)


def _log(level: str, message: str) -> None:
    """Write a line to the host's log, without `logging` (protocol.md, section 6)."""
    print(f"[{level}] plugin: {message}", file=sys.stderr, flush=True)


def _listen_unix(protocol: Protocol, place: _core.SocketPlace, alone: bool) -> None:
    """Listen on a new socket. `alone`: the process may have another umask for a moment."""
    umask = os.umask(0o177) if alone else None  # no other user can connect before the mode is set
    try:
        protocol.listen_unix(place)
    finally:
        if umask is not None:
            os.umask(umask)
    place.publish()


def _listen_tcp(protocol: Protocol) -> str:
    """Listen on a port that the host allows. Returns: the address."""
    low, high = port_range()
    if low > high:
        raise ValueError(f"PLUGIN_MIN_PORT is {low}, more than PLUGIN_MAX_PORT {high}")
    problem: Exception | None = None
    for _ in range(PORT_ATTEMPTS):
        # A lowest port of 0 means that any port will do, as in go-plugin.
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
    """Redirect the output of this process, write the line, and have `logging` write hclog."""
    logging_in_use = "logging" in sys.modules
    log = _log_descriptor()
    if log is not None:
        panic.log_to(log)
        # Hosts of this package set it if they have `sync_stderr`. Child processes must not get it.
        keep_stderr(log, sync=os.environ.pop("PYGO_PLUGIN_SYNC_STDERR", "") == "1")
    if logging_in_use:
        _install_logging(log, logger)
    # Written to the descriptor, since output that waits in sys.stdout's buffer must not come before
    # the line, and in one write, so that the host cannot see half of it.
    try:
        stdio.open(line)
    except (OSError, ValueError) as error:
        os.write(1, line)
        _log("WARN", f"what is printed cannot be sent to the host: {error}")
    if not logging_in_use:
        _install_logging(log, logger)


def _log_descriptor() -> int | None:
    """A duplicate of stderr, which is the host's log; None if it is closed."""
    try:
        return os.dup(2)
    except OSError:
        return None


def _install_logging(descriptor: int | None, logger: logging.Logger | None) -> None:
    if descriptor is not None:
        from pygo_plugin._log import plugin

        plugin.install(descriptor, logger)
