"""Every exception that pygo_plugin raises on its own account.

    PluginError
    ├── ConfigError (ValueError)         wrong or contradictory configuration
    │   └── ConfigTypeError (TypeError)  a value of the wrong type
    ├── StartError                       the plugin could not be started
    │   ├── ExitedEarlyError             ... it exited before its handshake
    │   ├── StartTimeoutError (TimeoutError)
    │   ├── HandshakeError               ... its first line was not a handshake
    │   └── VersionError                 ... it speaks other versions than the host
    ├── ChecksumError                    the executable is not the expected one; nothing was started
    ├── TLSError                         no secure connection to the plugin comes about
    ├── ReattachError                    nothing answers where a running plugin should be
    ├── BrokerError                      a brokered connection could not be made
    ├── ClosedError (ValueError)         used before its start, or after it was killed
    ├── SystemCallError (OSError)        the system refused something: descriptors, threads
    ├── ForkedError                      used in a child that was forked while gRPC was running
    └── RpcError                         a call failed; also a grpc.RpcError

Messages start with the plugin's name. A leaf module: it imports nothing. The extension calls
`cls(message)` and then sets the attributes.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pygo_plugin._grpc.status import StatusCode

__all__ = [
    "PluginError",
    "ConfigError",
    "ConfigTypeError",
    "StartError",
    "ExitedEarlyError",
    "StartTimeoutError",
    "HandshakeError",
    "VersionError",
    "ChecksumError",
    "TLSError",
    "ReattachError",
    "BrokerError",
    "ClosedError",
    "SystemCallError",
    "ForkedError",
    "RpcError",
]


class PluginError(Exception):
    """Base of all errors of this package."""


class ConfigError(PluginError, ValueError):
    """The configuration is wrong, contradictory, or asks for what this version cannot do."""


class ConfigTypeError(ConfigError, TypeError):
    """A configuration value has the wrong type."""


class StartError(PluginError):
    """The plugin could not be started. Its process, if there was one, is gone and reaped."""


class ExitedEarlyError(StartError):
    """The plugin's process exited before it printed its handshake line."""

    exit_status: int = 0
    """The exit status as in `subprocess`: -N when signal N ended the process."""

    stderr: str = ""
    """The last part of what the process wrote to its stderr."""


class StartTimeoutError(StartError, TimeoutError):
    """The plugin printed no handshake line within `start_timeout`."""

    stderr: str = ""
    """The last part of what the process wrote to its stderr."""


class HandshakeError(StartError):
    """The plugin's first line of stdout is not a handshake that the host can accept."""

    line: bytes = b""
    """The line as it was read, perhaps cut short."""


class VersionError(StartError):
    """The plugin speaks none of the host's protocol versions. The message names those of both."""

    plugin_version: int = 0
    """The application protocol version that the plugin chose."""

    host_versions: Sequence[int] = ()
    """The application protocol versions that the host offered."""


class ChecksumError(PluginError):
    """The plugin's executable has not the checksum of its SecureConfig. Nothing was started."""

    hash: str = ""
    """The name of the hash."""

    expected: str = ""
    """The checksum that it should have, in hexadecimal digits."""

    found: str = ""
    """The one that it has."""


class TLSError(PluginError):
    """No secure connection to the plugin comes about. One that was launched has been killed."""

    reason: str = ""
    """What is wrong: "expired", "not yet valid", "unknown authority", "name mismatch" or "invalid
    certificate", all of the plugin's certificate; "no certificate", "plaintext" or "protocol", all
    of the plugin; "refused" or "closed" by the plugin, maybe because of the host's certificate;
    "configuration", settings of either side that gRPC or OpenSSL does not accept; or "timeout"."""


class ReattachError(PluginError):
    """No plugin could be reached at the address of a ReattachConfig."""


class BrokerError(PluginError):
    """A further connection between host and plugin could not be made: see `pygo_plugin.broker`."""


class ClosedError(PluginError, ValueError):
    """The client has not been started, or it has been killed, or its channel has been closed."""


class SystemCallError(PluginError, OSError):
    """The operating system refused something: descriptors, threads, an address.

    `errno` is the number of the error where it is known.
    """


class ForkedError(PluginError):
    """This process is a fork of one in which gRPC was running, or the object is the parent's.

    Connections and threads of gRPC do not survive a fork. Fork before anything of this package is
    started, or after everything is killed, stopped and closed; or start processes with the methods
    "spawn" or "forkserver" of `multiprocessing`. See docs/lifecycle.md.
    """


class RpcError(PluginError):
    """A call to the plugin failed.

    What calls raise is a subclass that is a `grpc.RpcError` and a `grpc.Call` as well, so that
    `except grpc.RpcError` and `error.code() == grpc.StatusCode.NOT_FOUND` work.
    """

    if TYPE_CHECKING:  # that subclass is made when it is known whether there is a grpcio

        def code(self) -> StatusCode:
            raise NotImplementedError

        def details(self) -> str | Any:
            raise NotImplementedError

        def initial_metadata(self) -> Sequence[Any]:
            raise NotImplementedError

        def trailing_metadata(self) -> Sequence[Any]:
            raise NotImplementedError

        def debug_error_string(self) -> str | Any:
            raise NotImplementedError


def _not_imported(name: str, error: OSError) -> SystemCallError:
    """What use of a module raises that is imported late, and for which there is no descriptor."""
    made = SystemCallError(f"{name} cannot be imported now: {error}")
    made.errno = error.errno
    return made


class _importing:
    """Around an import that happens late: at the limit of descriptors it fails with one of ours."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError):
            raise _not_imported(self._name, error) from error
