"""Fixtures for pytest, which finds them by the package's entry point. See docs/testing.md.

Where the package is installed, every run of pytest imports this module. Therefore it imports
nothing else of the package before a fixture is used.
"""

from __future__ import annotations

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from typing import Any

    from pygo_plugin import Client

__all__ = ["pygo_aio_stub", "pygo_client", "pygo_stub"]


@pytest.fixture
def pygo_client() -> Iterator[Callable[..., Client]]:
    """`pygo_client(plugins, **options)`: a started client of plugins served in this process.

    Takes what `pygo_plugin.testing.client` takes. May be called any number of times.
    """
    from contextlib import ExitStack

    from pygo_plugin import testing

    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(testing.client(*args, **options))


@pytest.fixture
def pygo_stub() -> Iterator[Callable[..., Any]]:
    """`pygo_stub(plugin)` or `pygo_stub(plugins, name)`: a stub of a plugin served in this process.

    Takes what `pygo_plugin.testing.stub` takes. May be called any number of times.
    """
    from contextlib import ExitStack

    from pygo_plugin import testing

    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(testing.stub(*args, **options))


@pytest.fixture
def pygo_aio_stub() -> Iterator[Callable[..., Awaitable[Any]]]:
    """`await pygo_aio_stub(plugin)`: a stub for asyncio, on the loop that runs the test.

    The plugin's methods may be coroutines. They run on another loop on another thread.
    """
    from contextlib import ExitStack

    from pygo_plugin import aio, testing
    from pygo_plugin.config import PROTOCOLS

    with ExitStack() as stack:

        async def dispense(plugin: Any, name: str | None = None, **options: Any) -> Any:
            plugins, name = testing.named(plugin, name)
            reattach = stack.enter_context(testing.serve(plugins, asyncio=True, **options))
            client = aio.Client(
                name=name if name.isprintable() else None,
                reattach_config=reattach,
                plugins=plugins,
                allowed_protocols=PROTOCOLS,
                handshake_config=options.get("handshake_config"),
            )
            stack.callback(client._client.kill)  # needs no loop
            return testing.stub_of(await client.dispense(name))

        yield dispense
