"""Plugins launched elsewhere: by a runner of the test's own, by bubblewrap, in containers."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import broker_plugin
import kv_pb2
import probe_pb2
import pytest
from broker_plugin import Test
from own_runner import Own

from pygo_plugin import (
    BrokerError,
    Client,
    ClosedError,
    ConfigError,
    HandshakeError,
    ReattachConfig,
    StartError,
    aio,
    cleanup_clients,
    testing,
)
from pygo_plugin.runners import BubblewrapRunner, ContainerRunner, Launch

ROOT = Path(__file__).resolve().parents[2]
ISOLATED = ROOT / "tests" / "isolated"
COUNTER = ROOT / "build" / "examples" / "counter-go" / "plugin"
STATIC = ROOT / "build" / "peers" / "static" / "plugin"

pytestmark = [pytest.mark.go, pytest.mark.usefixtures("no_leftovers")]


def test_a_container_runner_runs_once(tmp_path: Path) -> None:
    """A second start is refused and does not touch the guard and directory of the first."""
    engine, asked = tmp_path / "engine", tmp_path / "asked"
    engine.write_text(f'#!/bin/sh\necho "$1" >> {asked}\n[ "$1" = rm ] || exec sleep 60\n')
    engine.chmod(0o755)
    runner = ContainerRunner("image", engine=engine)
    runner.start(Launch({}, "/first"))
    guard = runner._guard
    with pytest.raises(ConfigError, match="a runner runs once"):
        runner.start(Launch({}, "/second"))
    assert runner._guard is guard
    inside = f"{ContainerRunner.SOCKET_DIR}/socket"
    assert runner.plugin_to_host("unix", inside) == ("unix", "/first/socket")
    runner.kill()
    runner.wait()


def test_an_engine_that_hangs(tmp_path: Path, eventually: Any) -> None:
    """The runner gives up, and its guard removes the container later."""
    engine, asked = tmp_path / "engine", tmp_path / "asked"
    engine.write_text(f'#!/bin/sh\necho "$1" >> {asked}\nexec sleep 1000\n')
    engine.chmod(0o755)
    runner = ContainerRunner("image", engine=engine)
    runner.PATIENCE = 0.2  # type: ignore[misc]
    runner.start(Launch({}, "/sockets"))
    eventually(asked.exists, "the container's start")
    guard = runner._guard
    assert guard is not None
    runner.kill()
    assert runner.wait() == -signal.SIGKILL
    eventually(lambda: asked.read_text().count("rm") == 2, "the guard's attempt")
    guard.kill()
    eventually(lambda: guard.returncode is not None, "the guard's end")


class Stuck(Own):
    """A runner whose start() waits until it is released."""

    def __init__(self, command: list[str]) -> None:
        super().__init__(command)
        self.entered, self.go = threading.Event(), threading.Event()

    def start(self, launch: Any) -> None:
        self.entered.set()
        self.go.wait()
        super().start(launch)


def test_a_start_that_does_not_return_and_a_kill(
    peers: Any, make_client: Any, eventually: Any
) -> None:
    """kill() does not wait for the start. A plugin that still starts is killed then."""
    runner = Stuck(peers.plugin("go"))
    client = make_client(runner=runner)
    errors: list[BaseException] = []

    def start() -> None:
        try:
            client.start()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    runner.entered.wait()
    client.kill()
    assert thread.is_alive()
    runner.go.set()
    thread.join()
    (error,) = errors
    assert isinstance(error, ClosedError)
    assert "killed while it started" in str(error)
    assert runner.process is not None
    assert runner.process.wait() == -signal.SIGKILL


def test_a_start_that_does_not_return_and_cancellation(
    peers: Any, handshake: Any, plugins: Any, eventually: Any
) -> None:
    runner = Stuck(peers.plugin("go"))

    async def main() -> None:
        client = aio.Client(runner=runner, handshake_config=handshake, plugins=plugins)
        starting = asyncio.ensure_future(client.start())
        await asyncio.to_thread(runner.entered.wait)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

    asyncio.run(main())
    runner.go.set()
    process = eventually(lambda: runner.process, "the start")
    assert process.wait() == -signal.SIGKILL


STUCK = """
import sys, threading
sys.path[:0] = {path!r}
import pygo_plugin_peer
from own_runner import Own
from pygo_plugin import Client

entered = threading.Event()

class Stuck(Own):
    def start(self, launch):
        entered.set()
        threading.Event().wait()

client = Client(
    runner=Stuck(["plugin"]),
    handshake_config=pygo_plugin_peer.HANDSHAKE,
    plugins=pygo_plugin_peer.plugins(),
)
threading.Thread(target=client.start, daemon=True).start()
entered.wait()
"""


def test_a_start_that_does_not_return_and_the_exit() -> None:
    program = STUCK.format(path=sys.path)
    done = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
    assert done.returncode == 0


def use(client: Any) -> None:
    """Calls the plugin, reads what it logs on stderr, and ends it."""
    _, kv = client.dispense("kv")
    kv.Put(kv_pb2.PutRequest(key="k", value=b"v"), timeout=20)
    assert kv.Get(kv_pb2.GetRequest(key="k"), timeout=20).value == b"v"
    assert client.ping() == ""
    assert not client.exited()


def mode(path: str) -> tuple[int, int]:
    """The mode and the group of a file."""
    found = os.stat(path)
    return stat.S_IMODE(found.st_mode), found.st_gid


# What tests of the broker have make_client() make.
BROKER: dict[str, Any] = {
    "handshake_config": broker_plugin.HANDSHAKE,
    "plugins": {"test": broker_plugin.BrokerPlugin()},
}
BROKER_PLUGIN = str(ROOT / "tests" / "peers" / "broker_plugin.py")


def echo(server: Any) -> None:
    broker_plugin.add(server, Echo=lambda data: b"host: " + data)


def call_both_ways(client: Any) -> None:
    """Brokered connections, first one that the plugin dials, then one that the host does."""
    broker, test = client.dispense("test")
    with broker.serve(echo) as service_id:
        number = b"%d" % service_id
        assert test.CallBack(number, timeout=20) == b"host: " + number
    stub = broker.stub(int(test.Serve(b"", timeout=20)), Test, timeout=20)
    assert stub.Echo(b"x", timeout=20) == b"plugin: x"


# ---- A runner of one's own ----------------------------------------------------------------------


def foreign_group() -> int:
    """A group that this process may give files to, other than its primary one."""
    if os.geteuid() == 0:
        return grp.getgrnam("nogroup").gr_gid
    others = [group for group in os.getgroups() if group != os.getegid()]
    assert others, "run as root, or as a member of a further group"
    return others[0]


@pytest.mark.parametrize("plugin", ["python", "go"])
def test_own_runner(plugin: str, peers: Any, make_client: Any, records: Any) -> None:
    runner = Own(peers.plugin(plugin))
    client = make_client(runner=runner)
    assert (client.name, client.id) == ("own", "")
    use(client)
    assert client.id == runner.id
    assert client.pid == -1
    # A private directory, and none of the host's environment.
    assert runner.mode == 0o700
    assert client.start().string().startswith(runner.launch.socket_dir + "/")
    assert "HOME" not in runner.launch.env
    assert runner.launch.env["PYGO_TEST_COOKIE"] == "pygo"
    line = probe_pb2.Line(channel="LOG", text=b"from elsewhere", level="warn")
    client.dispense("probe")[1].Print(probe_pb2.PrintRequest(lines=[line]), timeout=20)
    assert records.wait_for("from elsewhere").name == "pygo_plugin.plugin.own"
    client.kill()
    assert client.exit_status == 0
    assert runner.calls == ["translate"]
    assert not os.path.exists(runner.launch.socket_dir)


def test_automatic_tls_with_a_runner(peers: Any, make_client: Any) -> None:
    client = make_client(runner=Own(peers.plugin("go")), auto_mtls=True)
    use(client)
    client.kill()


@pytest.mark.parametrize("auto_mtls", [False, True], ids=["plain", "mtls"])
def test_brokered_connections_are_translated(auto_mtls: bool, make_client: Any) -> None:
    runner = Own([sys.executable, BROKER_PLUGIN])
    client = make_client(runner=runner, auto_mtls=auto_mtls, **BROKER)
    call_both_ways(client)
    assert runner.calls == ["translate", "announce", "translate"]
    server = client.broker.accept(client.broker.next_id())
    assert mode(runner.announced)[0] == 0o600
    server.stop(None)
    client.kill()
    assert not os.path.exists(runner.launch.socket_dir)


def test_nothing_to_translate_with_one_connection(make_client: Any) -> None:
    runner = Own([sys.executable, BROKER_PLUGIN])
    call_both_ways(make_client(runner=runner, broker_multiplex=True, **BROKER))
    assert runner.calls == ["translate"]


def test_brokered_connections_of_asyncio_hosts() -> None:
    runner = Own([sys.executable, BROKER_PLUGIN])

    async def run() -> None:
        async with aio.Client(runner=runner, **BROKER) as client:
            broker, test = await client.dispense("test")
            async with broker.serve(echo) as service_id:
                number = b"%d" % service_id
                assert await test.CallBack(number, timeout=20) == b"host: " + number
            stub = await broker.stub(int(await test.Serve(b"", timeout=20)), Test, timeout=20)
            assert await stub.Echo(b"x", timeout=20) == b"plugin: x"

    asyncio.run(run())
    assert runner.calls == ["translate", "announce", "translate"]


@pytest.mark.parametrize("answer", ["raise", "network", "length", "type"])
def test_brokered_addresses_that_cannot_be_translated(answer: str, make_client: Any) -> None:
    class Lost(Own):
        lost = False

        def answer(self) -> Any:
            if answer == "raise":
                raise LookupError("no such place")
            wrong = {"network": ("pigeon", "coop 3"), "length": ("unix", "/" * 300), "type": 3}
            return wrong[answer]

        def plugin_to_host(self, network: str, address: str) -> Any:
            return self.answer() if self.lost else super().plugin_to_host(network, address)

        def host_to_plugin(self, network: str, address: str) -> Any:
            return self.answer() if self.lost else super().host_to_plugin(network, address)

    reason = {
        "raise": "LookupError: no such place",
        "network": "the network pigeon, not unix or tcp",
        "length": "too long",
        "type": "TypeError",
    }[answer]
    runner = Lost([sys.executable, BROKER_PLUGIN])
    client = make_client(runner=runner, **BROKER)
    broker, test = client.dispense("test")
    runner.lost = True
    service_id = int(test.Serve(b"", timeout=20))
    with pytest.raises(BrokerError, match=rf"own: connection {service_id} .*host's.*{reason}"):
        broker.dial(service_id, timeout=20)
    with pytest.raises(BrokerError, match=rf"own: connection 1 .*plugin's terms.*{reason}"):
        broker.accept(broker.next_id())
    assert len(os.listdir(runner.launch.socket_dir)) == 2  # the plugin's own
    runner.lost = False
    call_both_ways(client)


def test_force(make_client: Any, peers: Any, freeze: Any) -> None:
    """The runner kills a plugin that does not shut down."""
    runner = Own(peers.plugin("go"))
    client = make_client(runner=runner, start_timeout=60)
    client.start()
    assert runner.process
    freeze(runner.process.pid)
    client.kill()
    assert runner.calls == ["translate", "kill"]
    assert client.exit_status == -9


def test_death_is_noticed(make_client: Any, peers: Any, eventually: Any) -> None:
    runner = Own(peers.plugin("go"))
    statuses: list[Any] = []
    client = make_client(runner=runner, on_exit=lambda client, status: statuses.append(status))
    client.start()
    assert runner.process
    runner.process.kill()
    eventually(client.exited, "exited()")
    eventually(lambda: statuses == [-9], "on_exit")


def test_start_that_raises(make_client: Any) -> None:
    client = make_client(runner=Own(["/nonexistent/plugin"]))
    with pytest.raises(StartError, match=r"own: .*nonexistent") as caught:
        client.start()
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    os.unlink(client._config.runner.inside)


def test_diagnosis(make_client: Any) -> None:
    runner = Own([sys.executable, "-c", "print('hello', flush=True); input()"])
    with pytest.raises(HandshakeError, match="the moon is full"):
        make_client(runner=runner).start()


def test_address_that_cannot_be_translated(peers: Any, make_client: Any) -> None:
    class Lost(Own):
        def plugin_to_host(self, network: str, address: str) -> tuple[str, str]:
            raise LookupError("no such place")

    with pytest.raises(HandshakeError, match="no such place") as caught:
        make_client(runner=Lost(peers.plugin("go"))).start()
    assert isinstance(caught.value.__cause__, LookupError)


def test_group(make_client: Any) -> None:
    """The group differs from the host's primary group."""
    outside = foreign_group()

    class Shared(Own):
        group = outside

        def start(self, launch: Any) -> None:
            launch.env["PLUGIN_UNIX_SOCKET_GROUP"] = str(outside)
            super().start(launch)

    runner = Shared([sys.executable, BROKER_PLUGIN])
    client = make_client(runner=runner, **BROKER)
    path = client.start().string()
    assert mode(runner.launch.socket_dir) == (0o770, outside)
    assert mode(path) == (0o660, outside)
    server = client.broker.accept(client.broker.next_id())
    assert mode(runner.announced) == (0o660, outside)
    server.stop(None)
    call_both_ways(client)
    client.kill()


def test_exactly_one_target(peers: Any, make_client: Any) -> None:
    runner = Own(peers.plugin("go"))
    with pytest.raises(ConfigError, match="cmd and runner are set"):
        Client(["plugin"], runner=runner)
    with pytest.raises(ConfigError, match="reattach_config and runner are set"):
        Client(runner=runner, reattach_config=ReattachConfig("grpc", "unix", "/x"))
    with pytest.raises(ConfigError, match="detach"):
        Client(runner=runner, detach=True).start()
    wrong: Any = "docker"
    with pytest.raises(TypeError, match=r"must be a Runner.*start\(\)"):
        Client(runner=wrong)


class Together:
    """Nothing at all, which says that it serves where a server of the test does. Killing one waits
    until all of them are being killed."""

    name = "together"
    id = "together"

    def __init__(self, reattach: ReattachConfig, barrier: threading.Barrier) -> None:
        self.reattach, self.barrier = reattach, barrier
        self.over = threading.Event()

    def start(self, launch: Any) -> None:
        self.stdout, write = os.pipe()
        self.stderr, other = os.pipe()
        os.write(write, f"1|1|unix|{self.reattach.address}|grpc\n".encode())
        self.open = [self.stdout, self.stderr, write, other]

    def wait(self) -> int | None:
        self.over.wait()
        for descriptor in self.open:
            os.close(descriptor)
        return None

    def kill(self) -> None:
        self.barrier.wait()
        self.over.set()

    def diagnose(self) -> str:
        return ""

    def plugin_to_host(self, network: str, address: str) -> tuple[str, str]:
        return network, address

    host_to_plugin = plugin_to_host


def test_sixty_four_managed_clients_end_at_the_same_time(
    make_client: Any, plugins: Any, handshake: Any
) -> None:
    barrier = threading.Barrier(64)
    with testing.serve(plugins, handshake_config=handshake) as reattach:
        clients = [make_client(runner=Together(reattach, barrier), managed=True) for _ in range(64)]
        for client in clients:
            client.start()
        cleanup_clients()
    assert all(client.exited() for client in clients)
    assert not barrier.broken


# ---- Bubblewrap ---------------------------------------------------------------------------------


def sandbox(peers: Any, plugin: str, **options: Any) -> BubblewrapRunner:
    read_only = [*BubblewrapRunner.SYSTEM, str(ROOT), sys.base_prefix]
    env = {"PYTHONPATH": os.environ["PYTHONPATH"]}
    return BubblewrapRunner(peers.plugin(plugin), read_only=read_only, env=env, **options)


@pytest.mark.parametrize("plugin", ["python", "go"])
def test_bubblewrap(plugin: str, peers: Any, make_client: Any, tmp_path: Path) -> None:
    client = make_client(runner=sandbox(peers, plugin))
    use(client)
    assert client.id == str(client._config.runner._process.pid)
    _, probe = client.dispense("probe")
    found = probe.Environ(probe_pb2.EnvironRequest(), timeout=20)
    assert found.pid < 10  # a namespace of its own
    assert "HOME" not in found.environ
    client.kill()
    assert client.exited()
    assert client.exit_status == 0


def test_bubblewrap_and_the_broker(peers: Any, make_client: Any) -> None:
    command = [sys.executable, BROKER_PLUGIN]
    read_only = [*BubblewrapRunner.SYSTEM, str(ROOT), sys.prefix, sys.base_prefix]
    env = {"PYTHONPATH": os.environ["PYTHONPATH"]}
    runner = BubblewrapRunner(command, read_only=read_only, env=env)
    call_both_ways(make_client(runner=runner, **BROKER))


def test_bubblewrap_and_the_broker_of_a_go_plugin(peers: Any, make_client: Any) -> None:
    call_both_ways(make_client(runner=sandbox(peers, "go"), **BROKER))


def test_bubblewrap_that_is_not_there(make_client: Any, peers: Any) -> None:
    client = make_client(runner=BubblewrapRunner("plugin", bwrap="/nonexistent/bwrap"))
    with pytest.raises(StartError, match="install bubblewrap"):
        client.start()


def test_bubblewrap_says_what_is_wrong(make_client: Any) -> None:
    client = make_client(runner=BubblewrapRunner("/nonexistent/plugin"))
    with pytest.raises(StartError, match="No such file"):
        client.start()


# ---- Containers ---------------------------------------------------------------------------------

# Other checkouts may be tested on this machine at the same time.
IMAGE = f"pygo-plugin-test-{os.getpid()}:latest"
COUNTER_IMAGE = f"pygo-plugin-counter-test-{os.getpid()}:latest"


def podman(*arguments: str) -> str:
    done = subprocess.run(["podman", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.contextmanager
def image_of(program: Path, name: str, directory: Path) -> Iterator[str]:
    """An image of one file."""
    if not program.exists():
        missing = program.relative_to(ROOT)
        pytest.fail(f"{missing} is missing: run scripts/test --quick", pytrace=False)
    archive = directory / "image.tar"
    subprocess.run(["tar", "-C", str(program.parent), "-cf", str(archive), "plugin"], check=True)
    podman("import", "--change", 'ENTRYPOINT ["/plugin"]', str(archive), name)
    yield name
    podman("rmi", "--force", name)


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with image_of(STATIC, IMAGE, tmp_path_factory.mktemp("image")) as name:
        yield name


@pytest.fixture(scope="session")
def counter_image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with image_of(COUNTER, COUNTER_IMAGE, tmp_path_factory.mktemp("image")) as name:
        yield name


# As root, in what may be a container itself.
ENGINE: dict[str, Any] = {
    "engine": "podman",
    "engine_options": ["--runtime", "runc"],
    "options": ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"],
}


def containers() -> list[str]:
    listed = podman("ps", "--all", "--format", "{{.Names}}").split()
    return [name for name in listed if name.startswith("pygo-plugin-")]


@pytest.mark.parametrize(
    "options",
    [{}, {"group": os.getgid()}],
    ids=["alone", "group"],
)
def test_container(options: dict[str, Any], image: str, make_client: Any, records: Any) -> None:
    runner = ContainerRunner(image, **ENGINE, **options)
    client = make_client(runner=runner, start_timeout=80)
    use(client)
    assert client.id in containers()
    assert client.name == IMAGE
    _, probe = client.dispense("probe")
    found = probe.Environ(probe_pb2.EnvironRequest(), timeout=20)
    assert found.pid == 1
    assert found.environ["PLUGIN_UNIX_SOCKET_DIR"] == b"/run/pygo-plugin"
    line = probe_pb2.Line(channel="LOG", text=b"from a container", level="warn")
    probe.Print(probe_pb2.PrintRequest(lines=[line]), timeout=20)
    records.wait_for("from a container")
    address = client.start().string()
    assert runner.host_to_plugin("unix", address)[1].startswith("/run/pygo-plugin/")
    client.kill()
    assert client.exited()
    assert client.id not in containers()


def limit(pid: int, controller: str, *names: str) -> list[str]:
    """A limit of the process's control group, read from the first of the files that exists."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            folder = Path("/sys/fs/cgroup" + path)
        elif controller in controllers.split(","):
            folder = Path("/sys/fs/cgroup", controllers + path)
        else:
            continue
        for name in names:
            if (folder / name).exists():
                return (folder / name).read_text().split()
    pytest.fail(f"process {pid} has no limit called {names}")


def test_limits_of_a_container(image: str, make_client: Any) -> None:
    """The limits are set on its control group."""
    client = make_client(
        runner=ContainerRunner(image, memory="256m", cpus=0.5, **ENGINE), start_timeout=80
    )
    client.start()
    pid = int(podman("inspect", "--format", "{{.State.Pid}}", client.id))
    assert limit(pid, "memory", "memory.max", "memory.limit_in_bytes") == [str(256 << 20)]
    quota = limit(pid, "cpu", "cpu.max", "cpu.cfs_quota_us")
    period = quota[1:] or limit(pid, "cpu", "cpu.cfs_period_us")
    assert int(quota[0]) / int(period[0]) == 0.5


def test_group_of_a_container(image: str, make_client: Any) -> None:
    """The group is neither the host's nor the container user's primary group."""
    group = foreign_group()
    runner = ContainerRunner(image, group=group, **ENGINE)
    client = make_client(runner=runner, start_timeout=80)
    path = client.start().string()
    assert mode(path) == (0o660, group)
    assert mode(os.path.dirname(path)) == (0o770, group)
    use(client)


def test_container_whose_plugin_calls_back(counter_image: str) -> None:
    """A Go plugin dials a server of its host."""
    done = subprocess.run(
        [
            sys.executable,
            str(ISOLATED / "container_counter.py"),
            json.dumps({"image": counter_image, **ENGINE}),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.endswith("the plugin asks for 3 + 4\napples = 7\n"), done.stderr


@pytest.mark.parametrize(
    "how",
    [{}, {"auto_mtls": True}, {"broker_multiplex": True}],
    ids=["plain", "mtls", "multiplexed"],
)
def test_container_and_the_broker(how: dict[str, bool], image: str, make_client: Any) -> None:
    """Host and Python plugin dial each other; the container mounts this machine's Python."""
    shown = [*BubblewrapRunner.SYSTEM, str(ROOT), sys.prefix, sys.base_prefix]
    volumes = [f"--volume={path}:{path}:ro" for path in shown if os.path.isdir(path)]
    entry_point = f"--entrypoint={sys.executable}"
    runner = ContainerRunner(
        image,
        [BROKER_PLUGIN],
        env={"PYTHONPATH": os.environ["PYTHONPATH"]},
        **{
            **ENGINE,
            "options": [*ENGINE["options"], *volumes, "--tmpfs=/tmp", entry_point],
        },
    )
    client = make_client(runner=runner, start_timeout=80, **how, **BROKER)
    call_both_ways(client)
    client.kill()
    assert client.id not in containers()


@pytest.mark.parametrize("how", [{}, {"broker_multiplex": True}], ids=["plain", "multiplexed"])
def test_container_and_the_broker_of_a_go_plugin(
    how: dict[str, bool], image: str, make_client: Any
) -> None:
    client = make_client(runner=ContainerRunner(image, **ENGINE), start_timeout=80, **how, **BROKER)
    call_both_ways(client)
    client.kill()
    assert client.id not in containers()


def test_container_without_an_image(make_client: Any) -> None:
    runner = ContainerRunner("localhost/nothing:here", **ENGINE)
    with pytest.raises(StartError, match="nothing:here"):
        make_client(runner=runner).start()


def test_limits_are_options_of_the_engine() -> None:
    runner = ContainerRunner("image", ["-v"], engine="e", memory="64m", cpus=0.5, network="bridge")
    launch: Any = type("", (), {"env": {"NAME": "a secret"}, "socket_dir": "/s"})()
    command = runner._command(launch)
    assert command[:3] == ["e", "run", "--rm"]
    assert {"--memory=64m", "--cpus=0.5", "--network=bridge", "--volume=/s:/run/pygo-plugin"} < set(
        command
    )
    assert command[-2:] == ["image", "-v"]
    assert "a secret" not in command  # values are not shown in it


# ---- A host that is killed ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bubblewrap", "container"])
def test_nothing_outlives_a_host_that_is_killed(
    kind: str, image: str, peers: Any, eventually: Callable[..., Any]
) -> None:
    description = {
        "bubblewrap": {
            "cmd": peers.plugin("go"),
            "read_only": [*BubblewrapRunner.SYSTEM, str(ROOT)],
        },
        "container": {"image": image, **ENGINE},
    }[kind]
    host = subprocess.Popen(
        [sys.executable, str(ISOLATED / "runner_host.py"), kind, json.dumps(description)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert host.stdout is not None
    try:
        identity, address = host.stdout.readline().split()
    finally:
        host.kill()
        host.communicate()
    if kind == "container":
        eventually(lambda: identity not in containers(), "the container's end")
    else:
        eventually(lambda: not Path(f"/proc/{identity}").exists(), "the sandbox's end")
    subprocess.run(["rm", "-rf", os.path.dirname(address)], check=True)
