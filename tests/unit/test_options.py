"""The tables of options, and everything that is made from them."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pygo_plugin import (
    Client,
    ClientConfig,
    Cmd,
    ConfigError,
    ReattachConfig,
    SecureConfig,
    ServeConfig,
    TLSConfig,
    aio,
)
from pygo_plugin._base.checks import Option
from pygo_plugin._host.options import AIO_OPTIONS, OPTIONS, TARGETS, ClientOption
from pygo_plugin.config import SERVE_OPTIONS

ROOT = Path(__file__).resolve().parents[2]

NOT_CMD = tuple(option for option in OPTIONS if option.name != "cmd")
CONFLICTS = [(option.name, other) for option in OPTIONS for other in option.conflicts]


class Runner:
    """The attributes of a runner that the option checks."""

    name = "elsewhere"
    start = wait = kill = diagnose = plugin_to_host = host_to_plugin = print


# A value for each option that excludes others.
SET: dict[str, Any] = {
    "auto_mtls": True,
    "broker_multiplex": True,
    "cwd": "/",
    "detach": True,
    "env": {"A": "1"},
    "kill_group": True,
    "managed": True,
    "reattach_config": ReattachConfig("grpc", "unix", "/nowhere/socket", 1),
    "runner": Runner(),
    "secure_config": SecureConfig(bytes(32)),
    "template": True,
    "tls_config": TLSConfig(),
    "unix_socket_dir": "/nowhere",
    "unix_socket_group": "staff",
}


def test_what_is_generated_is_up_to_date() -> None:
    """If this fails, run `python scripts/options.py`, and commit what it has written."""
    command = [sys.executable, "scripts/options.py", "--check"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (ClientConfig, OPTIONS),
        (Client, NOT_CMD),
        (aio.Client, (*NOT_CMD, *AIO_OPTIONS)),
        (ServeConfig, SERVE_OPTIONS),
    ],
)
def test_signatures_show_every_option_with_its_type(
    function: Any, options: tuple[Option, ...]
) -> None:
    parameters = inspect.signature(function).parameters.values()
    found = {
        p.name: re.sub(r"PluginBase\[\w+, \w+\]", "PluginBase", p.annotation)  # generic in hosts
        for p in parameters
        if p.kind is p.KEYWORD_ONLY
    }
    assert found == {
        option.name: option.kind.takes + (" | None" if option.takes_none else "")
        for option in options
    }
    assert not [p for p in parameters if p.kind is p.VAR_KEYWORD]


@pytest.mark.parametrize(
    ("kind", "options"), [(ClientConfig, OPTIONS), (ServeConfig, SERVE_OPTIONS)]
)
def test_every_option_is_a_typed_attribute_and_is_documented(
    kind: Any, options: tuple[Option, ...]
) -> None:
    assert {name: kind.__annotations__[name] for name in kind.__slots__} == {
        option.slot: option.kind.holds for option in options
    }
    config = kind()
    for option in options:
        assert f"{option.name}=" in repr(config)
        assert hasattr(config, option.slot)
        assert option.name in kind.__doc__
        page = option.page.partition("#")[0]
        assert not page or (ROOT / "docs" / page).exists()


def test_conflicts_are_between_options_and_are_no_targets() -> None:
    names = {option.name for option in OPTIONS}
    assert names >= set(TARGETS)
    for option in OPTIONS:
        assert set(option.conflicts) <= names - {option.name}
        assert not set(option.conflicts) & set(option.targets)
        assert option.targets
        assert set(option.targets) <= set(TARGETS)


@pytest.mark.parametrize(("name", "other"), CONFLICTS)
def test_conflicting_options_are_refused_at_the_start(name: str, other: str) -> None:
    options = {name: SET[name], other: SET[other]}
    if other not in TARGETS:
        options["cmd"] = Cmd("plugin-of-mine")
    client = Client(**options)
    found: ClientOption = next(option for option in OPTIONS if option.name == name)
    with pytest.raises(ConfigError) as caught:
        client.start()
    assert str(caught.value) == f"{client.name}: {found.conflicts[other]}"


def test_options_left_out_have_their_defaults_afresh() -> None:
    one, other = ClientConfig(), ClientConfig()
    for name in ("plugins", "versioned_plugins", "handshake_config", "allowed_protocols"):
        assert getattr(one, name) == getattr(other, name)
        assert getattr(one, name) is not getattr(other, name)
