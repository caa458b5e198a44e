"""The server as plugins have it: its defaults, and the services that every plugin serves.

What a server is to grpcio's users is in tests/conformance.
"""

from __future__ import annotations

import enum
import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from stage import DEADLINE, LIBRARIES, Code, Stage, raised, requests, unary

from pygo_plugin import Client, ConfigError
from pygo_plugin._grpc.server import Server


class PluginStage(Stage):
    """A plugin's server."""

    def make(self, max_workers: int = 16, **options: Any) -> Any:
        server = Server(max_workers=max_workers, **options)
        server.add_insecure_port(self.target(len(self.servers)))
        self.servers.append(server)
        return server


@pytest.fixture(params=LIBRARIES)
def own(request: pytest.FixtureRequest, socket_dir: Path) -> Iterator[Stage]:
    """A plugin's server, called by either channel."""
    made = PluginStage(request.param, "ours", socket_dir)
    yield made
    made.close()


# ---- Status codes -------------------------------------------------------------------------------


class OwnCode(enum.IntEnum):
    GONE = 5


@pytest.mark.parametrize("code", [OwnCode.GONE, 5, Code.NOT_FOUND])
def test_codes_by_number(own: Stage, code: Any) -> None:
    def abort(request: bytes, context: Any) -> bytes:
        return bytes(context.abort(code, "gone"))

    server = own.make()
    server.add_registered_method_handlers("test.T", {"M": unary(abort)})
    server.start()
    error = raised(lambda: own.connect().unary_unary("/test.T/M")(b"", timeout=DEADLINE))
    assert (error.code(), error.details()) == (Code.NOT_FOUND, "gone")


@pytest.mark.parametrize("handler", [(), (1, 2), 5])
def test_what_is_no_handler_fails_its_calls(own: Stage, handler: Any) -> None:
    server = own.make()
    server.add_registered_method_handlers("test.T", {"M": handler})
    server.start()
    error = raised(lambda: own.connect().unary_unary("/test.T/M")(b"", timeout=DEADLINE))
    assert error.code() is Code.UNKNOWN


# ---- Its end ------------------------------------------------------------------------------------


@pytest.mark.parametrize("started", [True, False])
def test_a_server_that_its_servicer_knows_is_collected(
    socket_dir: Path, eventually: Any, started: bool
) -> None:
    class Servicer:
        def __init__(self, server: Server) -> None:
            self.server = server

        def answer(self, request: bytes, context: Any) -> bytes:
            return request

    server = Server()
    servicer = Servicer(server)
    server.add_registered_method_handlers("test.T", {"M": unary(servicer.answer)})
    server.add_insecure_port(f"unix:{socket_dir}/s")
    if started:
        server.start()
        assert server.stop(None).wait(DEADLINE)
        assert server.join(DEADLINE)
    left = weakref.ref(servicer)
    del servicer, server

    def collected() -> bool:
        gc.collect()
        return left() is None

    eventually(collected, "the servicer's end")


def test_a_server_that_serves_is_not_collected(own: Stage) -> None:
    """A running server stays alive while its servicer refers to it, as with grpcio."""

    class Servicer:
        server: Any = None

        def answer(self, request: bytes, context: Any) -> bytes:
            return request

    servicer = Servicer()
    servicer.server = own.make()
    servicer.server.add_registered_method_handlers("test.T", {"M": unary(servicer.answer)})
    servicer.server.start()
    own.servers.clear()
    server = weakref.ref(servicer.server)
    del servicer
    call = own.connect().unary_unary("/test.T/M")
    for _ in range(3):
        gc.collect()
        assert call(b"x", timeout=DEADLINE) == b"x"
    found = server()
    assert found is not None
    own.servers.append(found)


# ---- Many at once -------------------------------------------------------------------------------


def test_requests_are_for_one_thread_at_a_time(own: Stage) -> None:
    refused: list[str] = []
    first = threading.Event()

    def read(incoming: Any) -> None:
        try:
            next(incoming)
        except ValueError as error:
            refused.append(str(error))
            first.set()

    def behavior(incoming: Any, context: Any) -> bytes:
        readers = [threading.Thread(target=read, args=(incoming,)) for _ in range(2)]
        for reader in readers:
            reader.start()
        assert first.wait(DEADLINE)  # the other one waits for a request
        more.set()
        for reader in readers:
            reader.join(DEADLINE)
        return b"%d" % len(list(incoming))

    more = threading.Event()

    def three() -> Iterator[bytes]:
        assert more.wait(DEADLINE)
        yield from (b"1", b"2", b"3")

    server = own.make()
    server.add_registered_method_handlers("test.T", {"M": requests(behavior)})
    server.start()
    call = own.connect().stream_unary("/test.T/M")
    assert call(three(), timeout=DEADLINE) == b"2"
    assert len(refused) == 1
    assert "another thread" in refused[0]


def test_health_answers_while_every_worker_is_blocked(own: Stage) -> None:
    entered, leave = threading.Event(), threading.Event()

    def behavior(request: bytes, context: Any) -> bytes:
        entered.set()
        assert leave.wait(DEADLINE)
        return request

    server = own.make(max_workers=1)
    server.add_plugin_services("plugin")
    server.add_registered_method_handlers("test.T", {"M": unary(behavior)})
    server.start()
    channel = own.connect()
    blocked = [channel.unary_unary("/test.T/M").future(b"x", timeout=DEADLINE) for _ in range(3)]
    assert entered.wait(DEADLINE)
    health = health_pb2_grpc.HealthStub(channel)
    for _ in range(5):
        reply = health.Check(health_pb2.HealthCheckRequest(service="plugin"), timeout=DEADLINE)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
    leave.set()
    assert [f.result(DEADLINE) for f in blocked] == [b"x"] * 3


@pytest.mark.parametrize("options", [{"max_workers": 0}, {"maximum_concurrent_rpcs": 0}])
def test_senseless_limits(options: dict[str, int]) -> None:
    (name,) = options
    with pytest.raises(ConfigError, match=f"{name} must be at least 1"):
        Server(**options)  # type: ignore[arg-type]


# ---- Life ---------------------------------------------------------------------------------------


def test_socket_belongs_to_the_owner_alone(own: Stage, socket_dir: Path) -> None:
    own.serve({})
    assert (socket_dir / "0").stat().st_mode & 0o777 == 0o600


def test_forgotten_server_that_was_never_started(socket_dir: Path) -> None:
    for _ in range(3):
        server = Server()
        server.add_insecure_port(f"unix:{socket_dir}/socket")
        server.add_plugin_services("plugin")
        del server
        gc.collect()


# ---- What every plugin serves -------------------------------------------------------------------


@pytest.fixture
def plugin(own: Stage) -> Any:
    """A channel to a server with the plugin's services and the suite's own."""
    import kv_pb2_grpc
    import probe_pb2_grpc
    from servicers import KVServicer, ProbeServicer

    server = own.make()
    server.add_plugin_services("plugin")
    kv_pb2_grpc.add_KVServicer_to_server(KVServicer(), server)
    probe_pb2_grpc.add_ProbeServicer_to_server(ProbeServicer(), server)
    server.start()
    return own.connect()


def test_health_check(plugin: Any) -> None:
    health = health_pb2_grpc.HealthStub(plugin)
    for service in ("plugin", ""):
        reply = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=DEADLINE)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
    unknown = health_pb2.HealthCheckRequest(service="unknown")
    assert raised(lambda: health.Check(unknown, timeout=DEADLINE)).code() is Code.NOT_FOUND


def test_health_list(plugin: Any) -> None:
    health = health_pb2_grpc.HealthStub(plugin)
    statuses = health.List(health_pb2.HealthListRequest(), timeout=DEADLINE).statuses
    assert {name: one.status for name, one in statuses.items()} == {
        "": health_pb2.HealthCheckResponse.SERVING,
        "plugin": health_pb2.HealthCheckResponse.SERVING,
    }


@pytest.mark.parametrize("server", ["core", "grpcio", "aio"])
def test_health_list_of_a_plugin(server: str, peers: Any, handshake: Any, plugins: Any) -> None:
    command = peers.plugin("python", "--server", server)
    with Client(command, handshake_config=handshake, plugins=plugins) as client:
        health = health_pb2_grpc.HealthStub(client.new_channel())
        statuses = health.List(health_pb2.HealthListRequest(), timeout=DEADLINE).statuses
        assert sorted(statuses) == ["", "plugin"]


@pytest.mark.parametrize("kind", ["python", "go"])
def test_reflection_names_what_plugins_serve(
    kind: str, peers: Any, handshake: Any, plugins: Any
) -> None:
    """As in go-plugin, the services between plugin and host are listed, too."""
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
        ProtoReflectionDescriptorDatabase,
    )

    command = peers.plugin(kind)
    with Client(command, handshake_config=handshake, plugins=plugins) as client:
        services = set(ProtoReflectionDescriptorDatabase(client.new_channel()).get_services())
        own = {"plugin.GRPCBroker", "plugin.GRPCController", "plugin.GRPCStdio"}
        assert services >= {*own, "grpc.health.v1.Health", "kv.KV", "probe.Probe"}


def test_health_watch(own: Stage, plugin: Any) -> None:
    health = health_pb2_grpc.HealthStub(plugin)
    known = health.Watch(health_pb2.HealthCheckRequest(service="plugin"))
    assert next(known).status == health_pb2.HealthCheckResponse.SERVING
    unknown = health.Watch(health_pb2.HealthCheckRequest(service="unknown"))
    assert next(unknown).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    unknown.cancel()
    # A watch has no end of its own: it must not use up the grace of calls that have.
    assert own.servers[0].stop(100 * DEADLINE).wait(DEADLINE)
    error = raised(lambda: next(known))
    assert error.code() in (Code.UNAVAILABLE, Code.CANCELLED)


def test_controller(own: Stage, plugin: Any) -> None:
    plugin.unary_unary("/plugin.GRPCController/Shutdown")(b"", timeout=DEADLINE)
    assert own.servers[0].stopping() is True
    assert own.servers[0].wait_for_termination(DEADLINE) is False


SERVICES = {
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "kv.KV",
    "plugin.GRPCController",
    "probe.Probe",
}


def test_reflection(plugin: Any) -> None:
    """grpcio's client, which speaks v1alpha, can read it."""
    from google.protobuf.descriptor_pool import DescriptorPool
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
        ProtoReflectionDescriptorDatabase,
    )

    database = ProtoReflectionDescriptorDatabase(plugin)
    assert set(database.get_services()) >= SERVICES
    pool = DescriptorPool(database)
    service = pool.FindServiceByName("probe.Probe")
    assert service.methods_by_name["Echo"].input_type.full_name == "probe.EchoRequest"
    assert pool.FindMessageTypeByName("probe.EchoReply").fields_by_name["payload"].number == 1
    with pytest.raises(KeyError):
        pool.FindServiceByName("probe.NoSuch")


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_of_both_versions(plugin: Any, version: str) -> None:
    import reflection_pb2
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from grpc_reflection.v1alpha import reflection_pb2 as v1alpha_pb2

    pb: Any = reflection_pb2 if version == "v1" else v1alpha_pb2
    asked = [
        pb.ServerReflectionRequest(list_services=""),
        pb.ServerReflectionRequest(file_containing_symbol="kv.KV"),
        pb.ServerReflectionRequest(file_containing_symbol="kv.KV.Get"),
        pb.ServerReflectionRequest(file_by_filename="kv.proto"),
        pb.ServerReflectionRequest(file_containing_symbol="no.Such"),
        pb.ServerReflectionRequest(all_extension_numbers_of_type="google.protobuf.FieldOptions"),
        pb.ServerReflectionRequest(),
    ]
    call = plugin.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=pb.ServerReflectionRequest.SerializeToString,
        response_deserializer=pb.ServerReflectionResponse.FromString,
    )
    answers = list(call(iter(asked), timeout=DEADLINE))
    assert [answer.original_request for answer in answers] == asked
    assert {s.name for s in answers[0].list_services_response.service} >= SERVICES
    for answer in answers[1:4]:
        first = answer.file_descriptor_response.file_descriptor_proto[0]
        assert FileDescriptorProto.FromString(first).name == "kv.proto"
    assert answers[4].error_response.error_code == Code.NOT_FOUND.value[0]
    assert answers[5].all_extension_numbers_response.base_type_name
    assert answers[6].error_response.error_code != 0
