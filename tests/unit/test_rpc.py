"""What pygo_plugin.rpc has of its own, and how it stands in for grpcio's module.

Calls are tested in tests/conformance.
"""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pytest
from certificates import Authority, Pair
from cryptography.hazmat.primitives import serialization
from stage import DEADLINE, Service, ask, failure, serving

from pygo_plugin import errors, rpc

# ---- Without TLS ---------------------------------------------------------------------------------


def test_a_unix_sockets_mode_is_the_umasks(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with serving(rpc, address=f"unix:{tmp_path}/s"):
            assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o755
    finally:
        os.umask(before)


# ---- The thread pool -----------------------------------------------------------------------------


def test_a_pools_size_is_taken() -> None:
    inside = threading.Barrier(3)

    def meet(request: bytes, context: Any) -> bytes:
        inside.wait(DEADLINE)
        return request

    pool = ThreadPoolExecutor(3)
    server = rpc.server(pool, handlers=[Service(Meet=meet)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with rpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        method = channel.unary_unary("/t/Meet")
        calls = [method.future(b"", timeout=DEADLINE) for _ in range(3)]
        assert [call.result() for call in calls] == [b""] * 3
    assert server.stop(None).wait(DEADLINE)
    assert not pool._threads  # nothing was submitted


def test_pools_that_cannot_be_replaced() -> None:
    class Proud(ThreadPoolExecutor):
        def submit(self, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError

    class Other(Executor):
        pass

    for pool in (Proud(1), Other(), ThreadPoolExecutor(1, initializer=print), "pool"):
        with pytest.raises(TypeError, match="give max_workers instead"):
            rpc.server(pool)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="max_workers or a thread_pool"):
        rpc.server(ThreadPoolExecutor(1), max_workers=2)
    rpc.server(max_workers=2)
    rpc.server()


# ---- TLS -----------------------------------------------------------------------------------------


def test_pem_is_checked(authority: Authority, server_pair: Pair, client_pair: Pair) -> None:
    key, chain = server_pair
    with pytest.raises(errors.ConfigError, match="root certificates: no certificate"):
        rpc.ssl_channel_credentials(b"nonsense")
    with pytest.raises(ValueError, match="certificate 2 cannot be read"):
        rpc.ssl_channel_credentials(chain + chain.replace(b"MII", b"!!!"))
    with pytest.raises(ValueError, match="go together: one is missing"):
        rpc.ssl_channel_credentials(authority.root, key)
    with pytest.raises(ValueError, match="does not belong"):
        rpc.ssl_channel_credentials(authority.root, client_pair.key, chain)
    with pytest.raises(ValueError, match="the server's private key cannot be read") as caught:
        rpc.ssl_server_credentials([(key.replace(b"MI", b"XX"), chain)])
    assert "XX" not in str(caught.value)
    with pytest.raises(ValueError, match="at least one pair"):
        rpc.ssl_server_credentials([])
    with pytest.raises(ValueError, match="only with root certificates"):
        rpc.ssl_server_credentials([server_pair], require_client_auth=True)
    with pytest.raises(TypeError, match="PEM bytes"):
        rpc.ssl_channel_credentials("text")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="zero bytes"):
        rpc.ssl_channel_credentials(authority.root + b"\0")
    with pytest.raises(TypeError, match="must be a tuple"):
        rpc.ssl_server_credentials([(key, chain, key)])  # type: ignore[list-item]


def test_an_encrypted_key_is_refused_without_a_prompt(server_pair: Pair) -> None:
    key = serialization.load_pem_private_key(server_pair.key, None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    with pytest.raises(ValueError, match="an unencrypted key"):
        rpc.ssl_server_credentials([(locked, server_pair.chain)])


def test_secrets_do_not_show(server_pair: Pair) -> None:
    for made in (
        rpc.ssl_channel_credentials(server_pair.chain, *server_pair),
        rpc.ssl_server_credentials([server_pair]),
        rpc.access_token_call_credentials("hush"),
    ):
        assert "hush" not in repr(made)
        assert "BEGIN" not in repr(made)
        assert not [name for name in dir(made) if not name.startswith("__")]


def test_credentials_of_grpcios_are_refused_by_name(server_pair: Pair) -> None:
    with pytest.raises(TypeError, match=r"pygo_plugin\.rpc\.ssl_channel_credentials"):
        rpc.secure_channel("localhost:1", grpc.ssl_channel_credentials())
    with pytest.raises(TypeError, match="insecure_channel"):
        rpc.secure_channel("localhost:1", None)  # type: ignore[arg-type]
    server = rpc.server()
    with pytest.raises(TypeError, match=r"pygo_plugin\.rpc\.ssl_server_credentials"):
        server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([server_pair]))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="add_insecure_port"):
        server.add_secure_port("127.0.0.1:0", None)  # type: ignore[arg-type]
    token = grpc.access_token_call_credentials("x")
    ours = rpc.access_token_call_credentials("x")
    with pytest.raises(TypeError, match=r"pygo_plugin\.rpc\.metadata_call_credentials"):
        rpc.composite_call_credentials(ours, token)
    with pytest.raises(TypeError, match=r"pygo_plugin\.rpc\.metadata_call_credentials"):
        rpc.composite_channel_credentials(rpc.ssl_channel_credentials(), token)
    with (
        rpc.secure_channel("localhost:1", rpc.ssl_channel_credentials()) as channel,
        pytest.raises(TypeError, match=r"pygo_plugin\.rpc\.metadata_call_credentials"),
    ):
        ask(channel, credentials=token)


# ---- The module in place of grpcio's -------------------------------------------------------------


def test_the_rest_of_grpcio_is_there() -> None:
    for name in (
        "StatusCode",
        "RpcError",
        "Compression",
        "ChannelConnectivity",
        "FutureTimeoutError",
        "ServicerContext",
        "GenericRpcHandler",
        "channel_ready_future",
        "intercept_channel",
        "unary_unary_rpc_method_handler",
        "method_handlers_generic_handler",
    ):
        assert getattr(rpc, name) is getattr(grpc, name)
    assert rpc.insecure_channel is not grpc.insecure_channel


def test_what_cannot_be_had_says_why() -> None:
    with pytest.raises(AttributeError, match="neither pygo_plugin"):
        rpc.no_such_thing  # noqa: B018
    with pytest.raises(AttributeError, match="belong to the gRPC core inside grpcio"):
        rpc.local_channel_credentials  # noqa: B018
    with pytest.raises(AttributeError, match="has no attribute '_private'"):
        rpc._private  # noqa: B018


def test_every_public_function_of_grpcio_is_decided_on() -> None:
    """Functions that make channels, servers or credentials are ours or raise; none is grpcio's."""
    made = {
        name
        for name in grpc.__all__
        if name.endswith(("_channel", "_credentials", "_configuration")) or name == "server"
    } - {"intercept_channel"}
    for name in made:
        value = getattr(rpc, name, None)
        assert value is None or value.__module__ == rpc.__name__, name


def test_objects_are_grpcios_by_isinstance() -> None:
    with rpc.insecure_channel("localhost:1") as channel:
        assert isinstance(channel, grpc.Channel)
    assert isinstance(rpc.server(), grpc.Server)


def run_script(script: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GRPC_")}
    return subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
    ).stdout


def test_without_grpcio() -> None:
    output = run_script("""
import sys
sys.modules["grpc"] = None
from pygo_plugin import rpc, errors
channel = rpc.insecure_channel("unix:/nowhere/at/all")
try:
    channel.unary_unary("/a/b")(b"", timeout=60)
except rpc.RpcError as error:
    print(error.code() is rpc.StatusCode.UNAVAILABLE)
try:
    rpc.intercept_channel
except ImportError as error:
    print(error)
""")
    said = "pygo_plugin.rpc.intercept_channel needs grpcio, which is not installed: "
    assert output.splitlines() == ["True", said + "pip install 'pygo-plugin[grpcio]'"]


def test_importing_it_does_not_import_grpcio_or_logging() -> None:
    output = run_script("""
import sys
from pygo_plugin import rpc
rpc.insecure_channel("localhost:1").close()
rpc.server(max_workers=1).add_insecure_port("127.0.0.1:0")
print({"grpc", "logging", "threading", "concurrent.futures"} & set(sys.modules))
""")
    assert output == "set()\n"


def test_in_a_forked_child() -> None:
    output = run_script("""
import os
from pygo_plugin import rpc, errors
channel = rpc.secure_channel("localhost:1", rpc.ssl_channel_credentials())
token = rpc.access_token_call_credentials("x")
if os.fork() == 0:
    for make in (
        lambda: rpc.insecure_channel("localhost:1"),
        rpc.server,
        rpc.ssl_channel_credentials,
        lambda: rpc.access_token_call_credentials("x"),
        lambda: rpc.metadata_call_credentials(print),
        lambda: rpc.composite_call_credentials(token, token),
    ):
        try:
            make()
        except errors.ForkedError:
            print("refused", flush=True)
    del channel, token
    raise SystemExit
os.wait()
""")
    assert output.splitlines() == ["refused"] * 6


# ---- gRPC's own log ------------------------------------------------------------------------------


def test_grpcs_log_is_logged(authority: Authority, server_pair: Pair) -> None:
    stranger = Authority("unknown")
    logged = threading.Event()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            is_error = record.levelno == logging.ERROR
            if is_error and "handshake" in record.getMessage().lower():
                logged.set()

    logger = logging.getLogger("pygo_plugin.grpc")
    handler = Handler()
    logger.addHandler(handler)
    try:
        with (
            serving(rpc, credentials=rpc.ssl_server_credentials([server_pair])) as running,
            rpc.secure_channel(
                f"localhost:{running.port}", rpc.ssl_channel_credentials(stranger.root)
            ) as refused,
        ):
            failure(refused)
            assert logged.wait(DEADLINE)
    finally:
        logger.removeHandler(handler)


def test_grpcs_log_is_bounded_and_silent_in_a_forked_child() -> None:
    # All of gRPC's traces at once, while the callback thread is held up.
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            """
import logging, os, threading
from pygo_plugin import rpc
texts = []
go_on = threading.Event()
left_out = threading.Event()
class Handler(logging.Handler):
    def emit(self, record):
        go_on.wait()
        texts.append(record.getMessage())
        if "lines of gRPC's log were left out" in texts[-1]:
            left_out.set()
logger = logging.getLogger("pygo_plugin.grpc")
logger.addHandler(Handler())
logger.setLevel(1)
logger.propagate = False
channel = rpc.insecure_channel("unix:/nowhere/at/all")
for _ in range(200):
    try:
        channel.unary_unary("/a/b")(b"", timeout=60)
    except rpc.RpcError:
        pass
if os.fork() == 0:
    os._exit(0)
print(os.wait()[1])
go_on.set()
print(left_out.wait(60), len(texts) < 1000)
""",
        ],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "GRPC_VERBOSITY": "DEBUG", "GRPC_TRACE": "api,http,call_error"},
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["0", "True True"]
    assert result.stderr == ""


@pytest.mark.parametrize("host", [rpc, grpc])
def test_rpc_is_a_module_that_generated_code_can_use(host: Any) -> None:
    """Generated code can import `rpc` in place of the module `grpc`."""
    assert isinstance(rpc, ModuleType)
    source = (
        "from pygo_plugin import rpc as grpc\n"
        "def add(server):\n"
        "    methods = {'Echo': grpc.unary_unary_rpc_method_handler(lambda r, c: r)}\n"
        "    handler = grpc.method_handlers_generic_handler('t', methods)\n"
        "    server.add_generic_rpc_handlers((handler,))\n"
        "    server.add_registered_method_handlers('t', methods)\n"
    )
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    server = host.server(ThreadPoolExecutor(1))
    namespace["add"](server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with rpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert ask(channel) == b"hello"
    assert server.stop(None).wait(DEADLINE)
