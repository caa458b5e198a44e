"""Plugins whose handlers start processes by multiprocessing, with and without a guarded program."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import Any

import grpc
import pytest

pytestmark = [pytest.mark.go, pytest.mark.usefixtures("no_leftovers")]

DEADLINE = 60.0  # seconds: a process of multiprocessing's begins with an interpreter

REASON = "serve() was called in a child process that multiprocessing has spawned"

PROGRAM = """
    import multiprocessing
    import sys
    from concurrent.futures import ProcessPoolExecutor

    from pygo_plugin import Plugin, ServeConfig, ServeTestConfig, Server, aio, serve
    from pygo_plugin_peer import HANDSHAKE

    def negate(number):
        return -number

    class KV(Plugin):
        def server_register(self, server):
            import kv_pb2
            import kv_pb2_grpc

            class Servicer(kv_pb2_grpc.KVServicer):
                def Get(self, request, context):
                    how, method = request.key.split()
                    spawning = multiprocessing.get_context(method)
                    if how == "pool":
                        with ProcessPoolExecutor(1, mp_context=spawning) as pool:
                            found = pool.submit(negate, -3).result()
                    else:
                        process = spawning.Process(target=negate, args=(3,))
                        process.start()
                        process.join()
                        found = process.exitcode
                    return kv_pb2.GetResponse(value=b"%d" % found)

            kv_pb2_grpc.add_KVServicer_to_server(Servicer(), server)

    config = ServeConfig(handshake_config=HANDSHAKE, plugins={"kv": KV()})
"""

SERVE = {
    "core": "serve(config)",
    "aio": "import asyncio; asyncio.run(aio.serve(config))",
    "server": """
        server = Server(config)
        if not server.serve(wait=True):
            sys.exit(server.error_msg)
    """,
}
METHODS = ["spawn", "forkserver"]


@pytest.fixture
def program(tmp_path: Path) -> Any:
    def write(serve: str, guarded: bool = False) -> str:
        path = tmp_path / "plugin.py"
        serve = textwrap.dedent(serve)
        if guarded:
            serve = 'if __name__ == "__main__":\n' + textwrap.indent(serve, "    ")
        path.write_text(textwrap.dedent(PROGRAM) + serve)
        return str(path)

    return write


def get(client: Any, key: str) -> bytes:
    import kv_pb2

    _, kv = client.dispense("kv")
    value: bytes = kv.Get(kv_pb2.GetRequest(key=key), timeout=DEADLINE).value
    return value


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("serve", ["core", "aio"])
def test_an_unguarded_program_is_told(
    serve: str, method: str, program: Any, make_client: Any, records: Any
) -> None:
    """The executor raises its usual error, and the reason is in the host's log."""
    client = make_client([sys.executable, program(SERVE[serve])])
    with pytest.raises(grpc.RpcError) as caught:
        get(client, f"pool {method}")
    assert caught.value.code() is grpc.StatusCode.UNKNOWN
    assert records.wait_for(REASON).levelname == "ERROR"
    assert client.ping() == ""
    client.kill()
    assert client.exit_status == 0
    assert not any("panic: " in message for message in records.messages())


def test_an_unguarded_process_fails(program: Any, make_client: Any, records: Any) -> None:
    client = make_client([sys.executable, program(SERVE["core"])])
    assert get(client, "process spawn") == b"1"
    records.wait_for(REASON)


def test_a_server_says_why(program: Any, make_client: Any) -> None:
    """The author's message is written to descriptor 2 of the child."""
    import io

    err = io.BytesIO()
    client = make_client([sys.executable, program(SERVE["server"])], sync_stderr=err)
    assert get(client, "process spawn") == b"1"
    client.kill()
    assert REASON in err.getvalue().decode()


def test_in_test_mode(tmp_path: Path) -> None:
    import subprocess

    path = tmp_path / "tests.py"
    path.write_text(
        textwrap.dedent("""
            import multiprocessing
            from pygo_plugin import testing

            if __name__ == "__main__":
                process = multiprocessing.get_context("spawn").Process(target=print)
                process.start()
                process.join()
                print(process.exitcode)
            else:
                with testing.serve({}):
                    pass
        """)
    )
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=DEADLINE
    )
    assert done.stdout == "1\n"
    assert f"pygo_plugin.errors.StartError: {REASON}" in done.stderr


def test_a_go_host_has_the_reason(program: Any, go_host: Any) -> None:
    go_host.do("start", cmd=[sys.executable, program(SERVE["core"])])
    assert go_host.ask("kv_get", key="pool spawn")["code"] == "UNKNOWN"
    logged = go_host.do("logs", until=REASON)["records"]
    assert [r["level"] for r in logged if REASON in r["message"]] == ["error"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("serve", ["core", "aio"])
def test_a_guarded_program_computes(
    serve: str, method: str, program: Any, make_client: Any
) -> None:
    client = make_client([sys.executable, program(SERVE[serve], guarded=True)])
    assert get(client, f"pool {method}") == b"3"
    client.kill()
    assert client.exit_status == 0


def test_a_program_that_is_run_by_ours(program: Any, make_client: Any) -> None:
    path = program(SERVE["core"], guarded=True)
    client = make_client([sys.executable, "-m", "pygo_plugin.run", path])
    assert get(client, "pool spawn") == b"3"


def test_a_child_that_serves_on_purpose(tmp_path: Path) -> None:
    """The child has imported the main program before."""
    import subprocess

    path = tmp_path / "tests.py"
    path.write_text(
        textwrap.dedent("""
            import multiprocessing
            from pygo_plugin import Plugin, testing

            class Idle(Plugin):
                def server_register(self, server):
                    pass

            def serve():
                with testing.serve({"idle": Idle()}) as config:
                    assert config.valid

            if __name__ == "__main__":
                process = multiprocessing.get_context("spawn").Process(target=serve)
                process.start()
                process.join()
                print(process.exitcode)
        """)
    )
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=DEADLINE
    )
    assert done.stdout == "0\n", done.stderr
