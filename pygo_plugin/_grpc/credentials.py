"""Plugins that give calls their credentials: the Python side of metadata_call_credentials().

Imported when the first one is asked.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextvars import Context
from typing import Any, NamedTuple

from pygo_plugin._base.core import _core
from pygo_plugin._grpc.abstract import Abstract

__all__ = ["AuthMetadataContext", "ask_plugin"]


class _Context(NamedTuple):
    service_url: str
    method_name: str


class AuthMetadataContext(_Context, Abstract):
    """The call that wants metadata: "https://host/package.Service" and "Method"."""

    _implements = ("AuthMetadataContext",)


def ask_plugin(
    plugin: tuple[Callable[[Any, Any], Any], str, Context],
    service_url: str,
    method_name: str,
    answer: _core.AuthAnswer,
) -> None:
    """Have the plugin, which comes with its name and its context variables, called on a thread of
    its own, as grpcio does.

    It may well block, to fetch a token by another call, say, which asks here in turn. The core's
    one thread for questions must not wait for it.
    """
    context = AuthMetadataContext(service_url, method_name)
    call, name, variables = plugin
    threading.Thread(
        # Several calls may ask at once, and each enters a context of its own.
        target=variables.copy().run,
        args=(_run, call, name, context, answer),
        name="pygo-credentials",
        daemon=True,
    ).start()


def _run(
    plugin: Callable[[Any, Any], Any],
    name: str,
    context: AuthMetadataContext,
    answer: _core.AuthAnswer,
) -> None:
    try:
        plugin(context, answer)
    except Exception as error:
        logging.getLogger("pygo_plugin.rpc").exception(
            "the credentials plugin %s raised", name, exc_info=error
        )
        if not answer.answered:
            answer(None, error)
