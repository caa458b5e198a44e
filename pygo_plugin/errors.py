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
    ├── TLSError                         no secure connection to the plugin could be made
    ├── ReattachError                    no running plugin answers at the given address
    ├── BrokerError                      a brokered connection could not be made
    ├── ClosedError (ValueError)         used before the start, or after the end
    ├── PluginExitedError                the process of a supervised plugin has ended
    ├── PluginFailedError                a supervisor has given its plugin up
    ├── SystemCallError (OSError)        the system refused something: descriptors, threads
    ├── LibraryError                     gRPC's or OpenSSL's shared library cannot be loaded
    ├── MissingPackageError (ModuleNotFoundError)  something needs grpcio or protobuf
    ├── ForkedError                      used in a child forked while the package was in use
    ├── ServerError                      a net/rpc call was answered with an error
    ├── CallTimeoutError (TimeoutError)  a net/rpc call was not answered within its timeout
    ├── GobError (ValueError)            gob cannot encode a value as its type, or decode bytes
    └── RpcError                         a call failed; also a grpc.RpcError

Messages start with the plugin's name, except those of ServerError. A leaf module: it imports
nothing. The extension calls `cls(message)` and then sets the attributes.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    import grpc

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
    "PluginExitedError",
    "PluginFailedError",
    "SystemCallError",
    "LibraryError",
    "MissingPackageError",
    "ForkedError",
    "ServerError",
    "CallTimeoutError",
    "GobError",
    "RpcError",
]


class PluginError(Exception):
    """Base of all errors of this package."""


class ConfigError(PluginError, ValueError):
    """The configuration is wrong or contradictory, or this version does not support it."""


class ConfigTypeError(ConfigError, TypeError):
    """A configuration value has the wrong type."""


class StartError(PluginError):
    """The plugin could not be started. Its process, if there was one, has ended and been reaped."""

    errno: int | None = None
    """The number of the error for which the system did not execute the program; else None."""


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
    """The plugin's first line of stdout is not a handshake line that the host accepts."""

    line: bytes = b""
    """The line as it was read, perhaps truncated."""


class VersionError(StartError):
    """Host and plugin have no protocol version in common. The message names those of both."""

    plugin_version: int = 0
    """The application protocol version that the plugin chose."""

    host_versions: Sequence[int] = ()
    """The application protocol versions that the host offered."""


class ChecksumError(PluginError):
    """The plugin's executable does not have the checksum of its SecureConfig.

    Nothing was started.
    """

    hash: str = ""
    """The name of the hash."""

    expected: str = ""
    """The checksum that the executable should have, in hexadecimal digits."""

    found: str = ""
    """The checksum that it has."""


class TLSError(PluginError):
    """No secure connection to the plugin could be made. If it was launched, it has been killed."""

    reason: str = ""
    """What is wrong. About the plugin's certificate: "expired", "not yet valid", "unknown
    authority", "name mismatch" or "invalid certificate". About the plugin: "no certificate",
    "plaintext" or "protocol". "refused" or "closed": by the plugin, perhaps because of the host's
    certificate. "configuration": gRPC or OpenSSL does not accept the settings of one side.
    "timeout": the plugin did not answer."""


class ReattachError(PluginError):
    """No plugin could be reached at the address of a ReattachConfig."""


class BrokerError(PluginError):
    """A further connection between host and plugin could not be made. See `pygo_plugin.broker`."""


class ClosedError(PluginError, ValueError):
    """The client has not been started or has been killed, or its channel has been closed.

    Calls over net/rpc raise it if their connection has ended. If that is because the plugin's
    process has ended, the message says how, and has the end of its stderr.
    """

    exit_status: int | None = None
    """The exit status, as in `subprocess`, of a plugin whose end has ended the call; else None."""

    stderr: str = ""
    """The last part of what that plugin has written to its stderr, at most 4 KiB."""


class PluginExitedError(PluginError):
    """The process of a supervised plugin has ended, and what belonged to it has ended with it.

    It is the `__cause__` of what calls raise that the end has cut off.
    """

    exit_status: int | None = None
    """The exit status, as in `subprocess`: -N when signal N ended the process. None if unknown."""

    stderr: str = ""
    """The last part of what the process has written to its stderr, at most 4 KiB."""


class PluginFailedError(PluginError):
    """A supervisor has given its plugin up, and starts it again only when it is told to.

    Its `__cause__` is the error of the last start, or the `PluginExitedError` of the last process.
    """

    exit_status: int | None = None
    """The last process's exit status, as in `subprocess`; None if unknown or if none started."""

    stderr: str = ""
    """The last part of what the last process has written to its stderr, at most 4 KiB."""

    attempts: int = 0
    """How many times the plugin was launched, since the supervisor's start or last `restart()`."""


class SystemCallError(PluginError, OSError):
    """The operating system refused something: descriptors, threads, an address.

    `errno` is the number of the error where it is known.
    """


class LibraryError(PluginError):
    """A shared library that this package was built with is missing, or is another version.

    gRPC's library is loaded when something first uses gRPC, OpenSSL's by TLS and checksums.
    """


class MissingPackageError(PluginError, ModuleNotFoundError):
    """Something was used that needs an optional package, which is not installed.

    The message names the extra of this package that installs it, such as grpcio or protobuf. `name`
    is the name of the missing module, as for any ModuleNotFoundError.
    """


class ForkedError(PluginError):
    """This process was forked while the package was in use, or the object belongs to the parent.

    Connections and threads do not survive a fork. Fork before anything of this package has
    been started, or after all of it has been killed, stopped and closed. Or start processes with
    the methods "spawn" or "forkserver" of `multiprocessing`. See docs/lifecycle.md.
    """


class ServerError(PluginError):
    """A net/rpc call was answered with an error, whose text is the message, without any addition.

    A method that is called over net/rpc may raise it, too: it answers with that text, as any other
    exception does, but is not logged.
    """


class CallTimeoutError(PluginError, TimeoutError):
    """A net/rpc call was not answered within its timeout. An answer that comes later is dropped."""


class GobError(PluginError, ValueError):
    """A value that gob cannot encode as its type, or bytes that it cannot decode."""

    path: str = ""
    """Where in the value, such as `Order.Items[3].Price`; "" if the bytes are no gob."""


if TYPE_CHECKING:

    class _FailedCall(PluginError, grpc.RpcError, grpc.Call):  # type: ignore[misc]
        pass
else:
    _FailedCall = PluginError


class RpcError(_FailedCall):
    """A call to the plugin failed.

    Calls raise a subclass. Once the program has imported grpcio, it is a `grpc.RpcError` and a
    `grpc.Call` too, so that `except grpc.RpcError` and `error.code() == grpc.StatusCode.NOT_FOUND`
    work.

    If the end of the plugin's process has ended the call, the code is UNAVAILABLE, `details()`
    begins with the plugin's name and how it has ended, and the text of the exception has the end of
    its stderr.
    """

    exit_status: int | None = None
    """The exit status, as in `subprocess`, of a plugin whose end has ended the call; else None."""

    stderr: str = ""
    """The last part of what that plugin has written to its stderr, at most 4 KiB."""

    if TYPE_CHECKING:  # the subclass is made at run time, where grpcio may be installed

        def code(self) -> StatusCode:
            raise NotImplementedError

        def details(self) -> str | Any:
            raise NotImplementedError

        def initial_metadata(self) -> tuple[Any, ...]:
            raise NotImplementedError

        def trailing_metadata(self) -> tuple[Any, ...]:
            raise NotImplementedError

        def debug_error_string(self) -> str | Any:
            raise NotImplementedError

        def add_callback(self, callback: Any) -> bool:
            raise NotImplementedError

        def cancel(self) -> bool:
            raise NotImplementedError

        def is_active(self) -> bool:
            raise NotImplementedError

        def time_remaining(self) -> float | Any:
            raise NotImplementedError


def _not_imported(name: str, error: OSError) -> SystemCallError:
    """The exception for a module that cannot be imported, for instance without descriptors."""
    made = SystemCallError(f"{name} cannot be imported now: {error}")
    made.errno = error.errno
    return made


class _importing:
    """Has a late import that fails at the limit of descriptors raise a SystemCallError."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError):
            raise _not_imported(self._name, error) from error


# The modules of optional packages: the packages, and the extras that install those.
_EXTRAS = {
    "grpc": ("grpcio", "grpcio"),
    "google": ("protobuf", "protobuf"),
    "google.protobuf": ("protobuf", "protobuf"),
    "watchfiles": ("watchfiles", "watch"),
    "distributed": ("distributed", "dask"),
}


class _needing:
    """Has the import of an optional package raise a MissingPackageError if it is not installed."""

    def __init__(self, what: str) -> None:
        """`what` begins the message: what needs the package."""
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        # A MissingPackageError has a message already.
        if type(error) is ModuleNotFoundError and error.name in _EXTRAS:
            package, extra = _EXTRAS[error.name]
            made = MissingPackageError(
                f"{self._what} needs {package}, which is not installed: "
                f"pip install 'pygo-plugin[{extra}]'"
            )
            made.name = error.name
            raise made from error
