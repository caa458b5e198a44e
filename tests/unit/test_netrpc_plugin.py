"""Plugins over net/rpc: hosts and plugins of this package, by themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pygo_plugin import (
    BrokerError,
    Client,
    ClosedError,
    ConfigError,
    ConfigTypeError,
    HandshakeConfig,
    Plugin,
    ReattachConfig,
    ServeConfig,
    Server,
    netrpc,
    serve,
)

pytestmark = pytest.mark.usefixtures("no_leftovers")

HANDSHAKE = HandshakeConfig(1, "PYGO_NETRPC", "netrpc")


class Teller:
    """What a host serves to its plugin."""

    def tell(self, count: int) -> str:
        return "told " * count


class Greeter:
    """Greets."""

    def __init__(self, broker: Any) -> None:
        self.broker = broker
        self.greeted = 0

    def greet(self, name: str) -> str:
        """Greet somebody."""
        self.greeted += 1
        return f"Hello, {name}!"

    def count(self) -> int:
        return self.greeted

    def shout(self, text: str = "nothing") -> str:
        return text.upper()

    def refuse(self, text: str) -> None:
        raise ValueError(text)

    def show(self, text: str) -> None:
        print(text, flush=True)
        print(text, file=sys.stderr, flush=True)
        os.write(2, b"direct\n")

    def show_and_die(self, size: int) -> None:
        print("x" * size, flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()

    def call_back(self, service_id: int) -> str:
        with self.broker.client(service_id) as client:
            told: str = client.call("Plugin.Tell", 2, reply=str)
        return told

    def call_proxy(self, service_id: int) -> str:
        told: str = self.broker.proxy(service_id, Teller).tell(3)
        return told

    def end(self, status: int) -> None:
        os._exit(status)

    def wait(self) -> None:
        signal.pause()


class Broken(netrpc.Plugin):
    def server(self, broker: Any) -> Any:
        raise ValueError("this plugin is broken")


class Nothing(Plugin):
    def server_register(self, server: Any) -> None:
        pass


PLUGINS: dict[str, Any] = {"greeter": netrpc.plugin(Greeter), "broken": Broken()}

Start = Callable[..., Client]


@pytest.fixture
def start(make_client: Any) -> Start:
    def start(*arguments: str, **options: Any) -> Client:
        options.setdefault("plugins", PLUGINS)
        options.setdefault("allowed_protocols", ["netrpc"])
        command = [sys.executable, __file__, *arguments]
        client: Client = make_client(command, handshake_config=HANDSHAKE, **options)
        client.start()
        return client

    return start


# ---- Calls ---------------------------------------------------------------------------------------


def test_a_dispensed_object_has_the_methods_of_its_class(start: Start) -> None:
    client = start()
    assert client.protocol == "netrpc"
    assert client.ping() == ""
    greeter = client.dispense("greeter")
    assert greeter.greet("you") == "Hello, you!"
    assert greeter.greet(name="you", timeout=60) == "Hello, you!"
    assert greeter.count() == 2
    assert greeter.shout() == "NOTHING"
    assert greeter.shout("so") == "SO"
    assert greeter.greet.__doc__ == "Greet somebody."
    assert type(greeter).__name__ == "Greeter"
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'name'"):
        greeter.greet()
    with pytest.raises(TypeError, match="unexpected keyword argument 'nobody'"):
        greeter.greet(nobody=1)
    with pytest.raises(netrpc.ServerError, match=r"^by design$"):
        greeter.refuse("by design")


def test_each_dispense_makes_an_object(start: Start) -> None:
    client = start()
    first, second = client.dispense("greeter"), client.dispense("greeter")
    first.greet("a")
    assert (first.count(), second.count()) == (1, 0)
    first.close()
    with pytest.raises(ClosedError):
        first.count()
    assert second.count() == 0


def test_what_cannot_be_dispensed(start: Start) -> None:
    client = start(plugins={**PLUGINS, "unknown": netrpc.plugin(Greeter)})
    with pytest.raises(netrpc.ServerError, match="unknown plugin type: unknown"):
        client.dispense("unknown")
    with pytest.raises(netrpc.ServerError, match="this plugin is broken"):
        client.dispense("broken")
    with pytest.raises(ConfigError, match="no plugin named 'nobody'"):
        client.dispense("nobody")
    assert client.dispense("greeter").count() == 0


def test_what_is_grpcs_says_so(start: Start) -> None:
    client = start()
    for use in (lambda: client.channel, client.new_channel):
        with pytest.raises(ConfigError, match="is for gRPC, and this plugin speaks net/rpc"):
            use()


def test_many_threads(start: Start) -> None:
    greeter = start().dispense("greeter")
    wrong: list[Any] = []

    def call(number: int) -> None:
        for count in range(100):
            found = greeter.greet(f"{number}.{count}")
            if found != f"Hello, {number}.{count}!":
                wrong.append(found)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert greeter.count() == 800


# ---- The broker ----------------------------------------------------------------------------------


def test_calls_back(start: Start) -> None:
    client = start()
    greeter = client.dispense("greeter")
    with client.broker.serve(Teller()) as service_id:
        assert greeter.call_back(service_id) == "told told "
    with client.broker.serve(Teller()) as service_id:
        assert greeter.call_proxy(service_id) == "told told told "
    assert "connected" in repr(client.broker)


def test_files_that_cannot_be_lent(start: Start, tmp_path: Path) -> None:
    client = start()
    client.start()
    path = tmp_path / "file"
    with open(path, "w") as text, pytest.raises(ConfigError, match="a binary file object, not the"):
        client.broker.serve_io(text)
    with open(path, "rb") as read, pytest.raises(ConfigError, match=r"'wb' needs .* be written"):
        client.broker.serve_io(read, "wb")
    with open(path, "wb") as written, pytest.raises(ConfigError, match=r"'rb' needs .* be read"):
        client.broker.serve_io(written, "rb")


def test_a_plugin_of_the_other_protocol_than_its_process(start: Start) -> None:
    client = start(plugins={"greeter": Nothing()}, allowed_protocols=["netrpc", "grpc"])
    with pytest.raises(ConfigError, match=r"a grpc plugin as 'greeter' .* give the host a netrpc"):
        client.dispense("greeter")


def test_ids_that_are_not_accepted_or_not_dialled(start: Start) -> None:
    client = start()
    broker = client.broker
    with pytest.raises(BrokerError, match="connection 77 cannot be dialled"):
        broker.client(77, timeout=0.05)
    with pytest.raises(BrokerError, match="connection 5 was not dialled"):
        broker.accept(5, timeout=0.05)
    with pytest.raises(BrokerError, match="is not a valid id"):
        broker.dial(-1)
    with broker.serve(Teller()) as service_id:
        with pytest.raises(BrokerError, match="is being accepted already"):
            broker.accept_and_serve(service_id, Teller())
        assert client.dispense("greeter").call_back(service_id) == "told told "
    assert broker.next_id() > service_id


def test_the_broker_ends_with_the_client(start: Start) -> None:
    client = start()
    broker = client.broker
    client.kill()
    with pytest.raises(BrokerError, match="cannot be dialled"):
        broker.client(1)
    with pytest.raises(BrokerError, match="cannot be accepted"):
        broker.serve(Teller())


# ---- Life ----------------------------------------------------------------------------------------


def test_a_lost_connection_names_the_exit_status(start: Start) -> None:
    client = start()
    greeter = client.dispense("greeter")
    with pytest.raises(ClosedError, match="exited with status 7"):
        greeter.end(7)
    assert "status 7" in client.ping()
    assert client.exit_status == 7


def test_kill_in_the_middle_of_a_call(start: Start) -> None:
    client = start()
    greeter = client.dispense("greeter")
    called = greeter.rpc_client.go("Plugin.Wait", reply=None)
    os.kill(client.pid, signal.SIGKILL)
    with pytest.raises(ClosedError, match="killed by signal 9"):
        called.result(60)


def test_a_plugin_with_a_handler_that_does_not_end_is_killed(start: Start) -> None:
    client = start("--grace", "0.05")
    client.dispense("greeter").rpc_client.go("Plugin.Wait", reply=None)
    client.kill()
    assert client.exited()


class Written:
    """A writer that says when something has come."""

    def __init__(self) -> None:
        self.text = ""
        self.changed = threading.Condition()

    def write(self, data: str) -> None:
        with self.changed:
            self.text += data
            self.changed.notify_all()

    def wait_for(self, text: str) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: text in self.text, 60)


def test_what_is_printed_reaches_the_host(start: Start) -> None:
    stdout, stderr = Written(), Written()
    client = start(sync_stdout=stdout, sync_stderr=stderr)
    greeter = client.dispense("greeter")
    for number in range(3):
        greeter.show(f"text {number}")
    client.kill()
    assert stdout.text == "text 0\ntext 1\ntext 2\n"
    assert stderr.text == "text 0\ndirect\ntext 1\ndirect\ntext 2\ndirect\n"


def test_what_is_printed_before_a_signal_reaches_the_host(start: Start) -> None:
    size = 3_000_000  # more than pipes, windows and sockets hold
    stdout = Written()
    client = start(sync_stdout=stdout)
    with pytest.raises(ClosedError, match="killed by signal 15"):
        client.dispense("greeter").show_and_die(size)
    client.kill()
    assert stdout.text == "x" * size + "\n"


@pytest.mark.parametrize("options", [{"auto_mtls": True}, {}], ids=["mtls", "plain"])
@pytest.mark.parametrize("network", ["unix", "tcp"])
def test_connections(options: dict[str, Any], network: str, start: Start) -> None:
    client = start("--network", network, **options)
    assert client.dispense("greeter").greet("you") == "Hello, you!"


def test_reattach(start: Start, make_client: Any) -> None:
    first = start()
    found = first.reattach_config()
    assert found.protocol == "netrpc"
    second = make_client(
        None,
        reattach_config=found,
        handshake_config=HANDSHAKE,
        plugins=PLUGINS,
        allowed_protocols=["netrpc"],
    )
    assert second.dispense("greeter").greet("b") == "Hello, b!"
    assert first.dispense("greeter").greet("a") == "Hello, a!"
    second.kill()
    assert first.exited()


def test_serving_in_the_process_of_a_test(pygo_stub: Any, pygo_client: Any) -> None:
    greeter = pygo_stub(netrpc.plugin(Greeter))
    assert greeter.greet("you") == "Hello, you!"
    client = pygo_client(PLUGINS)
    with client.broker.serve(Teller()) as service_id:
        assert client.dispense("greeter").call_back(service_id) == "told told "


# ---- Versions and options ------------------------------------------------------------------------


@pytest.mark.parametrize(("versions", "protocol"), [((1, 2), "grpc"), ((1,), "netrpc")])
def test_versions_choose_the_protocol(
    versions: tuple[int, ...], protocol: str, start: Start
) -> None:
    sets = {1: PLUGINS, 2: {"greeter": Nothing()}}
    client = start(
        "--versions",
        plugins=None,
        versioned_plugins={version: sets[version] for version in versions},
        allowed_protocols=["netrpc", "grpc"],
    )
    assert client.protocol == protocol
    assert client.negotiated_version == max(versions)
    if protocol == "netrpc":
        assert client.dispense("greeter").count() == 0
    else:
        channel, stub = client.dispense("greeter")
        assert stub is None
        channel.close()


def test_the_plugins_of_one_version_speak_one_protocol() -> None:
    mixed = {"a": netrpc.plugin(Greeter), "b": Nothing()}
    client = Client("nowhere", plugins=mixed, allowed_protocols=["netrpc", "grpc"])
    with pytest.raises(ConfigError, match="version 0 speak different protocols, 'a' netrpc and"):
        client.start()
    server = Server(ServeConfig(handshake_config=HANDSHAKE, plugins=mixed))
    os.environ["PYGO_NETRPC"] = "netrpc"
    try:
        assert not server.serve()
    finally:
        del os.environ["PYGO_NETRPC"]
    assert "speak different protocols" in server.error_msg


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"plugins": PLUGINS}, "allowed_protocols is \\['grpc'\\]: add \"netrpc\""),
        (
            {"plugins": {"a": Nothing()}, "allowed_protocols": ["netrpc"]},
            "speak grpc, and allowed_protocols is \\['netrpc'\\]",
        ),
        (
            {"plugins": PLUGINS, "allowed_protocols": ["netrpc"], "broker_multiplex": True},
            "broker_multiplex is an option for gRPC",
        ),
        (
            {"plugins": PLUGINS, "allowed_protocols": ["netrpc"], "memory_quota": 1000},
            "memory_quota is an option for gRPC",
        ),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], words: str) -> None:
    client = Client("nowhere", handshake_config=HANDSHAKE, **options)
    with pytest.raises(ConfigError, match=words):
        client.start()


def test_options_of_servers_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYGO_NETRPC", "netrpc")
    options: dict[str, Any] = {"channel_options": [("grpc.a", 1)]}
    server = Server(ServeConfig(handshake_config=HANDSHAKE, plugins=PLUGINS, **options))
    assert not server.serve()
    assert "channel_options is an option for gRPC" in server.error_msg


def test_a_reattach_config_without_a_protocol_is_one_of_netrpc() -> None:
    found = ReattachConfig.from_json('{"Addr": {"Network": "unix", "String": "/nowhere"}}')
    assert found.protocol == "netrpc"
    assert found.valid


@pytest.mark.parametrize("interface", [None, Greeter(None), "Greeter"])
def test_plugin_takes_a_class(interface: Any) -> None:
    with pytest.raises(ConfigTypeError, match="takes a class with annotated methods"):
        netrpc.plugin(interface)


def test_implementations_are_called_with_the_broker_if_they_want_it() -> None:
    broker = object()

    class Plain:
        def get(self) -> int:
            return 1

    class Optional:
        def __init__(self, text: str = "", broker: Any = None) -> None:
            self.arguments = (text, broker)

        def get(self) -> int:
            return 1

    assert isinstance(netrpc.plugin(Plain).server(broker), Plain)
    assert netrpc.plugin(Greeter).server(broker).broker is broker
    assert netrpc.plugin(Plain, Greeter).server(broker).broker is broker
    assert netrpc.plugin(Plain, lambda: Plain()).server(broker).get() == 1
    assert netrpc.plugin(Plain, lambda broker: (broker,)).server(broker) == (broker,)
    with pytest.raises(ConfigError, match="made no object, but None"):
        netrpc.plugin(Plain, lambda: None).server(broker)


def test_a_plugin_needs_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYGO_NETRPC", "netrpc")
    plugins = {"greeter": netrpc.Plugin()}
    server = Server(ServeConfig(handshake_config=HANDSHAKE, plugins=plugins))
    with pytest.raises(NotImplementedError, match="has no server"):
        server.serve()


# ---- What is loaded ------------------------------------------------------------------------------


@pytest.fixture
def loaded(tmp_path: Path) -> Iterator[Callable[[str], set[str]]]:
    def loaded(script: str) -> set[str]:
        path = tmp_path / "program.py"
        path.write_text(script)
        output = subprocess.check_output([sys.executable, str(path)], text=True)
        return set(output.split())

    return loaded


def test_a_host_of_netrpc_loads_no_grpc(loaded: Callable[[str], set[str]]) -> None:
    found = loaded(f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pygo_plugin import Client, HandshakeConfig, netrpc

class Greeter:
    def greet(self, name: str) -> str: ...

client = Client(
    [sys.executable, {__file__!r}],
    handshake_config=HandshakeConfig(1, "PYGO_NETRPC", "netrpc"),
    plugins={{"greeter": netrpc.plugin(Greeter)}},
    allowed_protocols=["netrpc"],
)
with client:
    assert client.dispense("greeter").greet("you") == "Hello, you!"
    libraries = open("/proc/self/maps").read()
print(*sys.modules, "grpc-library" if "libgrpc" in libraries else "")
""")
    assert "pygo_plugin._netrpc.client" in found
    assert not [name for name in found if name.startswith(("grpc", "pygo_plugin._grpc."))]


def test_a_plugin_of_netrpc_loads_no_grpc(loaded: Callable[[str], set[str]]) -> None:
    found = loaded("""
import os, sys
from pygo_plugin import HandshakeConfig, ServeConfig, Server, netrpc, server

os.environ["PYGO_KEY"] = "value"
os.environ.pop("PLUGIN_CLIENT_CERT", None)

class Greeter:
    def greet(self, name: str) -> str:
        return name

def show(line, stdio, logger):
    libraries = open("/proc/self/maps").read()
    names = [*sys.modules, "grpc-library" if "libgrpc" in libraries else ""]
    os.write(1, " ".join(names).encode())

server._print_handshake = show
plugins = {"greeter": netrpc.plugin(Greeter)}
handshake = HandshakeConfig(1, "PYGO_KEY", "value")
plugin = Server(ServeConfig(handshake_config=handshake, plugins=plugins))
assert plugin.serve(), plugin.error_msg
plugin.stop(None).wait()
""")
    assert "pygo_plugin._serve.netrpc_protocol" in found
    assert not [name for name in found if name.startswith(("grpc", "pygo_plugin._grpc."))]
    heavy = {"asyncio", "enum", "inspect", "json", "logging", "re", "socket", "threading", "typing"}
    assert not found & heavy


# ---- The plugin ----------------------------------------------------------------------------------


def main() -> None:
    arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
    options: dict[str, Any] = {"plugins": PLUGINS}
    if "--versions" in sys.argv:
        options = {"versioned_plugins": {1: PLUGINS, 2: {"greeter": Nothing()}}}
    elif "--grace" in arguments:
        options["shutdown_grace"] = float(arguments["--grace"])
    network = arguments.get("--network", "unix")
    serve(ServeConfig(handshake_config=HANDSHAKE, network=network, **options))


if __name__ == "__main__":
    main()
