"""bench/ fits together: its rows name contenders and values that exist, its programs still run.

Nothing is measured: the hosts that are run here make a few calls.
"""

import importlib
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
FEW = 5  # calls or messages


@pytest.fixture(scope="module")
def modules():
    """Imports a module of bench/, whose modules know each other by their bare names."""
    names = {path.stem for path in BENCH.glob("*.py")}
    sys.path.insert(0, str(BENCH))
    yield importlib.import_module
    sys.path.remove(str(BENCH))
    for name in names & set(sys.modules):
        del sys.modules[name]


@pytest.fixture
def make_cases(modules, monkeypatch):
    """Makes the cases of the named subjects, with all peers whether they are installed or not."""
    run, lab = modules("run"), modules("lab")
    monkeypatch.setattr(modules("contenders"), "FIRST", FEW)
    monkeypatch.setattr(lab.Lab, "_why_missing", lambda self, name: "")
    monkeypatch.setattr(modules("memory"), "OPEN_CALLS", FEW)
    monkeypatch.setattr(modules("memory"), "PLUGINS", FEW)
    effort = run.Effort(rounds=1, seconds=0.01, launches=1, log_lines=FEW)
    own = lab.Lab()
    yield lambda *subjects, quick=True: run.make_cases(own, effort, subjects, quick)
    own.close()


@pytest.mark.parametrize("quick", [False, True])
def test_rows_compare_contenders_of_their_case(modules, make_cases, quick):
    for case in make_cases(*modules("run").SUBJECTS, quick=quick):
        assert case.rows, case.title
        for row in case.rows:
            named = {row.ours, row.peer} if row.kind != "value" else {row.ours}
            assert named <= set(case.contenders), (case.title, row)


@pytest.mark.go
@pytest.mark.parametrize(
    ("subject", "title", "names"),
    [
        ("unary", "100 B, unpinned", {"pygo -> pygo", "grpcio -> grpcio", "go -> go"}),
        ("unary", "100 B, unpinned", {"bare -> bare"}),
        ("streams", "server stream, 100 B", {"pygo -> pygo", "grpcio -> grpcio", "go -> go"}),
        ("streams", "client stream, 100 B", {"pygo -> pygo", "grpcio -> grpcio", "go -> go"}),
        ("streams", "ping-pong on one call", {"pygo -> pygo", "grpcio -> grpcio", "go -> go"}),
        ("asyncio", "1 task,", {"pygo.aio -> pygo.aio", "grpc.aio -> grpc.aio"}),
        ("concurrency", "16 threads", {"pygo -> pygo"}),
        ("broker", "call back, separate sockets, plain", {"pygo -> pygo", "go -> go"}),
        ("broker", "call back, multiplexed, AutoMTLS", {"pygo -> go", "go -> pygo"}),
        ("broker", "unary over one", {"pygo -> pygo, multiplexed", "go -> go, multiplexed"}),
        ("broker", "server stream over one", {"pygo -> pygo, multiplexed", "pygo -> pygo"}),
        ("start", "exec to handshake", {"pygo", "grpcio", "go", "bare"}),
        ("start", "launch to first reply", {"pygo -> pygo", "grpcio -> grpcio", "go -> go"}),
        ("start", "launch to first reply", {"pygo -> bare, AutoMTLS", "go -> go, AutoMTLS"}),
        ("logs", "mirrored log lines", {"go -> go", "pygo -> go, full"}),
        ("memory", "5 open calls", {"pygo -> pygo", "grpcio -> grpcio", "go -> go"}),
        ("memory", "5 open calls", {"pygo.aio -> pygo.aio", "grpc.aio -> grpc.aio"}),
        ("memory", "5 plugins at once", {"pygo -> go", "go -> go"}),
    ],
)
def test_contenders_have_the_values_of_their_rows(peers, make_cases, subject, title, names):
    peers.host()  # which is built together with the one of bench/
    (case,) = (case for case in make_cases(subject) if case.title.startswith(title))
    for name in names:
        values = case.contenders[name]()
        for row in case.rows:
            if name in (row.ours, row.peer):
                assert values[row.metric] >= 0 or subject == "memory"
