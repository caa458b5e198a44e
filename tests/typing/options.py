"""What type checkers know of options. An unused "type: ignore" is an error, too."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from typing_extensions import assert_type

from pygo_plugin import Client, ClientConfig, Cmd, ServeConfig, aio

Client("p", auto_mtls=True, unix_socket_group=7)
Client("p", auto_mtl=True)  # type: ignore[call-arg]  # pyright: ignore
Client("p", auto_mtls="yes")  # type: ignore[arg-type]  # pyright: ignore

aio.Client("p", auto_mtls=True, interceptors=[])
aio.Client("p", auto_mtl=True)  # type: ignore[call-arg]  # pyright: ignore
aio.Client("p", auto_mtls="yes")  # type: ignore[arg-type]  # pyright: ignore

Client("p", env={"A": "b", "C": Path("/d")}, cwd=Path("/e"), name="kv")
Client(Cmd("p", env={"A": "b"}, dir="/e"))
Client(Cmd("p", env=["A=b"]))
aio.Client("p", env=["A=b"], cwd="/e", name="kv")
Client("p", env={"A": 1})  # type: ignore[dict-item]  # pyright: ignore
Client("p", name=1)  # type: ignore[arg-type]  # pyright: ignore

config = ClientConfig(cmd=["p"], start_timeout=1.5)
assert_type(config.auto_mtls, bool)
assert_type(config.unix_socket_dir, str)
assert_type(config.memory_quota, Optional[int])
assert_type(config.cmd(), Optional[Cmd])
assert_type(config.env, dict[str, str])
assert_type(config.cwd, str)
assert_type(config.name, Optional[str])
config.auto_mtl = True  # type: ignore[attr-defined]  # pyright: ignore

assert_type(ServeConfig(max_workers=4).shutdown_grace, float)
ServeConfig(max_workers="4")  # type: ignore[arg-type]  # pyright: ignore
ServeConfig(cmd="p")  # type: ignore[call-arg]  # pyright: ignore
