"""Our yamux and hashicorp/yamux, apart from gRPC: a peer of each, in tests/peers/.

Both programs compare every byte that arrives; what is asserted here is that nothing was wrong.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / "build" / "peers"
PEERS = {"c": BUILT / "c" / "yamux", "go": BUILT / "yamux"}

pytestmark = pytest.mark.go


@pytest.mark.timeout(300)
@pytest.mark.parametrize("listens", ["serve", "drive"])
@pytest.mark.parametrize(("serves", "drives"), [("go", "c"), ("c", "go"), ("c", "c")])
@pytest.mark.parametrize(
    "what",
    [
        pytest.param("many", id="1000 streams with ends and resets"),
        pytest.param("stalled", id="unread streams"),
        pytest.param("large", id="1 GiB each way through one stream"),
    ],
)
def test_yamux(what: str, serves: str, drives: str, listens: str, tmp_path: Path) -> None:
    for peer in PEERS.values():
        assert peer.exists(), f"{peer.relative_to(ROOT)} is missing: run scripts/test --quick"
    address = ["unix", str(tmp_path / "yamux.sock")]
    commands = {
        role: [
            str(PEERS[language]),
            *(role, "listen" if listens == role else "connect"),
            *(*address, what),
        ]
        for role, language in [("serve", serves), ("drive", drives)]
    }
    other = "drive" if listens == "serve" else "serve"
    with subprocess.Popen(commands[listens], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "listening\n"
        with subprocess.Popen(commands[other], stdout=subprocess.PIPE, text=True) as second:
            try:
                outputs = [first.communicate(timeout=240)[0], second.communicate(timeout=240)[0]]
            finally:
                first.kill()
                second.kill()
    assert [first.returncode, second.returncode] == [0, 0]
    result = json.loads(next(filter(None, outputs)))
    assert result["error"] is None, result
