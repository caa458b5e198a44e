"""Addresses of net/rpc servers, and what clients and servers are configured with."""

from __future__ import annotations

from pygo_plugin.errors import ConfigError, ConfigTypeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pygo_plugin._base.core import _core
    from pygo_plugin.gob import Limits
    from pygo_plugin.security import TLSConfig

__all__ = ["core_limits", "core_tls", "parse"]

_LIMITS = ("message", "depth", "types", "definitions", "fields", "name", "slots")


def parse(address: Any) -> tuple[str, str]:
    """The network, "unix" or "tcp", and the path or host:port of an address."""
    if not isinstance(address, str):
        raise ConfigTypeError(
            f"the address must be a str, as in 'unix:/path' or 'host:port', not {address!r}"
        )
    if address.startswith("unix:"):
        path = address[len("unix:") :]
        if not path or "\0" in path:
            raise ConfigError(f"the address {address!r} has no path of a socket")
        return "unix", path
    host, colon, port = address.rpartition(":")
    if not colon:
        raise ConfigError(f"the address {address!r} must be 'unix:/path' or 'host:port'")
    if not port.isdecimal() or int(port) > 65535:
        raise ConfigError(
            f"the address {address!r} must end with a port, which is a number from 0 to 65535"
        )
    return "tcp", f"{host or '127.0.0.1'}:{port}"


def core_tls(tls_config: TLSConfig | None) -> _core.TLS | None:
    """The certificates of a TLSConfig in the core."""
    if tls_config is None:
        return None
    tls = getattr(tls_config, "_tls", None)
    if tls is None:
        raise ConfigTypeError(f"tls_config must be a TLSConfig, not {tls_config!r}")
    return tls  # type: ignore[no-any-return]


def core_limits(limits: Limits | None) -> tuple[int, ...] | None:
    """A gob.Limits as the core takes it: a number each, 0 for the default."""
    if limits is None:
        return None
    try:
        return tuple([getattr(limits, name) or 0 for name in _LIMITS])
    except AttributeError:
        raise ConfigTypeError(f"limits must be a gob.Limits, not {limits!r}") from None
