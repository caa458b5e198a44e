"""The configuration classes: kept names and forms, type checks, equality, what repr hides."""

from __future__ import annotations

import json
import logging
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from pygo_plugin import (
    Client,
    ClientConfig,
    Cmd,
    ConfigError,
    ConfigTypeError,
    HandshakeConfig,
    Plugin,
    ReattachConfig,
    ServeConfig,
    rpc,
)
from pygo_plugin import config as config_module
from pygo_plugin.config import plugin_sets


class Nothing(Plugin):
    pass


# ---- HandshakeConfig ----------------------------------------------------------------------------


def test_handshake_defaults_and_positional_arguments() -> None:
    empty = HandshakeConfig()
    assert (empty.protocol_version, empty.magic_cookie_key, empty.magic_cookie_value) == (0, "", "")
    full = HandshakeConfig(3, "KEY", "value")
    assert (full.protocol_version, full.magic_cookie_key, full.magic_cookie_value) == (
        3,
        "KEY",
        "value",
    )


def test_handshake_attributes_can_be_set() -> None:
    handshake = HandshakeConfig()
    handshake.protocol_version = 2
    handshake.magic_cookie_key = "KEY"
    handshake.magic_cookie_value = "value"
    assert handshake == HandshakeConfig(2, "KEY", "value")
    assert handshake != HandshakeConfig(2, "KEY", "other")


def test_handshake_repr_hides_the_cookie_value() -> None:
    shown = repr(HandshakeConfig(1, "KEY", "s3cret"))
    assert "KEY" in shown
    assert "s3cret" not in shown


@pytest.mark.parametrize("version", ["1", 1.0, None, True])
def test_handshake_version_is_an_int(version: Any) -> None:
    with pytest.raises(TypeError, match=r"protocol_version must be an int, not \w+"):
        HandshakeConfig(version)


def test_misspelt_attributes_are_refused() -> None:
    with pytest.raises(AttributeError):
        HandshakeConfig().magic_cookie = "x"  # type: ignore[attr-defined]


# ---- Cmd ----------------------------------------------------------------------------------------


def test_cmd_of_a_string_is_one_program() -> None:
    cmd = Cmd("/opt/my plugin --flag")
    assert cmd.args == ["/opt/my plugin --flag"]
    assert cmd.path == "/opt/my plugin --flag"
    assert cmd.valid


def test_cmd_of_a_list() -> None:
    cmd = Cmd(["python3", Path("plugin.py"), b"-v"])  # type: ignore[list-item]
    assert cmd.args == ["python3", "plugin.py", "-v"]
    assert cmd.path == "python3"


def test_cmd_takes_what_its_repr_shows(tmp_path: Path) -> None:
    cmd = Cmd(["p", "-v"], env=["A=1"], dir=tmp_path)
    assert (cmd.args, cmd.env, cmd.dir) == (["p", "-v"], ["A=1"], str(tmp_path))
    again = eval(repr(cmd))
    assert (again.args, again.env, again.dir) == (cmd.args, ["A=..."], cmd.dir)
    assert Cmd("p", env=None, dir=None) == Cmd("p")
    assert Cmd("p", env={"A": "1", "B": ""}).env == ["A=1", "B="]
    with pytest.raises(ConfigError, match=r"Cmd\.env must be a mapping, or a list of"):
        Cmd("p", env="A=1")


def test_cmd_without_arguments_is_invalid_until_it_gets_some() -> None:
    cmd = Cmd()
    assert (cmd.path, cmd.args, cmd.env, cmd.dir, cmd.valid) == ("", [], [], "", False)
    cmd.path = "./plugin"
    cmd.args.append("-v")
    assert cmd.valid
    assert cmd.args == ["./plugin", "-v"]
    cmd.path = "./other"
    assert cmd.args == ["./other", "-v"]


def test_cmd_repr_hides_values_of_the_environment() -> None:
    cmd = Cmd(["p"])
    cmd.env = ["TOKEN=s3cret"]
    assert "TOKEN" in repr(cmd)
    assert "s3cret" not in repr(cmd)


@pytest.mark.parametrize("args", [7, {"a": "b"}, ["p", 7]])
def test_cmd_arguments_are_strings(args: Any) -> None:
    with pytest.raises(ConfigError, match=r"Cmd\.args.* must be"):
        Cmd(args)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("a\0b", r"must not contain a null character, but is 'a\\x00b'"),
        ("a\ud800", r"must be text that can be encoded as utf-8, but is 'a\\ud800'"),
    ],
)
@pytest.mark.parametrize(
    ("name", "configure"),
    [
        (r"Cmd\.args\[1\]", lambda value: Cmd(["program", value])),
        (r"Cmd\.dir", lambda value: Cmd("program", dir=value)),
        (r"ClientConfig\.unix_socket_dir", lambda value: ClientConfig(unix_socket_dir=value)),
        (r"ClientConfig\.unix_socket_group", lambda value: ClientConfig(unix_socket_group=value)),
    ],
)
def test_text_for_system_calls(name: str, configure: Any, value: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name} {words}"):
        configure(value)


@pytest.mark.parametrize("value", [ReattachConfig("grpc", "unix", "/x", 5), Cmd(["x"])])
def test_configurations_can_be_pickled(value: Any) -> None:
    text = pickle.dumps(value)
    assert b"pygo_plugin.config" in text  # no private module, which may move
    assert pickle.loads(text) == value


def test_cmd_env_is_a_list() -> None:
    cmd = Cmd("p")
    cmd.env = entries = ["A=b"]
    assert cmd.env is entries
    cmd.env = {"A": "b", "C": Path("/d")}  # type: ignore[assignment]
    assert cmd.env == ["A=b", "C=/d"]


# ---- ReattachConfig -----------------------------------------------------------------------------


def test_reattach_is_valid_with_protocol_network_and_address() -> None:
    assert not ReattachConfig().valid
    assert ReattachConfig().pid == -1
    assert not ReattachConfig("grpc", "unix").valid
    reattach = ReattachConfig("grpc", "unix", "/s", 7, True)
    assert reattach.valid
    assert (reattach.protocol, reattach.network, reattach.address) == ("grpc", "unix", "/s")
    assert (reattach.pid, reattach.test, reattach.protocol_version) == (7, True, 0)


def test_reattach_goes_through_json() -> None:
    config = ReattachConfig("grpc", "unix", "/s", 7, True, 3, 12345)
    assert ReattachConfig.from_json(config.to_json()) == config
    named = ReattachConfig("grpc", "unix", "/s", name="kv")
    assert ReattachConfig.from_json(named.to_json()) == named
    # Terraform's shape.
    assert json.loads(config.to_json()) == {
        "Protocol": "grpc",
        "ProtocolVersion": 3,
        "Pid": 7,
        "Test": True,
        "Addr": {"Network": "unix", "String": "/s"},
        "PidStartTime": 12345,
    }


def test_reattach_from_what_go_writes() -> None:
    text = b'{"Protocol":"grpc","Pid":0,"Addr":{"Network":"tcp","String":"127.0.0.1:1"},"New":[]}'
    config = ReattachConfig.from_json(text)
    assert config == ReattachConfig("grpc", "tcp", "127.0.0.1:1")
    assert config.valid


@pytest.mark.parametrize(
    ("addr", "network", "address"),
    [
        ('{"Name": "/s", "Net": "unix"}', "unix", "/s"),
        ('{"IP": "127.0.0.1", "Port": 50051, "Zone": ""}', "tcp", "127.0.0.1:50051"),
        ('{"IP": "::1", "Port": 50051}', "tcp", "[::1]:50051"),
    ],
)
def test_reattach_from_what_json_marshal_of_go_writes(
    addr: str, network: str, address: str
) -> None:
    config = ReattachConfig.from_json(f'{{"Protocol": "grpc", "Addr": {addr}}}')
    assert config == ReattachConfig("grpc", network, address)


UNIX = '"Addr": {"Network": "unix", "String": "/s"}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", r"must be a JSON object such as .*, not \[\]$"),
        ("null", r"must be a JSON object such as .*, not null$"),
        ('"grpc"', r"must be a JSON object such as .*, not \"grpc\"$"),
        ("{}", 'has no "Addr", the address'),
        ('{"Addr": null}', 'has no "Addr"'),
        ('{"Addr": 7}', '"Addr" must be an object, not 7'),
        ('{"Addr": {}}', r'"Addr": the network must be "unix" or "tcp", but is ""'),
        ('{"Addr": {"Network": null, "String": "/s"}}', 'the network must be "unix" or "tcp"'),
        ('{"Addr": {"Network": "udp", "String": "h:1"}}', 'but is "udp"'),
        ('{"Addr": {"Network": 7, "String": "/s"}}', '"Network" must be a string, not 7'),
        ('{"Addr": {"Network": "unix"}}', "has no path of a socket"),
        ('{"Addr": {"Network": "unix", "String": "/\\u0000"}}', "null character"),
        ('{"Addr": {"Network": "tcp", "String": "here"}}', 'must be "host:port" for tcp'),
        ('{"Addr": {"Network": "tcp", "String": "h:0"}}', '"host:port" for tcp, but is "h:0"'),
        ('{"Addr": {"Network": "tcp", "String": "h:65536"}}', '"host:port" for tcp'),
        ('{"Addr": {"IP": "127.0.0.1"}}', '"host:port" for tcp'),
        ('{"Addr": {"IP": "127.0.0.1", "Port": "1"}}', '"Port" must be an integer, not "1"'),
        ('{"Protocol": 7, %s}', '"Protocol" must be a string, not 7'),
        ('{"Protocol": "http", %s}', r'"Protocol" must be "grpc" or "netrpc", but is "http"'),
        ('{"Pid": "7", %s}', '"Pid" must be an integer, not "7"'),
        ('{"Pid": 1.5, %s}', '"Pid" must be an integer, not 1.5'),
        ('{"Pid": true, %s}', '"Pid" must be an integer, not true'),
        ('{"Pid": 4294967296, %s}', "must be a process id"),
        ('{"Test": 1, %s}', '"Test" must be true or false, not 1'),
        ('{"ProtocolVersion": -1, %s}', "protocol_version"),
        ('{"PidStartTime": -1, %s}', "must not be negative"),
        ('{"Name": ["x"], %s}', '"Name" must be a string'),
    ],
)
def test_reattach_from_bad_json(text: Any, message: str) -> None:
    if isinstance(text, str):
        text = text.replace("%s", UNIX)
    with pytest.raises(ConfigError, match=message) as caught:
        ReattachConfig.from_json(text)
    assert str(caught.value).startswith("ReattachConfig.from_json()")


def test_reattach_from_what_is_no_text() -> None:
    with pytest.raises(ConfigTypeError, match="must be JSON as a str or bytes, not dict"):
        ReattachConfig.from_json({})  # type: ignore[arg-type]


def test_reattach_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    config = ReattachConfig("grpc", "unix", "/s", 7)
    monkeypatch.delenv("APP_REATTACH", raising=False)
    assert ReattachConfig.from_env("APP_REATTACH", "kv") is None
    monkeypatch.setenv("APP_REATTACH", json.dumps({"kv": config.as_dict()}))
    named = ReattachConfig("grpc", "unix", "/s", 7, name="kv")
    assert ReattachConfig.from_env("APP_REATTACH", "kv") == named
    assert ReattachConfig.from_env("APP_REATTACH", "other") is None
    monkeypatch.setenv("APP_REATTACH", "[]")
    with pytest.raises(ConfigError, match="APP_REATTACH"):
        ReattachConfig.from_env("APP_REATTACH", "kv")
    monkeypatch.setenv("APP_REATTACH", '{"kv": {"Pid": "x"}}')
    with pytest.raises(ConfigError, match="'kv' in the environment variable APP_REATTACH"):
        ReattachConfig.from_env("APP_REATTACH", "kv")


# ---- ClientConfig -------------------------------------------------------------------------------


def test_client_config_defaults() -> None:
    config = ClientConfig()
    assert config.plugins == {}
    assert config.handshake_config == HandshakeConfig()
    assert config.cmd() is None
    assert config.reattach_config() is None
    assert (config.min_port, config.max_port) == (10000, 25000)
    assert config.auto_mtls is False
    assert config.managed is False
    assert config.start_timeout() == 60_000
    assert config.kill_timeout == 2.0
    assert config.allowed_protocols == ["grpc"]
    assert config.plugin_log_buffer_size == 65536


def test_a_plugins_grace_is_well_within_its_hosts_patience() -> None:
    assert ServeConfig().shutdown_grace == 1.0
    assert ServeConfig(shutdown_grace=0).shutdown_grace == 0.0
    assert 2 * ServeConfig().shutdown_grace <= ClientConfig().kill_timeout
    with pytest.raises(ConfigError, match=r"ServeConfig\.shutdown_grace must be from 0 to"):
        ServeConfig(shutdown_grace=-0.5)


def test_kept_setters() -> None:
    config = ClientConfig()
    config.plugins["kv"] = Nothing()
    config.set_start_timeout(1500)
    assert config.start_timeout() == 1500
    config.set_cmd("prog --not-split")
    assert config.cmd() == Cmd("prog --not-split")
    config.set_cmd(["prog", "arg"])
    assert config.cmd() == Cmd(["prog", "arg"])
    cmd = Cmd("x")
    config.set_cmd(cmd)
    assert config.cmd() is cmd
    reattach = ReattachConfig("grpc", "tcp", "127.0.0.1:1")
    config.set_reattach_config(reattach)
    assert config.reattach_config() is reattach
    config.min_port, config.max_port, config.auto_mtls = 1024, 2048, True


def test_keywords_do_what_attributes_do() -> None:
    plugins, logger = {"kv": Nothing()}, logging.getLogger("x")
    config = ClientConfig(
        plugins=plugins,
        handshake_config=HandshakeConfig(1, "K", "v"),
        cmd=["prog", "arg"],
        min_port=5000,
        max_port=6000,
        start_timeout=2.5,
        logger=logger,
        stderr=sys.stderr,
        managed=True,
        skip_host_env=True,
        plugin_log_buffer_size=1024,
    )
    assert config.plugins is plugins
    assert config.handshake_config.protocol_version == 1
    assert config.cmd() == Cmd(["prog", "arg"])
    assert config.start_timeout() == 2500
    assert config.logger is logger
    assert config.stderr is sys.stderr
    assert (config.managed, config.skip_host_env) == (True, True)
    assert config.plugin_log_buffer_size == 1024


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("plugins", ["kv"], "a dict"),
        ("handshake_config", {"protocol_version": 1}, "a HandshakeConfig"),
        ("min_port", "1024", "an int"),
        ("max_port", 65536, "between 0 and 65535"),
        ("allowed_protocols", "grpc", "a list of str"),
        ("managed", "yes", "True or False"),
        ("logger", "myapp", r"a logging\.Logger"),
        ("stderr", "/dev/null", "an object with write"),
        ("stderr", -1, "not be negative"),
        ("plugin_log_buffer_size", 0, "greater than 0"),
        ("auto_mtls", None, "True or False"),
        ("kill_timeout", "2", "a number of seconds"),
        ("kill_timeout", -1, "from 0 to 1000000 seconds"),
        ("kill_timeout", float("inf"), "from 0 to 1000000 seconds"),
        ("kill_timeout", float("nan"), "from 0 to 1000000 seconds"),
    ],
)
def test_assignments_are_checked(name: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"ClientConfig\.{name} must.*{words}"):
        setattr(ClientConfig(), name, value)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_start_timeout_is_positive(timeout: float) -> None:
    with pytest.raises(ConfigError, match="start_timeout must be greater than 0"):
        ClientConfig(start_timeout=timeout)


def test_times_are_seconds_but_for_two_methods() -> None:
    config = ClientConfig(start_timeout=2.5, kill_timeout=0.5)
    assert config.start_timeout() == 2500
    assert "start_timeout=2.5, kill_timeout=0.5" in repr(config)
    config.set_start_timeout(1500)
    assert "start_timeout=1.5," in repr(config)
    config.set_start_timeout(0.01)
    assert config.start_timeout() == 1
    assert ClientConfig(start_timeout=0.0001).start_timeout() == 1
    assert ClientConfig(start_timeout=1.0019).start_timeout() == 1002


@pytest.mark.parametrize("env", [{"A": "s3cret"}, ["A=s3cret"], os.environ])
def test_env_takes_a_mapping_or_a_list(env: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", "s3cret")
    config = ClientConfig(cmd="p", env=env)
    assert config.env["A"] == "s3cret"
    assert "'A': ..." in repr(config)
    assert "s3cret" not in repr(config)


def test_env_may_be_added_to() -> None:
    env = {"A": "1"}
    config = ClientConfig(cmd="p", env=env)
    env["B"] = "2"
    assert config.env is env
    assert ClientConfig().env == {}
    assert ClientConfig().env is not ClientConfig().env


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("A=s3cret", 'must be a mapping, or a list of "KEY=VALUE", not str'),
        (["A"], 'must hold "KEY=VALUE" entries only'),
        ([("A", "s3cret")], 'must hold "KEY=VALUE" entries only'),
        (["A=s3cret\0"], 'must hold "KEY=VALUE" entries only'),
        ({"A": 5}, r"\['A'\] must be a str, not int"),
        ({"A": None}, r"\['A'\] must be a str, not NoneType"),
        ({"A": "s3cret\0"}, r"\['A'\] has a null character, or one that cannot be encoded"),
        ({"A": "s3cret\ud800"}, r"\['A'\] has a null character, or one that cannot be encoded"),
        ({"A=B": "s3cret"}, "has the key 'A=B', which cannot be that of a variable"),
        ({"": "s3cret"}, "has the key ''"),
        ({7: "s3cret"}, "has the key 7"),
    ],
)
def test_env_that_is_refused(env: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^ClientConfig\.env.*{message}") as caught:
        ClientConfig(cmd="p", env=env)
    assert "s3cret" not in str(caught.value)


def test_start_timeout_is_a_number() -> None:
    with pytest.raises(TypeError, match="start_timeout must be a number"):
        ClientConfig().set_start_timeout("1s")  # type: ignore[arg-type]


def test_equality_compares_fields() -> None:
    one, other = ClientConfig(cmd="p"), ClientConfig(cmd="p")
    assert one == other
    other.min_port = 1
    assert one != other
    assert one != "something else"


def test_configs_are_unhashable() -> None:
    with pytest.raises(TypeError):
        hash(ClientConfig())


def test_client_config_repr_hides_secrets() -> None:
    config = ClientConfig(cmd="p", handshake_config=HandshakeConfig(1, "K", "c00kie"))
    cmd = config.cmd()
    assert cmd is not None
    cmd.env = ["TOKEN=s3cret"]
    assert "c00kie" not in repr(config)
    assert "s3cret" not in repr(config)


# ---- ServeConfig and plugin sets ----------------------------------------------------------------


def test_serve_config() -> None:
    config = ServeConfig()
    assert (config.plugins, config.versioned_plugins, config.network) == ({}, {}, "unix")
    config.plugins["kv"] = Nothing()
    with pytest.raises(TypeError, match="must be a HandshakeConfig, not dict"):
        config.handshake_config = {}  # type: ignore[assignment]
    with pytest.raises(ConfigError, match='"unix" or "tcp"'):
        config.network = "udp"


class Interceptor:
    def intercept_service(self, continuation: Any, details: Any) -> Any:
        return continuation(details)


def test_logger_of_a_serve_config() -> None:
    logger = logging.getLogger("mine")
    assert ServeConfig().logger is None
    assert ServeConfig(logger=logger).logger is logger
    with pytest.raises(TypeError, match=r"ServeConfig\.logger must be a logging\.Logger, not str"):
        ServeConfig(logger="mine")  # type: ignore[arg-type]


def test_workers_and_interceptors_of_a_serve_config() -> None:
    config = ServeConfig()
    assert (config.max_workers, config.interceptors) == (None, ())
    first, second = Interceptor(), Interceptor()
    config = ServeConfig(max_workers=4, interceptors=[first, second])
    assert (config.max_workers, config.interceptors) == (4, (first, second))
    config.max_workers = None
    config.interceptors = iter([second])  # type: ignore[assignment]
    assert (config.max_workers, config.interceptors) == (None, (second,))


@pytest.mark.parametrize(
    ("option", "value", "kind", "words"),
    [
        ("max_workers", 0, ConfigError, "max_workers"),
        ("max_workers", -1, ConfigError, "max_workers"),
        ("max_workers", 1.5, TypeError, "max_workers must be an int, not float"),
        ("max_workers", True, TypeError, "max_workers"),
        ("interceptors", None, TypeError, r"a list of grpc\.ServerInterceptor, not None"),
        ("interceptors", "all", TypeError, r"a list of grpc\.ServerInterceptor, not str"),
        ("interceptors", Interceptor(), TypeError, "a list"),
        ("interceptors", [Interceptor(), 5], TypeError, r"interceptors\[1\] must be"),
    ],
)
def test_wrong_workers_and_interceptors(
    option: str, value: Any, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        ServeConfig(**{option: value})
    with pytest.raises(kind, match=words):
        setattr(ServeConfig(), option, value)


def test_plugins_count_as_the_handshakes_version() -> None:
    plain, versioned = {"kv": Nothing()}, {"kv": Nothing()}
    config = ServeConfig(
        handshake_config=HandshakeConfig(2), plugins=plain, versioned_plugins={5: versioned}
    )
    assert plugin_sets(config, "x") == {2: plain, 5: versioned}


def test_a_version_cannot_be_given_twice() -> None:
    config = ServeConfig(
        handshake_config=HandshakeConfig(2),
        plugins={"kv": Nothing()},
        versioned_plugins={2: {"kv": Nothing()}},
    )
    with pytest.raises(ConfigError, match=r"^x: .*versioned_plugins\[2\] is set as well"):
        plugin_sets(config, "x")


def test_no_plugins_at_all_is_one_empty_set() -> None:
    assert plugin_sets(ServeConfig(handshake_config=HandshakeConfig(4)), "x") == {4: {}}


@pytest.mark.parametrize(
    ("plugin", "words"),
    [(Nothing, r"write Nothing\(\)"), ("kv", "a subclass of Plugin or of netrpc.Plugin, not str")],
)
def test_plugins_are_instances(plugin: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        plugin_sets(ServeConfig(plugins={"kv": plugin}), "x")


def test_versions_are_integers() -> None:
    with pytest.raises(ConfigError, match="must be an int, not str"):
        plugin_sets(ServeConfig(versioned_plugins={"1": {}}), "x")  # type: ignore[dict-item]


def test_every_class_is_a_name_of_the_config_module() -> None:
    names: dict[str, Any] = {}
    exec("from pygo_plugin.config import *", names)
    assert names["ClientConfig"] is ClientConfig
    assert names["ReattachConfig"] is config_module.ReattachConfig is ReattachConfig
    assert set(config_module.__all__) <= set(dir(config_module))
    with pytest.raises(AttributeError, match="has no attribute 'ClientConfg'"):
        config_module.ClientConfg  # type: ignore[attr-defined]  # noqa: B018


# ---- Limits and gRPC's options ------------------------------------------------------------------

LIMITS = ["max_receive_message_length", "max_send_message_length", "max_metadata_size"]


@pytest.mark.parametrize("kind", [ClientConfig, ServeConfig])
def test_limits_have_no_value_unless_set(kind: Any) -> None:
    config = kind()
    for name in [*LIMITS, "memory_quota"]:
        assert getattr(config, name) is None
        setattr(config, name, 1000)
        assert getattr(config, name) == 1000
        for wrong in ("1", 1.5, True):
            with pytest.raises(TypeError, match=rf"{kind.__name__}\.{name} must be an int"):
                setattr(config, name, wrong)
        for wrong in (-1, 2**63):
            with pytest.raises(ConfigError, match=rf"{name} must be from \d to \d+ bytes, but is"):
                setattr(config, name, wrong)


@pytest.mark.parametrize("kind", [ClientConfig, ServeConfig])
@pytest.mark.parametrize("name", ["channel_options", "server_options"])
def test_grpcs_options(kind: Any, name: str) -> None:
    assert getattr(kind(), name) == ()
    given = [("a", 1), [b"b", "text"], ("c", b"bytes"), ("d", 1.5), ("e", rpc.MemoryQuota(1))]
    config = kind(**{name: given})
    assert getattr(config, name) == tuple(tuple(pair) for pair in given)
    for wrong, error, words in [
        ("text", TypeError, "a list of .name, value. pairs, not str"),
        ({"a": 1}, TypeError, "not dict"),
        ([("a", 1), "bc"], TypeError, "1. is 'bc'"),
        ([("a", 1, 2)], TypeError, "0. is"),
        ([(1, 1)], TypeError, "0. is"),
        ([("a", None)], TypeError, "'a' must be an int, a str or bytes, not NoneType"),
        ([("a", 1 << 31)], ConfigError, "'a' must fit into 32 bits, but is 2147483648"),
    ]:
        with pytest.raises(error, match=words):
            setattr(config, name, wrong)


@pytest.mark.parametrize("version", [2**31, 2**32 + 1, 2**70])
def test_versions_that_no_handshake_can_carry(version: int) -> None:
    """2**32 + 1 must not be truncated to 1."""
    with pytest.raises(ConfigError, match=r"HandshakeConfig\.protocol_version must be less than 2"):
        HandshakeConfig(version, "K", "v")
    with pytest.raises(ConfigError, match=r"ReattachConfig\.protocol_version must be less than 2"):
        ReattachConfig(protocol_version=version)
    client = Client("x", versioned_plugins={version: {}}, handshake_config=HandshakeConfig(1, "K"))
    with pytest.raises(ConfigError, match="a key of versioned_plugins must be less than 2"):
        client.start()
    with pytest.raises(ConfigError, match=r"ReattachConfig\.pid must be a process id"):
        ReattachConfig(pid=version)
    assert HandshakeConfig(2**31 - 1).protocol_version == 2**31 - 1
