"""find_free_port, env_to_list, discover."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

import pygo_plugin
from pygo_plugin import utils


def test_env_to_list() -> None:
    assert utils.env_to_list({"A": "1", "B": "x=y", "C": ""}) == ["A=1", "B=x=y", "C="]


def test_find_free_port_can_be_listened_on() -> None:
    port = utils.find_free_port(20000, 40000)
    assert 20000 <= port <= 40000
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))


def test_find_free_port_when_all_are_taken() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(OSError, match=str(port)):
            utils.find_free_port(port, port)


@pytest.mark.parametrize(("low", "high"), [(2000, 1000), (0, 10), (1, 65536), (-1, 5)])
def test_find_free_port_with_senseless_limits(low: int, high: int) -> None:
    with pytest.raises(ValueError, match="no ports from"):
        utils.find_free_port(low, high)


def executable(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def test_discover_finds_executables_only(tmp_path: Path) -> None:
    two, one = executable(tmp_path / "app-two"), executable(tmp_path / "app-one")
    executable(tmp_path / "other")
    (tmp_path / "app-notes.txt").write_text("not executable")
    (tmp_path / "app-directory").mkdir()
    assert pygo_plugin.discover("app-*", tmp_path) == [one, two]


def test_discover_is_absolute_and_takes_the_directory_literally(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = executable(tmp_path / "[plugins]" / "app-x")
    nested = executable(tmp_path / "[plugins]" / "deep" / "er" / "app-y")
    monkeypatch.chdir(tmp_path)
    assert utils.discover("app-*", "[plugins]") == [found]
    assert utils.discover("**/app-*", "[plugins]") == [found, nested]
    assert all(os.path.isabs(path) for path in utils.discover("app-*", "[plugins]"))


def test_discover_of_nothing(tmp_path: Path) -> None:
    assert utils.discover("*", tmp_path / "no such directory") == []
