"""The exception tree: who is who, attributes, pickling."""

from __future__ import annotations

import pickle

import pytest

from pygo_plugin import errors


def all_errors() -> list[type[errors.PluginError]]:
    return [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("kind", all_errors())
def test_everything_is_a_plugin_error(kind: type[errors.PluginError]) -> None:
    error = kind("kv: it broke")
    assert isinstance(error, errors.PluginError)
    assert str(error) == "kv: it broke"
    assert kind.__doc__


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        (errors.ConfigError, ValueError),
        (errors.ConfigTypeError, errors.ConfigError),
        (errors.ConfigTypeError, TypeError),
        (errors.ExitedEarlyError, errors.StartError),
        (errors.StartTimeoutError, errors.StartError),
        (errors.StartTimeoutError, TimeoutError),
        (errors.HandshakeError, errors.StartError),
        (errors.VersionError, errors.StartError),
    ],
)
def test_bases(kind: type[Exception], base: type[Exception]) -> None:
    assert issubclass(kind, base)


def test_attributes_have_defaults() -> None:
    assert errors.ExitedEarlyError("").exit_status == 0
    assert errors.ExitedEarlyError("").stderr == ""
    assert errors.StartError("").errno is None
    assert errors.PluginExitedError("").exit_status is None
    assert errors.PluginExitedError("").stderr == ""
    assert errors.PluginFailedError("").exit_status is None
    assert errors.PluginFailedError("").attempts == 0
    assert errors.HandshakeError("").line == b""
    assert errors.VersionError("").plugin_version == 0
    assert list(errors.VersionError("").host_versions) == []


@pytest.mark.parametrize("kind", all_errors())
def test_pickling_keeps_message_and_attributes(kind: type[errors.PluginError]) -> None:
    error = kind("kv: it broke")
    error.exit_status = -9  # type: ignore[attr-defined]
    error.line = b"1|"  # type: ignore[attr-defined]
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == "kv: it broke"
    assert copy.exit_status == -9
    assert copy.line == b"1|"
