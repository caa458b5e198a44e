"""What `dispense` of supervisors and pools returns."""

from __future__ import annotations

from pygo_plugin.errors import ClosedError, _importing, _needing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["dispense"]


def dispense(route: Any, client: Any, wanted: Any) -> Any:
    """What a plugin offers, with calls that go to the incarnation that the route gives.

    `client` is of any incarnation. `wanted` is the plugin's name, or the plugin.

    Raises: ConfigError.
    """
    inner = getattr(client, "_client", client)  # an aio.Client's blocking client
    asynchronous = inner is not client
    inner._check_plugin(wanted)
    name, plugin = inner._named_plugin(wanted)
    if plugin._protocol == "grpc":
        from pygo_plugin._supervise.channel import Facade

        with _needing(f"{route.name}: the plugin {name!r}"):  # it may import generated stubs
            return plugin.client(Facade(route, _channel_class(asynchronous)))
    route.retries.refuse_marker(route.name)
    return plugin.client(CurrentBroker(route), _rpc_class(asynchronous)(route, name))


def _channel_class(asynchronous: bool) -> Any:
    if asynchronous:
        with _importing("pygo_plugin._supervise.aio_channel"):
            from pygo_plugin._supervise import aio_channel

        return aio_channel.RoutedChannel
    from pygo_plugin._supervise import channel

    return channel.RoutedChannel


def _rpc_class(asynchronous: bool) -> Any:
    if asynchronous:
        with _importing("pygo_plugin._supervise.aio_netrpc"):
            from pygo_plugin._supervise import aio_netrpc

        return aio_netrpc.RoutedClient
    with _importing("pygo_plugin._supervise.netrpc"):
        from pygo_plugin._supervise import netrpc

    return netrpc.RoutedClient


class CurrentBroker:
    """The broker of whichever incarnation of a plugin takes calls."""

    def __init__(self, route: Any) -> None:
        self._route = route

    def __getattr__(self, name: str) -> Any:
        incarnation = self._route.peek()
        if incarnation is None:
            raise ClosedError(f"{self._route.refuse()}, so it has no broker now")
        return getattr(incarnation.client.broker, name)

    def __repr__(self) -> str:
        return f"<broker of {self._route.name!r}, of whichever process serves>"
