#!/usr/bin/env python3
"""Finds prime factors. Started by the workers of a cluster; see __main__.py."""

from shared import HANDSHAKE, PLUGINS

from pygo_plugin import ServeConfig, serve

if __name__ == "__main__":
    serve(ServeConfig(handshake_config=HANDSHAKE, plugins=PLUGINS))
