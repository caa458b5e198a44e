"""Plugins that are launched from a template of their program."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import template_plugin
from processes import has_ended

from pygo_plugin import (
    Client,
    ConfigError,
    ExitedEarlyError,
    SecureConfig,
    StartError,
    StartTimeoutError,
    aio,
)
from pygo_plugin._host import template

pytestmark = [pytest.mark.usefixtures("no_leftovers")]

PROGRAM = Path(template_plugin.__file__)
ISOLATED = Path(__file__).resolve().parents[1] / "isolated"

Make = Callable[..., Any]


@pytest.fixture
def launch(handshake: Any) -> Iterator[Make]:
    """Makes clients of template_plugin.py, with arguments for it."""
    clients = []

    def make(*arguments: Any, **options: Any) -> Any:
        command = [sys.executable, str(PROGRAM), *map(str, arguments)]
        options = {"template": True, "allowed_protocols": ["netrpc"], **options}
        client = Client(
            command, handshake_config=handshake, plugins=template_plugin.plugins(), **options
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.kill()
    clients.clear()
    assert not template._templates


def facts(client: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(client.dispense("facts").facts())
    return found


def only_template() -> int:
    """The process id of the one template that there is."""
    (found,) = template._templates.values()
    assert found._core is not None
    return found._core.pid


def end(pid: int, wait_until: Callable[..., Any]) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: has_ended(pid), "the template's end")


# ---- Launches ------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["nothing", "aio"])
def test_each_launch_is_a_process_of_its_own(launch: Make, before: str) -> None:
    first, second = (launch(before) for _ in range(2))
    one, other = facts(first), facts(second)
    assert one["pid"] == first.pid != other["pid"] == second.pid
    assert one["imported_by"] == other["imported_by"] == only_template()
    assert one["parent"] == other["parent"] == os.getpid()
    for own in (one, other):
        assert own["forked"] == [own["pid"]]
        assert own["stdin"] == os.readlink("/proc/self/fd/0")
        assert "PYGO_PLUGIN_TEMPLATE" not in own["environment"]
    for fresh in ("random", "temporary"):
        assert one[fresh] != other[fresh]


def test_each_launch_has_an_environment_of_its_own(launch: Make, tmp_path: Path) -> None:
    first = launch(env={"OWN": "1", "ONE": "x"}, cwd=tmp_path)
    second = launch(env={"OWN": "2"}, cwd=tmp_path)
    one, other = facts(first), facts(second)
    assert one["imported_by"] == other["imported_by"]
    assert (one["environment"]["OWN"], other["environment"]["OWN"]) == ("1", "2")
    assert "ONE" not in other["environment"]
    assert one["directory"] == other["directory"] == str(tmp_path)


def test_variables_that_are_read_early_make_a_template_of_their_own(launch: Make) -> None:
    ours = facts(launch(env={"PYTHONHASHSEED": "1"}))
    others = facts(launch(env={"PYTHONHASHSEED": "2"}))
    assert ours["imported_by"] != others["imported_by"]


def test_exit_statuses_and_signals_are_those_of_the_plugin(launch: Make, eventually: Any) -> None:
    first, second, third = (launch() for _ in range(3))
    for client in (first, second, third):
        client.start()
    with contextlib.suppress(Exception):
        first.dispense("facts").exit(7)
    os.kill(second.pid, signal.SIGUSR1)
    eventually(lambda: first.exited() and second.exited())
    assert (first.exit_status, second.exit_status) == (7, -signal.SIGUSR1)
    assert facts(third)["pid"] == third.pid
    third.kill()
    assert third.exit_status == 0


def test_resource_usage_is_counted_for_the_host(launch: Make) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    client = launch()
    used = facts(client)["cpu"]
    client.kill()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime >= before.ru_utime + before.ru_stime + used


def test_exit_handlers_run_in_the_plugin(launch: Make, tmp_path: Path) -> None:
    client = launch()
    client.start()
    client.dispense("facts").write_at_exit(str(tmp_path / "ended"))
    pid = client.pid
    client.kill()
    assert (tmp_path / "ended").read_text() == str(pid)


def test_output_goes_to_the_client_of_the_launch(launch: Make, records: Any) -> None:
    first, second = launch("stderr", name="first"), launch("stderr", name="second")
    first.dispense("facts").print("from the first")
    second.dispense("facts").print("from the second")
    assert records.wait_for("from the first").plugin_pid == first.pid
    assert records.wait_for("from the second").plugin_pid == second.pid
    # What was printed while the program was imported was printed once.
    assert records.wait_for("imported").name == "pygo_plugin.plugin.first"
    first.kill()
    second.kill()
    assert sum("imported" in message for message in records.messages()) == 1


@pytest.mark.parametrize("options", [{"auto_mtls": True}, {"unix_socket_dir": "."}], ids=str)
def test_with_other_options(launch: Make, options: dict[str, Any], tmp_path: Path) -> None:
    if "unix_socket_dir" in options:
        options = {"unix_socket_dir": tmp_path}
    for client in (launch(**options), launch(**options)):
        assert facts(client)["imported_by"] != client.pid
        assert client.ping() == ""


def test_grpc_is_started_by_the_plugin_only(make_client: Make) -> None:
    import probe_pb2

    command = [sys.executable, str(PROGRAM), "grpc"]
    first, second = (make_client(command, template=True) for _ in range(2))
    for client in (first, second):
        _, stub = client.dispense("probe")
        assert stub.Echo(probe_pb2.EchoRequest(payload=b"x")).payload == b"x"
    pid = only_template()
    assert os.listdir(f"/proc/{pid}/task") == [str(pid)]
    opened = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    assert sum(target.startswith("socket:") for target in opened) == 1
    assert not any(target.startswith(("anon_inode:", "pipe:")) for target in opened)


def test_asyncio_hosts(handshake: Any) -> None:
    import asyncio

    async def use() -> set[int]:
        command = [sys.executable, str(PROGRAM)]
        plugins = template_plugin.plugins()
        found = set()
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(3):
                client = aio.Client(
                    command,
                    handshake_config=handshake,
                    plugins=plugins,
                    allowed_protocols=["netrpc"],
                    template=True,
                )
                await stack.enter_async_context(client)
                found.add(json.loads(await (await client.dispense("facts")).facts())["imported_by"])
        return found

    assert len(asyncio.run(use())) == 1
    assert not template._templates


# ---- The template's life -------------------------------------------------------------------------


def test_it_goes_with_its_last_user(launch: Make, eventually: Any) -> None:
    first, second = launch(), launch()
    first.start()
    second.start()
    pid = only_template()
    first.kill()
    assert only_template() == pid
    second.kill()
    eventually(lambda: has_ended(pid))


def test_a_plugin_outlives_its_template(launch: Make, eventually: Any) -> None:
    client, later = launch(), launch()
    client.start()
    end(only_template(), eventually)
    assert facts(client)["pid"] == client.pid
    assert facts(later)["imported_by"] == only_template()


def test_a_template_that_is_stopped_is_given_up(launch: Make, freeze: Any) -> None:
    client, later = launch(), launch()
    client.start()
    freeze(only_template())
    assert facts(later)["imported_by"] == later.pid  # started in the usual way
    assert facts(client)["pid"] == client.pid


def test_it_is_remade_when_its_files_change(launch: Make, tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("VALUE = 1\n")
    first = launch("nothing", module)
    assert facts(first)["module"] == 1
    before = only_template()
    module.write_text("VALUE = 22\n")
    second = launch("nothing", module)
    assert facts(second)["module"] == 22
    assert only_template() != before
    assert facts(first)["module"] == 1


def test_it_never_outlives_its_host(eventually: Any) -> None:
    host = subprocess.Popen(
        [sys.executable, str(ISOLATED / "template_host.py")], stdout=subprocess.PIPE, text=True
    )
    assert host.stdout is not None
    pids = json.loads(host.stdout.readline())
    host.kill()
    host.communicate()
    for pid in pids:
        eventually(lambda pid=pid: has_ended(pid))


def test_a_forked_child_leaves_it_alone(launch: Make) -> None:
    client = launch()
    client.start()
    pid = only_template()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            client.kill()
            del client
        os._exit(0 if not has_ended(pid) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert only_template() == pid
    assert facts(client)["pid"] == client.pid
    assert facts(launch())["imported_by"] == pid


def test_eight_threads_share_it(launch: Make) -> None:
    clients = [launch() for _ in range(24)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(facts, clients))
    assert {own["imported_by"] for own in found} == {only_template()}
    assert len({own["pid"] for own in found}) == len(clients)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda client: client.kill(), clients))


def test_many_launches(launch: Make) -> None:
    kept = launch()
    kept.start()
    for _ in range(200):
        client = launch()
        client.start()
        client.kill()
        assert client.exit_status == 0
    assert facts(kept)["pid"] == kept.pid


# ---- Programs that cannot be templates -----------------------------------------------------------

REASONS = {
    "thread": "it has started threads before serve()",
    "socket": "it has opened a socket before serve()",
    "pipe": "it has opened a pipe before serve()",
    "loop": "it serves on an event loop that runs already",
}


@pytest.mark.parametrize("before", REASONS)
def test_it_is_launched_in_the_usual_way(launch: Make, records: Any, before: str) -> None:
    for _ in range(2):
        client = launch(before)
        assert facts(client)["imported_by"] == client.pid
    warnings = [m for m in records.messages() if "cannot be launched from a template" in m]
    assert len(warnings) <= 2
    assert REASONS[before] in warnings[0]


def test_a_program_that_has_started_a_process(launch: Make, records: Any, eventually: Any) -> None:
    client = launch("process")
    assert facts(client)["imported_by"] == client.pid
    assert "it has started a process" in records.wait_for("usual way").getMessage()
    ended = [line.split() for line in subprocess.getoutput("ps -eo pid,args").splitlines()]
    for pid, *words in ended:
        if words == ["sleep", "3600"]:
            os.kill(int(pid), signal.SIGKILL)


@pytest.mark.go
def test_a_program_that_is_not_python(make_client: Make, peers: Any, records: Any) -> None:
    client = make_client(peers.plugin("go"), template=True)
    assert client.ping() == ""
    assert "no Python program" in records.wait_for("usual way").getMessage()


def test_a_program_that_fails(launch: Make) -> None:
    with pytest.raises(ExitedEarlyError) as caught:
        launch("fail").start()
    assert caught.value.exit_status == 3


@pytest.fixture
def hanging(tmp_path: Path) -> tuple[str, Path, Path]:
    """The arguments of a program that makes the last of them, a file, and never serves."""
    module = tmp_path / "module.py"
    module.touch()
    return "hang", module, tmp_path / "reached"


def test_a_program_that_hangs(launch: Make, hanging: Any) -> None:
    with pytest.raises(StartTimeoutError):
        launch(*hanging, start_timeout=0.5).start()


def test_a_client_that_is_killed_while_its_template_starts(
    launch: Make, hanging: Any, eventually: Any
) -> None:
    client = launch(*hanging)
    failed = []

    def start() -> None:
        try:
            client.start()
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    eventually(hanging[-1].exists)
    client.kill()
    thread.join(60)
    assert "has been killed" in str(failed[0])


def test_an_interrupt_while_a_template_starts(hanging: Any, eventually: Any) -> None:
    host = subprocess.Popen(
        [sys.executable, str(ISOLATED / "template_host.py"), *map(str, hanging)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    eventually(hanging[-1].exists)
    host.send_signal(signal.SIGINT)
    _, errors = host.communicate(timeout=60)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert host.returncode == -signal.SIGINT


def test_a_directory_that_is_gone(launch: Make, tmp_path: Path) -> None:
    directory = tmp_path / "directory"
    directory.mkdir()
    first, second = launch(cwd=directory), launch(cwd=directory)
    first.start()
    directory.rmdir()
    with pytest.raises(StartError):
        second.start()


def test_no_process_can_be_made(launch: Make) -> None:
    client = launch("eagain")
    with pytest.raises(StartError, match="cannot create a process for"):
        client.start()


@pytest.mark.parametrize(
    ("option", "value"), [("kill_group", True), ("secure_config", None)], ids=["group", "checksum"]
)
def test_options_that_exclude_it(launch: Make, option: str, value: Any) -> None:
    if option == "secure_config":
        value = SecureConfig(bytes(32), "sha256")
    with pytest.raises(ConfigError, match=f"template.*{option}|{option}.*template"):
        launch(**{option: value}).start()
