"""Credentials plugins, which give calls metadata: the Python side of metadata_call_credentials().

Imported when one of them is first called.
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
    """The call that needs metadata: "https://host/package.Service" and "Method"."""

    _implements = ("AuthMetadataContext",)


def ask_plugin(
    plugin: tuple[Callable[[Any, Any], Any], str, Context],
    service_url: str,
    method_name: str,
    answer: _core.AuthAnswer,
) -> None:
    """Call a credentials plugin on a new thread, as grpcio does. Called by the core.

    The plugin comes with its name and its context variables. It may block, for instance to fetch a
    token by another call that needs credentials in turn. The core has one thread to ask plugins,
    which must not wait for it.
    """
    context = AuthMetadataContext(service_url, method_name)
    call, name, variables = plugin
    threading.Thread(
        # A copy, because several calls may ask at once and only one thread can enter a context.
        target=variables.copy().run,
        args=(_call_plugin, call, name, context, answer),
        name="pygo-credentials",
        daemon=True,
    ).start()


def _call_plugin(
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
