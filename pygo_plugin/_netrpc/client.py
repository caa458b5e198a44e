"""Clients of net/rpc."""

from __future__ import annotations

from pygo_plugin._base import at_exit
from pygo_plugin._base.checks import refuse_copy
from pygo_plugin._base.core import _core
from pygo_plugin._netrpc.address import core_limits, core_tls, parse

TYPE_CHECKING = False  # typing is not imported at run time: a host's start would pay for it
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    from typing_extensions import Self

    from pygo_plugin._netrpc.future import Future
    from pygo_plugin.gob import Limits
    from pygo_plugin.security import TLSConfig

__all__ = ["Client", "connect"]


class Client(_core.NetRpcClient):
    """The calling side of a net/rpc connection, for any number of threads and calls at once.

        with netrpc.connect("unix:/run/arith.sock") as client:
            total = client.call("Arith.Add", Args(a=1, b=2), reply=int)

    Made by `connect`, by a plugin's `client(id)`, never directly.
    """

    __slots__ = ("_peer",)

    _peer: str
    """What it is connected to, for repr()."""

    def go(
        self, method: str, args: Any = None, reply: Any = ..., *, args_type: Any = ...
    ) -> Future:
        """As `call`, but without waiting. Returns: a future of the reply."""
        from pygo_plugin._netrpc.future import Future

        return self._start(Future, method, args, reply, args_type=args_type)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<netrpc.{self._shown()}>"

    __reduce_ex__ = refuse_copy

    def _shown(self) -> str:
        """What repr() says of it. It has no peer before its maker has set one."""
        peer = getattr(self, "_peer", "")
        return f"{type(self).__name__}{' to ' * bool(peer)}{peer}{', closed' * self.closed}"


def connect(
    address: str,
    *,
    tls_config: TLSConfig | None = None,
    timeout: float | None = None,
    limits: Limits | None = None,
) -> Client:
    """Connect to a server that speaks net/rpc, as Go's `rpc.Dial` does.

    address      "unix:/path" or "host:port"
    tls_config   the certificates that are trusted, and one's own
    timeout      seconds for connecting, including TLS; None: no limit
    limits       what replies may be; see `gob.Limits`

    Raises: SystemCallError (an OSError), TLSError, TimeoutError.
    """
    network, where = parse(address)
    at_exit.register()
    client: Client = _core.call_blocking(
        Client._connect, network, where, core_tls(tls_config), core_limits(limits), timeout
    )
    client._peer = address
    return client
