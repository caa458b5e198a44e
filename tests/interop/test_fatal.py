"""What a host logs when a plugin ends unexpectedly: a line "panic: ..." and a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import grpc
import pytest

from pygo_plugin import ExitedEarlyError

# Not without leftovers: who dies of a signal leaves his socket to his host, and Go's leave it.
pytestmark = [pytest.mark.go, pytest.mark.usefixtures("socket_dir")]

DEADLINE = 60.0  # seconds

BEGIN = """
    import faulthandler, os, sys, threading
    from pygo_plugin import HandshakeConfig, Plugin, ServeConfig, Server, serve

    class Plain(Plugin):
        def server_register(self, server):
            pass

    def config(plugin, **options):
        handshake = HandshakeConfig(1, "PYGO_TEST_COOKIE", "pygo")
        return ServeConfig(handshake_config=handshake, plugins={"kv": plugin}, **options)
"""
SERVING = "server = Server(config(Plain())); assert server.serve(), server.error_msg"

# Ends before the handshake: what the program does, the line, and what has to follow it.
STARTS = {
    "import": (
        "import nothing_of_the_kind",
        "panic: ModuleNotFoundError: No module named 'nothing_of_the_kind'",
        "import nothing_of_the_kind",
    ),
    "syntax": (
        "import broken",
        "panic: SyntaxError: ",
        "broken.py",
    ),
    "constructor": (
        """
        class Needy(Plain):
            def __init__(self):
                raise KeyError("HOME_OF_THE_PLUGIN")
        serve(config(Needy()))
        """,
        "panic: KeyError: 'HOME_OF_THE_PLUGIN'",
        "in __init__",
    ),
    "register": (
        """
        class Needy(Plain):
            def server_register(self, server):
                raise RuntimeError("no licence\\nnor a permit")
        serve(config(Needy()))
        """,
        "panic: RuntimeError: no licence",
        "nor a permit",
    ),
    "register asyncio": (
        """
        import asyncio
        from pygo_plugin import aio
        class Needy(Plain):
            def server_register(self, server):
                raise RuntimeError("no licence")
        asyncio.run(aio.serve(config(Needy())))
        """,
        "panic: RuntimeError: no licence",
        "in server_register",
    ),
    "own exception": (
        """
        class Odd(BaseException):
            def __str__(self):
                raise ValueError
        raise Odd
        """,
        "panic: Odd: <exception str() failed>",
        "Odd",
    ),
    "exception of a module": (
        "import json; json.loads('{')",
        "panic: json.decoder.JSONDecodeError: Expecting property name",
        "json.loads('{')",
    ),
    "what serve says": (
        "serve(config(Plain(), tls_provider=lambda: None))",
        "panic: ServeConfig.tls_provider must return a TLSConfig, not NoneType",
        "",
    ),
    "what serve says with asyncio": (
        """
        import asyncio
        from pygo_plugin import aio
        asyncio.run(aio.serve(config(Plain(), tls_provider=lambda: None)))
        """,
        "panic: ServeConfig.tls_provider must return a TLSConfig, not NoneType",
        "",
    ),
    "what a server says": (
        """
        from pygo_plugin import StartError
        server = Server(config(Plain(), tls_provider=lambda: None))
        if not server.serve():
            raise StartError(server.error_msg)
        """,
        "panic: pygo_plugin.errors.StartError: ServeConfig.tls_provider must return a TLSConfig",
        "StartError(server.error_msg)",
    ),
    "signal": (
        "faulthandler._sigsegv()",
        "panic: SIGSEGV: segmentation fault",
        "Fatal Python error: Segmentation fault",
    ),
    "abort": (
        "os.abort()",
        "panic: SIGABRT: aborted",
        "Fatal Python error: Aborted",
    ),
}

# Ends of a plugin that serves.
ENDS = {
    "exception": (
        f"{SERVING}; raise RuntimeError('out of things to do')",
        "panic: RuntimeError: out of things to do",
        "in <module>",
    ),
    "asyncio": (
        """
        import asyncio
        from pygo_plugin import aio
        async def main():
            server = aio.Server(config(Plain()))
            assert await server.serve(), server.error_msg
            raise RuntimeError("out of things to do")
        asyncio.run(main())
        """,
        "panic: RuntimeError: out of things to do",
        "in main",
    ),
    "signal": (
        f"{SERVING}; faulthandler._sigsegv()",
        "panic: SIGSEGV: segmentation fault",
        "Fatal Python error: Segmentation fault",
    ),
    "abort of a library": (
        f"{SERVING}; os.write(2, b'double free\\n'); os.abort()",
        "panic: SIGABRT: aborted",
        "double free",
    ),
    "signal of a thread": (
        f"""
        {SERVING}
        thread = threading.Thread(target=faulthandler._sigsegv)
        thread.start()
        thread.join()
        """,
        "panic: SIGSEGV: segmentation fault",
        "Fatal Python error: Segmentation fault",
    ),
    "interpreter": (
        f"""
        import ctypes
        {SERVING}
        ctypes.pythonapi.Py_FatalError(b"no way on")
        """,
        "panic: SIGABRT: aborted",
        "no way on",
    ),
}


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Writes a plugin's program that does something, and gives its command."""
    (tmp_path / "broken.py").write_text("def nothing(:\n")

    def program(action: str) -> list[str]:
        path = tmp_path / "plugin.py"
        path.write_text(textwrap.dedent(BEGIN) + textwrap.dedent(action))
        return [sys.executable, str(path)]

    return program


def check(lines: list[str], line: str, trace: str) -> None:
    """The line is logged once, followed by the traceback."""
    (at,) = [number for number, found in enumerate(lines) if found.startswith("panic: ")]
    assert lines[at].startswith(line)
    assert trace in "\n".join(lines[at:])


# ---- Hosts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", STARTS)
def test_a_go_host_logs_why_a_plugin_has_not_started(case: str, write: Any, go_host: Any) -> None:
    action, line, trace = STARTS[case]
    assert not go_host.ask("start", cmd=write(action))["ok"]
    go_host.do("kill")
    logged = go_host.do("logs")["records"]
    # What Terraform shows its user: see logPanicWrapper of its package logging.
    check([record["message"] for record in logged if record["level"] == "error"], line, trace)


@pytest.mark.parametrize("case", ENDS)
def test_a_go_host_logs_why_a_plugin_has_ended(case: str, write: Any, go_host: Any) -> None:
    action, line, trace = ENDS[case]
    go_host.ask("start", cmd=write(action))  # which may see the end
    go_host.do("exited", timeout_ms=20000)
    go_host.do("kill")
    logged = go_host.do("logs")["records"]
    check([record["message"] for record in logged if record["level"] == "error"], line, trace)


@pytest.mark.parametrize("case", STARTS)
def test_a_python_host_tells_why_a_plugin_has_not_started(
    case: str, write: Any, make_client: Any, records: Any
) -> None:
    action, line, trace = STARTS[case]
    client = make_client(write(action))
    with pytest.raises(ExitedEarlyError) as caught:
        client.start()
    client.kill()
    assert line in str(caught.value)
    check([r.getMessage() for r in records.records if r.levelname == "ERROR"], line, trace)


@pytest.mark.parametrize("wanted", [False, True])
@pytest.mark.parametrize("case", ENDS)
def test_a_python_host_logs_why_a_plugin_has_ended(
    case: str, wanted: bool, write: Any, make_client: Any, records: Any, eventually: Any
) -> None:
    """The reason is logged whether or not sys.stderr goes to sync_stderr."""
    action, line, trace = ENDS[case]
    with open(os.devnull, "wb") as null:
        client = make_client(write(action), **({"sync_stderr": null} if wanted else {}))
        try:
            client.start()
        except Exception:
            pass  # it has ended already
        eventually(client.exited, "the end")
        client.kill()
    check([r.getMessage() for r in records.records if r.levelname == "ERROR"], line, trace)


def test_a_signal_in_a_call(write: Any, peers: Any, make_client: Any, records: Any) -> None:
    import kv_pb2

    printing = Path(__file__).resolve().parents[1] / "peers" / "printing_plugin.py"
    client = make_client([sys.executable, str(printing), "core"])
    _, kv = client.dispense("kv")
    with pytest.raises(grpc.RpcError):
        kv.Get(kv_pb2.GetRequest(key="segfault"), timeout=DEADLINE)
    client.kill()
    assert client.exit_status == -signal.SIGSEGV
    errors = [r.getMessage() for r in records.records if r.levelname == "ERROR"]
    check(errors, "panic: SIGSEGV", "in segfault")


# ---- Without one --------------------------------------------------------------------------------

HOSTED = {"PYGO_TEST_COOKIE": "pygo", "PLUGIN_PROTOCOL_VERSIONS": "1"}


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("case", STARTS)
def test_by_hand_it_is_what_python_prints(case: str, write: Any) -> None:
    action, line, _ = STARTS[case]
    done = run(write(action))
    assert done.returncode != 0
    assert "panic: " not in done.stderr
    if case.startswith(("what ", "register")):
        assert "not meant to be run directly" in done.stderr
    elif case not in ("signal", "abort"):
        assert line.removeprefix("panic: ") in done.stderr
        assert done.stderr.startswith("Traceback")


def test_the_cookie_alone_is_a_host(write: Any) -> None:
    """Users set the cookie by hand to see the handshake line, as go-plugin documents."""
    done = run(write(STARTS["register"][0]), PYGO_TEST_COOKIE="pygo")
    assert done.stderr.startswith("panic: RuntimeError: no licence\nTraceback")


def test_exit_statuses_are_the_same(write: Any) -> None:
    assert run(write(STARTS["import"][0]), **HOSTED).returncode == 1
    assert run(write("sys.exit(7)"), **HOSTED).returncode == 7
    assert run(write("os.abort()"), **HOSTED).returncode == -signal.SIGABRT


@pytest.mark.parametrize("action", ["raise KeyboardInterrupt", "sys.exit('no')", "sys.exit(2)"])
def test_what_is_no_fault(action: str, write: Any) -> None:
    assert "panic: " not in run(write(action), **HOSTED).stderr


def test_a_forked_child_is_not_the_plugin(write: Any) -> None:
    action = """
        pid = os.fork()
        if pid == 0:
            raise ValueError("of the child")
        os.waitpid(pid, 0)
        pid = os.fork()
        if pid == 0:
            os.abort()
        os.waitpid(pid, 0)
    """
    done = run(write(action), **HOSTED)
    assert "ValueError: of the child" in done.stderr
    assert "panic: " not in done.stderr


def test_children_of_a_plugin_are_not_plugins(write: Any) -> None:
    action = f"""
        import subprocess
        {SERVING}
        subprocess.run([sys.executable, "-c", "import pygo_plugin; raise ValueError('own')"],
                       stderr=sys.stderr)
        server.stop().wait()
    """
    done = run(write(action), **HOSTED)
    assert done.returncode == 0
    assert done.stderr.startswith("Traceback")


HOOKS = {
    "before the import": "",
    "after the import": "import pygo_plugin",
    "which calls the one before": "import pygo_plugin; before = sys.excepthook",
}


@pytest.mark.parametrize("case", HOOKS)
def test_hooks_of_the_author_stay_in_use(case: str, tmp_path: Path) -> None:
    program = f"""
        import sys
        {HOOKS[case]}
        def hook(kind, error, traceback):
            print("own:", error, file=sys.stderr)
            if "before" in globals():
                before(kind, error, traceback)
        sys.excepthook = hook
        from pygo_plugin import HandshakeConfig, ServeConfig, Server
        handshake = HandshakeConfig(1, "PYGO_TEST_COOKIE", "pygo")
        server = Server(ServeConfig(handshake_config=handshake))
        assert server.serve(), server.error_msg
        server.stop().wait()
        raise ValueError("of the plugin")
    """
    path = tmp_path / "plugin.py"
    path.write_text(textwrap.dedent(program))
    lines = run([sys.executable, str(path)], **HOSTED).stderr.splitlines()
    assert lines[:2] == ["panic: ValueError: of the plugin", "own: of the plugin"]
    assert len([line for line in lines if line.startswith("panic: ")]) == 1
    assert ("Traceback (most recent call last):" in lines) == (case == "which calls the one before")


def test_faulthandler_of_the_author_is_left_alone(write: Any) -> None:
    action = f"""
        with open("crash", "w") as file:
            faulthandler.enable(file)
            {SERVING}
            faulthandler._sigsegv()
    """
    command = write(action)
    done = subprocess.run(
        command,
        cwd=Path(command[1]).parent,
        capture_output=True,
        text=True,
        env=os.environ | HOSTED,
    )
    assert done.stderr == "panic: SIGSEGV: segmentation fault\n"
    assert "Fatal Python error" in (Path(command[1]).parent / "crash").read_text()


@pytest.mark.parametrize("stderr", ["None", "open(os.devnull, 'w')"])
def test_a_stream_in_the_place_of_stderr_hides_nothing(stderr: str, write: Any) -> None:
    done = run(write(f"sys.stderr = {stderr}; raise ValueError('of the plugin')"), **HOSTED)
    assert done.stderr.startswith("panic: ValueError: of the plugin\nTraceback")


# ---- python -m pygo_plugin.run ------------------------------------------------------------------


@pytest.fixture
def runner(tmp_path: Path) -> Any:
    def write(program: str, *arguments: str) -> list[str]:
        path = tmp_path / "program.py"
        path.write_text(textwrap.dedent(program))
        return [sys.executable, "-m", "pygo_plugin.run", str(path), *arguments]

    return write


@pytest.mark.parametrize(
    ("program", "line"),
    [
        ("def nothing(:\n", "panic: SyntaxError: "),
        ("import nothing_of_the_kind", "panic: ModuleNotFoundError: No module named"),
    ],
)
def test_run_reports_what_comes_before_any_import(
    program: str, line: str, runner: Any, go_host: Any
) -> None:
    assert not go_host.ask("start", cmd=runner(program))["ok"]
    go_host.do("kill")
    logged = go_host.do("logs")["records"]
    errors = [record["message"] for record in logged if record["level"] == "error"]
    check(errors, line, "Traceback (most recent call last):")


def test_run_is_as_python_runs_it(runner: Any, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("")
    program = """
        import beside, sys
        print(__name__, sys.argv[0] == __file__, sys.argv[1:])
        assert sys.modules["__main__"].beside is beside
        sys.exit(3)
    """
    done = run(runner(program, "-m", "--an-option", "argument"))
    assert done.stdout == "__main__ True ['-m', '--an-option', 'argument']\n"
    assert done.returncode == 3


def test_run_without_a_program() -> None:
    done = run([sys.executable, "-m", "pygo_plugin.run"])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("usage: ")


def test_run_as_an_interpreter(tmp_path: Path, make_client: Any, peers: Any) -> None:
    _, peer = peers.plugin("python")
    program = tmp_path / "plugin"
    program.write_text(
        f"#!/usr/bin/env -S {sys.executable} -m pygo_plugin.run\n"
        f"import runpy\nrunpy.run_path({peer!r}, run_name='__main__')\n"
    )
    program.chmod(0o755)
    client = make_client([str(program)])
    assert client.ping() == ""
