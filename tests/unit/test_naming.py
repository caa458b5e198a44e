"""What a command line runs, by which plugins are called, and where their names appear."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import netrpc_peer
import pytest

from pygo_plugin import (
    Client,
    ClosedError,
    ConfigError,
    ExitedEarlyError,
    ReattachConfig,
    aio,
    runners,
)
from pygo_plugin._host.naming import base_name, printable, program_of

SCRIPT = "pygo_plugin_peer.py"

EXECUTABLES = """
./kv-plugin                                     kv-plugin
/opt/plugins/kv serve -v                        kv
/opt/python3-kv serve                           python3-kv
/opt/pythonic x.py                              pythonic
"""

PYTHON = """
python plugin.py                                plugin.py
/usr/bin/python3.11 -u /opt/kv.py -c x          kv.py
/usr/bin/Python -B kv.py                        kv.py
python3.13t -X dev -Wignore kv.py               kv.py
python3-dbg -Xdev -W ignore -- kv.py            kv.py
pypy3 -ubW ignore kv.py                         kv.py
python --check-hash-based-pycs never kv.py      kv.py
python -m kv                                    kv
python -I -m kv.plugin -m other                 kv.plugin
python -Im kv                                   kv
python -mkv                                     kv
python -m kv.__main__                           kv
python kv/__main__.py                           kv
python ./kv/                                    kv
python kv.pyz                                   kv.pyz
python -i kv.py                                 kv.py
python -c 'import kv'                           python
python3 - x                                     python3
python                                          python
python -m                                       python
python -u                                       python
"""

RUN_BY_MODULES = """
python -m pygo_plugin.run ./kv.py -x            kv.py
python -m coverage run -p --source src kv.py    kv.py
python -m coverage run --data-file=x -m kv.a    kv.a
coverage run kv.py                              kv.py
python -m pdb -c continue kv.py                 kv.py
python -m cProfile -o out -m kv                 kv
python -m debugpy --listen 5678 --wait-for-client kv.py     kv.py
python -m memray run -o out kv.py               kv.py
python -m pdb                                   pdb
"""

INTERPRETERS = """
node kv.js --port 1                             kv.js
nodejs --max-old-space-size=9 -r x/register kv.js       kv.js
node dist/index.js                              dist
node -e 'x()'                                   node
deno run --allow-net kv.ts                      kv.ts
bun run kv.ts                                   kv.ts
tsx kv.ts                                       kv.ts
ruby -W:no-experimental -Ilib -r json kv.rb     kv.rb
ruby3.2 -e 'x'                                  ruby3.2
perl -Mstrict -I lib -w kv.pl                   kv.pl
perl -ne 'print'                                perl
php -d memory_limit=1G kv.php                   kv.php
php8.2 -f kv.php x                              kv.php
lua5.4 -l x kv.lua                              kv.lua
java -jar build/kv.jar                          kv.jar
java -Xmx64m -cp a:b com.kv.Main x              com.kv.Main
java -p mods -m kv/com.kv.Main                  com.kv.Main
java @options                                   @options
dotnet bin/Kv.dll                               Kv.dll
dotnet run --project src/Kv                     Kv
pwsh -NoProfile -File kv.ps1                    kv.ps1
Rscript --vanilla kv.R                          kv.R
julia --project -t 4 kv.jl                      kv.jl
elixir --name a@b kv.exs                        kv.exs
wasmtime run --dir . kv.wasm                    kv.wasm
go run -race -tags x ./cmd/kv -v                kv
cargo run --quiet --bin kv                      kv
sh kv                                           kv
/bin/sh -e ./kv.sh x                            kv.sh
bash -eo pipefail +x kv.sh                      kv.sh
sh -c 'exec ./kv'                               sh
sh -s x                                         sh
"""

WRAPPERS = """
env python kv.py                                kv.py
/usr/bin/env -i A=b PATH=/x python3 -m kv       kv
env -u HOME --chdir=/x ./kv                     kv
env -S 'python kv.py'                           env
env A=b                                         env
nice -n 5 python kv.py                          kv.py
nice python                                     python
timeout -k 5 10 ./kv                            kv
timeout --signal=KILL 10 nice ./kv              kv
taskset -c 0 ./kv                               kv
nohup ./kv                                      kv
stdbuf -oL python kv.py                         kv.py
sudo -nu nobody A=1 ./kv                        kv
strace -ff -o out ./kv                          kv
busybox sh kv.sh                                kv.sh
uv run kv.py                                    kv.py
uv run --with rich --python 3.12 kv.py          kv.py
uv run python -m kv                             kv
uv run -m kv                                    kv
uv run --script kv                              kv
uv --directory /x run kv                        kv
uvx --from pkg kv                               kv
poetry run python kv.py                         kv.py
conda run -n base python kv.py                  kv.py
hatch run python kv.py                          kv.py
npx -y tsx kv.ts                                kv.ts
bundle exec ruby kv.rb                          kv.rb
ddtrace-run python kv.py                        kv.py
"""


@pytest.mark.parametrize("table", [EXECUTABLES, PYTHON, RUN_BY_MODULES, INTERPRETERS, WRAPPERS])
def test_names(table: str) -> None:
    for line in table.strip().splitlines():
        command, name = line.rsplit(maxsplit=1)
        assert base_name(program_of(shlex.split(command))) == name, command


def test_a_program_that_is_a_directory_is_resolved() -> None:
    here = os.path.basename(os.getcwd())
    assert base_name(program_of(["python", "."])) == here
    assert base_name(program_of(["python", "."]), "/opt/kv") == "kv"
    assert base_name(program_of(["python", "../"]), "/opt/kv/bin") == "kv"
    assert base_name(program_of(["python", "__main__.py"]), "/opt/kv") == "kv"
    assert base_name("/") == "/"
    assert program_of([]) == ""


def test_names_fit_on_a_line_of_any_encoding() -> None:
    assert printable("ключ-значение") == "ключ-значение"
    assert printable("a\nb\udcff") == "a\\nb\\udcff"


# ---- Where names appear -------------------------------------------------------------------------


def test_two_plugins_in_python_have_two_names(peers: Any, make_client: Any, records: Any) -> None:
    import probe_pb2

    script = make_client(peers.plugin("python"))
    other = make_client(peers.plugin("python"), name="other")
    for client in (script, other):
        _, probe = client.dispense("probe")
        lines = [probe_pb2.Line(channel="LOG", text=f"of {client.name}".encode(), level="warn")]
        probe.Print(probe_pb2.PrintRequest(lines=lines), timeout=20)
        record = records.wait_for(f"of {client.name}")
        assert record.name == f"pygo_plugin.plugin.{client.name}"
        assert record.plugin_path == peers.plugin("python")[1]
    assert (script.name, other.name) == (SCRIPT, "other")
    assert repr(script).startswith(f"<pygo_plugin.Client {SCRIPT!r} pid=")
    with pytest.raises(ConfigError, match=r"^other: no plugin named 'x'"):
        other.dispense("x")
    script.kill()
    assert script.ping().startswith(f"{SCRIPT}: has been killed")


BARE_HOST = """
import sys
from pygo_plugin import Client, ExitedEarlyError
for options in {}, {"name": "mine"}:
    try:
        Client([sys.executable, "kv.py"], **options).start()
    except ExitedEarlyError:
        pass
"""


def test_a_bare_script_shows_which_plugin_has_logged(tmp_path: Path) -> None:
    (tmp_path / "kv.py").write_text("import sys; sys.exit('[WARN] careful')")
    command = [sys.executable, "-c", BARE_HOST]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stderr == "kv.py: [WARN] careful\nmine: [WARN] careful\n"


def test_an_error_of_the_start_has_the_name(tmp_path: Path) -> None:
    script = tmp_path / "broken.py"
    script.write_text("raise SystemExit(3)\n")
    with pytest.raises(ExitedEarlyError, match=r"^broken\.py: the plugin exited with status 3"):
        Client([sys.executable, script]).start()
    with pytest.raises(ExitedEarlyError, match=r"^kv: the plugin exited with status 3"):
        Client([sys.executable, script], name="kv").start()
    with pytest.raises(ExitedEarlyError, match=r"^no\.such\.module: "):
        Client([sys.executable, "-m", "no.such.module"]).start()


def test_a_name_of_bytes_that_are_no_text(tmp_path: Path) -> None:
    script = tmp_path / "kv-\udcff.py"
    script.write_text("raise SystemExit(3)\n")
    with pytest.raises(ExitedEarlyError, match=r"^kv-\\udcff\.py: "):
        Client([sys.executable, script]).start()


@pytest.mark.parametrize("name", ["", "a\nb", "a\0b", "\udcff"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^ClientConfig\.name must be a text of printable"):
        Client("kv", name=name)
    with pytest.raises(TypeError, match=r"^ClientConfig\.name must be a str"):
        Client("kv", name=7)  # type: ignore[arg-type]


def test_over_netrpc(peers: Any, make_client: Any) -> None:
    options = {"plugins": netrpc_peer.plugins(), "allowed_protocols": ["netrpc"]}
    client = make_client(peers.netrpc_plugin("python"), **options)
    test = client.dispense("test")
    assert client.name == "netrpc_peer.py"
    client.kill()
    with pytest.raises(ClosedError, match=r"^netrpc_peer\.py: "):
        test.echo(b"")


def test_with_asyncio() -> None:
    client = aio.Client([sys.executable, "-m", "kv.plugin"])
    assert client.name == "kv.plugin"
    assert repr(client) == "<pygo_plugin.aio.Client 'kv.plugin' not started>"
    assert aio.Client("kv", name="mine").name == "mine"


def test_a_runner_names_its_program() -> None:
    runner = runners.BubblewrapRunner(["/usr/bin/python3", "/opt/kv.py"])
    assert Client(runner=runner).name == "kv.py"
    assert Client(runner=runner, name="mine").name == "mine"


def test_who_reattaches_keeps_the_name(
    peers: Any, make_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make_client(peers.plugin("python"))
    first.start()
    config = ReattachConfig.from_json(first.reattach_config().to_json())
    second = make_client(reattach_config=config)
    assert second.name == SCRIPT
    second.start()
    assert second.reattach_config() == config
    named = make_client(reattach_config=config, name="mine")
    named.start()
    assert named.reattach_config().name == "mine"
    # Configs of other programs have no name.
    config.name = ""
    third = make_client(reattach_config=config)
    assert third.name == config.address
    third.start()
    assert third.reattach_config().name == ""
    text = '{"kv": {"Protocol": "grpc", "Addr": {"Network": "unix", "String": "/s"}}}'
    monkeypatch.setenv("APP_REATTACH", text)
    found = ReattachConfig.from_env("APP_REATTACH", "kv")
    assert found is not None
    assert Client(reattach_config=found).name == "kv"
