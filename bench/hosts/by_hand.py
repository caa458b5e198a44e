"""Launching a plugin as one writes it by hand, without any plugin system."""

from __future__ import annotations

import os
import subprocess

from measure import COOKIE

UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
PATIENCE = 2  # seconds, for a plugin to leave


def launch(command: list[str]) -> tuple[subprocess.Popen[bytes], str]:
    """Start a plugin. Returns: its process, and the target to connect to."""
    key, value = COOKIE
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, key: value, "PLUGIN_PROTOCOL_VERSIONS": "1"},
    )
    assert process.stdout is not None
    network, address = process.stdout.readline().decode().strip().split("|")[2:4]
    return process, f"unix:{address}" if network == "unix" else address


def reap(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
