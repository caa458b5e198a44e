"""Configurations of security: TLS with certificates of your own, and checksums of executables.

Imported only where it is used, so that it does not slow the start of other plugins.
"""

from __future__ import annotations

import os

from pygo_plugin._base import checks as check
from pygo_plugin._base.core import _core
from pygo_plugin.errors import ConfigError, ConfigTypeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Union

    from typing_extensions import Self

    Pem = Union[bytes, str, "os.PathLike[str]"]

__all__ = ["SecureConfig", "TLSConfig"]

DEFAULT_MAX_SIZE = 1 << 30  # bytes


class TLSConfig:
    """The certificates of one side, and those that it trusts. Immutable.

        TLSConfig("ca.pem")                                                 # a host
        TLSConfig(certificate="plugin.pem", key="plugin.key")               # its plugin
        TLSConfig("ca.pem", certificate="both.pem", key="both.key")         # mutual, on either side

    roots         the certificates that must have signed that of the other side. On a host, None
                  means those of the system. A plugin with roots accepts only hosts with such a
                  certificate; without roots it does not ask for one
    certificate   the certificate of this side, followed by intermediate ones; plugins need one
    key           its private key; None: `certificate` contains it
    server_name   the name that a host expects in the plugin's certificate; None: "localhost", since
                  a plugin's address is a socket or a port
    password      the password of an encrypted key

    Each of the first three is a path, or PEM as bytes or str. The constructor reads the files.
    Connections use TLS 1.2 or later.
    """

    __slots__ = ("_key", "_tls", "certificate", "roots", "server_name")

    _key: bytes | None
    _tls: _core.TLS
    roots: bytes | None
    certificate: bytes | None
    server_name: str

    def __init__(
        self,
        roots: Pem | None = None,
        certificate: Pem | None = None,
        key: Pem | None = None,
        *,
        server_name: str | None = None,
        password: str | bytes | None = None,
    ) -> None:
        """Raises: ConfigError if a file is unreadable or not PEM, or the key is of another pair."""
        if server_name is not None and not isinstance(server_name, str):
            raise ConfigTypeError(
                f"TLSConfig.server_name must be a str, not {type(server_name).__name__}"
            )
        set_ = object.__setattr__
        set_(self, "roots", _pem("roots", roots))
        set_(self, "certificate", _pem("certificate", certificate))
        set_(self, "_key", self.certificate if key is None else _pem("key", key))
        set_(self, "server_name", server_name or "localhost")
        if password is not None and not isinstance(password, (str, bytes)):
            raise ConfigTypeError(
                f"TLSConfig.password must be a str or bytes, not {type(password).__name__}"
            )
        secret = password.decode() if isinstance(password, bytes) else password
        try:
            tls = _core.TLS(self.roots, self.certificate, self._key, self.server_name, secret)
        except ConfigError as error:
            raise ConfigError(f"TLSConfig: {error}") from None
        set_(self, "_tls", tls)

    if not TYPE_CHECKING:  # with a visible __setattr__, mypy would let misspelt attributes pass

        def __setattr__(self, name: str, value: Any) -> None:
            raise AttributeError(f"TLSConfig cannot be changed: make another one ({name})")

    def __eq__(self, other: object) -> bool:
        if isinstance(other, TLSConfig):
            return self._compared() == other._compared()
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._compared())

    def __copy__(self) -> TLSConfig:
        return self

    def __deepcopy__(self, memo: object) -> TLSConfig:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self._key is not None and b"ENCRYPTED" in self._key:
            raise TypeError(
                "a TLSConfig with an encrypted key cannot be pickled, because its password is not "
                "kept: make it from its files in each process"
            )
        own_key = self._key is not self.certificate
        fields = (self.roots, self.certificate, self._key if own_key else None, self.server_name)
        return _restore_tls, fields

    def _compared(self) -> tuple[Any, ...]:
        return self.roots, self.certificate, self._key, self.server_name

    def __repr__(self) -> str:
        shown = [f"{name}=..." for name in ("roots", "certificate") if getattr(self, name)]
        if self._key:
            shown.append("key=...")
        return f"TLSConfig({', '.join([*shown, f'server_name={self.server_name!r}'])})"

    def _need_certificate(self) -> TLSConfig:
        if self.certificate is None:
            raise ConfigError("TLSConfig: a plugin needs a certificate and its key")
        return self

    def _grpcio_server_credentials(self) -> Any:
        """The credentials for a server of grpcio."""
        import grpc

        pairs: list[Any] = [(self._key, self.certificate)]
        return grpc.ssl_server_credentials(pairs, self.roots, self.roots is not None)


class SecureConfig:
    """The checksum that a plugin's executable must have to be run. Immutable.

        SecureConfig("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")
        SecureConfig.from_file("SHA512SUMS", "kv-plugin")

    checksum   bytes, or their hexadecimal digits
    hash       "sha256", "sha384", "sha512" or another digest by OpenSSL's name
    max_size   how many bytes the executable may have (1 GiB); larger files are not read

    A copy of the executable is made, checked and run, so that it cannot be changed in between.
    """

    __slots__ = ("checksum", "hash", "max_size")

    checksum: bytes
    hash: str
    max_size: int

    def __init__(
        self,
        checksum: bytes | str,
        hash: str = "sha256",  # noqa: A002
        *,
        max_size: int = DEFAULT_MAX_SIZE,
    ) -> None:
        """Raises: ConfigError if the checksum or the hash is missing, unknown or does not match."""
        digest = _checksum(checksum)
        if not isinstance(hash, str):
            raise ConfigTypeError(
                f"SecureConfig.hash must be the name of a hash, not {type(hash).__name__}"
            )
        if not digest:
            raise ConfigError("SecureConfig: there is no checksum")
        if not hash:
            raise ConfigError('SecureConfig: there is no hash; it may be "sha256"')
        try:
            size = _core.digest_size(hash)
        except ConfigError as error:
            raise ConfigError(f"SecureConfig: {error}") from None
        if len(digest) != size:
            raise ConfigError(
                f"SecureConfig: a checksum of {hash} has {size} bytes, this one has {len(digest)}"
            )
        object.__setattr__(self, "checksum", digest)
        object.__setattr__(self, "hash", hash)
        object.__setattr__(self, "max_size", check.positive("SecureConfig.max_size", max_size))

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        name: str,
        hash: str | None = None,  # noqa: A002
        *,
        max_size: int = DEFAULT_MAX_SIZE,
    ) -> Self:
        """The checksum of `name` in a file written by `sha256sum` or a similar command.

        Its lines are "CHECKSUM  NAME", or "SHA256 (NAME) = CHECKSUM" with `--tag`. Without `hash`,
        the length of the checksum chooses between md5, sha1, sha256, sha384 and sha512.

        Raises: ConfigError if the file cannot be read, has no line for `name`, or has lines for it
        with different checksums.
        """
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                lines = file.read().splitlines()
        except OSError as error:
            raise ConfigError(
                f"SecureConfig: {os.fspath(path)} cannot be read: {error.strerror}"
            ) from None
        wanted = _without_dot(name)
        found = {
            (checksum.lower(), tag)
            for checksum, entry, tag in map(_entry, lines)
            if checksum and _without_dot(entry) == wanted
        }
        if len(found) != 1:
            problem = "several checksums" if found else "no checksum"
            raise ConfigError(f"SecureConfig: {os.fspath(path)} has {problem} for {name!r}")
        ((checksum, tag),) = found
        if hash is None:
            hash = tag or _HASHES.get(len(checksum), "")  # noqa: A001
            if not hash:
                raise ConfigError(
                    f"SecureConfig: {os.fspath(path)}: a checksum of {len(checksum)} digits does "
                    f"not tell its hash; give that of {name!r} by name"
                )
        return cls(checksum, hash, max_size=max_size)

    if not TYPE_CHECKING:

        def __setattr__(self, name: str, value: Any) -> None:
            raise AttributeError(f"SecureConfig cannot be changed: make another one ({name})")

    def __eq__(self, other: object) -> bool:
        if isinstance(other, SecureConfig):
            return self._compared() == other._compared()
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._compared())

    def __copy__(self) -> SecureConfig:
        return self

    def __deepcopy__(self, memo: object) -> SecureConfig:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore_secure, (self.checksum, self.hash, self.max_size)

    def _compared(self) -> tuple[Any, ...]:
        return self.checksum, self.hash, self.max_size

    def _for_core(self) -> tuple[str, bytes, int]:
        return self.hash, self.checksum, min(self.max_size, 2**63)

    def __repr__(self) -> str:
        size = "" if self.max_size == DEFAULT_MAX_SIZE else f", max_size={self.max_size}"
        return f"SecureConfig({self.checksum.hex()!r}, {self.hash!r}{size})"


def _restore_tls(roots: Any, certificate: Any, key: Any, server_name: str) -> TLSConfig:
    """A pickled TLSConfig."""
    return TLSConfig(roots, certificate, key, server_name=server_name)


def _restore_secure(checksum: bytes, hash: str, max_size: int) -> SecureConfig:  # noqa: A002
    """A pickled SecureConfig."""
    return SecureConfig(checksum, hash, max_size=max_size)


_HASHES = {32: "md5", 40: "sha1", 64: "sha256", 96: "sha384", 128: "sha512"}  # by digits


def _checksum(value: Any) -> bytes:
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if not isinstance(value, str):
        raise ConfigTypeError(
            f"SecureConfig.checksum must be bytes or hexadecimal digits, not {type(value).__name__}"
        )
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise ConfigError(
            "SecureConfig.checksum: a str must consist of hexadecimal digits, two for each byte"
        ) from None


def _entry(line: str) -> tuple[str, str, str]:
    """Checksum, name and hash of a line; the hash may be empty. Other lines: all are empty."""
    escaped = line.startswith("\\")
    line = line[escaped:]
    checksum, _, name = line.partition(" ")
    found = (checksum, name[1:], "")  # before the name is a space (text) or an asterisk (binary)
    if not _is_hex(checksum):
        tag, _, rest = line.partition(" (")
        name, _, checksum = rest.rpartition(") = ")
        found = (checksum, name, tag.lower().replace("-", ""))
    if not _is_hex(found[0]):
        return "", "", ""
    if escaped:
        name = found[1].replace("\\\\", "\0").replace("\\n", "\n").replace("\0", "\\")
        found = (found[0], name, found[2])
    return found


def _is_hex(text: str) -> bool:
    return bool(text) and all(digit in "0123456789abcdefABCDEF" for digit in text)


def _without_dot(name: str) -> str:
    return name[2:] if name.startswith("./") else name


def _pem(what: str, value: Any) -> bytes | None:
    """PEM as bytes. `value` is PEM, or the path of a file with PEM."""
    if value is None or (isinstance(value, bytes) and b"-----BEGIN " in value):
        return value
    if isinstance(value, str) and "-----BEGIN " in value:
        return value.encode()
    if isinstance(value, bytes):
        raise ConfigError(f"TLSConfig.{what}: the bytes are not PEM; a path has to be a str")
    if not isinstance(value, (str, os.PathLike)):
        raise ConfigTypeError(
            f"TLSConfig.{what} must be a path, or PEM as bytes or str, not {type(value).__name__}"
        )
    try:
        with open(value, "rb") as file:
            return file.read()
    except OSError as error:
        name = os.fsdecode(value)
        raise ConfigError(f"TLSConfig.{what}: {name} cannot be read: {error.strerror}") from None
