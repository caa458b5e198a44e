"""What Client makes of its options, as far as no plugin has to run."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from pygo_plugin import (
    Client,
    ClientConfig,
    ClosedError,
    Cmd,
    ConfigError,
    HandshakeConfig,
    Plugin,
    ReattachConfig,
    StartError,
    client,
)
from pygo_plugin._host import launch

HANDSHAKE = HandshakeConfig(1, "KEY", "value")
REATTACH = ReattachConfig("grpc", "unix", "/nowhere/socket", 1)


class Nothing(Plugin):
    pass


def test_nothing_happens_before_the_start() -> None:
    instance = Client(ClientConfig())
    assert instance.exited() is False
    assert instance.reattach_config().valid is False
    assert instance.conn_endpoint() == ""
    assert (instance.pid, instance.id) == (-1, "")
    assert (instance.protocol, instance.negotiated_version) == ("", 0)
    assert instance.exit_status is None
    assert "not started" in repr(instance)
    with pytest.raises(ClosedError, match="not been started"):
        _ = instance.channel


def test_name_is_the_base_name_of_the_program() -> None:
    assert Client(["/opt/plugins/kv-go", "-v"]).name == "kv-go"
    assert Client(reattach_config=REATTACH).name == "/nowhere/socket"


def test_kill_before_the_start_is_final() -> None:
    instance = Client("/nowhere/plugin")
    instance.kill()
    instance.kill()
    assert instance.exited() is True
    with pytest.raises(ClosedError, match=r"^plugin: has been killed"):
        instance.start()
    assert "killed" in instance.ping()


def test_never_started_means_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        instance = Client("/nowhere/plugin")
        del instance
        gc.collect()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "one of cmd, reattach_config and runner; none is set"),
        ({"cmd": "p", "reattach_config": REATTACH}, "cmd and reattach_config are set"),
        ({"cmd": []}, "names no program"),
        ({"reattach_config": ReattachConfig()}, "needs protocol, network and address"),
    ],
)
def test_exactly_one_target(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Client(**options)
    config = ClientConfig(**options)
    with pytest.raises(ConfigError, match=words):  # a config may still change until the start
        Client(config).start()


def test_options_beside_a_config_are_refused() -> None:
    with pytest.raises(ConfigError, match="set min_port on the config"):
        Client(ClientConfig(cmd="p"), min_port=1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"allowed_protocols": ["carrier-pigeon"]}, "'carrier-pigeon'"),
        ({"allowed_protocols": []}, "allowed_protocols is empty"),
        ({"min_port": 2000, "max_port": 1000}, "min_port is 2000, more than max_port 1000"),
        ({"plugins": {"kv": Nothing}}, r"write Nothing\(\)"),
        ({"handshake_config": HandshakeConfig(1, "A=B", "v")}, "magic cookie"),
    ],
)
def test_start_checks_what_it_cannot_do(options: dict[str, Any], words: str) -> None:
    instance = Client("plugin-of-mine", **options)
    with pytest.raises(ConfigError, match=rf"^plugin-of-mine: .*{words}"):
        instance.start()
    with pytest.raises(ConfigError, match=words):
        instance.ping()  # says nothing about the plugin's health


@pytest.mark.parametrize("entry", ["NOVALUE", "=x", "A=\0", 7])
def test_environment_entries_are_checked(entry: Any) -> None:
    cmd = Cmd("plugin-of-mine")
    cmd.env = [entry]
    with pytest.raises(ConfigError, match='"KEY=VALUE" entries only'):
        Client(cmd).start()


def test_dispense_names_the_known_plugins_before_it_starts_anything() -> None:
    instance = Client("/nowhere/plugin", plugins={"kv": Nothing(), "other": Nothing()})
    with pytest.raises(ValueError, match=r"no plugin named 'vk'; known: 'kv', 'other'$"):
        instance.dispense("vk")
    assert instance.exited() is False


def test_environment_is_the_hosts_with_the_commands_over_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYGO_A", "host")
    monkeypatch.setenv("PYGO_B", "host")
    for name in launch.NOT_INHERITED:
        monkeypatch.setenv(name, "of the host's own host")
    cmd = Cmd("p")
    cmd.env = ["PYGO_B=cmd=1", "PYGO_B=cmd=2", "PYGO_C="]
    config = ClientConfig(cmd=cmd)
    entries = launch.environment_of(config, cmd, "p")
    assert "PYGO_A=host" in entries
    assert [e for e in entries if e.startswith("PYGO_B=")] == ["PYGO_B=cmd=2"]
    assert "PYGO_C=" in entries
    assert not [e for e in entries if e.startswith(launch.NOT_INHERITED)]
    assert len(entries) <= len(os.environ) + 1

    config.skip_host_env = True
    assert launch.environment_of(config, cmd, "p") == ["PYGO_B=cmd=2", "PYGO_C="]


def test_what_was_added_to_env_is_checked_at_the_start() -> None:
    config = ClientConfig(cmd="plugin-of-mine", env={"A": "1"})
    config.env["B"] = 7  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=r"^plugin-of-mine: .*env\['B'\] must be a str, not int"):
        Client(config).start()


def test_cmd_and_options_do_not_say_the_same_thing_twice(tmp_path: Path) -> None:
    cmd = Cmd("plugin-of-mine", env={"A": "1"}, dir=tmp_path)
    with pytest.raises(ConfigError, match=r"^plugin-of-mine: the environment is given twice"):
        Client(cmd, env={"B": "2"}).start()
    with pytest.raises(ConfigError, match=r"^plugin-of-mine: the working directory is given twice"):
        Client(cmd, cwd=tmp_path).start()


@pytest.mark.parametrize("cmd", ["sh plugin.sh -v", ["sh plugin.sh -v"]])
def test_a_command_line_in_one_str(cmd: Any) -> None:
    instance = Client(cmd)
    for _ in range(2):
        with pytest.raises(StartError) as caught:
            instance.start()
        assert str(caught.value).endswith(
            ": a str is one program and never split; arguments need a list: "
            "['sh', 'plugin.sh', '-v']"
        )


def test_a_missing_program_with_a_space_in_its_name(tmp_path: Path) -> None:
    with pytest.raises(StartError) as caught:
        Client("no-such plugin").start()
    assert "list" not in str(caught.value)
    script = tmp_path / "kv"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    with pytest.raises(StartError, match=r"arguments need a list: \['./kv', '-v'\]$"):
        Client("./kv -v", cwd=tmp_path).start()


def test_addresses_compare_and_print() -> None:
    address = client.Address("tcp", "127.0.0.1:1")
    assert (address.network(), address.string(), str(address)) == (
        "tcp",
        "127.0.0.1:1",
        "127.0.0.1:1",
    )
    assert address == client.Address("tcp", "127.0.0.1:1")
    assert address != client.Address("unix", "127.0.0.1:1")
    assert len({address, client.Address("tcp", "127.0.0.1:1")}) == 1


def test_handshake_is_shared_not_copied() -> None:
    config = ClientConfig(cmd=sys.executable, handshake_config=HANDSHAKE)
    assert config.handshake_config is HANDSHAKE


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("skip_host_env", "yes", r"ClientConfig\.skip_host_env must be True or False, not str"),
        ("min_port", -1, r"ClientConfig\.min_port must be a port"),
        ("max_port", 65536, r"ClientConfig\.max_port must be a port"),
        ("start_timeout", 0, r"ClientConfig\.start_timeout must be greater than 0"),
        ("start_timeout", float("nan"), r"ClientConfig\.start_timeout must be greater than 0"),
        ("plugin_log_buffer_size", 0, r"ClientConfig\.plugin_log_buffer_size must be greater"),
        ("plugin_log_buffer_size", 1.5, r"ClientConfig\.plugin_log_buffer_size must be an int"),
        ("allowed_protocols", "grpc", r"ClientConfig\.allowed_protocols must be a list of str"),
        ("versioned_plugins", 1, r"ClientConfig\.versioned_plugins must be a dict"),
    ],
)
def test_options_that_are_refused_at_once(option: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Client("plugin", **{option: value})


@pytest.mark.parametrize("entry", ["no equals sign", "=value", "A=\0", 7])
def test_entries_of_the_environment_that_are_refused(entry: Any) -> None:
    cmd = Cmd("plugin")
    cmd.env = [entry]
    with pytest.raises(ConfigError, match=r'plugin: Cmd\.env must hold "KEY=VALUE" entries only'):
        Client(cmd).start()
